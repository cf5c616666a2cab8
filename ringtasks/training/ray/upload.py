"""A folder for Ray's job API: the part that is sent to the job, and whether it is too large.

Ray would leave out files without a message: those that ``.gitignore`` and ``.rayignore`` name, a
few names of its own, and links that lead out of the folder, since it packs the copy on the head
(``_private/runtime_env/packaging.py``, ``ray_constants.py``).  It refuses a folder that is too
large only once all of it is on the head.  So the choice is made here, and `job_api` lets Ray pack
all that was sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ringtasks.common.program_name import as_typed
from ringtasks.common.text import size
from ringtasks.errors import UsageError
from ringtasks.transfer.git import matched_paths

__all__ = ["Upload", "plan_upload"]

#: The dashboard's limit for one request (dashboard/http_server_head.py).
LIMIT_BYTES = 100 * 1024**2
#: A file's part of a ZIP archive besides its content: its name twice, and at most this.
_ENTRY_BYTES = 128

#: RAY_RUNTIME_ENV_DEFAULT_EXCLUDES; and the file that Ray would apply in its own way.
_LEFT_OUT = frozenset((".git", ".venv", "venv", "__pycache__", ".rayignore"))


class Upload(NamedTuple):
    """The paths left out, relative to the folder, folders with a ``/``; the size of the rest."""

    left_out: tuple[str, ...]
    size_bytes: int


def plan_upload(folder: Path) -> Upload:
    """Return the paths left out of a folder, and the size of the rest.

    :raises UsageError: Ray's job API would not take it, or a link in it leads back to a folder that
        holds the link.
    """
    ignored = {
        path.rstrip("/")
        for name in (".gitignore", ".rayignore")
        for path in matched_paths(folder, name)
    }
    walk = _Walk(folder.resolve(), ignored)
    sizes = dict(walk.files(walk.top, ""))
    total = sum(sizes.values())
    total += sum(_ENTRY_BYTES + 2 * len(os.fsencode(name)) for name in sizes)
    if total >= LIMIT_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        named = ", ".join(f"{name} ({size(sizes[name])})" for name in largest)
        raise UsageError(
            f"--working-dir {folder}: {size(total)}, and Ray's job API takes less "
            f"than {size(LIMIT_BYTES)}; the largest: {named}: name in .rayignore what "
            f"the job does not need, or bring it to the hosts by '{as_typed('put')}'"
        )
    return Upload(tuple(sorted(walk.left_out)), total)


class _Walk:
    """The files of a folder, also behind links, as Ray packs them."""

    def __init__(self, top: Path, ignored: set[str]) -> None:
        self.top, self._ignored = top, ignored
        self.left_out: set[str] = set()

    def files(
        self, place: Path, below: str, above: tuple[Path, ...] = ()
    ) -> Iterator[tuple[str, int]]:
        """Yield each file to send, with its size; the other paths go to ``left_out``.

        :param place: a folder, without links in its path.
        :param below: its path by which it was found, relative to the top; with ``/``.
        :param above: the folders in which it was found, without links.
        """
        for entry in os.scandir(place):
            path, mode, size_bytes = below + entry.name, *_kind(entry)
            is_folder = stat.S_ISDIR(mode)
            if self._is_left_out(place / entry.name) or not (is_folder or stat.S_ISREG(mode)):
                self.left_out.add(f"{path}/" if is_folder else path)
            elif not is_folder:
                yield path, size_bytes
            else:
                inner = Path(entry.path).resolve()
                if inner in (place, *above):
                    raise UsageError(
                        f"--working-dir: {path} leads back to a folder that holds it: name it in "
                        ".rayignore"
                    )
                yield from self.files(inner, f"{path}/", (place, *above))

    def _is_left_out(self, path: Path) -> bool:
        own = path.relative_to(self.top).as_posix() if path.is_relative_to(self.top) else ""
        return path.name in _LEFT_OUT or own in self._ignored


def _kind(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Return the mode and the size of a file or of a link's target; zeros: there is none."""
    try:
        found = entry.stat()
    except OSError:
        return 0, 0
    return found.st_mode, found.st_size

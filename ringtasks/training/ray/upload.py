"""A folder for Ray's job API: the part that Ray would send to the job, and whether it is too large.

Ray leaves out the files that ``.gitignore`` and ``.rayignore`` in the folder name, and a few names
of its own, without a message (``_private/runtime_env/packaging.py``, ``ray_constants.py``), and
refuses a folder that is too large only once all of it is on the head.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ringtasks.common.program_name import as_typed
from ringtasks.errors import UsageError
from ringtasks.transfer.git import matched_paths

__all__ = ["Upload", "plan_upload"]

#: The dashboard's limit for one request (dashboard/http_server_head.py), and the largest overhead
#: of a file in an archive.
LIMIT_BYTES = 100 * 1024**2
_FILE_BYTES = 512

#: RAY_RUNTIME_ENV_DEFAULT_EXCLUDES.
_LEFT_OUT = frozenset((".git", ".venv", "venv", "__pycache__"))
_MEGABYTE = 10**6
_MAX_LISTED = 8  # names in a message


class Upload(NamedTuple):
    """The paths left out, relative to the folder, folders with a ``/``; the size of the rest."""

    left_out: tuple[str, ...]
    size_bytes: int

    def describe_left_out(self) -> str:
        """Return the names as text for the user."""
        listed = ", ".join(self.left_out[:_MAX_LISTED])
        more = len(self.left_out) - _MAX_LISTED
        return f"{listed} and {more} more" if more > 0 else listed


def plan_upload(folder: Path) -> Upload:
    """Return the paths left out of a folder, and the size of the rest.

    :raises UsageError: Ray's job API would not take it.
    """
    ignored = {
        path for name in (".gitignore", ".rayignore") for path in matched_paths(folder, name)
    }
    left_out: set[str] = set()
    sizes = dict(_sizes(folder, ignored, left_out))
    total = sum(sizes.values()) + _FILE_BYTES * len(sizes)
    if total >= LIMIT_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        named = ", ".join(f"{name} ({sizes[name] / _MEGABYTE:.1f} MB)" for name in largest)
        raise UsageError(
            f"--working-dir {folder}: {total / _MEGABYTE:.1f} MB, and Ray's job API takes less "
            f"than {LIMIT_BYTES / _MEGABYTE:.1f} MB; the largest: {named}: name in .rayignore what "
            f"the job does not need, or bring it to the hosts by '{as_typed('put')}'"
        )
    return Upload(tuple(sorted(left_out)), total)


def _sizes(folder: Path, ignored: set[str], left_out: set[str]) -> Iterator[tuple[str, int]]:
    """Yield each file to send, with its size; the other paths go to ``left_out``."""
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        for name in [*folders]:
            path = (below / name).as_posix()
            if name in _LEFT_OUT or f"{path}/" in ignored or path in ignored:
                folders.remove(name)
                left_out.add(f"{path}/")
        for name in files:
            path = (below / name).as_posix()
            if name in _LEFT_OUT or path in ignored:
                left_out.add(path)
            else:
                yield path, _size(Path(place, name))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # a dangling link
        return 0

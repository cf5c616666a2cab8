"""Files that are replaced at once: a reader finds the old content or the new one (rename(2)).

`ringtasks connect` starts with each ssh and loads this module, so it needs no `pathlib`.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing is slow to load, too
if TYPE_CHECKING:
    AnyPath = str | os.PathLike[str]

__all__ = ["keep_newest", "replace_file"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def replace_file(
    path: AnyPath,
    content: bytes | str,
    *,
    mode: int = 0o600,
    draft: AnyPath | None = None,
    is_synced: bool = False,
    makes_folder: bool = False,
) -> None:
    """Give the file this content; a symbolic link in its place is replaced.

    :param draft: a path in the same folder that one writer at a time uses: a draft that a killed
        writer left is overwritten. None: a random name, which no other writer has.
    :param is_synced: write it to the disk first; else it may be damaged after a power failure.
    :param makes_folder: make its folder, for its owner only, if it is missing.
    :raises OSError: it cannot be written; no draft is left.
    """
    folder, name = os.path.split(path)
    if makes_folder:
        os.makedirs(folder, 0o700, exist_ok=True)  # noqa: PTH103  # no Path
    flags = _FLAGS | (os.O_EXCL if draft is None else os.O_TRUNC)
    if draft is None:
        draft = os.path.join(folder, f".{name[:100]}.{os.urandom(6).hex()}.new")  # noqa: PTH118
    try:
        with os.fdopen(os.open(draft, flags, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # for an existing draft, or an odd umask
            file.write(content.encode() if isinstance(content, str) else content)
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)  # noqa: PTH105  # no Path
    except BaseException as error:
        _remove(draft)
        if isinstance(error, OSError):  # its text names the file, not the draft
            error.filename, error.filename2 = os.fspath(path), None
        raise


def keep_newest(folder: AnyPath, most: int) -> None:
    """Remove the oldest files of a folder, so that ``most`` are left: each can be made again."""
    with os.scandir(folder) as entries:
        ages = sorted((entry.stat().st_mtime_ns, entry.path) for entry in entries)
    for _, path in ages[:-most]:
        _remove(path)


def _remove(path: AnyPath) -> None:
    try:
        os.unlink(path)  # noqa: PTH108  # no Path
    except OSError:  # another process has removed it, or it was not made
        return

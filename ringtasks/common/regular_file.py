"""Files of our own that are read without waiting for a writer.

A pipe in the place of a file would keep open(2) waiting for ever.  Loaded by every task.
"""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["UNUSABLE", "is_null_device", "open_regular", "read_regular"]

#: The errors of reading JSON that is missing, damaged or of another version.
UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def open_regular(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a regular file, or of the null device, which is empty.

    :raises OSError: it cannot be opened, or is something else.
    """
    descriptor = os.open(path, _FLAGS)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) or is_null_device(status):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file that `open_regular` opens."""
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        return file.readall()


def is_null_device(status: os.stat_result) -> bool:
    """Return True for /dev/null, which is the stdin of programs without input, as under CI."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116  # pathlib is slow to load

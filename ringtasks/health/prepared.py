"""The next content of a file, written before it is known to be needed.

To replace a small file costs more than to count: the file system looks for a free inode, allocates
blocks, and frees those of the file that is replaced.  All of that is done while a remote command
runs, for the outcome that is likely.  Only the last step waits until the outcome is known: two
calls that change the names.

Until then the content has no name (``O_TMPFILE``, open(2)), so a process that ends leaves nothing.
Systems and file systems without such files prepare nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from ringtasks.common.regular_file import open_regular

__all__ = ["PreparedFile", "prepared"]

MAX_AGE = 0.1  # seconds; the content holds the time of its preparation
_MODE = 0o600  # only the owner reads the health file
_UNNAMED = getattr(os, "O_TMPFILE", None)


class PreparedFile:
    """A content that can take the place of the file from which it was made.

    It holds that file open: its inode cannot become another file's, and its blocks are freed when
    this is closed, not when it is replaced.
    """

    def __init__(self, path: Path, replaced: int, content: int) -> None:
        self._path, self._replaced, self._content = path, replaced, content
        self._version = _version(os.fstat(replaced))
        self._until = time.monotonic() + MAX_AGE

    @property
    def is_current(self) -> bool:
        """False if its time is no longer that of the outcome."""
        return time.monotonic() < self._until

    def publish(self, draft: Path) -> bool:
        """Replace the file; False: that is to be done without, for example since it has changed.

        To be called under the file's lock.

        :param draft: a name in the same folder, which only the holder of the lock uses.
        """
        try:
            if not self.is_current or _version(os.stat(self._path)) != self._version:  # noqa: PTH116  # no Path for each command
                return False
            # linkat(2): with a descriptor and this path, a file without a name gets one.
            os.link(f"/proc/self/fd/{self._content}", draft, src_dir_fd=self._content)
            os.replace(draft, self._path)  # noqa: PTH105  # as above
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close both files. To be called once."""
        os.close(self._content)
        os.close(self._replaced)


def prepared(path: Path, make: Callable[[bytes], bytes]) -> PreparedFile | None:
    """Return a content for the file, made from the present one; None: it has to be written later.

    :raises Exception: what ``make`` raises.
    """
    if _UNNAMED is None:
        return None
    with contextlib.ExitStack() as undo:
        try:
            replaced = open_regular(path)
            undo.callback(os.close, replaced)
            status = os.fstat(replaced)
            if not stat.S_ISREG(status.st_mode):  # the null device, which is not replaced
                return None
            made = make(os.pread(replaced, status.st_size, 0))
            content = os.open(path.parent, os.O_WRONLY | os.O_CLOEXEC | _UNNAMED, _MODE)
            undo.callback(os.close, content)
            os.fchmod(content, _MODE)  # an odd umask
            if os.write(content, made) != len(made):
                return None
            # Allocate its blocks, and begin to write them to the disk; rename(2) would wait.
            os.posix_fadvise(content, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            return None
        undo.pop_all()
    return PreparedFile(path, replaced, content)


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

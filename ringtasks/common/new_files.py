"""Files that are written under a random name, and get their own when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from .descriptors import write_all
from .digest import digest
from .file_lock import try_lock

__all__ = ["MODE_BITS", "NewFile", "PartFile", "finish", "lock_own", "open_anew", "rename"]

#: Bits of a mode that a file from a host gets: neither set-user-ID nor set-group-ID.
MODE_BITS = 0o1777
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bytes that a file may have beyond its announced size: it may grow while it is read, and files of
#: /proc are announced with 0.
_GROWTH_BYTES = 16 * 1024 * 1024


class NewFile:
    """A file that is being written; a context manager, at whose end it is kept or removed.

    :param folder: a descriptor of the folder that holds the file; it is duplicated.
    """

    def __init__(self, folder: int, name: str, announced_bytes: int) -> None:
        self.name, self.announced_bytes = name, announced_bytes
        self.most_bytes = announced_bytes + _GROWTH_BYTES
        self._folder = os.dup(folder)
        try:
            self._spare, self._file = self._open()
        except BaseException:
            os.close(self._folder)
            raise
        self.size = os.fstat(self._file).st_size

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.discard()
        finally:
            self._close()

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``.

        :raises OSError: the file is far larger than announced, or the system cannot write it.
        """
        self.size += len(chunk)
        if self.size > self.most_bytes:
            raise OSError(errno.EFBIG, self.excess)
        write_all(self._file, chunk)

    @property
    def spare_name(self) -> str:
        """The name that it has while it is written."""
        return self._spare

    @property
    def excess(self) -> str:
        """The error message for a file that is far larger than announced."""
        return f"the host announced {self.announced_bytes} bytes, and sends more and more"

    def keep(self, mode: int, modified_ns: int | None = None) -> None:
        """Give the file its permissions, time and name; it replaces another file of that name.

        :raises OSError: a folder has the name.
        """
        finish(self._file, mode, modified_ns)
        rename(self._spare, self.name, self._folder, self._folder)
        self._spare = ""

    def discard(self) -> None:
        """Remove the file, unless it is kept."""
        if self._spare:
            os.unlink(self._spare, dir_fd=self._folder)
            self._spare = ""

    def _open(self) -> tuple[str, int]:
        name = f".{os.urandom(8).hex()}.part"
        return name, os.open(name, _NEW_FLAGS, 0o600, dir_fd=self._folder)

    def _close(self) -> None:
        os.close(self._file)
        os.close(self._folder)


class PartFile(NewFile):
    """A file that another run can continue; it stays until it is kept or discarded.

    A file that another user has put in its place is not used: a part is a regular file of this
    user, has one name, and is writable for its owner only. A part that a running process is writing
    is not used either. Other parts of this user for the same name are removed.
    """

    def __init__(self, folder: int, name: str, announced_bytes: int, version: str) -> None:
        self._beginning = f".ringtasks-{digest(name, 16)}-"
        self._version = digest(version, 16)
        super().__init__(folder, name, announced_bytes)
        if self.size > announced_bytes:
            self.restart()

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def fileno(self) -> int:
        """Return the descriptor, to read and write."""
        return self._file

    @contextlib.contextmanager
    def opened_anew(self) -> Iterator[int]:
        """Yield a descriptor with a position of its own.

        A process that holds a lost connection may still write to the descriptor that it was given.
        """
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._spare, flags, dir_fd=self._folder)
        try:
            if not os.path.samestat(os.fstat(descriptor), os.fstat(self._file)):
                raise OSError(errno.ESTALE, f"{self._spare} was replaced while it was written")
            yield descriptor
        finally:
            os.close(descriptor)

    def measure(self) -> int:
        """Update the size from the file, and return it."""
        self.size = os.fstat(self._file).st_size
        return self.size

    def restart(self) -> None:
        """Truncate the file to 0 bytes."""
        os.ftruncate(self._file, 0)
        self.size = 0

    def _open(self) -> tuple[str, int]:
        found: tuple[str, int] | None = None
        for name in os.listdir(self._folder):  # noqa: PTH208  # of a descriptor
            if not (name.startswith(self._beginning) and name.endswith(".part")):
                continue
            descriptor = self._opened(name)
            if descriptor is None:
                continue
            if found is None and name.startswith(f"{self._beginning}{self._version}-"):
                found = name, descriptor
                continue
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
            os.close(descriptor)
        return found or self._created()

    def _created(self) -> tuple[str, int]:
        name = f"{self._beginning}{self._version}-{os.urandom(8).hex()}.part"
        flags = _NEW_FLAGS & ~os.O_WRONLY | os.O_RDWR
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        # Without locks in the file system, no other run uses a part that it has not made.
        with contextlib.suppress(OSError):
            try_lock(descriptor)
        return name, descriptor

    def _opened(self, name: str) -> int | None:
        """Return a descriptor of an earlier part; None if ``name`` is none that can be used."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self._folder)
        except OSError:
            return None
        status = os.fstat(descriptor)
        is_whole = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if is_whole and lock_own(descriptor):
            return descriptor
        os.close(descriptor)
        return None


def lock_own(descriptor: int) -> bool:
    """Lock a file or folder of ours (flock(2)).

    False: others may write to it, or another run of ours has locked it.
    """
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    with contextlib.suppress(OSError):
        return try_lock(descriptor)
    return False


def finish(descriptor: int, mode: int, modified_ns: int | None) -> None:
    """Give a file or folder its permissions and, if it is known, its time."""
    if modified_ns is not None:
        os.utime(descriptor, ns=(modified_ns, modified_ns))
    os.fchmod(descriptor, mode & MODE_BITS)


def open_anew(path: Path) -> FileIO:
    """Open a new file to write; it replaces a file, a link or a pipe of that name.

    In a folder that other users may write to, no link of theirs is followed.

    :raises OSError: it cannot be made, or a folder has the name.
    """
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return FileIO(os.open(path, _NEW_FLAGS, 0o666), "wb")


def rename(name: str, to_name: str, folder: int, to_folder: int) -> None:
    """Rename relative to folders' descriptors; a file or a link of that name is replaced.

    :raises OSError: a folder has the name.
    """
    try:
        os.rename(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)
    except IsADirectoryError as error:
        raise OSError(errno.EISDIR, "is a folder") from error

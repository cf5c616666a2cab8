"""One file over SFTP, to or from one host.

A file is written beside its final name and renamed when it is complete, so that a partial file
never has the final name.  Permissions are kept, except set-user-ID, set-group-ID and sticky; a
symbolic link is followed, as scp(1) does.  A name that the host sends cannot lead out of the folder
that is written to.

Source: draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL section 4 for its extensions.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ringtasks.common.disk_space import is_full, no_space
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.local_tree import LocalTree, single_name
from ringtasks.errors import RingtasksError

__all__ = [
    "Check",
    "CopyError",
    "RemoteFile",
    "from_home",
    "get_file",
    "is_folder",
    "listed",
    "put_file",
    "told",
    "told_here",
    "told_there",
]

_CHUNK_BYTES = 1024 * 1024
#: From this size on, free space is checked before the first byte is sent.
_LARGE_BYTES = 16 * 1024 * 1024
#: A disk with less is full for folders and links.
_LEAST_BYTES = 4096
_FAILURE = "Failure"  # sftp-server's text for errors without a code
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX

#: Called between pieces of a copy; may raise to stop it.
Check = Callable[[], None]


class CopyError(RingtasksError, OSError):
    """A file could not be copied: its name, and the evidence."""

    def __init__(self, name: str, evidence: str) -> None:
        self.name, self.evidence = name, evidence

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.evidence)

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}"


def put_file(
    sftp: Any, source: Path, target: str, check: Check, *, modified: float | None = None
) -> int:
    """Copy one file to ``target`` on the host; it replaces a file or a symbolic link.

    Return the number of bytes, which for files of /proc and /sys is not their size.

    :param modified: its time, Unix seconds; None: now.
    :raises CopyError: it cannot be read or written.
    """
    with told(str(source)):
        status = source.stat()
        _refuse_special(str(source), status.st_mode)
    partial = posixpath.join(posixpath.dirname(target), f".{os.urandom(6).hex()}.part")
    if status.st_size >= _LARGE_BYTES:
        _check_space(sftp, target, status.st_size)
    try:
        with told(target):
            read_bytes = _send(sftp, source, partial, stat.S_IMODE(status.st_mode), check)
            sent_bytes: int = sftp.stat(partial).st_size
            if sent_bytes != read_bytes:  # a full disk took less
                raise CopyError(target, f"{sent_bytes} of {read_bytes} bytes arrived")
            if source.stat().st_size != status.st_size:
                raise CopyError(str(source), "changed while it was being sent")
            if modified is not None:  # before the rename: a link could take over the final name
                sftp.utime(partial, (modified, modified))
            _rename(sftp, partial, target)
    except BaseException as error:
        with contextlib.suppress(OSError, EOFError):
            sftp.remove(partial)
        if isinstance(error, CopyError):
            _check_space(sftp, target, status.st_size)  # if the disk is full, report that instead
        raise
    return sent_bytes


def _send(sftp: Any, source: Path, partial: str, mode: int, check: Check) -> int:
    """Send a file's content and mode; return the number of bytes that were read."""
    with told(str(source)):
        reading = source.open("rb")
    with reading, sftp.open(partial, "wx") as writing:
        sftp.chmod(partial, mode & ~_SPECIAL_BITS)  # before it has any content
        writing.set_pipelined(True)
        while chunk := reading.read(_CHUNK_BYTES):
            check()
            writing.write(chunk)
        read_bytes = reading.tell()
    if mode & _SPECIAL_BITS:  # writing takes set-user-ID away
        sftp.chmod(partial, mode)
    return read_bytes


def listed(sftp: Any, folder: str) -> Iterator[tuple[str, Any]]:
    """Yield what the host lists in ``folder``: each name, with its attributes.

    :raises CopyError: a name occurs twice, or cannot be the name of a file in it.
    """
    names: set[str] = set()
    with told(folder):
        for entry in sftp.listdir_iter(folder):
            name = single_name(str(entry.filename))
            if name in names:
                raise CopyError(folder, f"the host names {name!r} twice: refused")
            names.add(name)
            yield name, entry


class RemoteFile(NamedTuple):
    """A file as the host describes it.

    ``modified`` is in Unix seconds; None: its time is not kept.
    """

    path: str
    mode: int
    size_bytes: int
    modified: int | None = None


def get_file(sftp: Any, source: RemoteFile, tree: LocalTree, name: str, check: Check) -> int:
    """Copy one file of the host to ``name`` in ``tree``; it replaces a file or a link.

    Return the number of bytes, which for files of /proc and /sys is not their size.

    :raises CopyError: it cannot be read or written.
    """
    _refuse_special(source.path, source.mode)
    with told_here(tree, name, source.size_bytes), tree.new_file(name, source.size_bytes) as file:
        _receive(sftp, source.path, source.size_bytes, file.write, check)
        modified = source.modified
        file.keep(source.mode, None if modified is None else modified * 10**9)
        return file.size


@contextlib.contextmanager
def told_here(tree: LocalTree, name: str, size_bytes: int | None = None) -> Iterator[None]:
    """Translate errors of a name in a local tree as `told` does; a full disk's with the sizes."""
    place = str(tree.top / name)
    try:
        with told(place):
            yield
    except CopyError as error:
        if is_full(error.__cause__):
            evidence = no_space(size_bytes, tree.free_bytes())
            raise CopyError(f"{place} (here)", evidence) from error
        raise


@contextlib.contextmanager
def told_there(sftp: Any, path: str) -> Iterator[None]:
    """Translate errors of a path on the host as `told` does; a full disk's with the sizes.

    SFTP has no code for a full disk.
    """
    try:
        with told(path):
            yield
    except CopyError as error:
        if error.evidence == _FAILURE:
            _check_space(sftp, path, _LEAST_BYTES)
        raise


def _receive(
    sftp: Any, source: str, size_bytes: int, write: Callable[[bytes], object], check: Check
) -> None:
    with told(source):
        reading = sftp.open(source, "rb")
    with reading:
        reading.prefetch(size_bytes)
        while chunk := _read(source, reading):  # a file of /sys ends before its size
            check()
            write(chunk)


def _read(source: str, reading: Any) -> bytes:
    with told(source):
        chunk: bytes = reading.read(_CHUNK_BYTES)
        return chunk


def _rename(sftp: Any, partial: str, target: str) -> None:
    """Replace ``target``; SFTP's own rename refuses to, OpenSSH's extension does it atomically."""
    if is_folder(sftp, target, follows=False):
        raise CopyError(target, "is a folder")
    try:
        sftp.posix_rename(partial, target)
    except OSError as error:
        if "unsupported" not in str(error).lower():
            raise
        with contextlib.suppress(FileNotFoundError):
            sftp.remove(target)
        sftp.rename(partial, target)


def _check_space(sftp: Any, target: str, size_bytes: int) -> None:
    """Check the free space.

    :raises CopyError: the file system reports too little of it.
    """
    free = _free_bytes(sftp, posixpath.dirname(from_home(target)) or ".")
    if free is not None and free < size_bytes:
        raise CopyError(f"{target} (on the host)", no_space(size_bytes, free))


def _free_bytes(sftp: Any, folder: str) -> int | None:
    """Return the bytes that a user may still write; None if the server does not report them.

    OpenSSH's PROTOCOL section 4.4: eleven numbers, the second the block size, the third all blocks,
    the fifth the free ones.
    """
    from paramiko.sftp import CMD_EXTENDED, CMD_EXTENDED_REPLY

    from .paramiko_private import request_sftp

    try:
        kind, answer = request_sftp(sftp, CMD_EXTENDED, "statvfs@openssh.com", folder)
    except (OSError, EOFError):
        return None
    if kind != CMD_EXTENDED_REPLY:
        return None
    numbers = [answer.get_int64() for _ in range(5)]
    if not numbers[2]:  # a file system without blocks, such as /proc
        return None
    return int(numbers[1] * numbers[4])


def _refuse_special(name: str, mode: int) -> None:
    """Refuse pipes, devices and the like: reading one may never end."""
    if not stat.S_ISREG(mode):
        raise CopyError(name, "is not a regular file")


def is_folder(sftp: Any, path: str, *, follows: bool = True) -> bool:
    """Return True if ``path`` is a folder of the host."""
    try:
        status = sftp.stat(path) if follows else sftp.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode or 0)


def from_home(remote: str) -> str:
    """Return a path relative to the home, where SFTP starts: ``~/x`` becomes ``x``."""
    if remote in ("~", "~/"):
        return "."
    return remote[2:].lstrip("/") if remote.startswith("~/") else remote


@contextlib.contextmanager
def told(name: str) -> Iterator[None]:
    """Translate errors of the file system to `CopyError`; those of the connection pass."""
    try:
        yield
    except (CopyError, TimeoutError, ConnectionError):
        raise
    except OSError as error:
        if str(error) == "Socket is closed":  # Paramiko's text for a lost link
            raise ConnectionError(str(error)) from error
        raise CopyError(name, error.strerror or str(error)) from error

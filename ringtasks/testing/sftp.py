"""The part of ``paramiko.SFTPClient`` that copies and Fabric need, over a fake host's `Files`.

Errors are those that Paramiko raises for OpenSSH's answers (sftp-server.c, ``errno_to_portable``):
FileNotFoundError, PermissionError, and an OSError "Failure" for all others.
"""

from __future__ import annotations

import contextlib
import posixpath
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .files import FileNode, Files, absolute, failure, missing, refused

__all__ = ["Attributes", "FakeSFTP"]


class Attributes(NamedTuple):
    """The attributes of one file, under the names of ``paramiko.SFTPAttributes``."""

    filename: str
    st_mode: int
    st_size: int
    st_mtime: int
    st_atime: int
    st_uid: int = 1000
    st_gid: int = 1000


class LinkCheck(Protocol):
    """A function that raises OSError if the link is gone. ``is_start``: a file is opened now."""

    def __call__(self, *, is_start: bool) -> None: ...


class FakeSFTP:
    """Files and folders of a fake host, by the methods of ``paramiko.SFTPClient``."""

    def __init__(self, files: Files, check: LinkCheck) -> None:
        self._files, self._check_link = files, check
        self._is_closed = False

    def close(self) -> None:
        self._is_closed = True

    def check(self, *, is_start: bool = False) -> None:
        if self._is_closed:
            raise OSError("Socket is closed")
        self._check_link(is_start=is_start)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Check the link, and lock the files within the block."""
        self.check()
        with self._files.lock:
            yield

    def stat(self, path: str) -> Attributes:
        with self._locked():
            return _attributes(posixpath.basename(path), self._files.node(path))

    lstat = stat  # there are no links

    def normalize(self, path: str) -> str:
        self.check()
        return absolute(path)

    def listdir_attr(self, path: str = ".") -> list[Attributes]:
        with self._locked():
            folder = self._files.node(path)
            if not folder.is_folder:
                raise missing()  # ENOTDIR
            if not folder.permissions & stat.S_IRUSR:
                raise refused()
            return [
                _attributes(name, self._files.node(posixpath.join(path, name)))
                for name in self._files.names_in(path)
            ]

    def listdir_iter(self, path: str = ".") -> Iterator[Attributes]:
        return iter(self.listdir_attr(path))

    def listdir(self, path: str = ".") -> list[str]:
        return [entry.filename for entry in self.listdir_attr(path)]

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self._locked():
            if self._files.find(path) is not None:
                raise failure()
            self._files.place(path, FileNode(mode & ~_UMASK))

    def rmdir(self, path: str) -> None:
        with self._locked():
            if not self._files.node(path).is_folder or self._files.names_in(path):
                raise failure()
            self._files.place(path, None)

    def chmod(self, path: str, mode: int) -> None:
        with self._locked():
            self._files.node(path).permissions = stat.S_IMODE(mode)

    def utime(self, path: str, times: tuple[float, float] | None) -> None:
        with self._locked():
            node = self._files.node(path)
            node.modified_at = times[1] if times else node.modified_at

    def remove(self, path: str) -> None:
        with self._locked():
            if self._files.node(path).is_folder:
                raise failure()
            self._files.place(path, None)

    unlink = remove

    def rename(self, oldpath: str, newpath: str) -> None:
        with self._locked():
            if self._files.find(newpath) is not None:
                raise failure()
            self._files.move(oldpath, newpath)

    def posix_rename(self, oldpath: str, newpath: str) -> None:
        with self._locked():
            node, known = self._files.node(oldpath), self._files.find(newpath)
            if known is not None and node.is_folder != known.is_folder:
                raise missing() if node.is_folder else failure()  # ENOTDIR, EISDIR
            if known is not None and self._files.names_in(newpath):
                raise failure()  # ENOTEMPTY
            self._files.move(oldpath, newpath)

    def open(self, filename: str, mode: str = "r", bufsize: int = -1) -> FakeFile:
        """Open a file.

        :raises OSError: open(2) would fail; ``x`` is O_EXCL.
        """
        self.check(is_start=True)
        is_writing = bool(set(mode) & set("wax+"))
        with self._files.lock:
            node = self._files.find(filename) if is_writing else self._files.node(filename)
            if node is None and not set(mode) & set("wax"):
                node = self._files.node(filename)  # raises the error of a missing file
            if node is None:
                node = FileNode(0o666 & ~_UMASK, bytearray())
                self._files.place(filename, node)
            elif "x" in mode or (node.is_folder and is_writing):
                raise failure()
            elif not _is_allowed(node, mode, is_writing=is_writing):
                raise refused()
            elif "w" in mode and node.content is not None:
                node.content.clear()
        return FakeFile(self, node, is_appending="a" in mode)

    file = open

    def getcwd(self) -> None:
        """Return None: there is no ``chdir``."""

    def putfo(self, fl: Any, remotepath: str, *_: Any, **__: Any) -> Attributes:
        with self.open(remotepath, "w") as there:
            shutil.copyfileobj(fl, there)
            return there.stat()

    def put(self, localpath: str, remotepath: str, *_: Any, **__: Any) -> Attributes:
        with Path(localpath).open("rb") as here:
            return self.putfo(here, remotepath)

    def getfo(self, remotepath: str, fl: Any, *_: Any, **__: Any) -> int:
        with self.open(remotepath) as there:
            shutil.copyfileobj(there, fl)
            return there.tell()

    def get(self, remotepath: str, localpath: str, *_: Any, **__: Any) -> None:
        with self.open(remotepath) as there, Path(localpath).open("wb") as here:
            shutil.copyfileobj(there, here)

    def _request(self, kind: Any, *arguments: Any) -> Any:
        """Refuse a request for one of OpenSSH's extensions: there are none here."""
        self.check()
        raise OSError("Operation unsupported")


class FakeFile:
    """An open file, by the methods of ``paramiko.SFTPFile``."""

    def __init__(self, sftp: FakeSFTP, node: FileNode, *, is_appending: bool) -> None:
        self._sftp, self._node = sftp, node
        self._position = len(node.content or b"") if is_appending else 0

    def __enter__(self) -> FakeFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def read(self, size: int | None = None) -> bytes:
        self._sftp.check()
        if self._node.content is None:
            raise failure()  # EISDIR
        end = None if size is None or size < 0 else self._position + size
        chunk = bytes(self._node.content[self._position : end])
        self._position += len(chunk)
        return chunk

    def write(self, data: bytes) -> None:
        self._sftp.check()
        assert self._node.content is not None  # noqa: S101  # `open` writes to no folder
        self._node.content[self._position : self._position + len(data)] = data
        self._position += len(data)

    def prefetch(self, file_size: int | None = None, max_concurrent_requests: int = 0) -> None:
        self._sftp.check()

    def set_pipelined(self, pipelined: bool = True) -> None:
        pass  # pipelining only saves time

    def stat(self) -> Attributes:
        self._sftp.check()
        return _attributes("", self._node)

    def chmod(self, mode: int) -> None:
        self._sftp.check()
        self._node.permissions = stat.S_IMODE(mode)

    def seek(self, offset: int, whence: int = 0) -> None:
        self._position = offset + (0, self._position, len(self._node.content or b""))[whence]

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


_UMASK = 0o022


def _attributes(name: str, node: FileNode) -> Attributes:
    modified_at = int(node.modified_at)
    return Attributes(name, node.mode, len(node.content or b""), modified_at, modified_at)


def _is_allowed(node: FileNode, mode: str, *, is_writing: bool) -> bool:
    needed = stat.S_IWUSR if is_writing else stat.S_IRUSR
    if "+" in mode:
        needed |= stat.S_IRUSR
    return node.permissions & needed == needed

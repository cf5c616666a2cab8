"""A host's files, kept in memory, with the rules of a POSIX file system for one ordinary user.

The user owns everything, so only the owner's bits of a mode count.  There are files and folders,
and no links.
"""

from __future__ import annotations

import errno
import posixpath
import stat
import threading
import time
from collections.abc import Iterator, MutableMapping

__all__ = ["HOME", "FileNode", "Files", "absolute", "failure", "missing", "refused"]

#: The remote home: ``~`` and relative paths start from it.
HOME = "/home/user"


class FileNode:
    """A file, or a folder (``content`` None)."""

    def __init__(self, mode: int, content: bytearray | None = None) -> None:
        self.content = content
        self.permissions = mode
        self.modified_at = time.time()

    @property
    def is_folder(self) -> bool:
        return self.content is None

    @property
    def mode(self) -> int:
        """The kind and the permissions, as in ``st_mode``."""
        return (stat.S_IFDIR if self.content is None else stat.S_IFREG) | self.permissions


class Files(MutableMapping[str, bytes]):
    """Paths and contents, for tests: ``files["~/x"]`` and ``files["x"]`` are the same file.

    Setting a path makes the folders above it.  These operations check no permissions: `node` and
    the methods after it do, for the host's side.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._nodes: dict[str, FileNode] = {"/": FileNode(0o755)}
        for folder in (HOME, "/tmp"):  # noqa: S108  # the host's, and in memory
            self.make_folder(folder)

    def __getitem__(self, path: str) -> bytes:
        node = self._nodes.get(absolute(path))
        if node is None or node.content is None:
            raise KeyError(path)
        return bytes(node.content)

    def __setitem__(self, path: str, content: bytes) -> None:
        if not isinstance(content, (bytes, bytearray)):
            raise TypeError(f"{path}: expected bytes, got {type(content).__name__}")
        with self.lock:
            where = absolute(path)
            self.make_folder(posixpath.dirname(where))
            known = self._nodes.get(where)
            if known is not None and known.is_folder:
                raise IsADirectoryError(errno.EISDIR, "is a folder", path)
            mode = known.permissions if known else 0o644
            self._nodes[where] = FileNode(mode, bytearray(content))

    def __delitem__(self, path: str) -> None:
        self[path]
        del self._nodes[absolute(path)]

    def __iter__(self) -> Iterator[str]:
        return iter([path for path, node in self._nodes.items() if not node.is_folder])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{path!r}: {len(self[path])} bytes" for path in self)
        return f"Files({{{sizes}}})"

    @property
    def folders(self) -> list[str]:
        """All folders."""
        return [path for path, node in self._nodes.items() if node.is_folder]

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and those above it, unless they exist."""
        with self.lock:
            where = absolute(path)
            if where in self._nodes:
                if not self._nodes[where].is_folder:
                    raise NotADirectoryError(errno.ENOTDIR, "is a file", path)
                return
            self.make_folder(posixpath.dirname(where))
            self._nodes[where] = FileNode(mode)

    def mode(self, path: str) -> int:
        """Return the permissions of a file or folder, such as ``0o644``."""
        return self._nodes[absolute(path)].permissions

    def set_mode(self, path: str, mode: int) -> None:
        """Set the permissions of a file or folder."""
        self._nodes[absolute(path)].permissions = mode

    def node(self, path: str) -> FileNode:
        """Return the node at ``path``, if the user may reach it.

        :raises FileNotFoundError: nothing is at ``path``.
        :raises PermissionError: a folder above it is not searchable.
        """
        where = absolute(path)
        for above in _above(where):
            folder = self._nodes.get(above)
            if folder is None or not folder.is_folder:
                raise missing()
            if not folder.permissions & stat.S_IXUSR:
                raise refused()
        if where not in self._nodes:
            raise missing()
        return self._nodes[where]

    def find(self, path: str) -> FileNode | None:
        """Return the node at ``path``; None if nothing is there, but a node could be.

        :raises FileNotFoundError: the folder above does not exist.
        """
        where = absolute(path)
        if not self.node(posixpath.dirname(where)).is_folder:
            raise missing()
        return self._nodes.get(where)

    def place(self, path: str, node: FileNode | None) -> None:
        """Put a node at ``path`` (None: remove the one there).

        :raises FileNotFoundError: the folder above does not exist.
        :raises PermissionError: the folder above is not writable.
        """
        self.find(path)
        where = absolute(path)
        if not self.node(posixpath.dirname(where)).permissions & stat.S_IWUSR:
            raise refused()
        if node is None:
            del self._nodes[where]
        else:
            self._nodes[where] = node

    def move(self, old: str, new: str) -> None:
        """Rename a file, or a folder with its content."""
        start, end = absolute(old), absolute(new)
        node = self.node(old)
        if start == end:
            return
        self.place(new, node)
        self.place(old, None)
        for path in [path for path in self._nodes if path.startswith(start + "/")]:
            self._nodes[end + path[len(start) :]] = self._nodes.pop(path)

    def names_in(self, path: str) -> list[str]:
        """Return the names in a folder."""
        where = absolute(path).rstrip("/") + "/"
        below = [p[len(where) :] for p in self._nodes if p.startswith(where) and p != "/"]
        return [name for name in below if "/" not in name]


def absolute(path: str) -> str:
    """Return ``path`` from the root; ``~`` and relative paths start from the home."""
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    joined = posixpath.normpath(posixpath.join(HOME, path))
    return "/" + joined.lstrip("/")  # normpath keeps two leading slashes, as POSIX does


def missing() -> FileNotFoundError:
    """Return the error of Paramiko's SFTPClient, with sftp-server's words."""
    return FileNotFoundError(errno.ENOENT, "No such file")


def refused() -> PermissionError:
    return PermissionError(errno.EACCES, "Permission denied")


def failure() -> OSError:
    return OSError("Failure")


def _above(path: str) -> Iterator[str]:
    """Yield the folders above ``path``, from the root."""
    if path == "/":
        return
    folder = posixpath.dirname(path)
    yield from _above(folder)
    yield folder

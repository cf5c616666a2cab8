"""The two sides of a copied tree, each on this machine or on a host: entries read, entries made.

No path below the target follows a link there: a link in a folder's or a file's place is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ringtasks.common.local_tree import LocalTree
from ringtasks.ssh.sftp import (
    CopyError,
    RemoteFile,
    from_home,
    get_file,
    listed,
    put_file,
    told,
)

__all__ = [
    "LocalReceiver",
    "LocalSender",
    "Receiver",
    "RemoteReceiver",
    "RemoteSender",
    "Sender",
    "TreeEntry",
]

_MODE_BITS = 0o777

Check = Callable[[], None]


class TreeEntry(NamedTuple):
    """An entry of a tree: its full path if it is to be read, and the fields that show a change."""

    path: str
    mode: int
    size: int = 0
    modified: int = 0
    link: str | None = None

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode) and self.link is None

    def differs(self, other: TreeEntry | None) -> bool:
        if other is None or other.is_folder or self.link != other.link:
            return True
        return self.link is None and (self.size, self.modified) != (other.size, other.modified)


class Sender:
    """The side that is read."""

    def look(self, path: str, *, follows: bool) -> TreeEntry | None:
        raise NotImplementedError

    def list(self, folder: TreeEntry) -> Iterator[tuple[str, TreeEntry]]:
        raise NotImplementedError


class Receiver:
    """The side that is written to; names are relative to the target."""

    def list(self, name: str) -> Iterator[tuple[str, TreeEntry]]:
        """Yield the entries of a folder; none if there is no such folder."""
        raise NotImplementedError

    def make_top(self) -> None:
        raise NotImplementedError

    def make_folder(self, name: str) -> None:
        raise NotImplementedError

    def copy_file(self, name: str, entry: TreeEntry, check: Check, *, keeps_time: bool) -> None:
        raise NotImplementedError

    def set_mode(self, name: str, entry: TreeEntry, old: TreeEntry) -> None:
        """Give a file of the same content the entry's mode."""
        raise NotImplementedError

    def link(self, name: str, to: str) -> None:
        """Make a link; it replaces a file or a link."""
        raise NotImplementedError

    def remove(self, name: str, *, is_folder: bool) -> None:
        raise NotImplementedError

    def finish_folder(self, name: str, entry: TreeEntry) -> None:
        """Set the entry's mode and time."""
        raise NotImplementedError


class LocalSender(Sender):
    def look(self, path: str, *, follows: bool) -> TreeEntry | None:
        try:
            status = Path(path).stat(follow_symlinks=follows)
        except FileNotFoundError:
            return None
        link = str(Path(path).readlink()) if stat.S_ISLNK(status.st_mode) else None
        return _local_entry(path, status, link)

    def list(self, folder: TreeEntry) -> Iterator[tuple[str, TreeEntry]]:
        with told(folder.path):
            names = os.listdir(folder.path)  # noqa: PTH208  # names, not paths
        for name in names:
            entry = self.look(posixpath.join(folder.path, name), follows=False)
            if entry is not None:
                yield name, entry


class RemoteSender(Sender):
    def __init__(self, sftp: Any) -> None:
        self._sftp = sftp

    def look(self, path: str, *, follows: bool) -> TreeEntry | None:
        return _remote_look(self._sftp, path, follows=follows)

    def list(self, folder: TreeEntry) -> Iterator[tuple[str, TreeEntry]]:
        return _remote_list(self._sftp, folder.path)


class LocalReceiver(Receiver):
    def __init__(self, sftp: Any, tree: LocalTree) -> None:
        self._sftp, self._tree = sftp, tree

    def list(self, name: str) -> Iterator[tuple[str, TreeEntry]]:
        with told(self._shown(name)):
            try:
                entries = self._tree.entries(name)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
                return  # a dry run, in which a folder would replace it
            for item, status in entries:
                is_link = stat.S_ISLNK(status.st_mode)
                link = self._tree.read_link(posixpath.join(name, item)) if is_link else None
                yield item, _local_entry("", status, link)

    def make_top(self) -> None:
        """Do nothing: the top was made when it was opened."""

    def make_folder(self, name: str) -> None:
        with told(self._shown(name)):
            self._tree.make_folder(name)

    def copy_file(self, name: str, entry: TreeEntry, check: Check, *, keeps_time: bool) -> None:
        source = RemoteFile(from_home(entry.path), entry.mode, entry.size, entry.modified)
        get_file(self._sftp, source, self._tree, name, check)

    def link(self, name: str, to: str) -> None:
        with told(self._shown(name)):
            self._tree.link(name, to)

    def remove(self, name: str, *, is_folder: bool) -> None:
        with told(self._shown(name)):
            self._tree.remove(name)

    def finish_folder(self, name: str, entry: TreeEntry) -> None:
        with told(self._shown(name)):
            self._tree.finish_folder(name, entry.mode, entry.modified * 10**9)

    def _shown(self, name: str) -> str:
        return str(self._tree.top / name)


class RemoteReceiver(Receiver):
    """Writes over SFTP, which has no open folders: a name is checked, and then used."""

    def __init__(self, sftp: Any, top: str) -> None:
        self._sftp, self._top = sftp, top

    def list(self, name: str) -> Iterator[tuple[str, TreeEntry]]:
        path = posixpath.join(self._top, name)
        entry = _remote_look(self._sftp, path, follows=not name)
        if entry is not None and entry.is_folder:
            yield from _remote_list(self._sftp, path)

    def make_top(self) -> None:
        self._make_with_parents(self._top)

    def make_folder(self, name: str) -> None:
        path = posixpath.join(self._top, name)
        with told(path):
            entry = _remote_look(self._sftp, path, follows=False)
            if entry is None:
                self._sftp.mkdir(from_home(path))
            elif not entry.is_folder:
                raise CopyError(path, "is not a folder")

    def copy_file(self, name: str, entry: TreeEntry, check: Check, *, keeps_time: bool) -> None:
        place = from_home(posixpath.join(self._top, name))
        modified = entry.modified if keeps_time else None
        put_file(self._sftp, Path(entry.path), place, check, modified=modified)

    def set_mode(self, name: str, entry: TreeEntry, old: TreeEntry) -> None:
        path = posixpath.join(self._top, name)
        if (entry.mode ^ old.mode) & _MODE_BITS:
            with told(path):
                self._sftp.chmod(from_home(path), entry.mode & _MODE_BITS)

    def link(self, name: str, to: str) -> None:
        path = posixpath.join(self._top, name)
        with told(path):
            with contextlib.suppress(FileNotFoundError):
                self._sftp.remove(from_home(path))
            self._sftp.symlink(to, from_home(path))

    def remove(self, name: str, *, is_folder: bool) -> None:
        path = posixpath.join(self._top, name)
        with told(path):
            self._sftp.rmdir(from_home(path)) if is_folder else self._sftp.remove(from_home(path))

    def finish_folder(self, name: str, entry: TreeEntry) -> None:
        path = posixpath.join(self._top, name)
        found = _remote_look(self._sftp, path, follows=not name)
        if found is None or not found.is_folder:
            raise CopyError(path, "is not a folder any more")
        with told(path):
            self._sftp.chmod(from_home(path), entry.mode & _MODE_BITS)
            self._sftp.utime(from_home(path), (entry.modified, entry.modified))

    def _make_with_parents(self, path: str) -> None:
        if _remote_look(self._sftp, path, follows=True) is not None:
            return
        above = posixpath.dirname(path.rstrip("/"))
        if above not in ("", path):
            self._make_with_parents(above)
        with told(path):
            self._sftp.mkdir(from_home(path))


def _local_entry(path: str, status: os.stat_result, link: str | None) -> TreeEntry:
    return TreeEntry(path, status.st_mode, status.st_size, int(status.st_mtime), link)


def _remote_look(sftp: Any, path: str, *, follows: bool) -> TreeEntry | None:
    place = from_home(path)
    with told(path):
        try:
            status = sftp.stat(place) if follows else sftp.lstat(place)
        except FileNotFoundError:
            return None
    return _remote_entry(sftp, path, status)


def _remote_list(sftp: Any, path: str) -> Iterator[tuple[str, TreeEntry]]:
    for name, status in listed(sftp, from_home(path)).items():
        yield name, _remote_entry(sftp, posixpath.join(path, name), status)


def _remote_entry(sftp: Any, path: str, status: Any) -> TreeEntry:
    """Return the entry of a path; an attribute that a host does not send is 0."""
    mode, link = status.st_mode or 0, None
    if stat.S_ISLNK(mode):
        with contextlib.suppress(OSError):
            link = sftp.readlink(from_home(path))
        link = link or ""
    return TreeEntry(path, mode, status.st_size or 0, int(status.st_mtime or 0), link)

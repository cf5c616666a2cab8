"""The two sides of a copied tree, each on this machine or on a host: entries read, entries made.

No path below the target follows a link there: a link in a folder's or a file's place is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ringtasks.common.light_typing import NamedTuple, Protocol
from ringtasks.common.local_tree import LocalTree
from ringtasks.common.new_files import MODE_BITS

from .sftp import (
    Check,
    CopyError,
    RemoteFile,
    from_home,
    get_file,
    listed,
    put_file,
    told,
    told_here,
    told_there,
)

__all__ = [
    "LocalReceiver",
    "LocalSender",
    "Receiver",
    "RemoteReceiver",
    "RemoteSender",
    "Sender",
    "TreeEntry",
    "too_many",
]

#: SFTP version 3 has 32 bits for a time, without a sign (draft-ietf-secsh-filexfer-02 section 5).
_LAST_TIME = 2**32 - 1
#: Limits for a sending host's tree, so that an endless listing ends.
_MOST_ENTRIES = 2_000_000
_MOST_PATH_BYTES = 4096  # PATH_MAX
#: The same for what is in memory at one time, in characters of paths: of 60, for 150,000 entries.
_MOST_WEIGHT = 24_000_000
_WEIGHT = 100  # of an entry without its path


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

    @property
    def weight(self) -> int:
        """A measure of the memory it takes."""
        return _WEIGHT + len(self.path)

    def differs(self, other: TreeEntry | None) -> bool:
        if other is None or other.is_folder or self.link != other.link:
            return True
        return self.link is None and (self.size, self.modified) != (other.size, other.modified)


class Sender(Protocol):
    """The side that is read.

    ``most_weight`` is the weight of the entries that may wait in memory.
    """

    most_weight: float

    def look(self, path: str, *, follows: bool) -> TreeEntry | None:
        """Return the entry of a path; None: there is none."""

    def list(self, folder: TreeEntry) -> Iterator[tuple[str, TreeEntry]]:
        """Yield the name and the entry of each thing in a folder; a link is not followed."""

    def real_path(self, path: str) -> str:
        """Return a path without symbolic links."""


class Receiver(Protocol):
    """The side that is written to; names are relative to the target, which is the empty name.

    ``mode_bits`` are the bits of a mode that it takes from the sender.
    """

    mode_bits: int

    def list(self, name: str) -> Iterator[tuple[str, TreeEntry]]:
        """Yield the entries of a folder; none if there is no such folder."""

    def look_top(self) -> TreeEntry | None:
        """Return the target itself; None if it is missing."""

    def make_top(self) -> None:
        """Make the target and the folders above it."""

    def make_folder(self, name: str) -> None:
        """Make a folder, unless there is one; the folder above it exists.

        One that is there can be written to afterwards, if it is ours: `finish_folder` follows.
        """

    def copy_file(self, name: str, entry: TreeEntry, check: Check, *, keeps_time: bool) -> int:
        """Copy the sender's file and return its bytes; it replaces a file or a link."""

    def set_attributes(self, name: str, entry: TreeEntry, *, keeps_time: bool) -> bool:
        """Give a file of the same content the entry's mode and time; return False if it cannot."""

    def link(self, name: str, to: str) -> None:
        """Make a link; it replaces a file or a link."""

    def remove(self, name: str, *, is_folder: bool) -> None:
        """Remove a file, a link, or a folder that is empty."""

    def finish_folder(self, name: str, entry: TreeEntry, *, keeps_time: bool = True) -> None:
        """Set a folder's mode and time."""

    def shut_folder(self, name: str, entry: TreeEntry) -> None:
        """Give a folder back its own mode, which `make_folder` has changed."""


class LocalSender:
    """Reads this machine's files."""

    most_weight = math.inf

    def look(self, path: str, *, follows: bool) -> TreeEntry | None:
        with told(path):
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

    def real_path(self, path: str) -> str:
        return os.path.realpath(path)


class _RemoteSide:
    """A side whose entries a host lists; its lists are stopped if they are too long."""

    most_weight: float = _MOST_WEIGHT

    def __init__(self, sftp: Any) -> None:
        self._sftp = sftp
        self._entries = 0

    def _listed(self, path: str) -> Iterator[tuple[str, TreeEntry]]:
        weight = 0
        for name, status in listed(self._sftp, from_home(path)):
            entry = _remote_entry(self._sftp, posixpath.join(path, name), status)
            self._entries += 1
            weight += entry.weight
            is_endless = len(os.fsencode(path)) > _MOST_PATH_BYTES
            if is_endless or self._entries > _MOST_ENTRIES or weight > self.most_weight:
                raise too_many(path)
            yield name, entry


class RemoteSender(_RemoteSide):
    """Reads over SFTP."""

    def look(self, path: str, *, follows: bool) -> TreeEntry | None:
        return _remote_look(self._sftp, path, follows=follows)

    def list(self, folder: TreeEntry) -> Iterator[tuple[str, TreeEntry]]:
        return self._listed(folder.path)

    def real_path(self, path: str) -> str:
        with told(path):
            return str(self._sftp.normalize(from_home(path)))


class LocalReceiver:
    """Writes files of a host below one folder of this machine."""

    mode_bits = MODE_BITS

    def __init__(self, sftp: Any, tree: LocalTree) -> None:
        self._sftp, self._tree = sftp, tree

    def list(self, name: str) -> Iterator[tuple[str, TreeEntry]]:
        with told_here(self._tree, name):
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

    def look_top(self) -> TreeEntry | None:
        status = self._tree.look("")
        return None if status is None else _local_entry("", status, None)

    def make_top(self) -> None:
        """Do nothing: the top was made when it was opened."""

    def make_folder(self, name: str) -> None:
        with told_here(self._tree, name):
            self._tree.make_folder(name)

    def copy_file(self, name: str, entry: TreeEntry, check: Check, *, keeps_time: bool) -> int:
        modified = entry.modified if keeps_time else None
        source = RemoteFile(from_home(entry.path), entry.mode, entry.size, modified)
        return get_file(self._sftp, source, self._tree, name, check)

    def set_attributes(self, name: str, entry: TreeEntry, *, keeps_time: bool) -> bool:
        modified_ns = entry.modified * 10**9 if keeps_time else None
        with told_here(self._tree, name):
            try:
                self._tree.finish_file(name, entry.mode, modified_ns)
            except PermissionError:  # it cannot be opened, but it can be replaced
                return False
        return True

    def link(self, name: str, to: str) -> None:
        with told_here(self._tree, name):
            self._tree.link(name, to)

    def remove(self, name: str, *, is_folder: bool) -> None:
        with told_here(self._tree, name):
            self._tree.remove(name)

    def finish_folder(self, name: str, entry: TreeEntry, *, keeps_time: bool = True) -> None:
        modified_ns = entry.modified * 10**9 if keeps_time else None
        with told_here(self._tree, name):
            self._tree.finish_folder(name, entry.mode, modified_ns)

    def shut_folder(self, name: str, entry: TreeEntry) -> None:
        with told_here(self._tree, name):
            self._tree.finish_folder(name, entry.mode, is_own=True)


class RemoteReceiver(_RemoteSide):
    """Writes over SFTP, which has no open folders: a name is checked, and then used."""

    mode_bits = 0o7777

    def __init__(self, sftp: Any, top: str) -> None:
        super().__init__(sftp)
        self._top = top

    def list(self, name: str) -> Iterator[tuple[str, TreeEntry]]:
        path = self._path(name)
        entry = _remote_look(self._sftp, path, follows=not name)
        if entry is not None and entry.is_folder:
            yield from self._listed(path)

    def look_top(self) -> TreeEntry | None:
        return _remote_look(self._sftp, self._top, follows=True)

    def make_top(self) -> None:
        self._make_with_parents(self._top)

    def make_folder(self, name: str) -> None:
        path = self._path(name)
        with told_there(self._sftp, path):
            entry = _remote_look(self._sftp, path, follows=not name)
            if entry is None:
                self._sftp.mkdir(from_home(path), stat.S_IRWXU)  # its mode comes at its end
            elif not entry.is_folder:
                raise CopyError(path, "is not a folder")
            elif not entry.mode & stat.S_IWUSR:
                with contextlib.suppress(PermissionError):  # another user's: writing will tell
                    self._sftp.chmod(from_home(path), stat.S_IMODE(entry.mode) | stat.S_IRWXU)

    def copy_file(self, name: str, entry: TreeEntry, check: Check, *, keeps_time: bool) -> int:
        place = from_home(self._path(name))
        modified = entry.modified if keeps_time else None
        return put_file(self._sftp, Path(entry.path), place, check, modified=modified)

    def set_attributes(self, name: str, entry: TreeEntry, *, keeps_time: bool) -> bool:
        self._set(name, entry, keeps_time=keeps_time)
        return True

    def link(self, name: str, to: str) -> None:
        path = self._path(name)
        with told_there(self._sftp, path):
            with contextlib.suppress(FileNotFoundError):
                self._sftp.remove(from_home(path))
            self._sftp.symlink(to, from_home(path))

    def remove(self, name: str, *, is_folder: bool) -> None:
        path = self._path(name)
        with told(path):
            self._sftp.rmdir(from_home(path)) if is_folder else self._sftp.remove(from_home(path))

    def finish_folder(self, name: str, entry: TreeEntry, *, keeps_time: bool = True) -> None:
        try:
            self._set(name, entry, keeps_time=keeps_time)
        except CopyError as error:  # the target itself may be another user's
            if name or not isinstance(error.__cause__, PermissionError):
                raise

    def shut_folder(self, name: str, entry: TreeEntry) -> None:
        self.finish_folder(name, entry, keeps_time=False)

    def _set(self, name: str, entry: TreeEntry, *, keeps_time: bool) -> None:
        path = self._path(name)
        found = _remote_look(self._sftp, path, follows=not name)
        if found is None or stat.S_IFMT(found.mode) != stat.S_IFMT(entry.mode):
            raise CopyError(path, "has become another kind of file")
        with told(path):
            self._sftp.chmod(from_home(path), stat.S_IMODE(entry.mode))
            if keeps_time:
                self._sftp.utime(from_home(path), (entry.modified, entry.modified))

    def _path(self, name: str) -> str:
        return posixpath.join(self._top, name) if name else self._top

    def _make_with_parents(self, path: str) -> None:
        if _remote_look(self._sftp, path, follows=True) is not None:
            return
        above = posixpath.dirname(path.rstrip("/"))
        if above not in ("", path):
            self._make_with_parents(above)
        with told(path):
            self._sftp.mkdir(from_home(path))


def _local_entry(path: str, status: os.stat_result, link: str | None) -> TreeEntry:
    modified = min(max(0, int(status.st_mtime)), _LAST_TIME)
    return TreeEntry(path, status.st_mode, status.st_size, modified, link)


def _remote_look(sftp: Any, path: str, *, follows: bool) -> TreeEntry | None:
    place = from_home(path)
    with told(path):
        try:
            status = sftp.stat(place) if follows else sftp.lstat(place)
        except FileNotFoundError:
            return None
    return _remote_entry(sftp, path, status)


def too_many(path: str) -> CopyError:
    """Return the error for a host's folder with more entries than SFTP can copy."""
    why = "its list does not end, or is too long for SFTP: stopped; install rsync on both sides"
    return CopyError(path, why)


def _remote_entry(sftp: Any, path: str, status: Any) -> TreeEntry:
    """Return the entry of a path; an attribute that a host does not send is 0."""
    mode, link = status.st_mode or 0, None
    if stat.S_ISLNK(mode):
        with contextlib.suppress(OSError):
            link = sftp.readlink(from_home(path))
        link = link or ""
    return TreeEntry(path, mode, status.st_size or 0, int(status.st_mtime or 0), link)

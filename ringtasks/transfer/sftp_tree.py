"""Copy folders over SFTP, if one side has no rsync; with the same outcome.

Files that are equal in size and time are not copied again; a copied file is whole before it has its
name (`ringtasks.sftp`).  A link is kept, or followed, by the same `Rules` as rsync's.

The tree is copied folder by folder, so that only the content of the folders above is in memory. No
path below the target follows a link there: a link in a folder's or a file's place is replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from ringtasks.client.copying import Copy
from ringtasks.common.local_tree import LocalTree, leads_out
from ringtasks.ssh.sftp import (
    CopyError,
    RemoteFile,
    from_home,
    get_file,
    listed,
    put_file,
    told,
)

from .checksums import sha256_of
from .deletion import doomed
from .patterns import Filter
from .rsync_flags import Rules
from .rsync_output import Change

__all__ = ["TreeCopy"]

_MODE_BITS = 0o777
#: Limit for the entries of a sending host's tree, so that an endless listing is given up.
_MOST_ENTRIES = 2_000_000
_MOST_NAME_BYTES = 4096  # PATH_MAX

Check = Callable[[], None]


class _Entry(NamedTuple):
    """An entry of a tree: its full path if it is to be read, and the fields that show a change."""

    path: str
    mode: int
    size: int = 0
    modified: int = 0
    link: str | None = None

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode) and self.link is None

    def differs(self, other: _Entry | None) -> bool:
        if other is None or other.is_folder or self.link != other.link:
            return True
        return self.link is None and (self.size, self.modified) != (other.size, other.modified)


#: Returns the SHA-256 of each of these files of the target, or why it cannot; takes their size.
Hashes = Callable[[Sequence[str], int], "list[str] | str"]
#: The parts of a tree: for each a name in it (empty: the top itself) and a path.
Roots = Sequence[tuple[str, str]]


class TreeCopy(Copy):
    """`Copy` of the entries that ``rules`` select; ``changes`` are those made, or that would be.

    :param roots: on the sending side.
    :param target: a folder on the other side, made if need be.
    :param hashes: the SHA-256 of files of the target, for `Rules.checksum`; None: each is copied.
    """

    def __init__(
        self,
        way: str,
        roots: Roots,
        target: str,
        rules: Rules,
        *,
        hashes: Hashes | None = None,
    ) -> None:
        local, remote = (roots[0][1], target) if way == "put" else (target, roots[0][1])
        super().__init__(way, local, remote)
        self._roots, self._target, self._rules = roots, target, rules
        self._hashes = hashes if rules.checksum else None
        self._filter = Filter(rules)
        self._entries = 0
        self.changes: list[Change] = []

    def _copy(self) -> None:
        check = self._check
        if self.way == "put":
            self._copy_all(_LocalSender(), _RemoteReceiver(self._sftp, self._target), check)
            return
        with told(self._target):
            tree = LocalTree(Path(self._target), make=not self._rules.dry_run)
        with tree:
            self._copy_all(_RemoteSender(self._sftp), _LocalReceiver(self._sftp, tree), check)

    def _copy_all(self, sender: _Sender, receiver: _Receiver, check: Check) -> None:
        todo = self._first_steps(sender, receiver)
        while todo:
            check()
            name, folder, old, is_done = todo.pop()
            if not is_done:
                todo += self._copy_entry(sender, receiver, name, folder, old, check)
            elif not self._rules.dry_run:  # a folder's time changes with its content
                receiver.finish_folder(name, folder)

    def _first_steps(self, sender: _Sender, receiver: _Receiver) -> list[_Step]:
        tops = {}
        for name, path in self._roots:
            entry = sender.look(path, follows=not name or self._rules.follow_outside)
            if not name and (entry is None or not entry.is_folder):
                raise CopyError(path, "no such folder")  # so nothing is deleted
            if entry is not None:
                tops[name] = entry
        if not self._rules.dry_run:
            receiver.make_top()
        if "" in tops:
            return self._opened(sender, receiver, "", tops[""])
        return self._below(receiver, "", self._chosen(sender, "", tops))

    def _opened(
        self, sender: _Sender, receiver: _Receiver, name: str, folder: _Entry
    ) -> list[_Step]:
        """Return the steps for the content of a folder that has been made."""
        found = dict(sender.list(folder))
        self._entries += len(found)
        if self._entries > _MOST_ENTRIES or len(os.fsencode(name)) > _MOST_NAME_BYTES:
            raise CopyError(folder.path, "lists more and more: given up")
        return self._below(receiver, name, self._chosen(sender, name, found))

    def _below(self, receiver: _Receiver, name: str, found: dict[str, _Entry]) -> list[_Step]:
        there = dict(receiver.list(name))
        if self._rules.delete:
            self._delete(receiver, name, there.keys() - found.keys())
        if self._hashes is not None:
            for item in self._equal(self._hashes, name, found, there):
                receiver.set_mode(posixpath.join(name, item), found.pop(item), there[item])
        steps = [
            _Step(posixpath.join(name, item), entry, there.get(item))
            for item, entry in found.items()
        ]
        return sorted(steps, reverse=True, key=lambda step: step.name)

    def _equal(
        self, hashes: Hashes, above: str, found: dict[str, _Entry], there: dict[str, _Entry]
    ) -> list[str]:
        """Return the files of a folder that have the same content on both sides."""
        names = [
            item
            for item, entry in found.items()
            if stat.S_ISREG(entry.mode) and entry.link is None and item in there
            and stat.S_ISREG(there[item].mode) and there[item].size == entry.size
        ]  # fmt: skip
        size_bytes = sum(found[item].size for item in names)
        sums = hashes([posixpath.join(above, item) for item in names], size_bytes) if names else []
        if isinstance(sums, str):  # the host has no program for it
            return []
        pairs = zip(names, sums, strict=True)
        return [item for item, digest in pairs if sha256_of(Path(found[item].path)) == digest]

    def _copy_entry(
        self,
        sender: _Sender,
        receiver: _Receiver,
        name: str,
        entry: _Entry,
        old: _Entry | None,
        check: Check,
    ) -> list[_Step]:
        """Copy one entry; return the steps that follow from it."""
        is_real = not self._rules.dry_run
        if old is not None and old.is_folder != entry.is_folder and is_real:
            receiver.remove(name, is_folder=old.is_folder)
        if entry.is_folder:
            if is_real:
                receiver.make_folder(name)
            if old is None:
                self.changes.append(Change("made", f"{name}/", 0))
            end = _Step(name, entry, None, is_done=True)
            return [end, *self._opened(sender, receiver, name, entry)]
        is_compared = self._rules.checksum and entry.link is None
        if not (entry.differs(old) or is_compared):
            return []
        if entry.link is not None:
            if is_real:
                receiver.link(name, entry.link)
            self.changes.append(Change("made", name, 0))
            return []
        if is_real:
            receiver.copy_file(name, entry, check, keeps_time=self._rules.keep_times)
        self.changes.append(Change("sent", name, entry.size))
        return []

    def _delete(self, receiver: _Receiver, folder: str, items: Set[str]) -> None:
        """Delete these from a folder of the target, except for excluded ones."""

        def listed(name: str) -> Iterator[tuple[str, bool]]:
            return ((item, entry.is_folder) for item, entry in receiver.list(name))

        for name, is_folder in doomed(listed, folder, items, self._filter):
            if not self._rules.dry_run:
                receiver.remove(name, is_folder=is_folder)
            self.changes.append(Change("deleted", f"{name}/" if is_folder else name, 0))

    def _chosen(self, sender: _Sender, above: str, found: dict[str, _Entry]) -> dict[str, _Entry]:
        """Return the entries of a folder's content to copy, each as it is to be copied."""
        chosen = {}
        for item, entry in found.items():
            as_copied = self._as_copied(sender, posixpath.join(above, item), entry)
            if as_copied is not None:
                chosen[item] = as_copied
        return chosen

    def _as_copied(self, sender: _Sender, name: str, entry: _Entry) -> _Entry | None:
        """Return the entry as it is to be copied; None: not at all."""
        if self._filter.excludes(name, is_folder=entry.is_folder):
            return None
        if entry.link is not None and leads_out(name, entry.link):
            if self._rules.follow_outside:
                return sender.look(entry.path, follows=True)
            return entry if self.way == "put" else None
        is_known = entry.link is not None or stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode)
        return entry if is_known else None


class _Step(NamedTuple):
    """An entry to copy, and the one in its place; or a folder whose content was copied."""

    name: str
    entry: _Entry
    old: _Entry | None
    is_done: bool = False


class _Sender:
    """The side that is read."""

    def look(self, path: str, *, follows: bool) -> _Entry | None:
        raise NotImplementedError

    def list(self, folder: _Entry) -> Iterator[tuple[str, _Entry]]:
        raise NotImplementedError


class _Receiver:
    """The side that is written to; names are relative to the target."""

    def list(self, name: str) -> Iterator[tuple[str, _Entry]]:
        """Yield the entries of a folder; none if there is no such folder."""
        raise NotImplementedError

    def make_top(self) -> None:
        raise NotImplementedError

    def make_folder(self, name: str) -> None:
        raise NotImplementedError

    def copy_file(self, name: str, entry: _Entry, check: Check, *, keeps_time: bool) -> None:
        raise NotImplementedError

    def set_mode(self, name: str, entry: _Entry, old: _Entry) -> None:
        """Give a file of the same content the entry's mode."""
        raise NotImplementedError

    def link(self, name: str, to: str) -> None:
        """Make a link; it replaces a file or a link."""
        raise NotImplementedError

    def remove(self, name: str, *, is_folder: bool) -> None:
        raise NotImplementedError

    def finish_folder(self, name: str, entry: _Entry) -> None:
        """Set the entry's mode and time."""
        raise NotImplementedError


class _LocalSender(_Sender):
    def look(self, path: str, *, follows: bool) -> _Entry | None:
        try:
            status = Path(path).stat(follow_symlinks=follows)
        except FileNotFoundError:
            return None
        link = str(Path(path).readlink()) if stat.S_ISLNK(status.st_mode) else None
        return _local_entry(path, status, link)

    def list(self, folder: _Entry) -> Iterator[tuple[str, _Entry]]:
        with told(folder.path):
            names = os.listdir(folder.path)  # noqa: PTH208  # names, not paths
        for name in names:
            entry = self.look(posixpath.join(folder.path, name), follows=False)
            if entry is not None:
                yield name, entry


class _RemoteSender(_Sender):
    def __init__(self, sftp: Any) -> None:
        self._sftp = sftp

    def look(self, path: str, *, follows: bool) -> _Entry | None:
        return _remote_look(self._sftp, path, follows=follows)

    def list(self, folder: _Entry) -> Iterator[tuple[str, _Entry]]:
        return _remote_list(self._sftp, folder.path)


class _LocalReceiver(_Receiver):
    def __init__(self, sftp: Any, tree: LocalTree) -> None:
        self._sftp, self._tree = sftp, tree

    def list(self, name: str) -> Iterator[tuple[str, _Entry]]:
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

    def copy_file(self, name: str, entry: _Entry, check: Check, *, keeps_time: bool) -> None:
        source = RemoteFile(from_home(entry.path), entry.mode, entry.size, entry.modified)
        get_file(self._sftp, source, self._tree, name, check)

    def link(self, name: str, to: str) -> None:
        with told(self._shown(name)):
            self._tree.link(name, to)

    def remove(self, name: str, *, is_folder: bool) -> None:
        with told(self._shown(name)):
            self._tree.remove(name)

    def finish_folder(self, name: str, entry: _Entry) -> None:
        with told(self._shown(name)):
            self._tree.finish_folder(name, entry.mode, entry.modified * 10**9)

    def _shown(self, name: str) -> str:
        return str(self._tree.top / name)


class _RemoteReceiver(_Receiver):
    """Writes over SFTP, which has no open folders: a name is checked, and then used."""

    def __init__(self, sftp: Any, top: str) -> None:
        self._sftp, self._top = sftp, top

    def list(self, name: str) -> Iterator[tuple[str, _Entry]]:
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

    def copy_file(self, name: str, entry: _Entry, check: Check, *, keeps_time: bool) -> None:
        place = from_home(posixpath.join(self._top, name))
        modified = entry.modified if keeps_time else None
        put_file(self._sftp, Path(entry.path), place, check, modified=modified)

    def set_mode(self, name: str, entry: _Entry, old: _Entry) -> None:
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

    def finish_folder(self, name: str, entry: _Entry) -> None:
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


def _local_entry(path: str, status: os.stat_result, link: str | None) -> _Entry:
    return _Entry(path, status.st_mode, status.st_size, int(status.st_mtime), link)


def _remote_look(sftp: Any, path: str, *, follows: bool) -> _Entry | None:
    place = from_home(path)
    with told(path):
        try:
            status = sftp.stat(place) if follows else sftp.lstat(place)
        except FileNotFoundError:
            return None
    return _remote_entry(sftp, path, status)


def _remote_list(sftp: Any, path: str) -> Iterator[tuple[str, _Entry]]:
    for name, status in listed(sftp, from_home(path)).items():
        yield name, _remote_entry(sftp, posixpath.join(path, name), status)


def _remote_entry(sftp: Any, path: str, status: Any) -> _Entry:
    """Return the entry of a path; an attribute that a host does not send is 0."""
    mode, link = status.st_mode or 0, None
    if stat.S_ISLNK(mode):
        with contextlib.suppress(OSError):
            link = sftp.readlink(from_home(path))
        link = link or ""
    return _Entry(path, mode, status.st_size or 0, int(status.st_mtime or 0), link)

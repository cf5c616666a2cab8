"""Folders over SFTP, for where one end has no rsync; with the same outcome.

Files that are equal in size and time are not copied again; what is copied is whole before it has
its name (`ringtasks.sftp`).  A link is kept, or followed, by the same `Rules` as rsync's.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..copying import Copy
from ..sftp import from_home, get, put, safe_name, told
from .patterns import Filter
from .rsync_flags import Rules
from .rsync_output import Change

__all__ = ["TreeCopy"]

_MODE_BITS = 0o777


class _Entry(NamedTuple):
    """Something in a tree: its full path, and what tells one version from another."""

    path: str
    mode: int
    size: int
    modified: int
    link: str | None = None

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode) and self.link is None

    def differs(self, other: _Entry | None) -> bool:
        if other is None or self.link != other.link:
            return True
        return self.link is None and (self.size, self.modified) != (other.size, other.modified)


_Tree = dict[str, _Entry]
#: Where the parts of a tree are: a name in it (empty: the top itself) and a path.
Roots = Sequence[tuple[str, str]]


class TreeCopy(Copy):
    """`Copy` of what ``rules`` choose; ``changes`` is what was done, or would be.

    :param roots: on the sending side.
    :param target: a folder on the other side, made if need be.
    """

    def __init__(
        self, way: str, roots: Roots, target: str, rules: Rules, limit: float | None
    ) -> None:
        local, remote = (roots[0][1], target) if way == "put" else (target, roots[0][1])
        super().__init__(way, local, remote, limit)
        self._roots, self._target, self._rules = roots, target, rules
        self._filter = Filter(rules)
        self.changes: list[Change] = []

    def _copy(self, deadline: float | None) -> None:
        check = self._checking(deadline)
        here, there = _Here(), _There(self._sftp)
        sender, receiver = (here, there) if self.way == "put" else (there, here)
        source: _Tree = {}
        for name, path in self._roots:
            source.update(self._found(sender, path, name, check, sends=True))
        target = dict(self._found(receiver, self._target, "", check, sends=False))
        if not self._rules.dry_run:
            receiver.make_folder(self._target)
        if self._rules.delete:
            self._delete(receiver, source, target)
        for name, entry in source.items():
            check()
            self._copy_entry(receiver, name, entry, target.get(name), check)
        if not self._rules.dry_run:
            for name, entry in reversed(source.items()):  # a folder's time changes with its content
                if entry.is_folder:
                    receiver.finish(self._at(name), entry)

    def _copy_entry(
        self,
        receiver: _Side,
        name: str,
        entry: _Entry,
        old: _Entry | None,
        check: Callable[[], None],
    ) -> None:
        place, is_real = self._at(name), not self._rules.dry_run
        if old is not None and old.is_folder != entry.is_folder and is_real:
            receiver.remove(old)
        if entry.is_folder:
            if is_real:
                receiver.make_folder(place)
            if old is None:
                self.changes.append(Change("made", f"{name}/", 0))
            return
        if not (entry.differs(old) or self._rules.checksum):
            return
        if entry.link is not None:
            if is_real:
                receiver.link(entry.link, place, old)
            self.changes.append(Change("made", name, 0))
            return
        if is_real:
            if self.way == "put":
                put(self._sftp, Path(entry.path), place, check)
            else:
                get(self._sftp, entry.path, Path(place), check)
            receiver.finish(place, entry)
        self.changes.append(Change("sent", name, entry.size))

    def _delete(self, receiver: _Side, source: _Tree, target: Mapping[str, _Entry]) -> None:
        for name in sorted(target.keys() - source.keys(), reverse=True):  # what is in it first
            if not self._rules.dry_run:
                receiver.remove(target[name])
            self.changes.append(Change("deleted", name, 0))

    def _at(self, name: str) -> str:
        return posixpath.join(self._target, name)

    def _found(
        self, side: _Side, path: str, name: str, check: Callable[[], None], *, sends: bool
    ) -> Iterator[tuple[str, _Entry]]:
        """What is there below ``path``, each under its name in the tree."""
        top = side.look(path, follows=not name or self._rules.follow_outside)
        if top is None:
            return
        todo = [(name, top)]
        while todo:
            check()
            name, entry = todo.pop()
            if name and (found := self._chosen(side, name, entry, path, sends=sends)):
                entry = found
                yield name, entry
            elif name:
                continue
            if entry.is_folder:
                below = [(posixpath.join(name, item), child) for item, child in side.list(entry)]
                todo += sorted(below, reverse=True)

    def _chosen(
        self, side: _Side, name: str, entry: _Entry, top: str, *, sends: bool
    ) -> _Entry | None:
        """The entry as it is to be copied; None: not at all."""
        if self._filter.excludes(name, is_folder=entry.is_folder):
            return None
        if sends and entry.link is not None and _leads_out(name, entry.link):
            if self._rules.follow_outside:
                return side.look(entry.path, follows=True)
            return entry if self.way == "put" else None
        is_known = entry.link is not None or stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode)
        return entry if is_known else None


class _Side:
    """One end: this machine's files, or the host's."""

    def look(self, path: str, *, follows: bool) -> _Entry | None:
        raise NotImplementedError

    def list(self, folder: _Entry) -> Iterator[tuple[str, _Entry]]:
        raise NotImplementedError

    def make_folder(self, path: str) -> None:
        raise NotImplementedError

    def link(self, to: str, path: str, old: _Entry | None) -> None:
        raise NotImplementedError

    def remove(self, entry: _Entry) -> None:
        raise NotImplementedError

    def finish(self, path: str, entry: _Entry) -> None:
        """Give it the entry's mode and time."""
        raise NotImplementedError


class _Here(_Side):
    def look(self, path: str, *, follows: bool) -> _Entry | None:
        try:
            status = Path(path).stat(follow_symlinks=follows)
        except FileNotFoundError:
            return None
        link = str(Path(path).readlink()) if stat.S_ISLNK(status.st_mode) else None
        return _Entry(path, status.st_mode, status.st_size, int(status.st_mtime), link)

    def list(self, folder: _Entry) -> Iterator[tuple[str, _Entry]]:
        with told(folder.path):
            names = os.listdir(folder.path)  # noqa: PTH208  # names, not paths
        for name in names:
            entry = self.look(posixpath.join(folder.path, name), follows=False)
            if entry is not None:
                yield name, entry

    def make_folder(self, path: str) -> None:
        with told(path):
            Path(path).mkdir(parents=True, exist_ok=True)

    def link(self, to: str, path: str, old: _Entry | None) -> None:
        with told(path):
            Path(path).unlink(missing_ok=True)
            Path(path).symlink_to(to)

    def remove(self, entry: _Entry) -> None:
        with told(entry.path):
            Path(entry.path).rmdir() if entry.is_folder else Path(entry.path).unlink()

    def finish(self, path: str, entry: _Entry) -> None:
        with told(path):
            Path(path).chmod(entry.mode & _MODE_BITS)
            os.utime(path, (entry.modified, entry.modified))


class _There(_Side):
    def __init__(self, sftp: Any) -> None:
        self._sftp = sftp

    def look(self, path: str, *, follows: bool) -> _Entry | None:
        place = from_home(path)
        with told(path):
            try:
                status = self._sftp.stat(place) if follows else self._sftp.lstat(place)
            except FileNotFoundError:
                return None
        return self._entry(path, status)

    def list(self, folder: _Entry) -> Iterator[tuple[str, _Entry]]:
        with told(folder.path):
            listed = self._sftp.listdir_attr(from_home(folder.path))
        for status in listed:
            name = safe_name(folder.path, str(status.filename))
            yield name, self._entry(posixpath.join(folder.path, name), status)

    def make_folder(self, path: str) -> None:
        if self.look(path, follows=True) is not None:
            return
        above = posixpath.dirname(path.rstrip("/"))
        if above not in ("", path):
            self.make_folder(above)
        with told(path):
            self._sftp.mkdir(from_home(path))

    def link(self, to: str, path: str, old: _Entry | None) -> None:
        with told(path):
            if old is not None:
                self._sftp.remove(from_home(path))
            self._sftp.symlink(to, from_home(path))

    def remove(self, entry: _Entry) -> None:
        place = from_home(entry.path)
        with told(entry.path):
            self._sftp.rmdir(place) if entry.is_folder else self._sftp.remove(place)

    def finish(self, path: str, entry: _Entry) -> None:
        with told(path):
            self._sftp.chmod(from_home(path), entry.mode & _MODE_BITS)
            self._sftp.utime(from_home(path), (entry.modified, entry.modified))

    def _entry(self, path: str, status: Any) -> _Entry:
        link = None
        if stat.S_ISLNK(status.st_mode):
            with contextlib.suppress(OSError):
                link = self._sftp.readlink(from_home(path))
            link = link or ""
        return _Entry(path, status.st_mode, status.st_size, int(status.st_mtime), link)


def _leads_out(name: str, link: str) -> bool:
    """rsync(1), SYMBOLIC LINKS: absolute, or with more ``..`` than it is deep."""
    if not link or link.startswith("/"):
        return True
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), link)).startswith("..")

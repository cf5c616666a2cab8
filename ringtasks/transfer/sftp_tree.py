"""Copy folders over SFTP, if one side has no rsync; with the same outcome.

Files that are equal in size and time are not copied again; a copied file is whole before it has its
name (`ringtasks.ssh.sftp`).  A link is kept, or followed, by the same `Rules` as rsync's.

The tree is copied folder by folder, so that only the content of the folders above is in memory. No
path below the target follows a link there: a link in a folder's or a file's place is replaced.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

from ringtasks.client.copying import Copy
from ringtasks.common.local_tree import LocalTree, leads_out
from ringtasks.common.text import names_and_more
from ringtasks.ssh.sftp import Check, CopyError, told
from ringtasks.ssh.sftp_sides import (
    LocalReceiver,
    LocalSender,
    Receiver,
    RemoteReceiver,
    RemoteSender,
    Sender,
    TreeEntry,
)
from ringtasks.ssh.sftp_walk import Step, TreeWalk

from .checksums import sha256_of
from .folded_names import folded_error
from .patterns import Filter, doomed
from .rsync_flags import Rules
from .rsync_output import NOT_EMPTY, Change

__all__ = ["TreeCopy"]

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
        self.changes: list[Change] = []

    def _copy(self) -> None:
        if self.way == "put":
            self._copy_all(LocalSender(), RemoteReceiver(self._sftp, self._target))
            return
        with told(self._target):
            tree = LocalTree(Path(self._target), make=not self._rules.dry_run)
        with tree:
            self._copy_all(RemoteSender(self._sftp), LocalReceiver(self._sftp, tree))
            copied = (change.name for change in self.changes if change.is_copied)
            if not self._rules.dry_run and (error := folded_error(tree, copied)):
                raise CopyError(self._target, error)

    def _copy_all(self, sender: Sender, receiver: Receiver) -> None:
        walk = _SelectingWalk(sender, receiver, self._check, self._rules)
        walk.hashes, walk.changes = self._hashes, self.changes
        walk.keeps_outside_links = self.way == "put"
        walk.run(walk.first_steps(self._roots))
        if walk.dangling:
            links = names_and_more(walk.dangling, 1)
            raise CopyError(links, "a symbolic link that leads to nothing")


class _SelectingWalk(TreeWalk):
    """Copies the entries that the rules select and that differ, each link as a link."""

    def __init__(self, sender: Sender, receiver: Receiver, check: Check, rules: Rules) -> None:
        super().__init__(sender, receiver, check)
        self._rules, self._filter = rules, Filter(rules)
        self.hashes: Hashes | None = None
        self.changes: list[Change] = []
        self.dangling: list[str] = []
        """Links whose targets are missing, though they were to be copied; the rest is copied."""
        self.keeps_outside_links = False
        """Whether links that lead out of the tree are made too, and not left out."""

    def first_steps(self, roots: Roots) -> list[Step]:
        """Make the target, and return the steps for its parts."""
        tops = {}
        for name, path in roots:
            entry = self.sender.look(path, follows=not name or self._rules.follow_outside)
            if not name and (entry is None or not entry.is_folder):
                raise CopyError(path, "no such folder")  # so nothing is deleted
            if entry is not None:
                tops[name] = entry
        if not self._rules.dry_run:
            self.receiver.make_top()
        if "" not in tops:
            return self._below("", None, self._chosen("", tops))
        top = tops[""]
        old = self.receiver.look_top()
        if old is None or self._has_new_attributes(top, old):
            self.changes.append(Change("made", "./", 0))
        if not self._rules.dry_run:
            self.receiver.make_folder("")
        return [Step("", top, is_done=True), *self._opened("", top)]

    def _opened(self, name: str, folder: TreeEntry) -> list[Step]:
        """Return the steps for the content of a folder that has been made."""
        found = dict(self.sender.list(folder))
        return self._below(name, found.keys(), self._chosen(name, found))

    def _below(self, name: str, listed: Set[str] | None, found: dict[str, TreeEntry]) -> list[Step]:
        """Return the steps for the content of a folder.

        :param listed: all names in it; all others may be deleted. None: it is not copied as a
            whole, so nothing in it is deleted.
        :param found: those that are to be copied.
        """
        there = dict(self.receiver.list(name))
        if self._rules.delete and listed is not None:
            self._delete(name, there.keys() - listed)
        if self.hashes is not None:
            for item in self._equal(self.hashes, name, found, there):
                self._set_attributes(posixpath.join(name, item), found.pop(item), there[item])
        steps = [
            Step(posixpath.join(name, item), entry, there.get(item))
            for item, entry in found.items()
        ]
        return sorted(steps, reverse=True, key=lambda step: step.name)

    def _equal(
        self, hashes: Hashes, above: str, found: dict[str, TreeEntry], there: dict[str, TreeEntry]
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

    def copy(self, step: Step) -> list[Step]:
        name, entry, old = step.name, step.entry, step.old
        is_real = not self._rules.dry_run
        if old is not None and old.is_folder != entry.is_folder:
            self._make_way(name, old)
            if old.link is None:  # a link that a folder replaces is told with its text
                self._removed(name, is_folder=old.is_folder)
        if entry.is_folder:
            if is_real:
                self.receiver.make_folder(name)
            if old is None or not old.is_folder or self._has_new_attributes(entry, old):
                self.changes.append(Change("made", f"{name}/", 0))
            if old is not None and old.link is not None:
                self.changes.append(Change("replaced", name, 0, link=old.link))
            return [step._replace(is_done=True), *self._opened(name, entry)]
        is_compared = self._rules.checksum and entry.link is None
        if old is not None and not (entry.differs(old) or is_compared):
            if entry.link is None:
                self._set_attributes(name, entry, old)
            return []
        if entry.link is not None:
            if is_real:
                self.receiver.link(name, entry.link)
            self.changes.append(Change("made", name, 0))
            return []
        size_bytes = entry.size
        if is_real:
            keeps_time = self._rules.keep_times
            size_bytes = self.receiver.copy_file(name, entry, self.check, keeps_time=keeps_time)
        self.changes.append(Change("sent", name, size_bytes))
        return []

    def finish_folder(self, step: Step) -> None:
        if not self._rules.dry_run:
            keeps_time = self._rules.keep_times
            self.receiver.finish_folder(step.name, step.entry, keeps_time=keeps_time)

    def _has_new_attributes(self, entry: TreeEntry, old: TreeEntry) -> bool:
        is_other_time = self._rules.keep_times and entry.modified != old.modified
        mode = entry.mode & self.receiver.mode_bits
        return is_other_time or mode != stat.S_IMODE(old.mode)

    def _set_attributes(self, name: str, entry: TreeEntry, old: TreeEntry) -> None:
        """Give a file of the same content the entry's mode and time."""
        if not self._has_new_attributes(entry, old):
            return
        self.changes.append(Change("made", name, 0))
        keeps_time = self._rules.keep_times
        if self._rules.dry_run or self.receiver.set_attributes(name, entry, keeps_time=keeps_time):
            return
        self.receiver.copy_file(name, entry, self.check, keeps_time=keeps_time)

    def _make_way(self, name: str, old: TreeEntry) -> None:
        """Remove the entry of another kind; a folder with content only with `Rules.delete`."""
        content = dict(self.receiver.list(name)) if old.is_folder else {}
        gone = self._delete(name, content.keys()) if content and self._rules.delete else set()
        if any(posixpath.join(name, item) not in gone for item in content):
            raise CopyError(name, NOT_EMPTY)
        if not self._rules.dry_run:
            self.receiver.remove(name, is_folder=old.is_folder)

    def _delete(self, folder: str, items: Set[str]) -> Set[str]:
        """Delete these from a folder of the target, except for excluded ones; return the paths."""

        shut: dict[str, TreeEntry] = {}

        def listed(name: str) -> Iterator[tuple[str, bool]]:
            for item, entry in self.receiver.list(name):
                if entry.is_folder and not entry.mode & stat.S_IWUSR:
                    shut[posixpath.join(name, item)] = entry
                yield item, entry.is_folder

        gone = doomed(listed, folder, items, self._filter)
        is_real = not self._rules.dry_run
        opened = {posixpath.dirname(name) for name, _ in gone} & {folder, *shut}
        for name in opened if is_real else ():
            self.receiver.make_folder(name)  # so that what is in it can be removed
        for name, is_folder in gone:
            if is_real:
                self.receiver.remove(name, is_folder=is_folder)
            self._removed(name, is_folder=is_folder)
        left = opened.difference(name for name, _ in gone)  # they hold excluded names
        for name in left & shut.keys() if is_real else ():
            self.receiver.shut_folder(name, shut[name])
        return {name for name, _ in gone}

    def _removed(self, name: str, *, is_folder: bool) -> None:
        self.changes.append(Change("deleted", f"{name}/" if is_folder else name, 0))

    def _chosen(self, above: str, found: dict[str, TreeEntry]) -> dict[str, TreeEntry]:
        """Return the entries of a folder's content to copy, each as it is to be copied."""
        chosen = {}
        for item, entry in found.items():
            as_copied = self._as_copied(posixpath.join(above, item), entry)
            if as_copied is not None:
                chosen[item] = as_copied
        return chosen

    def _as_copied(self, name: str, entry: TreeEntry) -> TreeEntry | None:
        """Return the entry as it is to be copied; None: not at all."""
        if self._filter.excludes(name, is_folder=entry.is_folder):
            return None
        if entry.link is not None and leads_out(name, entry.link):
            if self._rules.follow_outside:
                return self._followed(name, entry)
            return entry if self.keeps_outside_links else self._copied_or_skipped(name, None)
        return self._copied_or_skipped(name, entry)

    def _followed(self, name: str, link: TreeEntry) -> TreeEntry | None:
        entry = self.sender.look(link.path, follows=True)
        if entry is None:
            self.dangling.append(name)
            return None
        return self._copied_or_skipped(name, entry)

    def _copied_or_skipped(self, name: str, entry: TreeEntry | None) -> TreeEntry | None:
        if entry is None or not (entry.link is not None or _is_plain(entry.mode)):
            self.changes.append(Change("skipped", name, 0))
            return None
        return entry


def _is_plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)

"""Copy a tree over SFTP, folder by folder; and whole files and folders as scp(1) copies them.

Only the content of the folders above is in memory.  A folder gets its mode and its time when its
content is complete, since the mode may take away the right to write.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.local_tree import LocalTree, single_name
from ringtasks.common.special_files import refuse_to_replace

from .sftp import Check, CopyError, from_home, is_folder, told
from .sftp_sides import (
    LocalReceiver,
    LocalSender,
    Receiver,
    RemoteReceiver,
    RemoteSender,
    Sender,
    TreeEntry,
    too_many,
)

__all__ = ["Step", "TreeWalk", "get", "put"]


class Step(NamedTuple):
    """An entry to copy, and the one in its place; or a folder whose content was copied.

    ``above``: the real paths of the folders above it, if links are followed.
    """

    name: str
    entry: TreeEntry
    old: TreeEntry | None = None
    is_done: bool = False
    above: tuple[str, ...] = ()


class TreeWalk(ABC):
    """The steps from one side of a tree to the other; ``check`` may raise to stop."""

    def __init__(self, sender: Sender, receiver: Receiver, check: Check) -> None:
        self.sender, self.receiver, self.check = sender, receiver, check

    def run(self, first: Iterable[Step]) -> None:
        """Take the steps, the last one first, each before the others that it does not lead to."""
        todo = [*first]
        weight = sum(step.entry.weight for step in todo)
        while todo:
            self.check()
            step = todo.pop()
            weight -= step.entry.weight
            if step.is_done:
                self.finish_folder(step)
                continue
            steps = [*self.copy(step)]
            weight += sum(following.entry.weight for following in steps)
            if weight > self.sender.most_weight:
                raise too_many(step.entry.path)
            todo += steps

    @abstractmethod
    def copy(self, step: Step) -> Iterable[Step]:
        """Copy an entry; return the steps that follow from it, the last to be taken first."""

    @abstractmethod
    def finish_folder(self, step: Step) -> None:
        """Give a folder what it gets when its content is complete."""


class _FollowingWalk(TreeWalk):
    """Copies each entry that there is, a link as that which it leads to."""

    def copy(self, step: Step) -> list[Step]:
        name, folder = step.name, step.entry
        if not folder.is_folder:
            self.receiver.copy_file(name, folder, self.check, keeps_time=False)
            return []
        real_path = self.sender.real_path(folder.path)
        if real_path in step.above:
            raise CopyError(folder.path, "a symbolic link to a folder that it is in")
        self.receiver.make_folder(name)
        above = (*step.above, real_path)
        found = sorted(self.sender.list(folder), reverse=True)
        return [
            step._replace(is_done=True),
            *(
                Step(posixpath.join(name, item), self._followed(entry), above=above)
                for item, entry in found
            ),
        ]

    def finish_folder(self, step: Step) -> None:
        self.receiver.finish_folder(step.name, step.entry, keeps_time=False)

    def _followed(self, entry: TreeEntry) -> TreeEntry:
        if entry.link is None:
            return entry
        found = self.sender.look(entry.path, follows=True)
        if found is None:
            raise CopyError(entry.path, os.strerror(errno.ENOENT))
        return found


def put(sftp: Any, local: Path, remote: str, check: Check) -> None:
    """Copy ``local``, a file or a folder, to ``remote``; into it if that is a folder.

    :param sftp: a ``paramiko.SFTPClient``.
    :param check: called between pieces; may raise to stop.
    :raises CopyError: a file or folder cannot be read or written.
    """
    target = remote
    with told(str(local)):
        mode = local.stat().st_mode
    with told(remote):
        if is_folder(sftp, from_home(remote)):
            target = posixpath.join(remote, local.resolve().name)
        _refuse_special(sftp, target)
    receiver = RemoteReceiver(sftp, target)
    walk = _FollowingWalk(LocalSender(), receiver, check)
    walk.run([Step("", TreeEntry(str(local), mode))])


def get(sftp: Any, remote: str, local: Path, check: Check) -> None:
    """Copy ``remote``, a file or a folder, to ``local``; into it if that is a folder.

    In a folder, a local symbolic link is not followed: `LocalTree`. The parameters and errors are
    those of `put`.
    """
    target = local
    if local.is_dir():
        name = posixpath.basename(from_home(remote).rstrip("/"))
        with told(remote):
            target = local if name in ("", ".") else local / single_name(name)
    with told(remote):
        attributes = sftp.stat(from_home(remote))
    top = TreeEntry(remote, attributes.st_mode or 0, attributes.st_size or 0)
    is_folder = stat.S_ISDIR(top.mode)
    if is_folder:
        with told(str(target)):
            target.mkdir(exist_ok=True)
    above = target if is_folder else target.parent
    with told(str(target)):
        refuse_to_replace(target)
    with told(str(above)):
        tree = LocalTree(above, make=False)
    with tree:
        walk = _FollowingWalk(RemoteSender(sftp), LocalReceiver(sftp, tree), check)
        walk.run([Step("" if is_folder else target.name, top)])


def _refuse_special(sftp: Any, target: str) -> None:
    """Check that a file may take this name on the host.

    :raises CopyError: it belongs to a pipe, a socket or a device.
    """
    try:
        mode = sftp.stat(from_home(target)).st_mode or 0
    except FileNotFoundError:
        return
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise CopyError(target, "is a pipe, a socket or a device: give another name")

"""Names of a target whose places another kind of file takes, which rsync does not report.

A link that a folder replaces may lead to a volume, so its text is told.  The host's script
(``enter_target.sh``) looks for links to folders before it starts rsync; those that rsync then
makes a folder of were replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .rsync_output import Change

if TYPE_CHECKING:  # for pulls
    from ringtasks.common.local_tree import LocalTree

__all__ = ["cleared", "local_links", "replaced", "split"]


def split(mark: str, stderr: bytes) -> tuple[dict[str, str], bytes]:
    """Return the links that ``enter_target.sh`` has printed, each with its text, and the rest."""
    pattern = re.compile(re.escape(f"{mark} link".encode()) + rb"\0\./([^\0]*)\0([^\0]*)\0")
    found = {os.fsdecode(name): os.fsdecode(text) for name, text in pattern.findall(stderr)}
    return found, pattern.sub(b"", stderr)


def local_links(tree: LocalTree, changes: Iterable[Change]) -> dict[str, str]:
    """Return the links in whose places ``changes`` make folders, each with its text."""
    found = {}
    for name in _folders(changes):
        with contextlib.suppress(OSError):  # it is none
            found[name] = tree.read_link(name)
    return found


def cleared(tree: LocalTree, changes: Iterable[Change]) -> Iterator[Change]:
    """Yield the deletion of files in whose places ``changes`` make folders, and of such folders."""
    for change in changes:
        name = change.name.rstrip("/")
        old = None
        with contextlib.suppress(OSError):  # a file is in the place of a folder above
            old = tree.look(name) if change.is_copied and name != "." else None
        if old is not None and not (change.name.endswith("/") and stat.S_ISLNK(old.st_mode)):
            is_folder = stat.S_ISDIR(old.st_mode)
            if is_folder != change.name.endswith("/"):
                yield Change("deleted", f"{name}/" if is_folder else name, 0)


def replaced(links: dict[str, str], changes: Iterable[Change]) -> list[Change]:
    """Return the links in whose places ``changes`` make folders."""
    found = [name for name in _folders(changes) if name in links]
    return [Change("replaced", name, 0, link=links[name]) for name in found]


def _folders(changes: Iterable[Change]) -> Iterator[str]:
    return (change.name.rstrip("/") for change in changes if change.name.endswith("/"))

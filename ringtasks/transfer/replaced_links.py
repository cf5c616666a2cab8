"""Symbolic links of a target whose places folders of the source take, as rsync replaces them.

rsync does not report such a link, which may lead to a volume.  So the host's script
(``enter_target.sh``) looks for links to folders before it starts rsync; those that rsync then
makes a folder of were replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator

from ringtasks.common.local_tree import LocalTree

from .rsync_output import Change

__all__ = ["local_links", "replaced", "split"]


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


def replaced(links: dict[str, str], changes: Iterable[Change]) -> list[Change]:
    """Return the links in whose places ``changes`` make folders."""
    found = [name for name in _folders(changes) if name in links]
    return [Change("replaced", name, 0, link=links[name]) for name in found]


def _folders(changes: Iterable[Change]) -> Iterator[str]:
    return (change.name.rstrip("/") for change in changes if change.name.endswith("/"))

"""Names of a host that a file system without upper and lower case cannot hold beside each other.

On macOS, for example, ``Makefile`` and ``makefile`` are one file. The later one of them replaces
the other, and neither rsync nor SFTP notices.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from ringtasks.common.local_tree import LocalTree
from ringtasks.common.text import printable

__all__ = ["folded_error"]

_TOLD_NAMES = 3


def folded_error(tree: LocalTree, names: Iterable[str]) -> str | None:
    """Return the error for names that were copied, and are not among those in their folders.

    None: there is no such name, or the file system tells upper from lower case.
    """
    by_folder: dict[str, set[str]] = defaultdict(set)
    for name in names:
        folder, last = posixpath.split(name.rstrip("/"))
        if last not in ("", "."):
            by_folder[folder].add(last)
    lost = [
        posixpath.join(folder, name)
        for folder, copied in by_folder.items()
        for name in sorted(copied - _names(tree, folder))
    ]
    # Asked last: to find out makes a file, and so gives the folder a new time.
    if not lost or not _folds_case(tree):
        return None
    told = ", ".join(printable(name) for name in lost[:_TOLD_NAMES])
    return (
        f"{told}: lost: this file system holds one of several names that differ in case only "
        f"({len(lost)} lost); copy them to another disk, or leave some out with --exclude"
    )


def _folds_case(tree: LocalTree) -> bool:
    try:
        return tree.folds_case()
    except OSError:  # a full disk
        return False


def _names(tree: LocalTree, folder: str) -> set[str]:
    """Return the names in a folder, in each form: file systems of macOS change it (UAX 15)."""
    try:
        names = tree.names(folder)
    except OSError:
        return set()
    composed = {unicodedata.normalize("NFC", name) for name in names}
    return {*names, *composed, *(unicodedata.normalize("NFD", name) for name in names)}

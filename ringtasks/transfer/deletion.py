"""Names to delete at a target, so that it holds what its source holds."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Set

from .patterns import Filter

__all__ = ["doomed"]


def doomed(
    listed: Callable[[str], Iterable[tuple[str, bool]]],
    folder: str,
    items: Set[str],
    filter_: Filter,
) -> list[tuple[str, bool]]:
    """Return the names to delete, each with True for a folder; the content of a folder first.

    Excluded names stay, and so do the folders above them.

    :param listed: the names in a folder of the target, with whether each is a folder.
    :param items: the names in ``folder`` that the source has not.
    """
    found: dict[str, bool] = {}
    kept: set[str] = set()
    todo = [folder]
    while todo:
        above = todo.pop()
        for item, is_folder in listed(above):
            name = posixpath.join(above, item)
            if above == folder and item not in items:
                continue
            if filter_.excludes(name, is_folder=is_folder):
                kept.update(_folders_above(name))
                continue
            found[name] = is_folder
            if is_folder:
                todo.append(name)
    return [(name, found[name]) for name in sorted(found.keys() - kept, reverse=True)]


def _folders_above(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name

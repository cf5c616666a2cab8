"""Group hosts with identical output, and show how a host differs from the majority.  Pure.

Host names fold as ClusterShell folds them: ``gpu[01-16]``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from ringtasks.common.light_typing import NamedTuple

__all__ = ["Group", "difference", "folded", "groups_of"]

#: Longer outputs are not compared line by line: the cost grows with the square of the length.
_MAX_LINES = 5_000

T = TypeVar("T")


class Group(NamedTuple):
    """Hosts with equal keys; ``first`` is the index of the first of them."""

    first: int
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        return folded(self.hosts)


def groups_of(
    items: Sequence[T], host_of: Callable[[T], str], key: Callable[[T], Hashable]
) -> list[Group]:
    """Group the items by equal keys, the largest group first."""
    found: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        found.setdefault(key(item), []).append(index)
    groups = [Group(own[0], tuple(host_of(items[i]) for i in own)) for own in found.values()]
    return sorted(groups, key=lambda group: (-len(group.hosts), group.first))


def folded(hosts: Iterable[str]) -> str:
    """Return ``gpu[01-16] (16)``, or the name of a single host.

    Names that do not fold are joined by commas.
    """
    names = list(hosts)
    if len(names) == 1:
        return names[0]
    return f"{_node_set(names)} ({len(names)})"


def difference(ours: str, theirs: str, our_name: str, their_name: str) -> str:
    """Return a unified diff, as ``diff -u`` prints it."""
    before, after = ours.splitlines(), theirs.splitlines()
    if len(before) + len(after) > _MAX_LINES:
        return f"--- {our_name}\n+++ {their_name}\n{len(before)} and {len(after)} lines differ"
    return "\n".join(difflib.unified_diff(before, after, our_name, their_name, lineterm=""))


def _node_set(names: list[str]) -> str:
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    try:
        nodes = NodeSet.fromlist(names, resolver=RESOLVER_NOGROUP)
    except NodeSetException:
        return ",".join(names)
    # Fold the last number only: covering several dimensions takes seconds for a thousand addresses.
    nodes.fold_axis = (-1,)
    return str(nodes) if set(nodes) == set(names) else ",".join(names)

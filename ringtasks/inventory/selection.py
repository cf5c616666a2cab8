"""Which hosts are meant: ``'@gpu,!vast-*'`` and an inventory in, host names out.  Pure.

::

    name  glob*  gpu[01-16]  @group  @all  key=value  !without      joined by commas
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

from ringtasks.common.text import near_names
from ringtasks.errors import UnknownHostError, UsageError

if TYPE_CHECKING:
    from .hosts_files import HostConfig, Inventory

__all__ = ["select"]


def select(expression: str, inventory: Inventory) -> tuple[str, ...]:
    """The hosts that ``expression`` means, in the inventory's order; only ``!`` means all but.

    A glob or a fact that matches nothing adds nothing.

    :raises UnknownHostError: a host or group that is not there; it lists near names.
    :raises UsageError: it is no selector, or means no host at all.
    """
    wanted: set[str] = set()
    unwanted: set[str] = set()
    has_wanted = False
    for item in _items(expression):
        if item.startswith("!"):
            unwanted |= _matching(item[1:].strip(), inventory, expression)
        else:
            has_wanted = True
            wanted |= _matching(item, inventory, expression)
    if not has_wanted:
        wanted = set(inventory.hosts)
    chosen = tuple(name for name in inventory.hosts if name in wanted - unwanted)
    if not chosen:
        raise UsageError(f"no host matches {expression!r}")
    return chosen


def _items(expression: str) -> list[str]:
    if re.search(r"[\x00-\x1f\x7f]", expression):
        raise UsageError(f"selector {expression!r}: has a control character")
    if expression.count("[") != expression.count("]"):
        raise UsageError(f"selector {expression!r}: expected a ']' for each '['")
    items = [item.strip() for item in re.split(r",(?![^\[]*\])", expression)]
    if not all(items):
        raise UsageError(f"selector {expression!r}: expected names joined by commas, found a gap")
    return items


def _matching(item: str, inventory: Inventory, expression: str) -> set[str]:
    if not item:
        raise UsageError(f"selector {expression!r}: expected a name after '!'")
    if item in inventory.hosts:
        return {item}
    if item.startswith("@"):
        return _group(item[1:], inventory)
    if "=" in item:
        key, _, pattern = item.partition("=")
        return {
            name for name, h in inventory.hosts.items() if _has(h, key.strip(), pattern.strip())
        }
    if "[" in item:
        return _range(item, inventory, expression)
    if "*" in item or "?" in item:
        return set(fnmatch.filter(inventory.hosts, item))
    return {inventory.get(item).name}


def _group(group: str, inventory: Inventory) -> set[str]:
    if group == "all":
        return set(inventory.hosts)
    if group not in inventory.groups:
        near = tuple("@" + name for name in near_names(group, [*inventory.groups, "all"]))
        raise UnknownHostError(f"unknown group '@{group}'", near=near)
    return set(inventory.groups[group])


def _has(host: HostConfig, key: str, pattern: str) -> bool:
    value = host.facts.get(key, getattr(host, key, None))
    if value is None:
        return False
    if isinstance(value, bool):
        return str(value).lower() == pattern.lower()
    return fnmatch.fnmatchcase(str(value), pattern)


def _range(item: str, inventory: Inventory, expression: str) -> set[str]:
    from ClusterShell.NodeSet import NodeSet, NodeSetException

    try:
        names = list(NodeSet(item))
    except NodeSetException as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"selector {expression!r}: {reason}") from error
    found: set[str] = set()
    for name in names:
        if "*" in name or "?" in name:
            found |= set(fnmatch.filter(inventory.hosts, name))
        else:
            found.add(inventory.get(name).name)
    return found

"""Select hosts: ``'@gpu,!vast-*'`` and an inventory in, host names out.  Pure.

::

    name  glob*  gpu[01-16]  @group  @all  @embedded  key=value     one term
    @gpu&status=ready                                               hosts of both
    @gpu&free_gpus>=2  jobs=0  idle>30m  price_per_hour<2           conditions (`conditions`)
    !vast-*                                                         without these
    term,term                                                       joined by commas

A fact matches by its written text, a list by each of its members: the exact text first, then as a
glob.  Text with commas or ``&`` may stand in double quotes: ``gpu="H100, 80GB"``.  Embedded hosts
are in no glob, fact or ``@all``: only their names, a group and ``@embedded`` select them.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import first_names, near_names
from ringtasks.errors import InventoryError, UnknownHostError, UsageError

from .conditions import LIVE, Condition, condition_of, refuse_other_comparison, unknown_value
from .model import RESERVED_GROUPS, SETTINGS, HostConfig, Inventory, WrittenGroup

__all__ = ["Groups", "Measure", "members_of", "ordered_as_named", "select"]

#: Returns for hosts the values of `conditions.LIVE` that are known; a host without any is missing.
Measure = Callable[[Sequence[HostConfig]], Mapping[str, Mapping[str, float]]]

#: Levels of groups in groups, which are resolved by recursion.
_MAX_LEVELS = 50
#: A range such as ``gpu[1-30000000]`` is refused before it is written out.
_MAX_NAMES = 100_000


#: The text between the brackets of a range.
_NUMBERS = r"\s*\d+(-\d+(/\d+)?)?(\s*,\s*\d+(-\d+(/\d+)?)?)*\s*"
_DECIMAL = re.compile(r"[+-]?\d+(\.\d*)?")
#: The facts that `sources` give: none may be known while a source is down.
_FACTS_OF_SOURCES = ("gpu", "gpu_count", "id", "os", "price_per_hour", "region", "status")
#: Similarity from which a key counts as a mistyped one (0 to 1).
_MISTYPED = 0.85


class Groups(NamedTuple):
    """The hosts of each group, the errors of groups that cannot be used, and warnings."""

    members: dict[str, tuple[str, ...]]
    faults: dict[str, InventoryError]
    warnings: list[str]


def select(
    expression: str, inventory: Inventory, measure: Measure | None = None
) -> tuple[str, ...]:
    """Return the names that ``expression`` selects, in the inventory's order.

    If all terms begin with ``!``, it is ``@all`` without those.  A glob or fact that matches no
    host adds none.

    :param measure: asks the hosts that the rest of the expression selects, once, for the values of
        live conditions; None: the expression must have none.
    :raises UnknownHostError: an unknown host or group; the error lists near names.
    :raises UsageError: it is not a selector, or it selects no host.
    """
    items = list(_items(expression, inventory))
    asked: list[Condition] = []

    def with_answer(names: set[str]) -> Inventory:
        def matching(condition: Condition) -> set[str]:
            asked.append(condition)
            return names

        return inventory._replace(matching=matching)

    if measure is None:
        chosen = _chosen(items, expression, inventory, inventory)
    else:
        chosen = _chosen(items, expression, with_answer({*inventory.hosts}), with_answer(set()))
        if asked and chosen:
            found = measure([inventory.hosts[name] for name in chosen])
            chosen = _chosen(items, expression, *_measured(inventory, found))
            if not chosen:
                look = as_typed("status")
                raise UsageError(f"no host matches {expression!r} now; '{look}' shows their state")
    if not chosen:
        raise UsageError(f"no host matches {expression!r}{_advice(inventory)}")
    return chosen


def ordered_as_named(
    expression: str, inventory: Inventory, names: Sequence[str]
) -> tuple[str, ...]:
    """Return the selected names in the order of the items that select them.

    Those of one item, a group for example, stay in the order that they have.
    """
    items = [item for item in _items(expression, inventory) if not item.startswith("!")]
    found = [_all_terms(item, inventory, expression) for item in items]
    return tuple(
        sorted(names, key=lambda name: next((n for n, own in enumerate(found) if name in own), 0))
    )


def _chosen(
    items: Iterable[str], expression: str, inventory: Inventory, without: Inventory
) -> tuple[str, ...]:
    """Return the names that the items select; ``without`` is the inventory for those with a "!"."""
    wanted: set[str] = set()
    unwanted: set[str] = set()
    has_wanted = False
    for item in items:
        if item.startswith("!"):
            unwanted |= _all_terms(item[1:].strip(), without, expression)
        else:
            has_wanted = True
            wanted |= _all_terms(item, inventory, expression)
    if not has_wanted:
        wanted = _not_embedded(inventory)
    wanted -= unwanted
    return tuple(name for name in inventory.hosts if name in wanted)


def _measured(
    inventory: Inventory, found: Mapping[str, Mapping[str, float]]
) -> tuple[Inventory, Inventory]:
    """Return the inventory for items, and that for items with a "!".

    A host whose value is not known is selected by neither.
    """

    def matching(condition: Condition) -> set[str]:
        return {name for name, own in found.items() if condition.holds(own.get(condition.key))}

    def maybe_matching(condition: Condition) -> set[str]:
        unknown = {name for name in inventory.hosts if condition.key not in found.get(name, {})}
        return unknown | matching(condition)

    return inventory._replace(matching=matching), inventory._replace(matching=maybe_matching)


def _advice(inventory: Inventory) -> str:
    if not inventory.hosts:
        return f": {', '.join(inventory.files) or 'the inventory'} has no hosts"
    if not _not_embedded(inventory):
        name = next(iter(inventory.hosts))
        return f": the inventory has only embedded hosts, which are selected by name: {name!r}"
    return f"; '{as_typed('hosts')}' lists the hosts"


def members_of(groups: Mapping[str, WrittenGroup], hosts: Mapping[str, HostConfig]) -> Groups:
    """Resolve groups, whose members may be groups; an unknown member is left out with a warning.

    A group cannot be used if it contains itself, a member is not a selector, or a group in it
    cannot be used; the others can.
    """
    found = Groups({}, {}, [])
    for name in groups:
        _resolve(name, groups, hosts, found, ())
    faults = (error for error in found.faults.values() if error.__cause__ is None)
    found.warnings.extend(map(str, faults))
    members = {name: found.members[name] for name in groups if name in found.members}
    return found._replace(members=members)


def _resolve(
    name: str,
    groups: Mapping[str, WrittenGroup],
    hosts: Mapping[str, HostConfig],
    found: Groups,
    above: tuple[str, ...],
) -> None:
    if name in found.members or name in found.faults:
        return
    group, way = groups[name], (*above, name)
    try:
        if group.problem:
            raise InventoryError(group.problem, file=group.place)
        if len(way) > _MAX_LEVELS:
            told = f"groups contain each other over more than {_MAX_LEVELS} levels"
            raise InventoryError(told, file=group.place)
        for inner in re.findall(r"@([^\s,&!]+)", ",".join(group.members)):
            if inner in way:
                circle = " -> ".join([*way[way.index(inner) :], inner])
                raise InventoryError(f"the groups contain each other: {circle}", file=group.place)
            if inner in groups:
                _resolve(inner, groups, hosts, found, way)
            if (fault := found.faults.get(inner)) is not None:
                told = f"@{inner} cannot be used: {fault.message}"
                raise InventoryError(told, file=group.place) from fault
        known = Inventory(hosts, {**dict.fromkeys(groups, ()), **found.members})
        found.members[name] = _selected(group, known, found.warnings)
    except InventoryError as error:
        found.faults[name] = error


def _selected(group: WrittenGroup, known: Inventory, warnings: list[str]) -> tuple[str, ...]:
    """Return the hosts of a group in whose members all groups are known."""
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for member in filter(None, map(str.strip, group.members)):
        try:
            item = member.removeprefix("!")
            (unwanted if item != member else wanted).update(_all_terms(item, known, member))
        except UnknownHostError as error:
            warnings.append(f"{group.place}: {error}")
        except UsageError as error:
            raise InventoryError(str(error), file=group.place) from None
    wanted -= unwanted
    return tuple(name for name in known.hosts if name in wanted)


def _items(expression: str, inventory: Inventory) -> Iterator[str]:
    if re.search(r"[\x00-\x1f\x7f]", expression):
        raise UsageError(f"selector {expression!r}: has a control character")
    rest = expression
    while True:
        rest = rest.strip()
        end = _end_of_fact(rest, inventory) or _end_of_item(rest, expression)
        item = rest[:end].strip()
        if not item:
            raise UsageError(
                f"selector {expression!r}: expected names joined by commas, found a gap"
            )
        yield item
        if end >= len(rest):
            return
        rest = rest[end + 1 :]


def _end_of_fact(rest: str, inventory: Inventory) -> int | None:
    """Return the end of ``key=TEXT`` if TEXT is a fact as written, with commas and brackets."""
    key, equals, pattern = rest.partition("=")
    key = key.removeprefix("!").strip()
    if not equals or not re.fullmatch(r"[\w.-]+", key):
        return None
    start = len(rest) - len(pattern)
    ends = [
        start + len(text)
        for host in inventory.hosts.values()
        for text in host.texts.get(key, ())
        if text and pattern.startswith(text) and pattern[len(text) : len(text) + 1] in ("", ",")
    ]
    return max(ends, default=None)


def _end_of_item(rest: str, expression: str) -> int:
    depth, is_quoted = 0, False
    for n, char in enumerate(rest):
        if char == '"':
            is_quoted = not is_quoted
        elif is_quoted:
            continue
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif char == "," and depth <= 0:
            return n
    if is_quoted:
        raise UsageError(f"selector {expression!r}: expected a closing quote")
    if depth:
        raise UsageError(f"selector {expression!r}: expected a ']' for each '['")
    return len(rest)


def _all_terms(item: str, inventory: Inventory, expression: str) -> set[str]:
    """Return the hosts that match every term of ``a&b``."""
    if _is_fact(item, inventory):  # its text may hold an "&"
        return _matching(item, inventory, expression)
    is_open = item.startswith("&") or item.endswith("&")
    terms = re.findall(r'(?:"[^"]*"|[^&"])+', item)
    found = [
        _matching(term.strip(), inventory, expression)
        for term in ([""] if is_open else terms or [""])
    ]
    return set.intersection(*found)


def _is_fact(item: str, inventory: Inventory) -> bool:
    key, equals, text = item.partition("=")
    hosts = inventory.hosts.values() if equals else ()
    return any(text in host.texts.get(key, ()) for host in hosts)


def _matching(item: str, inventory: Inventory, expression: str) -> set[str]:
    if not item:
        raise UsageError(f"selector {expression!r}: expected a name after '!' or '&'")
    if item in inventory.hosts:
        return {item}
    if item.startswith("@"):
        return _group(item[1:], inventory)
    if item.startswith("!"):
        raise UsageError(f"selector {expression!r}: '!' excludes by an item of its own: ',{item}'")
    if (found := _with_value(item, inventory, expression)) is not None:
        return found
    if "[" in item:
        return _range(item, inventory, expression)
    if "*" in item or "?" in item:
        return set(fnmatch.filter(_not_embedded(inventory), item))
    return {inventory.get(item).name}


def _with_value(item: str, inventory: Inventory, expression: str) -> set[str] | None:
    """Return the hosts that meet a condition or have a fact; None: the term is neither."""
    if not _is_fact(item, inventory):
        refuse_other_comparison(item)
    key, equals, pattern = (part.strip() for part in item.partition("="))
    is_written = equals and any(key in host.facts for host in inventory.hosts.values())
    if not is_written and (condition := condition_of(item)) is not None:
        return _with_condition(condition, item, inventory)
    if equals and not key:
        raise UsageError(f"selector {expression!r}: expected KEY=VALUE, found {item!r}")
    if equals and not pattern:  # such as an unset variable of the shell: "!" would exclude no host
        raise UsageError(
            f'selector {expression!r}: expected a value after {item!r}; an empty one is {key}=""'
        )
    if equals:
        return _with_fact(key, pattern, inventory)
    return None


def _with_condition(condition: Condition, item: str, inventory: Inventory) -> set[str]:
    if not condition.is_live:
        hosts = [host for host in inventory.hosts.values() if not host.embedded]
        is_known = condition.key in SETTINGS or not hosts
        if not is_known and all(_value(host, condition.key) is None for host in hosts):
            raise unknown_value(condition.key, item, [host.facts for host in hosts])
        return {host.name for host in hosts if condition.holds(_number_of(host, condition.key))}
    if inventory.matching is None:
        raise UsageError(
            f"{item!r} asks the hosts, which --host of run, start, train and status can do"
        )
    return inventory.matching(condition) & _not_embedded(inventory)


def _not_embedded(inventory: Inventory) -> set[str]:
    return {name for name, host in inventory.hosts.items() if not host.embedded}


def _group(group: str, inventory: Inventory) -> set[str]:
    if group in inventory.groups:
        return set(inventory.groups[group])
    if group in inventory.group_faults:
        raise inventory.group_faults[group].with_traceback(None)
    if group == "all":
        return _not_embedded(inventory)
    if group == "embedded":
        return {name for name, host in inventory.hosts.items() if host.embedded}
    known = [*inventory.groups, *RESERVED_GROUPS]
    hosts = inventory.hosts.values()
    facts = {f"{key}={group}" for h in hosts for key in h.facts if group in _texts(h, key)}
    near = tuple(sorted(facts)) or tuple("@" + name for name in near_names(group, known))
    advice = "" if near else f"; there are {first_names('@' + name for name in known)}"
    raise UnknownHostError(f"unknown group '@{group}'{advice}", near=near)


def _with_fact(key: str, pattern: str, inventory: Inventory) -> set[str]:
    hosts = [host for host in inventory.hosts.values() if not host.embedded]
    if all(_value(host, key) is None for host in hosts):
        _refuse_misspelt(key, f"{key}={pattern}", hosts)
    if len(pattern) >= 2 and pattern[0] == pattern[-1] == '"':
        return {host.name for host in hosts if pattern[1:-1] in _texts(host, key)}
    exact = {host.name for host in hosts if pattern in _texts(host, key)}
    if exact:
        return exact
    return {
        host.name
        for host in hosts
        if any(fnmatch.fnmatchcase(text, pattern) for text in _texts(host, key))
    }


def _refuse_misspelt(key: str, term: str, hosts: Sequence[HostConfig]) -> None:
    """Refuse a key that no host has and that is nearly a known one.

    Any other may be a fact that hosts have at times: ``!drained=true`` then excludes none.
    """
    known = {*LIVE, *SETTINGS, *(name for host in hosts for name in host.facts)}
    if key not in {*known, *_FACTS_OF_SOURCES} and near_names(key, known, _MISTYPED):
        raise unknown_value(key, term, [host.facts for host in hosts])


def _value(host: HostConfig, key: str) -> Any:
    """Return YAML's value of a fact or setting; None: the host does not have it."""
    return host.facts.get(key, getattr(host, key, None))


def _number_of(host: HostConfig, key: str) -> Any:
    """Return the value to compare with a number: as it is written (``010`` is 10), if it can be."""
    value = _value(host, key)
    written = host.texts.get(key, ())
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return written[0] if is_number and _DECIMAL.fullmatch("".join(written)) else value


def _texts(host: HostConfig, key: str) -> tuple[str, ...]:
    """Return the written texts of a fact or setting; true and false in any case."""
    value = _value(host, key)
    texts = host.texts.get(key, () if value is None else (str(value),))
    if isinstance(value, bool):
        return (*texts, *(text.lower() for text in texts), *(text.upper() for text in texts))
    return texts


def _range(item: str, inventory: Inventory, expression: str) -> set[str]:
    from ClusterShell.NodeSet import NodeSet, NodeSetException

    if _size_of(item) > _MAX_NAMES:
        raise UsageError(f"selector {expression!r}: stands for more than {_MAX_NAMES} names")
    ranges = re.findall(r"\[([^\]]*)\]", item)
    odd = [found for found in ranges if not re.fullmatch(_NUMBERS, found)]
    if odd:
        raise UsageError(
            f"selector {expression!r}: [{odd[0]}] is not a range of numbers such as [1-4,07]; "
            "for other characters use * or ?, or list the names"
        )
    try:
        names = list(NodeSet(item))
    except NodeSetException as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"selector {expression!r}: {reason}") from error
    found: set[str] = set()
    for name in names:
        if "*" in name or "?" in name:
            found |= set(fnmatch.filter(_not_embedded(inventory), name))
        else:
            found.add(inventory.get(name).name)
    return found


def _size_of(item: str) -> int:
    """Return at least the number of names that the ranges of ``item`` stand for."""
    sizes = []
    for ranges in re.findall(r"\[([^\]]*)\]", item):
        bounds = re.findall(r"(\d{1,18})\d*-(\d{1,18})(\d*)", ranges)
        size = sum(10**18 if rest else int(end) - int(start) + 1 for start, end, rest in bounds)
        sizes.append(max(1, size))
    return math.prod(sizes)

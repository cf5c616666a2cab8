"""Find and read the hosts files, and merge them into one `Inventory`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.common.collector import paused
from ringtasks.errors import InventoryError

from . import cache
from .files import Located, locate
from .host_settings import error_at
from .model import ADDRESS_KEYS, RESERVED_GROUPS, Content, HostConfig, Inventory, WrittenGroup

if TYPE_CHECKING:
    from .sources.merge import Merged
    from .sources.model import Source, SourceAnswer

__all__ = ["find_host", "load_inventory", "load_located", "sources_at", "usual_inventory"]

#: Each one is a log-in of its own; the chains are resolved by recursion.
_MAX_JUMPS = 16


def load_inventory(
    given: str | os.PathLike[str] | None = None,
    *,
    beside: Path | None = None,
    may_fetch: bool = True,
) -> Inventory:
    """Return the inventory: ``given``, else ``RINGTASKS_HOSTS``, ``./hosts``, or ~/.config.

    :param beside: a folder whose ``hosts`` is used if there is no ``./hosts``.
    :param may_fetch: as for `load_located`.
    :raises InventoryError: there is none, or a file cannot be used as it stands.
    """
    return load_located(locate(given, beside), may_fetch=may_fetch)


def load_located(located: Located, *, newer_than: float = 0.0, may_fetch: bool = True) -> Inventory:
    """Return the inventory of these files.

    :param newer_than: Unix seconds; answers of sources from before are fetched again.
    :param may_fetch: False: take the sources' cached answers.
    :raises InventoryError: a file cannot be used as it stands.
    """
    contents = [_read(file) for file in located.files]
    hosts, groups = _merged(contents), _groups(contents)
    warnings = [text for content in contents for text in content.warnings]
    absent: Mapping[str, str] = {}
    if located.programs or any(content.sources for content in contents):
        from .sources.answers import answers_of

        sources = _sources(located, contents)
        if may_fetch and not located.is_trusted:
            _refuse_programs(sources)
        answers = answers_of(sources, newer_than=newer_than, may_fetch=may_fetch)
        merged = _with_sources(located, contents, hosts, answers)
        hosts, absent = merged.with_absences(), merged.absent
        groups = _with_members(groups, merged.groups)
        warnings += merged.warnings
    _refuse_without_address(hosts, absent)
    _refuse_jump_loops(hosts)
    files = tuple(map(str, (*located.files, *located.programs)))
    if not groups:
        return Inventory(_with_jump_hosts(hosts), {}, files, tuple(warnings), {}, absent)
    from .selection import members_of

    found = members_of(groups, hosts)
    placed = _with_jump_hosts(_with_groups(hosts, found.members))
    told = (*warnings, *found.warnings)
    return Inventory(placed, found.members, files, told, found.faults, absent)


def sources_at(located: Located) -> list[Source]:
    """Return the sources of an inventory.

    :raises InventoryError: a file cannot be used as it stands.
    """
    return _sources(located, [_read(file) for file in located.files])


def _sources(located: Located, contents: Iterable[Content]) -> list[Source]:
    """Return the sources of the files, and the programs in their folder that none of them runs."""
    sources = [source for content in contents for source in content.sources]
    if located.programs:
        from .sources.model import Source  # few inventories have any

        run = {
            (Path(source.file).parent / source.command[0]).absolute()
            for source in sources
            if source.command and "/" in source.command[0]
        }
        for program in located.programs:
            if program.absolute() not in run:
                command = (str(program.absolute()), "--list")  # as Ansible calls them
                sources.append(Source("command", command, file=str(program)))
    return sources


def _refuse_programs(sources: Iterable[Source]) -> None:
    """Refuse sources that only a trusted inventory may have.

    :raises InventoryError: one of them runs a program, or sends a key.
    """
    for source in sources:
        if source.kind != "ssh_config":
            raise InventoryError(
                f"{source.label} is a program, or sends a key: it may run only for an inventory "
                f"that is named; to allow it: --inventory {source.file}, or RINGTASKS_HOSTS",
                file=source.file,
                line=source.line or None,
                field_name="sources",
            )


def _with_sources(
    located: Located,
    contents: Sequence[Content],
    hosts: Mapping[str, HostConfig],
    answers: Iterable[SourceAnswer],
) -> Merged:
    from .sources.merge import Merged

    by_file = dict(zip(map(str, located.files), contents, strict=True))
    merged = Merged(hosts, by_file, located.paths if located.is_trusted else ())
    for answer in answers:
        merged.add(answer)
    return merged


def _with_members(
    groups: Mapping[str, WrittenGroup], more: Mapping[str, list[str]]
) -> dict[str, WrittenGroup]:
    """Return the groups with the members that sources give to them."""
    merged = dict(groups)
    for group, members in more.items():
        if group in RESERVED_GROUPS:
            continue
        known = merged.get(group, WrittenGroup([], f"groups: {group}"))
        merged[group] = known._replace(members=[*known.members, *members])
    return merged


def _refuse_without_address(hosts: dict[str, HostConfig], absent: Mapping[str, str]) -> None:
    """Mark each host without an address as unusable."""
    *others, last = ADDRESS_KEYS
    for host in list(hosts.values()):
        if host.fault or host.embedded or any(getattr(host, key) for key in ADDRESS_KEYS):
            continue
        reason = absent.get(host.name) or f"give {', '.join(others)} or {last}"
        hosts[host.name] = replace(host, fault=error_at(host, f"has no address: {reason}"))


def _merged(contents: Iterable[Content]) -> dict[str, HostConfig]:
    """Return the hosts of all files; a host that is in two of them cannot be used."""
    hosts: dict[str, HostConfig] = {}
    for content in contents:
        for name, host in content.hosts.items():
            first = hosts.get(name)
            if first is None:
                hosts[name] = host
                continue
            told = f"is also in {first.file}:{first.line}; a host stands in one file"
            hosts[name] = replace(first, fault=error_at(host, told))
    _refuse_names_that_differ_in_case(hosts)
    return hosts


def _refuse_names_that_differ_in_case(hosts: dict[str, HostConfig]) -> None:
    """Mark each later one of such hosts as unusable: to OpenSSH their pins have one name."""
    spellings: dict[str, HostConfig] = {}
    for host in list(hosts.values()):
        first = spellings.setdefault(host.name.lower(), host)
        if first is not host and host.fault is None:
            told = (
                f"the name differs only in case from {first.name} ({first.file}:{first.line}), and "
                "ssh does not tell them apart: rename one of them"
            )
            hosts[host.name] = replace(host, fault=error_at(host, told))


def find_host(name: str, given: str | os.PathLike[str] | None = None) -> HostConfig | None:
    """Return the host of that name; None if there is no such host, or no inventory.

    Only this host and its jump hosts are read; its ``groups`` are not filled in.

    :param given: as for `load_inventory`.
    :raises InventoryError: the inventory cannot be used as it stands.
    """
    if not given and not _has_usual():
        return None
    located = locate(given)
    contents = [_read(file) for file in located.files]
    if located.programs or any(content.sources for content in contents):
        return load_located(located).hosts.get(name)
    hosts: dict[str, HostConfig] = {}
    wanted: str | None = name
    while wanted is not None and wanted not in hosts:
        hosts |= _merged([_called(wanted, content) for content in contents])
        wanted = hosts[wanted].proxy_jump if wanted in hosts else None
    _refuse_without_address(hosts, {})
    _refuse_jump_loops(hosts)
    return _with_jump_hosts(hosts).get(name)


def _called(name: str, content: Content) -> Content:
    """Return the hosts of that name, in any case."""
    lower = name.lower()
    names = [key for key in content.hosts if key.lower() == lower]  # decodes no other host
    return Content({key: content.hosts[key] for key in names})


def usual_inventory() -> Inventory | None:
    """Return `load_inventory`; None if no inventory was named and none is found.

    :raises InventoryError: there is one, and it cannot be used as it stands.
    """
    return load_inventory() if _has_usual() else None


def _has_usual() -> bool:
    if os.environ.get("RINGTASKS_HOSTS"):
        return True
    try:
        found = locate(None)
        return bool(found.files or found.programs)
    except InventoryError:
        return False


def _read(file: Path) -> Content:
    try:
        status = file.stat()
        return _read_version(file, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InventoryError(f"cannot be read: {error.strerror}", file=str(file)) from error


@functools.lru_cache(maxsize=16)  # each host looks up its jump host by name
def _read_version(file: Path, *_version: int) -> Content:
    text = file.read_bytes()
    content = cache.load(file, text)
    if content is None:
        from .hosts_file import read  # YAML is slow to load

        with paused():
            content = read(str(file), text)
            cache.store(file, text, content)
    return content


def _groups(contents: Iterable[Content]) -> dict[str, WrittenGroup]:
    """Merge the groups of all files: a group in several files has the members of all."""
    merged: dict[str, WrittenGroup] = {}
    for content in contents:
        for name, group in content.groups.items():
            first = merged.get(name)
            if first is None or group.problem:
                merged[name] = group
            elif not first.problem:
                merged[name] = first._replace(members=[*first.members, *group.members])
    return merged


def _with_groups(
    hosts: Mapping[str, HostConfig], members: Mapping[str, tuple[str, ...]]
) -> dict[str, HostConfig]:
    groups: dict[str, list[str]] = {}
    for group, names in members.items():
        for name in names:
            groups.setdefault(name, []).append(group)
    return {
        name: replace(host, groups=tuple(groups[name])) if name in groups else host
        for name, host in hosts.items()
    }


def _with_jump_hosts(hosts: dict[str, HostConfig]) -> dict[str, HostConfig]:
    """Resolve each ``proxy_jump`` that is a host of this inventory, and not of another one."""
    done: dict[str, HostConfig] = {}

    def resolved(name: str) -> HostConfig:
        host = hosts[name]
        if name not in done:
            jump = host.proxy_jump
            is_ours = jump is not None and jump in hosts and host.fault is None
            done[name] = replace(host, jump_host=resolved(jump)) if jump and is_ours else host
        return done[name]

    return {name: resolved(name) for name in hosts}


def _refuse_jump_loops(hosts: dict[str, HostConfig]) -> None:
    """Mark each host whose jump hosts form a circle, or are too many, as unusable."""
    for host in list(hosts.values()):
        seen = [host.name]
        jump = host.proxy_jump
        while jump is not None and jump in hosts:
            if jump in seen:
                told = f"the jump hosts go in a circle: {' -> '.join([*seen, jump])}"
                hosts[host.name] = replace(host, fault=error_at(host, told, "proxy_jump"))
                break
            if len(seen) > _MAX_JUMPS:
                told = f"has more than {_MAX_JUMPS} jump hosts"
                hosts[host.name] = replace(host, fault=error_at(host, told, "proxy_jump"))
                break
            seen.append(jump)
            jump = hosts[jump].proxy_jump

"""Find and read the hosts files, and merge them into one `Inventory`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ringtasks.errors import InventoryError

from . import cache
from .config import error_at
from .files import find_files
from .model import Content, HostConfig, Inventory, WrittenGroup

__all__ = ["find_host", "load_inventory", "usual_inventory"]


def load_inventory(
    given: str | os.PathLike[str] | None = None, *, beside: Path | None = None
) -> Inventory:
    """Return the inventory: ``given``, else ``RINGTASKS_HOSTS``, ``./hosts``, or ~/.config.

    :param beside: a folder whose ``hosts`` is used if there is no ``./hosts``.
    :raises InventoryError: there is none, or a file cannot be used as it stands.
    """
    files = find_files(given, beside)
    contents = [_read(file) for file in files]
    hosts = _merged(contents)
    _refuse_jump_loops(hosts)
    from .selection import members_of

    groups = members_of(_groups(contents), hosts)
    placed = _with_jump_hosts(_with_groups(hosts, groups.members))
    warnings = [*(text for content in contents for text in content.warnings), *groups.warnings]
    names = tuple(map(str, files))
    return Inventory(placed, groups.members, names, tuple(warnings), groups.faults)


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
    return hosts


def find_host(name: str, given: str | os.PathLike[str] | None = None) -> HostConfig | None:
    """Return the host of that name; None if there is no such host, or no inventory.

    Only this host and its jump hosts are read; its ``groups`` are not filled in.

    :param given: as for `load_inventory`.
    :raises InventoryError: the inventory cannot be used as it stands.
    """
    if not given and not _has_usual():
        return None
    contents = [_read(file) for file in find_files(given)]
    hosts: dict[str, HostConfig] = {}
    wanted: str | None = name
    while wanted is not None and wanted not in hosts:
        own = [Content({wanted: c.hosts[wanted]}) for c in contents if wanted in c.hosts]
        hosts |= _merged(own)
        wanted = hosts[wanted].proxy_jump if own else None
    _refuse_jump_loops(hosts)
    return _with_jump_hosts(hosts).get(name)


def usual_inventory() -> Inventory | None:
    """Return `load_inventory`; None if no inventory was named and none is found.

    :raises InventoryError: there is one, and it cannot be used as it stands.
    """
    return load_inventory() if _has_usual() else None


def _has_usual() -> bool:
    if os.environ.get("RINGTASKS_HOSTS"):
        return True
    try:
        return bool(find_files(None))
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
    """Mark each host whose jump hosts form a circle as unusable."""
    for host in list(hosts.values()):
        seen = [host.name]
        jump = host.proxy_jump
        while jump is not None and jump in hosts:
            if jump in seen:
                fault = InventoryError(
                    f"the jump hosts go in a circle: {' -> '.join([*seen, jump])}",
                    file=host.file,
                    line=host.line,
                    host=host.name,
                    field_name="proxy_jump",
                )
                hosts[host.name] = replace(host, fault=fault)
                break
            seen.append(jump)
            jump = hosts[jump].proxy_jump

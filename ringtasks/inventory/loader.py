"""Find and read the hosts files, and merge them into one `Inventory`.

Two shapes are read: a ``hosts:`` mapping beside other sections, which are left alone, or the bare
mapping of host to fields.  A fault is reported with file, line, host and field.  A fault in one
host's entry makes that host unusable (`HostConfig.fault`); the others are not affected.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ringtasks.common.setting_checks import UnexpectedValueError
from ringtasks.common.settings import check_value
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError

from .config import error_at
from .files import find_files
from .model import ADDRESS_KEYS, SETTINGS, HostConfig, Inventory
from .selection import members_of
from .yaml_lines import LinedMapping, parse

__all__ = ["find_host", "load_inventory", "usual_inventory"]

# Compiled at first use.
_HOST_NAME = r"[^\s,@!=\x00-\x1f\x7f][^\s,!=\x00-\x1f\x7f]*\Z"
#: Similarity from which a fact's name counts as a mistyped setting (0 to 1).
_MISTYPED = 0.8
_SECTIONS = ("hosts", "defaults", "groups", "sources")


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
    groups = members_of(_groups(contents), hosts)
    placed = _with_jump_hosts(_with_groups(hosts, groups.members))
    warnings = [*(text for content in contents for text in content.warnings), *groups.warnings]
    return Inventory(placed, groups.members, tuple(map(str, files)), tuple(warnings))


def _merged(contents: Iterable[_Content]) -> dict[str, HostConfig]:
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


def find_host(name: str) -> HostConfig | None:
    """Return the host of that name; None if there is no inventory or no such host.

    :raises InventoryError: the inventory cannot be used as it stands.
    """
    inventory = usual_inventory()
    return inventory.hosts.get(name) if inventory else None


def usual_inventory() -> Inventory | None:
    """Return `load_inventory`; None if no inventory was named and none is found.

    :raises InventoryError: there is one, and it cannot be used as it stands.
    """
    if not os.environ.get("RINGTASKS_HOSTS"):
        try:
            find_files(None)
        except InventoryError:
            return None
    return load_inventory()


class _Content(NamedTuple):
    """One file; a group is the list of its members and the place to name in an error."""

    hosts: dict[str, HostConfig]
    groups: dict[str, tuple[list[str], str]] = {}  # noqa: RUF012  # never changed
    warnings: tuple[str, ...] = ()


def _read(file: Path) -> _Content:
    try:
        status = file.stat()
    except OSError:
        return _read_version(file)  # `parse` raises the error
    return _read_version(file, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # each host looks up its jump host by name
def _read_version(file: Path, *_version: int) -> _Content:
    document = parse(file)
    name = str(file)
    if "hosts" not in document:
        section, defaults, groups = document, LinedMapping(), LinedMapping()
    else:
        for _, message, line in document.duplicates:
            raise InventoryError(message, file=name, line=line)
        section, defaults, groups = (
            _section(name, document, key) for key in ("hosts", "defaults", "groups")
        )
    _refuse_duplicates(name, defaults)
    _refuse_duplicates(name, groups)
    _check_defaults(name, defaults)
    hosts = {}
    for key, given in section.items():
        host = _host(name, section, key, given, defaults)
        hosts[host.name] = host
    lined = [(defaults, ""), *((g, str(key)) for key, g in section.items())]
    return _Content(hosts, _groups_of(name, groups), tuple(_mistyped(name, lined)))


def _section(file: str, document: LinedMapping, key: str) -> LinedMapping:
    section = document.get(key)
    if section is None:
        return LinedMapping()
    if not isinstance(section, LinedMapping):
        raise InventoryError(
            f"expected a mapping, found {_kind(section)}",
            file=file,
            line=document.lines.get(key),
            field_name=key,
        )
    return section


def _refuse_duplicates(file: str, mapping: Any, host: str | None = None) -> None:
    """Refuse a mapping that gives a key twice, at any depth."""
    for _, message, line in mapping.duplicates:
        raise InventoryError(message, file=file, line=line, host=host)
    for value in mapping.values():
        if isinstance(value, LinedMapping):
            _refuse_duplicates(file, value, host)


def _check_defaults(file: str, defaults: LinedMapping) -> None:
    for key, value in defaults.items():
        if key in SETTINGS and value is not None:
            _checked(key, value, defaults, file, "defaults")


def _host(
    file: str, section: LinedMapping, key: Any, given: Any, defaults: LinedMapping
) -> HostConfig:
    """Return the host of one entry, with its first fault if it has one."""
    name = section.key_texts.get(key, key)
    line = section.lines.get(key, 0)
    try:
        if not isinstance(key, str):
            raise InventoryError(
                f"YAML reads this name as {key!r}: put it in quotes: {name!r}",
                file=file,
                line=line,
                host=name,
            )
        if not re.match(_HOST_NAME, key):
            raise InventoryError(
                "expected a host name without spaces and ,!=@ in front",
                file=file,
                line=line,
                host=repr(key),
            )
        if not isinstance(given, (LinedMapping, type(None))):
            raise InventoryError(
                f"expected a mapping of fields, found {_kind(given)}",
                file=file,
                line=line,
                host=key,
            )
        for again, message, place in section.duplicates:
            if again == key:
                raise InventoryError(message, file=file, line=place, host=key)
        if given is not None:
            _refuse_duplicates(file, given, key)
        return _usable_host(file, line, key, given or LinedMapping(), defaults)
    except InventoryError as fault:
        return HostConfig(str(name), file=file, line=line, fault=fault)


def _usable_host(
    file: str, line: int, name: str, given: LinedMapping, defaults: LinedMapping
) -> HostConfig:
    settings: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    texts: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for key, value in {**defaults, **given}.items():
        origin = given if key in given else defaults
        if key not in SETTINGS:
            facts[str(key)] = value
            texts[str(key)] = origin.texts.get(key, ())
        elif value is not None:
            settings[key] = _checked(key, value, origin, file, name)
            lines[key] = origin.lines.get(key, line)
    settings.setdefault("work_dir", settings.get("ringrift_path"))
    host = HostConfig(name, **settings, facts=facts, texts=texts, file=file, line=line, lines=lines)
    if not (host.embedded or any(getattr(host, key) for key in ADDRESS_KEYS)):
        *others, last = ADDRESS_KEYS
        raise InventoryError(
            f"has no address: give {', '.join(others)} or {last}",
            file=file,
            line=line,
            host=name,
        )
    return host


def _checked(key: str, value: Any, origin: LinedMapping, file: str, host: str) -> Any:
    place: Any = {"file": file, "line": origin.lines.get(key), "host": host, "field_name": key}
    try:
        return check_value(SETTINGS[key], key, value, origin.texts.get(key, ()))
    except UnexpectedValueError as error:
        hint = _quotes_hint(key, value, origin.texts.get(key, ()))
        raise InventoryError(error.problem + hint, **place) from error


def _quotes_hint(key: str, value: Any, written: tuple[str, ...]) -> str:
    """Return the advice for text that YAML reads as something else, such as ``no``."""
    if isinstance(value, str) or len(written) != 1:
        return ""
    try:
        check_value(SETTINGS[key], key, written[0])
    except UnexpectedValueError:
        return ""
    is_secret = SETTINGS[key].metadata["is_secret"]
    return ": put it in quotes" if is_secret else f": put it in quotes: {written[0]!r}"


def _groups_of(file: str, section: LinedMapping) -> dict[str, tuple[list[str], str]]:
    groups = {}
    for key, given in section.items():
        group = str(section.key_texts.get(key, key))
        wanted = given.split(",") if isinstance(given, str) else given
        wanted = [] if wanted is None else wanted
        if isinstance(wanted, list) and not any(isinstance(item, (list, dict)) for item in wanted):
            # YAML reads some names, such as 010 and no, as something else.
            wanted = list(section.texts.get(key, ())) if isinstance(given, list) else wanted
        if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
            raise InventoryError(
                f"expected a list of host names, found {_kind(given)}",
                file=file,
                line=section.lines.get(key),
                field_name=f"groups: {group}",
            )
        groups[group] = (wanted, f"{file}:{section.lines.get(key)}: groups: {group}")
    return groups


def _groups(contents: Iterable[_Content]) -> dict[str, tuple[list[str], str]]:
    """Merge the groups of all files: a group in several files has the members of all."""
    merged: dict[str, tuple[list[str], str]] = {}
    for content in contents:
        for group, (members, place) in content.groups.items():
            known, first = merged.get(group, ([], place))
            merged[group] = ([*known, *members], first)
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


def _mistyped(file: str, lined: Iterable[tuple[Any, str]]) -> Iterable[str]:
    """Warn of facts whose names are nearly those of settings."""
    seen: set[str] = set()
    for mapping, host in lined:
        for key in mapping if isinstance(mapping, LinedMapping) else ():
            if not isinstance(key, str) or key in SETTINGS or key in seen:
                continue
            seen.add(key)
            near = near_names(key, SETTINGS, similarity=_MISTYPED)
            if near:
                place = f"{file}:{mapping.lines.get(key)}: {f'{host}: ' if host else ''}{key}"
                yield f"{place}: not a setting, kept as a fact; did you mean {near[0]}?"


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


def _kind(value: object) -> str:
    return {LinedMapping: "a mapping", list: "a list", str: "text", type(None): "nothing"}.get(
        type(value), repr(value)
    )

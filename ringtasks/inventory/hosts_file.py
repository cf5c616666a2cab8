"""Read one hosts file, from its text to `Content`.

Two shapes are read: a ``hosts:`` mapping beside other sections, which are left alone, or the bare
mapping of host to fields.  A fault is reported with file, line, host and field.  A fault in one
host's entry makes that host unusable (`HostConfig.fault`); the others are not affected.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError

from .checks import HOST_NAME_EXPECTED, is_host_name
from .field_check import checked_field, checked_values, setting_lines, warnings_of
from .model import RESERVED_GROUPS, SETTINGS, Content, HostConfig, WrittenGroup
from .sources.model import Source
from .yaml_lines import LinedMapping, kind_of, parse

__all__ = ["read"]

_SECTIONS = ("hosts", "defaults", "groups", "sources")


def read(name: str, text: bytes) -> Content:
    """Return the content of the hosts file ``name``.

    :raises InventoryError: it cannot be used as it stands.
    """
    document = parse(name, text)
    if "hosts" not in document and not isinstance(document.get("sources"), list):
        section, defaults, groups = document, LinedMapping(), LinedMapping()
    else:
        for _, message, line in document.duplicates:
            raise InventoryError(message, file=name, line=line)
        section, defaults, groups = (
            _section(name, document, key) for key in ("hosts", "defaults", "groups")
        )
    _refuse_duplicates(name, defaults)
    common = checked_values(defaults, name, "defaults")
    hosts = {}
    for key, given in section.items():
        host = _host(name, section, key, given, defaults)
        hosts[host.name] = host
    own = ((str(key), given) for key, given in section.items())
    warnings = (*_section_warnings(name, document), *warnings_of(name, defaults, own))
    sources, lines = _sources(name, document), setting_lines(defaults)
    return Content(hosts, _groups_of(name, groups), warnings, sources, common, lines)


def _section_warnings(file: str, document: LinedMapping) -> Iterator[str]:
    """Yield a warning for each key beside ``hosts:`` that is nearly a section's name, or reserved.

    Other keys may be for another program.
    """
    if "hosts" not in document:
        return
    for key in document:
        near = () if key in _SECTIONS else near_names(str(key).lower(), _SECTIONS)
        if near:
            place = f"{file}:{document.lines.get(key)}: {key}"
            yield f"{place}: not a section, left out; did you mean {near[0]}?"
    groups = document.get("groups")
    if not isinstance(groups, LinedMapping):
        return
    for group in RESERVED_GROUPS:
        if group in groups:
            place = f"{file}:{groups.lines.get(group)}: groups: {group}"
            yield f"{place}: left out: '@{group}' has a meaning of its own; choose another name"


def _section(file: str, document: LinedMapping, key: str) -> LinedMapping:
    section = document.get(key)
    if section is None:
        return LinedMapping()
    if not isinstance(section, LinedMapping):
        raise InventoryError(
            f"expected a mapping, found {kind_of(section)}",
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


def _sources(file: str, document: LinedMapping) -> tuple[Source, ...]:
    if "sources" not in document or isinstance(document["sources"], LinedMapping):
        return ()  # a host of the bare mapping may have that name
    from .sources.section import sources_of

    return sources_of(file, document)


def _host(
    file: str, section: LinedMapping, key: Any, given: Any, defaults: LinedMapping
) -> HostConfig:
    """Return the host of one entry, with its first fault if it has one."""
    name = section.key_texts.get(key, key)
    line = section.lines.get(key, 0)

    def unusable(problem: str, host: str = name) -> InventoryError:
        return InventoryError(problem, file=file, line=line, host=host)

    try:
        if not isinstance(key, str):
            raise unusable(f"YAML reads this name as {key!r}: put it in quotes: {name!r}")
        if not is_host_name(key):
            raise unusable(f"expected {HOST_NAME_EXPECTED}", repr(key))
        if not isinstance(given, (LinedMapping, type(None))):
            raise unusable(f"expected a mapping of fields, found {kind_of(given)}")
        for again, message, place in section.duplicates:
            if again == key:
                raise InventoryError(message, file=file, line=place, host=key)
        if given is not None:
            _refuse_duplicates(file, given, key)
            if told := _as_section(key, given):
                raise unusable(told)
        return _usable_host(file, line, key, given or LinedMapping(), defaults)
    except InventoryError as fault:
        return HostConfig(str(name), file=file, line=line, fault=fault)


def _as_section(name: str, given: LinedMapping) -> str:
    """Return the advice on an entry that holds entries, as if it were a section; else empty."""
    if any(isinstance(given.get(key), LinedMapping) for key in ("hosts", "children")):
        return "is a group of Ansible's: name a program as the inventory that prints it as JSON"
    are_entries = given and all(isinstance(value, LinedMapping) for value in given.values())
    if are_entries and near_names(name.lower(), ["hosts"]):
        return "expected the fields of a host, found entries; did you mean hosts?"
    return ""


def _usable_host(
    file: str, line: int, name: str, given: LinedMapping, defaults: LinedMapping
) -> HostConfig:
    settings: dict[str, Any] = {}
    lines: dict[str, int] = {}
    both = {**defaults, **given} if defaults else given
    setting_keys, fact_keys = _split(tuple(both))
    for key in setting_keys:
        if both[key] is not None:
            origin = given if key in given else defaults
            settings[key] = checked_field(key, both[key], origin, file, name)
            lines[key] = origin.lines.get(key, line)
    written = {**defaults.texts, **given.texts} if defaults else given.texts
    names = {**defaults.key_texts, **given.key_texts}  # YAML reads "on" as true
    facts = {str(names.get(key, key)): both[key] for key in fact_keys}
    texts = {str(names.get(key, key)): written.get(key, ()) for key in fact_keys}
    settings.setdefault("work_dir", settings.get("ringrift_path"))
    return HostConfig(name, **settings, facts=facts, texts=texts, file=file, line=line, lines=lines)


@functools.lru_cache(maxsize=64)  # most hosts of a file have the same keys
def _split(keys: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
    """Return the keys of settings, and those of facts."""
    facts = [key for key in keys if key not in SETTINGS]
    return [key for key in keys if key in SETTINGS], facts


def _groups_of(file: str, section: LinedMapping) -> dict[str, WrittenGroup]:
    problems = {key: message for key, message, _ in reversed(section.duplicates)}
    groups = {}
    for key, given in section.items():
        group = str(section.key_texts.get(key, key))
        if group in RESERVED_GROUPS:
            continue
        members = _member_texts(given, section.texts.get(key, ()))
        if members is None:
            problems.setdefault(key, f"expected a list of host names, found {kind_of(given)}")
        place = f"{file}:{section.lines.get(key)}: groups: {group}"
        groups[group] = WrittenGroup(members or [], place, problems.get(key, ""))
    return groups


def _member_texts(given: Any, written: tuple[str, ...]) -> list[str] | None:
    """Return the members of a group as they are written; None: it is not a list of texts."""
    if given is None:
        return []
    if isinstance(given, str):
        return given.split(",")
    if not isinstance(given, list) or any(isinstance(item, (list, dict)) for item in given):
        return None
    return list(written)  # YAML reads some names, such as 010 and no, as something else

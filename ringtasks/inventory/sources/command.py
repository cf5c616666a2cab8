"""Hosts that a program prints, as YAML or JSON.

Four shapes are read: a mapping of host to fields, the same below ``hosts:`` (with ``groups:``), a
list of mappings with ``name``, and Ansible's dynamic inventory (`ansible`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringtasks.errors import InventoryError
from ringtasks.inventory.yaml_lines import LinedMapping, kind_of, parse_value

from . import ansible
from .model import Deadline, Listing, PrintedHost, Source, SourceError
from .programs import output_of

__all__ = ["fetch", "listing_of"]

_Groups = Mapping[str, tuple[str, ...]]
#: YAML is read ten to fifty times as slowly as JSON.
_MAX_YAML_BYTES = 4 * 1024 * 1024


def fetch(source: Source, deadline: Deadline) -> Listing:
    """Return the hosts that the program prints.

    :raises SourceError: it fails, or prints something else.
    """
    folder = Path(source.file).parent.absolute()
    program, *arguments = source.command
    return listing_of(output_of([_path_of(program, folder), *arguments], deadline, folder))


def _path_of(program: str, folder: Path) -> str:
    if "/" in program:
        return str(folder / os.path.expanduser(program))  # noqa: PTH111  # "~" at the start only
    found = shutil.which(program)
    if found is None:
        raise SourceError(f"the program {program} is not on PATH; a path has a '/': ./{program}")
    return found


def listing_of(printed: bytes) -> Listing:
    """Return the hosts in a program's output.

    :raises SourceError: it is in none of the shapes.
    """
    document, repeated = _document(printed)
    warnings = [f"{name!r} is listed twice: the first one is used" for name in repeated]
    if isinstance(document, list):
        return _of_list(document, {}, warnings)
    if document is None:
        return Listing()
    if not isinstance(document, Mapping):
        raise SourceError(f"expected a mapping or a list of hosts, found {kind_of(document)}")
    if ansible.is_inventory(document):
        listing = ansible.listing_of(document)
        return listing._replace(warnings=(*warnings, *listing.warnings))
    section = document.get("hosts", document)
    groups = _groups(document) if "hosts" in document else {}
    if "hosts" in document and isinstance(section, list):
        return _of_list(section, groups, warnings)
    if not isinstance(section, Mapping):
        raise SourceError(f"hosts: expected a mapping or a list, found {kind_of(section)}")
    return _of_mapping(section, groups, warnings)


def _document(printed: bytes) -> tuple[Any, list[str]]:
    """Return the value, and the names that its mappings give twice at the level of hosts."""
    text = printed.strip()
    if text[:1] in (b"{", b"["):
        try:
            return _json(text)
        except ValueError as error:
            if len(text) > _MAX_YAML_BYTES:
                raise SourceError(f"neither JSON nor YAML: {error}") from None
        except RecursionError:
            raise SourceError("nested too deeply") from None
    if len(text) > _MAX_YAML_BYTES:
        raise SourceError(f"printed more than {_MAX_YAML_BYTES // 1024**2} MiB of YAML; use JSON")
    try:
        document = parse_value("its output", text)
    except InventoryError as error:
        raise SourceError(str(error)) from None
    return document, _repeated_in(document)


def _repeated_in(document: Any) -> list[str]:
    parts = [document, document.get("hosts")] if isinstance(document, LinedMapping) else []
    lined = [part for part in parts if isinstance(part, LinedMapping)]
    return [str(key) for part in lined for key, _, _ in part.duplicates]


def _json(text: bytes) -> tuple[Any, list[str]]:
    repeated: list[str] = []

    def first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found and isinstance(value, dict):
                repeated.append(name)
            found.setdefault(name, value)
        return found

    return json.loads(text, object_pairs_hook=first_wins), repeated


def _of_list(items: list[Any], groups: _Groups, warnings: list[str]) -> Listing:
    hosts, faults = [], []
    for item in items:
        if isinstance(item, Mapping) and "name" in item:
            fields = {key: value for key, value in item.items() if key != "name"}
            hosts.append(PrintedHost(item["name"], fields))
        else:
            faults.append("expected a mapping with 'name' for each host of the list")
    return _listing(hosts, groups, warnings, faults)


def _of_mapping(section: Mapping[Any, Any], groups: _Groups, warnings: list[str]) -> Listing:
    texts = section.key_texts if isinstance(section, LinedMapping) else {}
    hosts, faults = [], []
    for name, values in section.items():
        if values is None or isinstance(values, Mapping):
            hosts.append(PrintedHost(texts.get(name, name), values or {}))
        else:
            shown = repr(str(name)[:80])
            faults.append(
                f"expected a mapping of fields for the host {shown}, found {kind_of(values)}"
            )
    return _listing(hosts, groups, warnings, faults)


def _listing(
    hosts: list[PrintedHost], groups: _Groups, warnings: list[str], faults: list[str]
) -> Listing:
    """Return the listing, with a warning for each malformed entry.

    :raises SourceError: all entries are malformed: this is no list of hosts.
    """
    if faults and not hosts:
        raise SourceError(faults[0])
    return Listing(tuple(hosts), groups, (*warnings, *(f"left out: {text}" for text in faults)))


def _groups(document: Mapping[str, Any]) -> _Groups:
    given = document.get("groups")
    if not isinstance(given, Mapping):
        return {}
    return {
        str(name): tuple(map(str, members))
        for name, members in given.items()
        if isinstance(members, list)
    }

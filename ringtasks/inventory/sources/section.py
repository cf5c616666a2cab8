"""Read a ``sources:`` section; an error names the file and the line.  Pure.

::

    sources:
      - tailscale
      - {from: vast, refresh: 10m, defaults: {ssh_key: ~/.ssh/vast}}
      - {from: command, command: ./my-hosts --list}
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ringtasks.common.durations import duration
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError, UsageError
from ringtasks.inventory.field_check import checked_values, setting_lines
from ringtasks.inventory.yaml_lines import LinedMapping, kind_of

from .kinds import KINDS
from .model import REFRESH, Source

__all__ = ["sources_of"]

_KEYS = ("from", "refresh", "defaults", "command", "url")
_WITH_API = tuple(name for name, kind in KINDS.items() if kind.key_variable)


def sources_of(file: str, document: LinedMapping) -> tuple[Source, ...]:
    """Return the sources that a hosts file names, in its order.

    :raises InventoryError: an entry is malformed.
    """
    given, line = document.get("sources"), document.lines.get("sources", 0)
    if given is None:
        return ()
    entries = given if isinstance(given, list) else [given]
    found: list[Source] = []
    for entry in entries:
        source = _source(file, line, entry)
        if any(
            (s.kind, s.command, s.url) == (source.kind, source.command, source.url) for s in found
        ):
            raise _error(file, source.line, f"{source.label} is given twice")
        found.append(source)
    return tuple(found)


def _source(file: str, line: int, entry: Any) -> Source:
    if isinstance(entry, str):
        entry = {"from": entry}
    if not isinstance(entry, Mapping) or not entry:
        raise _error(
            file, line, f"expected a name or a mapping with 'from', found {kind_of(entry)}"
        )
    if isinstance(entry, LinedMapping):
        line = min(entry.lines.values())
        for _, message, place in entry.duplicates:
            raise _error(file, place, message)
    for key in entry:
        if key not in _KEYS:
            near = near_names(str(key), _KEYS)
            meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_KEYS)}"
            raise _error(file, line, f"{key} is not a setting{meant}")
    kind = entry.get("from")
    if kind not in KINDS:
        raise _error(file, line, f"from: expected one of {', '.join(KINDS)}, found {kind!r}")
    try:
        return Source(
            kind,
            _command(kind, entry.get("command")),
            _url(kind, entry.get("url")),
            _refresh(entry.get("refresh")),
            _defaults(file, entry.get("defaults")),
            file,
            line,
            setting_lines(entry.get("defaults")),
        )
    except InventoryError:
        raise
    except UsageError as error:
        raise _error(file, line, str(error)) from None


def _command(kind: str, given: Any) -> tuple[str, ...]:
    if kind != "command":
        if given is not None:
            raise UsageError(f"command: {kind} has none; 'from: command' runs a program")
        return ()
    try:
        words = shlex.split(given) if isinstance(given, str) else given
    except ValueError as error:
        raise UsageError(f"command: {str(error).lower()}") from None
    is_list = isinstance(words, list) and words and all(isinstance(word, str) for word in words)
    if not is_list or not words[0] or any("\0" in word for word in words):
        raise UsageError("command: expected a program and its arguments: ./my-hosts --list")
    return tuple(words)


def _url(kind: str, given: Any) -> str | None:
    if given is None:
        return None
    if kind not in _WITH_API or not isinstance(given, str):
        raise UsageError(f"url: expected the address of an API ({', '.join(_WITH_API)})")
    from .http import check_url

    check_url(given)
    return given


def _refresh(given: Any) -> float:
    if given is None:
        return REFRESH
    is_text = isinstance(given, str | int | float) and not isinstance(given, bool)
    return duration("refresh", str(given) if is_text else "")


def _defaults(file: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, LinedMapping):
        raise UsageError(f"defaults: expected a mapping, found {kind_of(given)}")
    for _, message, place in given.duplicates:
        raise _error(file, place, message)
    return checked_values(given, file, "sources: defaults")


def _error(file: str, line: int, message: str) -> InventoryError:
    return InventoryError(message, file=file, line=line, field_name="sources")

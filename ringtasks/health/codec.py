"""The health file's format: ``{"version": 1, "hosts": {NAME: {…, "transports": {ROUTE: {…}}}}}``.

Pure: converts between bytes, documents (the parsed file) and SSHHealth.  Fields that a later
ringtasks adds without a new version are kept: an entry is read and validated when it is used, a
changed one is merged into the stored one, and all others are written back unchanged.  The computed
fields are for people, as of the last change of that host; they are not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .model import SSHHealth

__all__ = ["DamagedError", "Document", "decode", "empty", "encode", "health_of", "put", "to_json"]

VERSION = 1

Document = dict[str, Any]


class DamagedError(ValueError):
    """The file exists but does not have this format."""


def empty() -> Document:
    """Return a document without hosts."""
    return {"version": VERSION, "hosts": {}}


def decode(text: bytes) -> Document:
    """Return the document in a file's text; its entries are not validated yet.

    :raises DamagedError: the text is not JSON, has another version, or has no mapping of hosts.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("hosts"), dict):
        raise DamagedError("there is no mapping of hosts")
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise DamagedError(f"version {version!r}, expected {VERSION}")
    return document


def encode(document: Document) -> bytes:
    """Return the file's text in UTF-8, with a line for each host and each of its routes.

    :raises DamagedError: a value that was read is nested too deeply to be written again.
    """
    try:
        text = _lines(document, "hosts", _host_lines)
    except RecursionError as error:  # Python 3.12 reads deeper nesting than it writes
        raise DamagedError("nested too deeply") from error
    # Undecodable bytes in a name or reason are lone surrogates here; Python's escape for them is
    # also JSON's.
    return text.encode("utf-8", "backslashreplace")


def health_of(document: Document, name: str) -> SSHHealth:
    """Return a host's health; a fresh one if the host is not in the document.

    :raises DamagedError: a value has the wrong type.
    """
    entry = document["hosts"].get(name, {})
    transports = entry.get("transports", {}) if isinstance(entry, dict) else {}
    if not isinstance(transports, dict):
        raise DamagedError(f"{name}: transports: {transports!r}")
    routes = {route: _health(own, f"{name}: {route}") for route, own in transports.items()}
    return _health(entry, name, routes)


def put(document: Document, name: str, health: SSHHealth, now: float) -> None:
    """Store a host's health in the document; unknown fields of its entry stay."""
    old = document["hosts"].get(name, {})
    new = to_json(health, now)
    routes = old.get("transports", {})
    merged = {route: {**routes.get(route, {}), **own} for route, own in new["transports"].items()}
    document["hosts"][name] = {**old, **new, "transports": merged}


def to_json(health: SSHHealth, now: float) -> dict[str, Any]:
    """Return a host's entry in the file, with the computed fields for people."""
    transports = {route: _flat(known, now) for route, known in health.transports.items()}
    return {**_flat(health, now), "transports": transports}


# json's own indentation is done in Python, ten times slower than its C code, and one number per
# line is no easier to read.
_dumps = json.JSONEncoder(ensure_ascii=False).encode


def _host_lines(hosts: dict[str, Any]) -> str:
    entries = (f"  {_dumps(name)}: {_host_line(entry)}" for name, entry in hosts.items())
    return "{\n" + ",\n".join(entries) + "\n }" if hosts else "{}"


def _host_line(entry: Any) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("transports"), dict):
        return _dumps(entry)
    return _lines(entry, "transports", _route_lines, margin="   ")


def _route_lines(routes: dict[str, Any]) -> str:
    entries = (f"    {_dumps(name)}: {_dumps(entry)}" for name, entry in routes.items())
    return "{\n" + ",\n".join(entries) + "\n   }" if routes else "{}"


def _lines(
    mapping: dict[str, Any], last: str, format_last: Callable[[Any], str], margin: str = " "
) -> str:
    """Return ``mapping`` on one line, with ``last`` at the end on lines of its own."""
    others = _dumps({name: value for name, value in mapping.items() if name != last})
    separator = "," if len(mapping) > 1 else ""
    return f"{others[:-1]}{separator}\n{margin}{_dumps(last)}: {format_last(mapping[last])}}}"


def _health(
    entry: object, place: str, transports: Mapping[str, SSHHealth] | None = None
) -> SSHHealth:
    if not isinstance(entry, dict):
        raise DamagedError(f"{place}: {entry!r}")
    known = {name: entry[name] for name in _IS_VALID if name in entry}
    for name, value in known.items():
        if not _IS_VALID[name](value):
            raise DamagedError(f"{place}: {name}: {value!r}")
    return SSHHealth(**known, transports=transports or {})


def _flat(health: SSHHealth, now: float) -> dict[str, Any]:
    return {
        **{name: getattr(health, name) for name in _IS_VALID},
        "is_healthy": health.is_healthy,
        "success_rate": round(health.success_rate, 4),
        "circuit_state": health.circuit_state_at(now),
    }


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_time(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    # A clock set to before 1970 gives negative times.  NaN and numbers too large for a float would
    # break the sums of times.
    return abs(value) < 1e12


_IS_VALID: dict[str, Callable[[object], bool]] = {
    "last_success": _is_time,
    "last_failure": _is_time,
    "consecutive_failures": _is_count,
    "consecutive_successes": _is_count,
    "total_successes": _is_count,
    "total_failures": _is_count,
    "last_reason": lambda value: isinstance(value, str),
    "probing_since": _is_time,
}

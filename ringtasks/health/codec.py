"""What the health file holds: ``{"version": 1, "hosts": {NAME: {…, "transports": {ROUTE: {…}}}}}``.

Pure: bytes, documents (the parsed file) and SSHHealth, both ways.  What a later ringtasks of the
same version adds is kept: an entry is read, and so judged, when it is used, it is merged into what
stands there, and all others go back as they came.  The computed fields are for people, as of the
last change of that host; they are not read.
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
    """The file is there but is not what we write."""


def empty() -> Document:
    """A document that knows no host."""
    return {"version": VERSION, "hosts": {}}


def decode(text: bytes) -> Document:
    """The document in a file's text; its entries are not yet judged.

    :raises DamagedError: it is not JSON, not of our version, or has no hosts.
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
    """The file, a line for each host and each of its routes, in UTF-8.

    :raises DamagedError: what was read is nested too deeply to be written again.
    """
    try:
        text = _lines(document, "hosts", _host_lines)
    except RecursionError as error:  # Python 3.12 reads more deeply than it writes
        raise DamagedError("nested too deeply") from error
    # Undecodable bytes in a name or reason are lone surrogates here, and the way Python escapes
    # them happens to be JSON's.
    return text.encode("utf-8", "backslashreplace")


def health_of(document: Document, name: str) -> SSHHealth:
    """A host's health; a fresh one if the document does not know the host.

    :raises DamagedError: a value of the wrong type.
    """
    entry = document["hosts"].get(name, {})
    transports = entry.get("transports", {}) if isinstance(entry, dict) else {}
    if not isinstance(transports, dict):
        raise DamagedError(f"{name}: transports: {transports!r}")
    routes = {route: _health(own, f"{name}: {route}") for route, own in transports.items()}
    return _health(entry, name, routes)


def put(document: Document, name: str, health: SSHHealth, now: float) -> None:
    """Enter a host's health; fields that are not ours stay."""
    old = document["hosts"].get(name, {})
    new = to_json(health, now)
    routes = old.get("transports", {})
    merged = {route: {**routes.get(route, {}), **own} for route, own in new["transports"].items()}
    document["hosts"][name] = {**old, **new, "transports": merged}


def to_json(health: SSHHealth, now: float) -> dict[str, Any]:
    """A host's entry in the file; what is computed stands there too, for people."""
    transports = {route: _flat(known, now) for route, known in health.transports.items()}
    return {**_flat(health, now), "transports": transports}


# json's own indentation is done in Python, ten times slower than what its C code does; and a screen
# of one number a line is no easier to read.
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
    """``mapping`` on one line, but ``last``, which stands at the end, on lines of its own."""
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
    # A clock set to before 1970 gives negative ones.  NaN and what a float cannot hold would break
    # the sums that are made with it.
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

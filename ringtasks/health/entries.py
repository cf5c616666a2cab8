"""The health file's format: ``{"version": 1, "hosts": {NAME: {…, "transports": {ROUTE: {…}}}}}``.

Pure: converts between the entries of the parsed file (`json_format`) and SSHHealth.  Fields that a
later ringtasks adds without a new version are kept: an entry is read and validated when it is used,
a changed one is merged into the stored one, and all others are written back unchanged.  The
computed fields are for people, as of the last change of that host; they are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .counts import computed
from .json_format import IS_VALID, DamagedError
from .model import SSHHealth

__all__ = ["Document", "health_of", "put", "to_json"]

Document = dict[str, Any]


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


def _health(
    entry: object, place: str, transports: Mapping[str, SSHHealth] | None = None
) -> SSHHealth:
    if not isinstance(entry, dict):
        raise DamagedError(f"{place}: {entry!r}")
    known = {name: entry[name] for name in IS_VALID if name in entry}
    for name, value in known.items():
        if not IS_VALID[name](value):
            raise DamagedError(f"{place}: {name}: {value!r}")
    return SSHHealth(**known, transports=transports or {})


def _flat(health: SSHHealth, now: float) -> dict[str, Any]:
    counts = {name: getattr(health, name) for name in IS_VALID}
    return {**counts, **computed(counts, now)}

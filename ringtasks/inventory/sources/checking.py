"""Check the hosts of a source: a value that is unfit leaves out its host, with a warning.  Pure.

A source repeats labels and tags that anyone who rents a box may choose.  So names and addresses are
plain words, no value has a ``${VAR}`` or a ``%`` token for ssh to expand, and secrets are refused:
they would stand in the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ringtasks.common.setting_checks import UnexpectedValueError
from ringtasks.common.settings import check_value
from ringtasks.common.text import bounded
from ringtasks.inventory.checks import without_brackets
from ringtasks.inventory.model import PLACE_KEYS, SETTINGS

from .model import Listing, PrintedHost, SourceError
from .naming import NAME
from .values import port

__all__ = ["checked", "few", "from_json", "with_changes"]

_ADDRESS = r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}"
_ADDRESSES = ("ssh_host", "tailscale_ip", "cloudflare_tunnel", "bind_address")
_USER = r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}"
_JUMP = r"[A-Za-z0-9_\[][A-Za-z0-9._@:\[\]-]{0,252}"
_PATTERNS = {**dict.fromkeys(_ADDRESSES, _ADDRESS), "ssh_user": _USER, "proxy_jump": _JUMP}
#: Settings that only a hosts file can give.
_OWN = ("embedded", *(name for name, f in SETTINGS.items() if f.metadata["is_secret"]))
_FACT_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,60}"
#: Facts of these names may be secrets, which must not stand in the cache.
_CONFIDENTIAL = (
    r"(?i)(^|[_.-])(pass|passwd|password|secret|token|credential|(api|private|access)[_-]?key)s?"
    r"($|[_.-])"
)
_MAX_FACTS = 100
_MAX_FACT_LENGTH = 500
_MAX_ITEMS = 100
#: For how long, and for how many hosts, a source is remembered to have changed.
_KEPT_SECONDS = 30 * 86400.0
_MAX_KEPT = 1000
#: Warnings of one kind that are printed; the others are counted.
_SHOWN = 5


def checked(listing: Listing) -> Listing:
    """Return the hosts of a listing that can be used, and a warning for each other one."""
    hosts: dict[str, PrintedHost] = {}
    spellings: dict[str, str] = {}
    refused: list[str] = []
    for host in listing.hosts:
        try:
            found = _checked(host)
        except SourceError as error:
            refused.append(str(error))
            continue
        first = spellings.setdefault(found.name.lower(), found.name)
        if found.name in hosts:
            refused.append(f"{found.name}: is listed twice: the first one is used")
        elif first != found.name:
            refused.append(f"{found.name}: left out: the name differs only in case from {first}")
        else:
            hosts[found.name] = found
    groups = {
        name: tuple(member for member in members if member in hosts)
        for name, members in listing.groups.items()
        if re.fullmatch(NAME, name)
    }
    warnings = [bounded(text) for text in (*listing.warnings, *refused)]
    return Listing(tuple(hosts.values()), groups, tuple(few(warnings)))


def few(warnings: list[str]) -> Iterator[str]:
    """Yield the first warnings, and the number of the others."""
    yield from warnings[:_SHOWN]
    if len(warnings) > _SHOWN:
        yield f"and {len(warnings) - _SHOWN} more"


def _checked(host: PrintedHost) -> PrintedHost:
    name = host.name
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise SourceError(
            f"left out: a host called {bounded(repr(name), 80)}: expected letters, digits, "
            "'.', '_' and '-'"
        )
    values: dict[str, Any] = {}
    for key, value in host.values.items():
        if value is None:
            continue
        if key in SETTINGS:
            values[key] = _setting(name, key, value)
        elif _is_fact(key) and len(values) < _MAX_FACTS and (fact := _fact(value)) is not None:
            values[key] = fact
    return host._replace(values=values, absence=bounded(host.absence, 120))


def _setting(host: str, key: str, value: Any) -> Any:
    if key in _OWN:
        raise SourceError(f"{host}: left out: {key} can stand in a hosts file only")
    value = port(value) if key in ("ssh_port", "tailscale_port") else value
    pattern = _PATTERNS.get(key)
    is_text = isinstance(value, str)
    if is_text and key in _ADDRESSES:
        value = without_brackets(value)
    if is_text and (
        not re.fullmatch(pattern, value)
        if pattern
        else "${" in value or "%" in value or value.startswith("-")
    ):
        expected = "plain text without %, ${…} and a - in front"
        raise SourceError(f"{host}: left out: {key}: expected {expected}, found {_shown(value)}")
    try:
        return check_value(SETTINGS[key], key, value)
    except UnexpectedValueError as error:
        told = f"expected {error.what}, found {_shown(value)}"
        raise SourceError(f"{host}: left out: {key}: {told}") from None


def _shown(value: Any) -> str:
    return bounded(repr(value)[:400], 80)


def _is_fact(key: Any) -> bool:
    if not isinstance(key, str) or not re.fullmatch(_FACT_NAME, key):
        return False
    return not re.search(_CONFIDENTIAL, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key))


def _fact(value: Any) -> Any:
    """Return a fact's value; None: it is of a kind that facts do not have."""
    if isinstance(value, list):
        items = [_fact(item) for item in value[:_MAX_ITEMS] if not isinstance(item, list)]
        return [item for item in items if item is not None]
    if isinstance(value, str):
        return bounded(value, _MAX_FACT_LENGTH)
    if isinstance(value, bool | int | float):
        return value if abs(value) < 1e15 else None
    return None


def with_changes(listing: Listing, before: Listing, now: float) -> Listing:
    """Return a listing that remembers, for a month, the hosts which are gone or have moved.

    :param now: Unix seconds.
    """
    listed = {host.name for host in listing.hosts}
    places = {host.name: _place(host) for host in before.hosts}
    gone = {**dict.fromkeys(places, now), **before.gone}
    moved = {
        host.name: now
        for host in listing.hosts
        if not host.absence and places.get(host.name, _place(host)) != _place(host)
    }
    return listing._replace(
        gone=_recent({name: at for name, at in gone.items() if name not in listed}, now),
        moved=_recent({**before.moved, **moved}, now),
    )


def _place(host: PrintedHost) -> list[Any]:
    return [host.values.get(key) for key in PLACE_KEYS]


def _recent(times: Mapping[str, float], now: float) -> dict[str, float]:
    recent = [(name, at) for name, at in times.items() if now - at < _KEPT_SECONDS]
    return dict(recent[:_MAX_KEPT])


def from_json(stored: Mapping[str, Any]) -> Listing:
    """Return the listing of a cache file, checked as if a source had printed it.

    :raises ValueError: (and other errors of unexpected types) it is none.
    """
    hosts = tuple(
        PrintedHost(name, dict(values), str(absence)) for name, values, absence in stored["hosts"]
    )
    groups = {str(name): tuple(map(str, each)) for name, each in stored["groups"].items()}
    found = checked(Listing(hosts, groups))
    gone, moved = (_times(stored.get(key, {})) for key in ("gone", "moved"))
    return found._replace(warnings=tuple(map(str, stored["warnings"])), gone=gone, moved=moved)


def _times(stored: Mapping[str, Any]) -> dict[str, float]:
    found = {name: float(at) for name, at in stored.items() if re.fullmatch(NAME, name)}
    return {name: at for name, at in found.items() if 0 < at < 1e12}

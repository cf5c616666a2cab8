"""`HostConfig` and `Inventory`: the values that a hosts file is read into.

Each setting of a host is declared once, as a field of `HostConfig` with the check of its value; a
key that is not such a field is a fact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from ringtasks.common.setting_checks import Check, count, expected, flag, number
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError, UnknownHostError

from .config import ADDRESS

__all__ = ["SETTINGS", "HostConfig", "Inventory", "address"]

_PUBLIC_KEY_EXPECTED = (
    "a public key such as 'ssh-ed25519 AAAA…', or '@cert-authority ssh-ed25519 AAAA…'"
)
# Compiled at first use.
_PUBLIC_KEY = r"(@cert-authority +)?[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?\Z"


def address(place: str, value: Any) -> str:
    """Return a name or address that no program takes for an option."""
    if not isinstance(value, str) or not (_has_variable(value) or re.match(ADDRESS, value)):
        raise expected(place, "a name or an address, without spaces and no - in front", value)
    return value


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value or re.search(r"[\x00-\x1f\x7f]", value):
        raise expected(place, "text (in quotes, if it looks like a number)", value)
    return value


def _port(place: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise expected(place, "a port from 1 to 65535", value)
    return value


def _public_key(place: str, value: Any) -> str:
    if not isinstance(value, str) or not (_has_variable(value) or re.match(_PUBLIC_KEY, value)):
        raise expected(place, _PUBLIC_KEY_EXPECTED, value)
    return value


def _has_variable(value: str) -> bool:
    return "${" in value


def _setting(check: Check, default: Any = None, *, is_secret: bool = False) -> Any:
    return field(
        default=default, repr=not is_secret, metadata={"check": check, "is_secret": is_secret}
    )


_seconds = number("seconds")


@dataclass(frozen=True)
class HostConfig:
    """One host as the hosts file describes it; None: not given there."""

    name: str
    ssh_host: str | None = _setting(address)
    ssh_port: int | None = _setting(_port)
    ssh_user: str | None = _setting(address)
    ssh_key: str | None = _setting(_text)
    tailscale_ip: str | None = _setting(address)
    tailscale_port: int | None = _setting(_port)
    cloudflare_tunnel: str | None = _setting(address)
    cloudflare_service_token_id: str | None = _setting(_text, is_secret=True)
    cloudflare_service_token_secret: str | None = _setting(_text, is_secret=True)
    work_dir: str | None = _setting(_text)
    ringrift_path: str | None = _setting(_text)
    venv_activate: str | None = _setting(_text)
    ssh_host_key: str | None = _setting(_public_key)
    is_ephemeral: bool = _setting(flag, default=False)
    proxy_jump: str | None = _setting(address)
    embedded: bool = _setting(flag, default=False)
    connect_timeout: float | None = _setting(_seconds)
    command_timeout: float | None = _setting(_seconds)
    use_control_master: bool | None = _setting(flag)
    control_persist: float | None = _setting(_seconds)
    server_alive_interval: int | None = _setting(count(0))
    server_alive_count_max: int | None = _setting(count(0))
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Every other key, with YAML's value."""
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)
    """The facts as written in the file; a list has one text for each member."""
    groups: tuple[str, ...] = ()
    jump_host: HostConfig | None = field(default=None, repr=False, compare=False)
    """The host of the same inventory that ``proxy_jump`` names."""
    file: str = ""
    line: int = 0
    fault: InventoryError | None = field(default=None, compare=False)
    """The error in the host's entry: the host cannot be used, the others can."""


#: The settings of a host: name -> its field.
SETTINGS = {f.name: f for f in fields(HostConfig) if "check" in f.metadata}


class Inventory(NamedTuple):
    """All hosts by name, in the order of the files, and the groups with their members."""

    hosts: Mapping[str, HostConfig]
    groups: Mapping[str, tuple[str, ...]] = {}
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Doubtful entries, such as a field that is nearly a known one; for people."""

    def get(self, name: str) -> HostConfig:
        """Return the host called ``name``.

        :raises UnknownHostError: no host has that name; the error lists near names.
        """
        if name not in self.hosts:
            raise UnknownHostError(f"unknown host {name!r}", near=near_names(name, self.hosts))
        return self.hosts[name]

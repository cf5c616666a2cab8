"""Addresses that the inventory lacks: ``[user@]host[:port]``, and aliases of ssh's files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from ringtasks.common.text import near_names

from .host_settings import DEFAULT_SSH_PORT, SSHConfig
from .model import HostConfig, Inventory

__all__ = ["is_ip_address", "meant_by", "plain_hosts"]

#: ``user@host``, ``host:port``, an IP address or a dotted name: an address of no inventory entry.
_ADDRESS = (
    r"(ssh://)?[^@\s!,&=*?][^\s!,&=*?]*@[^@\s!,&=*?]+|ssh://[^@\s!,&=*?]+|\[[0-9A-Fa-f:.%\w]+\](:\d+)?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(%\w+)?"
    r"|[\w-]+(\.[\w-]+)*:\d+|[\w-]+(\.[\w-]+)+"
)
#: A comparison and its value, between which there may be spaces: ``idle > 1.5m``.
_COMPARISON = r"\s*[<>=]+\s*[^\s,&]*"
#: Similarity from which an address counts as a mistyped name of the inventory (0 to 1).
_MISTYPED = 0.85


def plain_hosts(
    expression: str, inventory: Inventory, is_alias: Callable[[str], bool]
) -> dict[str, HostConfig]:
    """Return the hosts that ``expression`` names and the inventory lacks, by their written names.

    An address is ``[user@]host[:port]``.  An address that is nearly a name of the inventory does
    not count.

    :param is_alias: tells whether ssh's configuration knows a name.
    """
    found: dict[str, HostConfig] = {}
    for item in re.split(r"[,\s]+", re.sub(_COMPARISON, "=", expression)):
        name = item.removeprefix("!")
        if not name or name in inventory.hosts or name.startswith("@"):
            continue
        is_address = re.fullmatch(_ADDRESS, name) is not None
        if is_address and meant_by(name, inventory) and not is_alias(_host_of(name)):
            continue
        is_word = re.fullmatch(r"[\w.-]+", name) is not None and not name.startswith("-")
        if is_address or (is_word and is_alias(name)):
            config = SSHConfig.parse(name)
            given: dict[str, Any] = {"ssh_host": config.host, "ssh_user": config.user}
            if config.port != DEFAULT_SSH_PORT:
                given["ssh_port"] = config.port
            found[name] = HostConfig(config.id, **given)
    return found


def meant_by(address: str, inventory: Inventory) -> tuple[str, ...]:
    """Return the names of the inventory that an address may be a mistyped form of.

    An IP address is none: its neighbours differ in one digit.
    """
    if is_ip_address(address):
        return ()
    host = _host_of(address)
    names = (address, *((host,) if host != address else ()))
    near = (near_names(name, inventory.hosts, similarity=_MISTYPED) for name in names)
    return tuple(dict.fromkeys(itertools.chain.from_iterable(near)))


def _host_of(address: str) -> str:
    """Return the host of ``[user@]host[:port]``."""
    try:
        return SSHConfig.parse(address).host
    except ValueError:
        return address


def is_ip_address(address: str) -> bool:
    """Return True for ``[user@]host[:port]`` whose host is an IP address."""
    try:
        ip_address(SSHConfig.parse(address).host.partition("%")[0])
    except ValueError:
        return False
    return True

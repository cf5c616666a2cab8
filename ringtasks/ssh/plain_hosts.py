"""Hosts without an inventory entry: ``[user@]host[:port]`` and the aliases of ssh's files."""

from __future__ import annotations

from ringtasks.errors import UnknownHostError
from ringtasks.inventory.config import SSHConfig
from ringtasks.inventory.loader import usual_inventory
from ringtasks.inventory.selection import is_ip_address, meant_by

from .ssh_config import ask

__all__ = ["plain_host"]


def plain_host(address: str) -> SSHConfig:
    """Return the SSHConfig of an address that the inventory does not have.

    :raises UnknownHostError: it is nearly a name of the inventory, and no alias of ssh's files.
    :raises ValueError: it is not an address.
    """
    config = SSHConfig.parse(address)
    if is_ip_address(address):
        return config  # a neighbour of another address is no mistyped one
    inventory = usual_inventory()
    near = meant_by(config.host, inventory) if inventory is not None else ()
    if near:
        answer = ask(config.host)
        if answer is None or not answer.is_alias:
            raise UnknownHostError(f"unknown host {address!r}", near=near)
    return config

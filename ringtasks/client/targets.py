"""The hosts of a run, given as a selector, names, configurations or clients."""

from __future__ import annotations

from collections.abc import Iterable

from ringtasks.errors import UsageError
from ringtasks.inventory.config import SSHConfig
from ringtasks.inventory.loader import load_inventory, usual_inventory
from ringtasks.inventory.model import HostConfig, Inventory
from ringtasks.inventory.selection import plain_hosts, select

from .ssh_client import SSHClient

__all__ = ["Host", "Hosts", "id_of", "targets_of"]

Host = str | HostConfig | SSHConfig | SSHClient
Hosts = str | Iterable[Host]


def targets_of(given: Hosts) -> list[SSHConfig | SSHClient]:
    """Return the hosts to reach, each once, in the order given.

    :param given: a selector of the inventory, or several of: a name of the inventory, any other
        ``[user@]host[:port]``, a HostConfig, an SSHConfig, a client.
    :raises UsageError: a selector matches nothing, no host is given, or two different hosts share
        a name.
    :raises ValueError: an address is malformed.
    """
    if isinstance(given, str):
        inventory = _with_plain_hosts(given, usual_inventory() or Inventory({}))
        if not inventory.hosts:
            inventory = load_inventory()  # its error lists the places it looked in
        chosen: list[Host] = [inventory.hosts[name] for name in select(given, inventory)]
    else:
        chosen = list(given)
    found: dict[str, SSHConfig | SSHClient] = {}
    # Only names need the inventory; it is read once for all of them.
    names = usual_inventory() if any(isinstance(host, str) for host in chosen) else None
    for host in chosen:
        reachable = _reachable(host, names)
        known = found.setdefault(_config(reachable).id, reachable)
        if known is not reachable and _config(known) != _config(reachable):
            raise UsageError(f"hosts: two different ones are called {_config(known).id!r}")
    if not found:
        raise UsageError("hosts: there is none")
    return list(found.values())


def _with_plain_hosts(expression: str, inventory: Inventory) -> Inventory:
    if expression in inventory.hosts:
        return inventory
    plain = plain_hosts(expression, inventory, lambda name: False)
    return inventory._replace(hosts={**inventory.hosts, **plain})


def id_of(host: SSHConfig | SSHClient) -> str:
    """Return the name under which the host's health and result are kept."""
    return _config(host).id


def _reachable(host: Host, inventory: Inventory | None) -> SSHConfig | SSHClient:
    if isinstance(host, SSHClient | SSHConfig):
        return host
    if isinstance(host, str):
        found = inventory.hosts.get(host) if inventory else None
        return SSHConfig.from_host_config(found) if found else SSHConfig.parse(host)
    if isinstance(host, HostConfig):
        return SSHConfig.from_host_config(host)
    raise TypeError(f"hosts: expected a name, a config or a client, got {type(host).__name__}")


def _config(host: SSHConfig | SSHClient) -> SSHConfig:
    return host.config if isinstance(host, SSHClient) else host

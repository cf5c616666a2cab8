"""The hosts of a run, given as a selector, names, configurations or clients."""

from __future__ import annotations

from collections.abc import Iterable

from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig, config_or_fault
from ringtasks.inventory.loader import load_inventory, usual_inventory
from ringtasks.inventory.model import HostConfig, Inventory
from ringtasks.inventory.plain_addresses import plain_hosts
from ringtasks.inventory.selection import select

from .faults import checked
from .ssh_client import SSHClient

__all__ = ["Host", "Hosts", "id_of", "targets_of"]

Host = str | HostConfig | SSHConfig | SSHClient
Hosts = str | Iterable[Host]


def targets_of(given: Hosts, transport: str | None = None) -> list[SSHConfig | SSHClient]:
    """Return the hosts to reach, each once, in the order given.

    If there are several, one that cannot be used has the error as its ``fault``.

    :param given: a selector of the inventory, or several of: a name of the inventory, any other
        ``[user@]host[:port]``, a HostConfig, an SSHConfig, a client.
    :param transport: the route to use; None: any.
    :raises UsageError: a selector matches nothing, no host is given, two different hosts share
        a name, or the only host cannot be used.
    :raises ValueError: an address is malformed.
    """
    chosen = _chosen(given)
    entries = {host.name: host for host in chosen if isinstance(host, HostConfig)}
    found: dict[str, SSHConfig | SSHClient] = {}
    for host in chosen:
        reachable = _reachable(host, is_alone=len(chosen) == 1)
        known = found.setdefault(_config(reachable).id, reachable)
        if known is not reachable and _config(known) != _config(reachable):
            raise UsageError(f"hosts: two different ones are called {_config(known).id!r}")
    if not found:
        raise UsageError("hosts: there is none")
    configs = [host for host in found.values() if isinstance(host, SSHConfig)]
    usable = iter(checked(configs, transport, entries, is_alone=len(found) == 1))
    return [next(usable) if isinstance(host, SSHConfig) else host for host in found.values()]


def _chosen(given: Hosts) -> list[Host]:
    """Return the hosts that are given; names of the inventory as their entries."""
    if isinstance(given, str):
        inventory = _with_plain_hosts(given, usual_inventory() or Inventory({}))
        if not inventory.hosts:
            inventory = load_inventory()  # its error lists the places it looked in
        return [inventory.hosts[name] for name in select(given, inventory)]
    chosen = list(given)
    # Only names need the inventory; it is read once for all of them.
    names = usual_inventory() if any(isinstance(host, str) for host in chosen) else None
    known = names.hosts if names else {}
    return [known.get(host, host) if isinstance(host, str) else host for host in chosen]


def _with_plain_hosts(expression: str, inventory: Inventory) -> Inventory:
    if expression in inventory.hosts:
        return inventory
    plain = plain_hosts(expression, inventory, lambda name: False)
    return inventory._replace(hosts={**inventory.hosts, **plain})


def id_of(host: SSHConfig | SSHClient) -> str:
    """Return the name under which the host's health and result are kept."""
    return _config(host).id


def _reachable(host: Host, *, is_alone: bool) -> SSHConfig | SSHClient:
    if isinstance(host, SSHClient | SSHConfig):
        return host
    if isinstance(host, str):
        return SSHConfig.parse(host)
    if isinstance(host, HostConfig):
        read = SSHConfig.from_host_config if is_alone else config_or_fault
        return read(host)
    raise TypeError(f"hosts: expected a name, a config or a client, got {type(host).__name__}")


def _config(host: SSHConfig | SSHClient) -> SSHConfig:
    return host.config if isinstance(host, SSHClient) else host

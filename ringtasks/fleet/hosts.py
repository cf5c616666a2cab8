"""Which hosts a run is for: a selector, names, configurations or clients."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..client import SSHClient
from ..config import SSHConfig, expand
from ..errors import InventoryError, UsageError
from ..inventory import HostConfig, Inventory, load_inventory
from ..routes import only, routes_of
from ..selection import select

__all__ = ["Host", "Hosts", "check", "hosts_of", "id_of"]

Host = str | HostConfig | SSHConfig | SSHClient
Hosts = str | Iterable[Host]


def hosts_of(given: Hosts) -> list[SSHConfig | SSHClient]:
    """What to reach, each host once, in the order given.

    :param given: a selector of the inventory, or several of: a name of the inventory, any other
        ``[user@]host[:port]``, a HostConfig, an SSHConfig, a client.
    :raises UsageError: a selector that means nothing, no host at all, or two of one name.
    :raises ValueError: an address that is none.
    """
    if isinstance(given, str):
        inventory = load_inventory()
        chosen: list[Host] = [inventory.hosts[name] for name in select(given, inventory)]
    else:
        chosen = list(given)
    found: dict[str, SSHConfig | SSHClient] = {}
    inventory_of_names = _Lazy()
    for host in chosen:
        reachable = _reachable(host, inventory_of_names)
        known = found.setdefault(_config(reachable).id, reachable)
        if _config(known) != _config(reachable):
            raise UsageError(f"hosts: two different ones are called {_config(known).id!r}")
    if not found:
        raise UsageError("hosts: there is none")
    return list(found.values())


def id_of(host: SSHConfig | SSHClient) -> str:
    """The name that its health and its result are kept under."""
    return _config(host).id


def check(config: SSHConfig, transport: str | None) -> None:
    """Find out before anything is sent what would not work anywhere.

    :raises UsageError: a route that the host has not, a key file that is not there.
    """
    if config.embedded:
        return
    routes = routes_of(config, os.environ)
    if transport:
        only(routes, transport, config.id)
    if config.key_path:
        file = Path(expand(config.key_path)).expanduser()
        if not file.is_file():
            raise UsageError(f"{config.id}: ssh_key: no such file: {file}")


class _Lazy:
    """The inventory, read when the first name is looked up; None where there is none."""

    def __init__(self) -> None:
        self._inventory: Inventory | None = None
        self._is_read = False

    def find(self, name: str) -> HostConfig | None:
        if not self._is_read:
            self._is_read = True
            if _has_inventory():
                self._inventory = load_inventory()
        return self._inventory.hosts.get(name) if self._inventory else None


def _has_inventory() -> bool:
    from ..inventory import _find

    try:
        return bool(_find(None))
    except InventoryError:
        return False


def _reachable(host: Host, inventory: _Lazy) -> SSHConfig | SSHClient:
    if isinstance(host, SSHClient | SSHConfig):
        return host
    if isinstance(host, str):
        found = inventory.find(host)
        return SSHConfig.from_host_config(found) if found else SSHConfig.parse(host)
    if isinstance(host, HostConfig):
        return SSHConfig.from_host_config(host)
    raise TypeError(f"hosts: expected a name, a config or a client, got {type(host).__name__}")


def _config(host: SSHConfig | SSHClient) -> SSHConfig:
    return host.config if isinstance(host, SSHClient) else host

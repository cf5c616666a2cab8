"""The clients of this process: one for each name, and the functions that need no client at hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ringtasks.common import thread_pool
from ringtasks.inventory.config import SSHConfig
from ringtasks.inventory.loader import find_host, load_inventory
from ringtasks.inventory.model import HostConfig
from ringtasks.inventory.selection import select

from .result import SSHResult
from .ssh_client import SSHClient

__all__ = [
    "close_all_clients",
    "get_cluster_nodes",
    "get_ssh_client",
    "run_ssh_command",
    "run_ssh_command_async",
    "run_ssh_command_sync",
]

_clients: dict[str, SSHClient] = {}
_lock = threading.Lock()


def get_ssh_client(name_or_host: str) -> SSHClient:
    """The client for a host of the inventory, else for a plain ``[user@]host[:port]``.

    The same object for the same name, until `close_all_clients`.

    :raises InventoryError: the inventory cannot be used as it stands.
    :raises ValueError: the name is empty.
    """
    with _lock:
        if name_or_host not in _clients:
            found = find_host(name_or_host)
            config = SSHConfig.from_host_config(found) if found else SSHConfig.parse(name_or_host)
            _clients[name_or_host] = SSHClient(config)
        return _clients[name_or_host]


def get_cluster_nodes(selector: str = "@all") -> list[HostConfig]:
    """The hosts of the inventory that ``selector`` means, in the inventory's order.

    :raises UsageError: there is no inventory, the selector is bad, or it matches nothing.
    """
    inventory = load_inventory()
    return [inventory.hosts[name] for name in select(selector, inventory)]


def run_ssh_command_sync(
    host: str,
    command: str,
    timeout: float | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> SSHResult:
    """`SSHClient.run` on the client for ``host``."""
    return get_ssh_client(host).run(command, timeout, cwd, env)


async def run_ssh_command_async(
    host: str,
    command: str,
    timeout: float | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> SSHResult:
    """`SSHClient.run_async` on the client for ``host``."""
    return await get_ssh_client(host).run_async(command, timeout, cwd, env)


#: The blocking one, under the shorter name.
run_ssh_command = run_ssh_command_sync


def close_all_clients() -> None:
    """Close every client's link and end the threads of the pool. Safe to repeat.

    Calls under way are waited for.  The clients are forgotten: `get_ssh_client` makes new ones.
    """
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
    thread_pool.shut_down()
    for client in clients:
        client.close_link()

"""The clients of this process, one for each name, and functions that take a name instead."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ringtasks.common import thread_pool
from ringtasks.common.fork import RenewedLock
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig, with_own
from ringtasks.inventory.loader import find_host, load_inventory
from ringtasks.inventory.model import HostConfig
from ringtasks.inventory.selection import select
from ringtasks.ssh.plain_hosts import plain_host

from .result import SSHResult
from .ssh_client import SSHClient

__all__ = [
    "close_all_clients",
    "close_all_clients_sync",
    "get_cluster_nodes",
    "get_ssh_client",
    "run_ssh_command",
    "run_ssh_command_async",
    "run_ssh_command_sync",
]

#: A host's name; the user, port and key file that a call gives in place of the host's own; the
#: settings of a HostConfig if they are not those of the inventory.
_Key = tuple[str, str | None, int | None, str | None, str | None]

_clients: dict[_Key, SSHClient] = {}
_lock = RenewedLock()


def get_ssh_client(name_or_host: str | HostConfig) -> SSHClient:
    """Return the client for a host of the inventory, else for a plain ``[user@]host[:port]``.

    It is the same object for the same name, until `close_all_clients`.

    :param name_or_host: a name or address, or a value of `get_cluster_nodes`; a HostConfig with
        other settings than the inventory has a client of its own.
    :raises InventoryError: the inventory cannot be used as it stands.
    :raises UnknownHostError: the name is nearly one of the inventory.
    :raises ValueError: the name is empty.
    :raises TypeError: it is neither a name nor a HostConfig; an SSHConfig is for `SSHClient`.
    """
    if isinstance(name_or_host, str):
        return _client((name_or_host, None, None, None, None))
    if not isinstance(name_or_host, HostConfig):
        given = type(name_or_host).__name__
        hint = ": SSHClient takes one" if isinstance(name_or_host, SSHConfig) else ""
        raise TypeError(f"expected a host's name or HostConfig, got {given}{hint}")
    changed = None if _is_of_inventory(name_or_host) else repr(name_or_host)
    return _client((name_or_host.name, None, None, None, changed), name_or_host)


def get_cluster_nodes(selector: str = "@all") -> dict[str, HostConfig]:
    """Return the hosts that ``selector`` selects, by name, in the inventory's order.

    :raises UsageError: there is no inventory, the selector is malformed, or it matches nothing.
    """
    inventory = load_inventory()
    return {name: inventory.hosts[name] for name in select(selector, inventory)}


async def run_ssh_command_async(
    host: str,
    command: str,
    user: str | None = None,
    timeout: float | None = None,
    max_retries: int = 1,
    *,
    port: int | None = None,
    key_path: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> SSHResult:
    """Call `SSHClient.run_async` of the client for ``host``.

    :param user: replaces the host's own, like ``port`` and ``key_path``.
    :param max_retries: attempts in all, as in `SSHClient.run_async_with_retry`; give more than one
        only for a command that may run twice.
    """
    client = _client((host, user, port, key_path, None))
    return await client.run_async_with_retry(command, timeout, max_retries, cwd=cwd, env=env)


def run_ssh_command_sync(
    host: str,
    command: str,
    user: str | None = None,
    port: int = DEFAULT_SSH_PORT,
    key_path: str | None = None,
    timeout: float | None = 60,
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> SSHResult:
    """Call `SSHClient.run` of the client for ``host``.

    :param port: 22 means the host's own port, which is 22 if neither the inventory nor
        ``~/.ssh/config`` says otherwise.
    :param timeout: seconds; None: the host's ``command_timeout``; 0: no limit.
    """
    own_port = None if port == DEFAULT_SSH_PORT else port
    return _client((host, user, own_port, key_path, None)).run(command, timeout, cwd, env)


#: `run_ssh_command_async` under a shorter name.
run_ssh_command = run_ssh_command_async


async def close_all_clients() -> None:
    """Call `close_all_clients_sync` from asyncio; other tasks run meanwhile."""
    import asyncio

    await asyncio.to_thread(close_all_clients_sync)


def close_all_clients_sync() -> None:
    """Close every client's link and end the pool's threads. Safe to repeat.

    It waits for calls under way.  The clients are forgotten: `get_ssh_client` makes new ones.
    """
    with _lock.lock:
        clients = list(_clients.values())
        _clients.clear()
    thread_pool.shut_down()
    for client in clients:
        client.close_link()


def _is_of_inventory(host: HostConfig) -> bool:
    with contextlib.suppress(UsageError):
        return find_host(host.name) == host
    return False


def _client(key: _Key, host: HostConfig | None = None) -> SSHClient:
    name, user, port, key_path, _ = key
    with _lock.lock:
        if key not in _clients:
            found = host or find_host(name)
            config = SSHConfig.from_host_config(found) if found else plain_host(name)
            given: dict[str, Any] = {"user": user, "port": port, "key_path": key_path}
            changed = {field: value for field, value in given.items() if value is not None}
            _clients[key] = SSHClient(with_own(config, **changed))
        return _clients[key]

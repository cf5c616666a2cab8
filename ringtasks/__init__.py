"""Run commands on rented GPU boxes over SSH, over whichever route works right now.

The names below are loaded at first use: ``inv --list`` needs none of them.
"""

from __future__ import annotations

from ringtasks.common.local_user import complete_environment

TYPE_CHECKING = False  # every program loads this module, and typing takes a while
if TYPE_CHECKING:
    from typing import Any

    from ringtasks.inventory.model import HostConfig

    from .client.registry import (
        close_all_clients,
        close_all_clients_sync,
        get_cluster_nodes,
        get_ssh_client,
        run_ssh_command,
        run_ssh_command_async,
        run_ssh_command_sync,
    )
    from .client.result import SSHResult
    from .client.ssh_client import SSHClient
    from .health.model import SSHHealth
    from .inventory.host_settings import SSHConfig
    from .ssh.inprocess.connection import Connection

complete_environment()

__all__ = [
    "Connection",
    "HostConfig",
    "SSHClient",
    "SSHConfig",
    "SSHHealth",
    "SSHResult",
    "close_all_clients",
    "close_all_clients_sync",
    "get_cluster_nodes",
    "get_ssh_client",
    "run_ssh_command",
    "run_ssh_command_async",
    "run_ssh_command_sync",
]

__version__ = "0.1.0"

_HOMES = {
    "Connection": "ssh.inprocess.connection",
    "HostConfig": "inventory.model",
    "SSHClient": "client.ssh_client",
    "SSHConfig": "inventory.host_settings",
    "SSHHealth": "health.model",
    "SSHResult": "client.result",
    "close_all_clients": "client.registry",
    "close_all_clients_sync": "client.registry",
    "get_cluster_nodes": "client.registry",
    "get_ssh_client": "client.registry",
    "run_ssh_command": "client.registry",
    "run_ssh_command_async": "client.registry",
    "run_ssh_command_sync": "client.registry",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "fleet":
        return importlib.import_module(".fleet", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Checks of the configuration before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ringtasks.errors import UsageError
from ringtasks.inventory.config import SSHConfig, expand
from ringtasks.ssh.routes import only, routes_of

__all__ = ["check"]


def check(configs: Iterable[SSHConfig], transport: str | None) -> None:
    """Refuse a configuration that cannot work on a host.

    :raises UsageError: a host does not have the route, or a key file does not exist.
    """
    keys: set[str] = set()
    for config in configs:
        if config.embedded:
            continue
        routes = routes_of(config, os.environ)
        if transport:
            only(routes, transport, config.id)
        if config.key_path and config.key_path not in keys:  # many hosts have the same
            keys.add(config.key_path)
            file = Path(expand(config.key_path)).expanduser()
            if not file.is_file():
                raise UsageError(f"{config.id}: ssh_key: no such file: {file}")

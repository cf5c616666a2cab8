"""The name of a connection: a hash over everything that distinguishes it from another."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from ringtasks.common import rehearsal
from ringtasks.common.digest import digest
from ringtasks.inventory.host_settings import SSHConfig, expand, secrets
from ringtasks.inventory.state_files import known_hosts_file
from ringtasks.ssh.routes import ProcessProxy, routes_of
from ringtasks.ssh.settings_files import read_files, version_of

__all__ = ["MAX_HOPS", "control_name", "jump_chain", "jump_config"]

MAX_HOPS = 8  # ends the chain of a jump host that is its own jump host


def control_name(config: SSHConfig, transport: str | None, environ: Mapping[str, str]) -> str:
    """Return 20 hexadecimal digits that hash everything the connection depends on.

    That is the host and its routes, the user, the key and its file, the inventory's pin, the jump
    hosts, and ``~/.ssh/config``.  The pins of our known-hosts file are not in it, since the first
    contact makes one: `lookup` compares them.

    :param transport: the one requested route, if any.
    :raises InventoryError: a ``${VAR}`` is not set, or a jump host is not known.
    """
    return digest(json.dumps(_identity(config, transport, environ)), 20)


def jump_config(config: SSHConfig) -> SSHConfig | None:
    """Return the jump host of a host: from its own inventory, from the usual one, or an address."""
    if config.jump_host is not None or not config.proxy_jump:
        return config.jump_host
    from ringtasks.inventory.loader import find_host

    found = find_host(config.proxy_jump)
    return SSHConfig.from_host_config(found) if found else SSHConfig.parse(config.proxy_jump)


def jump_chain(config: SSHConfig) -> list[SSHConfig]:
    """Return the jump hosts of a host, the last one first; one too many if they have no end."""
    chain: list[SSHConfig] = []
    while (jump := jump_config(config)) is not None and len(chain) < MAX_HOPS + 2:
        chain.append(jump)
        config = jump
    return chain


def _identity(config: SSHConfig, transport: str | None, environ: Mapping[str, str]) -> list[object]:
    routes = [
        (
            *(route.name, route.host, route.port, route.family, route.source),
            route.proxy.argv if isinstance(route.proxy, ProcessProxy) else route.proxy,
        )
        for route in routes_of(config, environ)
    ]
    # Only this hash of the token is stored.
    token = secrets(config)
    key = _absolute(expand(config.key_path)) if config.key_path else None
    hop = jump_config(config)
    jump = hop and _identity(hop, None, environ)
    return [
        *(config.id, config.user, routes, transport, token, jump),
        *(config.ssh_host_key, config.is_ephemeral, str(known_hosts_file())),
        *(key, key and version_of(key), config.ssh_config_file),
        *(version_of(file) for file in read_files(config.ssh_config_file)),
        # A rehearsal neither uses another process's connection nor leaves one for it.
        *([rehearsed] if (rehearsed := rehearsal.token()) else []),
    ]


# Strings, not Paths, for speed: a run on many hosts calls this for each host.
def _absolute(path: str) -> str:
    path = os.path.expanduser(path)  # noqa: PTH111
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"  # noqa: PTH109

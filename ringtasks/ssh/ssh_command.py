"""The ``ssh`` command that a user types to reach a host over one route, pins included (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ringtasks.inventory.config import DEFAULT_SSH_PORT, SSHConfig, expand

from .known_hosts import known_name
from .routes import ProcessProxy, Route, SocksProxy, hop_route

__all__ = ["ssh_command"]

#: The longest chain of jump hosts.
_MAX_HOPS = 8


def ssh_command(
    config: SSHConfig,
    route: Route,
    known_hosts: Path,
    jump_of: Callable[[SSHConfig], SSHConfig | None],
    *options: str,
) -> list[str]:
    """Return the arguments, from ``ssh`` to the host; a remote command may follow.

    :param known_hosts: the file with the pins; their name in it is the host's.
    :param jump_of: returns the jump host of a host.
    :param options: more options of ssh(1), such as ``-t``.
    """
    argv = ["ssh", *options]
    if config.key_path:
        argv += ["-i", str(Path(expand(config.key_path)).expanduser())]
    if route.port != DEFAULT_SSH_PORT:
        argv += ["-p", str(route.port)]
    pins = "/dev/null" if config.is_ephemeral else known_hosts
    argv += ["-o", f"HostKeyAlias={known_name(config.id)}", "-o", f"UserKnownHostsFile={pins}"]
    if not config.ssh_host_key:  # the file lacks a key that the inventory pins: ssh then asks
        argv += ["-o", "StrictHostKeyChecking=accept-new"]
    if isinstance(route.proxy, ProcessProxy):
        argv += ["-o", "ProxyCommand=" + " ".join(route.proxy.argv)]
    elif isinstance(route.proxy, SocksProxy):
        argv += ["-o", f"ProxyCommand=nc -X 5 -x {route.proxy.host}:{route.proxy.port} %h %p"]
    elif route.name == "direct" and config.proxy_jump:
        argv += ["-J", ",".join(_hops(config, jump_of))]
    return [*argv, f"{config.user}@{route.host}" if config.user else route.host]


def _hops(config: SSHConfig, jump_of: Callable[[SSHConfig], SSHConfig | None]) -> Iterator[str]:
    """Yield the jump hosts on the way, the first to be reached in front (ssh(1), ``-J``)."""
    hops: list[str] = []
    jump = jump_of(config)
    while jump is not None and len(hops) < _MAX_HOPS:
        _, host, port, *_ = hop_route(jump)
        address = f"[{host}]" if ":" in host else host
        user = f"{jump.user}@" if jump.user else ""
        hops.append(f"{user}{address}" + (f":{port}" if port != DEFAULT_SSH_PORT else ""))
        jump = jump_of(jump)
    return reversed(hops)

"""The ``ssh`` command that a user types to reach a host over one route, pins included.

The options are those of the control master (`ringtasks.ssh.master.command`) as far as they decide
which host is reached and which key it must show.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.local_user import expanded_home
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig, expand
from ringtasks.inventory.state_files import known_hosts_file

from .evaluated_config import settings_of
from .home_files import home_arguments
from .known_hosts import CERT_AUTHORITY, known_name
from .master.identity import MAX_HOPS, jump_config
from .option_values import path_value, percent, quoted
from .routes import ProcessProxy, Route, SocksProxy, hop_route
from .settings_files import file_arguments

__all__ = ["identity_file", "pin_options", "ssh_command"]

#: ssh expands it to the address of the host behind a jump host (ssh_config(5), TOKENS).
_HOST_BEHIND = "[%h]:%p"


def ssh_command(config: SSHConfig, route: Route, *options: str) -> list[str]:
    """Return the arguments, from ``ssh`` to the host; a remote command may follow.

    :param options: more options of ssh(1), such as ``-t``.
    :raises UsageError: ssh cannot be given a path, or cannot use its files.
    """
    known_hosts = known_hosts_file()
    with contextlib.suppress(OSError):  # without the file's folder ssh would warn of it
        known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _command(config, route, known_hosts, options, MAX_HOPS)


def pin_options(config: SSHConfig, known_hosts: Path) -> dict[str, str]:
    """Return the options by which ssh accepts the host's pinned key only.

    :param known_hosts: the file with the pins; their name in it is the host's.
    """
    options = {"HostKeyAlias": known_name(config.id), "UserKnownHostsFile": "/dev/null"}
    if config.ssh_host_key:  # the file lacks a key that the inventory pins
        marker, _, rest = config.ssh_host_key.strip().partition(" ")
        is_authority = marker == CERT_AUTHORITY
        key = " ".join((rest if is_authority else config.ssh_host_key).split()[:2])
        if is_authority:  # a certificate names an address more often than the inventory's name
            options["HostKeyAlias"] = known_name(config.host or config.id)
        line = f"{f'{marker} * ' if is_authority else f'{known_name(config.id)} '}{key}"
        options["KnownHostsCommand"] = f"/bin/echo {percent(line)}"
        return {**options, "StrictHostKeyChecking": "yes"}
    if not config.is_ephemeral:
        options["UserKnownHostsFile"] = quoted(path_value(known_hosts))
    # The user's setting could be to hash names, or to accept anything.
    return {**options, "StrictHostKeyChecking": "accept-new", "HashKnownHosts": "no"}


def identity_file(config: SSHConfig) -> Path | None:
    """Return the key file that the inventory names.

    :raises InventoryError: a ``${VAR}`` in it is not set.
    """
    return expanded_home(expand(config.key_path)).absolute() if config.key_path else None


def _command(
    config: SSHConfig,
    route: Route,
    known_hosts: Path,
    options: tuple[str, ...],
    hops: int,
) -> list[str]:
    # A ControlPath of ~/.ssh/config would lead over another route.
    argv = ["ssh", *file_arguments(config.ssh_config_file), "-S", "none", *options]
    argv += [*_key_arguments(config), *home_arguments(config)]
    own = {**route.ssh_options, **pin_options(config, known_hosts)}
    for name, value in own.items():
        argv += ["-o", f"{name}={value}"]
    carrier = _carrier(config, route, known_hosts, hops)
    if carrier is not None:
        argv += ["-o", f"ProxyCommand={carrier}", "-o", "ProxyUseFdpass=no"]
    elif route.name != "direct":
        argv += ["-o", "ProxyCommand=none"]  # the one in ~/.ssh/config is for the public address
    return [*argv, *_address(config, route)]


def _key_arguments(config: SSHConfig) -> list[str]:
    key = identity_file(config)
    if key is None:
        return []
    # -i looks for the file before the percent expansion, and uses it after that.
    if "%" not in str(key):
        return ["-i", str(key)]
    return ["-o", f"IdentityFile={quoted(path_value(key))}"]


def _address(config: SSHConfig, route: Route) -> Iterator[str]:
    """Yield the port and the destination: the name that ``~/.ssh/config`` knows, if it does."""
    is_direct = route.name == "direct"
    is_alias = bool(config.host) and settings_of(config).is_alias
    if route.port != DEFAULT_SSH_PORT or (is_alias and not is_direct):
        yield from ("-p", str(route.port))
    if is_alias and not is_direct:
        yield from ("-o", f"HostName={percent(route.host)}")
    host = config.host if is_alias or (is_direct and config.host) else route.host
    yield f"{config.user}@{host}" if config.user else host


def _carrier(config: SSHConfig, route: Route, known_hosts: Path, hops: int) -> str | None:
    """Return the ProxyCommand: a command line for a shell."""
    if isinstance(route.proxy, ProcessProxy):
        return shlex.join(percent(word) for word in route.proxy.argv)
    if isinstance(route.proxy, SocksProxy):
        return f"nc -X 5 -x {percent(shlex.quote(f'{route.proxy.host}:{route.proxy.port}'))} %h %p"
    jump = jump_config(config) if route.name == "direct" and config.proxy_jump and hops else None
    if jump is None:
        return None
    # Not -J: the ssh that it starts does not check our pins.
    through = ("-W", _HOST_BEHIND)
    words = _command(jump, hop_route(jump), known_hosts, through, hops - 1)
    return " ".join(_hop_words(words))


def _hop_words(words: list[str]) -> Iterator[str]:
    for word in words:
        yield shlex.quote(word if word == _HOST_BEHIND else percent(word))

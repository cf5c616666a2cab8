"""A host's settings after ``~/.ssh/config`` was asked, without Fabric or Paramiko.

The order of the levels is that of `inprocess.connection_values`: the inventory, then ssh's files,
then the defaults.  Fabric's own configuration is left out, since it exists for Fabric's callers.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ringtasks.errors import Reason, UnreachableError, UsageError
from ringtasks.inventory.host_settings import DEFAULT_SSH_PORT, SSHConfig

from .dialing import Gateway
from .evaluated_config import NO_SETTINGS, HostSettings, settings_of, tokens_of
from .master.identity import MAX_HOPS, jump_config
from .option_values import expand_proxy_command, jump_hosts, token_values
from .proxies import ProxyProcess, in_users_shell
from .routes import ProcessProxy, hop_route
from .settings_files import file_arguments, is_configured
from .ssh_command import ssh_command

__all__ = ["gateway_of", "or_by_openssh", "with_jump_host", "with_ssh_settings"]

_DEFAULT_TIMEOUT = SSHConfig("").connect_timeout
_LEAST_TIMEOUT = 0.05  # seconds; 0 would not wait at all
_OF_PARAMIKO = {Reason.KEY_EXCHANGE, Reason.AUTHENTICATION}


def with_ssh_settings(config: SSHConfig, settings: HostSettings) -> SSHConfig:
    """Return the configuration with the values that only ssh's files set."""
    changes: dict[str, Any] = {}
    if config.host:
        changes["host"] = settings.get("hostname", config.host)
    if config.port == DEFAULT_SSH_PORT:
        changes["port"] = int(settings.get("port") or DEFAULT_SSH_PORT)
    if not config.user:
        changes["user"] = settings.get("user")
    limit = settings.get("connecttimeout", "none")
    if config.connect_timeout == _DEFAULT_TIMEOUT and limit not in (None, "none", "0"):
        changes["connect_timeout"] = float(limit or _DEFAULT_TIMEOUT)
    if config.address_family == "any":
        changes["address_family"] = settings.get("addressfamily", "any")
    if config.bind_address is None:
        changes["bind_address"] = settings.get("bindaddress")
    # The name for health and pins is that of the request.
    return replace(config, name=config.id, **changes)


def with_jump_host(config: SSHConfig, most: int = MAX_HOPS) -> SSHConfig:
    """Return the configuration with the ProxyJump of ssh's files as its ``proxy_jump``.

    A jump host of the inventory stays.

    :raises UsageError: ssh cannot use its files, or the jump hosts have no end.
    """
    if config.proxy_jump or not is_configured(config.ssh_config_file):
        return config
    jump, hops = None, _hops(config, settings_of(config))
    if hops and not most:
        raise endless()
    for hop in hops:
        named = jump_config(replace(config, proxy_jump=hop, jump_host=None))
        assert named is not None  # noqa: S101  # for the type checker: proxy_jump names one
        named = replace(named, ssh_config_file=config.ssh_config_file)
        jump = _behind(named, jump) if jump is not None else with_jump_host(named, most - 1)
    return config if jump is None else _behind(config, jump)


def endless() -> UsageError:
    """Return the error of jump hosts that each have another one; ssh starts itself without end."""
    return UsageError(
        f"ssh_config: more than {MAX_HOPS} jump hosts: the ProxyJump of each one names another, or "
        "the same: set 'ProxyJump none' for the last one"
    )


def _behind(config: SSHConfig, jump: SSHConfig) -> SSHConfig:
    return replace(config, proxy_jump=jump.id, jump_host=jump)


def _hops(config: SSHConfig, settings: HostSettings) -> list[str]:
    return jump_hosts(settings.get("proxyjump"), tokens_of(config, settings))


def gateway_of(config: SSHConfig, settings: HostSettings) -> Gateway | None:
    """Return a function that starts the program for the direct route; None: plain TCP."""
    words = _words_to(config, settings)
    if words is None:
        return None

    def start(host: str, port: int, _timeout: float) -> ProxyProcess:
        return ProxyProcess(ProcessProxy(tuple(words(host, port))))

    return start


def or_by_openssh(gateway: Gateway, config: SSHConfig) -> Gateway:
    """Return a gateway that goes through the host's jump host by ``ssh`` if ``gateway`` cannot.

    Paramiko lacks algorithms and kinds of keys that a jump host may ask for.
    """
    by_ssh = gateway_of(config, NO_SETTINGS) if config.proxy_jump else None
    if by_ssh is None:
        return gateway

    def start(host: str, port: int, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        try:
            return gateway(host, port, timeout)
        except (UnreachableError, UsageError) as error:
            failures = getattr(error, "failures", ())
            if failures and not any(failure.reason in _OF_PARAMIKO for failure in failures):
                raise
            process = by_ssh(host, port, timeout)
            process.sock.settimeout(max(_LEAST_TIMEOUT, deadline - time.monotonic()))
            with contextlib.suppress(OSError):
                if process.sock.recv(1, socket.MSG_PEEK):
                    process.sock.settimeout(None)
                    return process
            process.close()
            raise

    return start


def _words_to(
    config: SSHConfig, settings: HostSettings
) -> Callable[[str, int], Sequence[str]] | None:
    if config.proxy_jump:
        jump = jump_config(config)
        assert jump is not None  # noqa: S101  # for the type checker: proxy_jump names one
        return lambda host, port: ssh_command(
            jump, hop_route(jump), "-o", "BatchMode=yes", "-W", f"[{host}]:{port}"
        )
    if hops := _hops(config, settings):
        *before, last = hops
        files = file_arguments(config.ssh_config_file)
        jumps = ["-J", ",".join(before)] if before else []
        return lambda host, port: ["ssh", *files, *jumps, "-W", f"[{host}]:{port}", "--", last]
    command = settings.get("proxycommand", "none") or "none"
    if command == "none":
        return None
    return lambda host, port: in_users_shell(_expanded(command, config, host, port))


def _expanded(command: str, config: SSHConfig, host: str, port: int) -> str:
    """Replace ``%h`` and the like in a ProxyCommand."""
    values = token_values(name=config.id, address=host, port=port, user=config.user or "")
    return expand_proxy_command(command, values)

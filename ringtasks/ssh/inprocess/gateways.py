"""The gateway of a Connection's direct route: a jump host, or a ProxyCommand.

Fabric's ``gateway`` is one of the two (a Connection, or a command).  The command runs as ssh runs
its ProxyCommand (ssh_config(5); ``sshconnect.c``, ``ssh_proxy_connect``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import paramiko

from ringtasks.errors import UnknownHostError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.master.identity import MAX_HOPS
from ringtasks.ssh.merged_settings import endless
from ringtasks.ssh.option_values import expand_proxy_command, jump_hosts, token_values
from ringtasks.ssh.routes import ProcessProxy

from .fabric_private import clone_of

__all__ = ["configured_gateway", "opener"]

#: Seconds before the host's time limit at which its jump host has failed. Paramiko looks at its
#: own limits every 0.1 s, in two threads one after the other.
_MARGIN = 0.4
_LEAST_TIMEOUT = 0.05  # seconds; Paramiko takes 0 for its own limit of an hour
_DEPTH = ContextVar("the number of jump hosts that lead to the one that is made", default=0)
#: Those of a jump host that is a connection of plain Fabric.
_PARAMIKOS_LIMITS = ("banner_timeout", "auth_timeout")


def configured_gateway(connection: Any, connect: Callable[..., Any]) -> Any:
    """Return the jump host or ProxyCommand of ``~/.ssh/config``, else of Fabric's configuration.

    ``ProxyJump a,b`` goes through ``a`` first (ssh_config(5)). ``none`` means no gateway.

    :param connection: a `Connection`.
    :param connect: makes the Connection to a jump host; Fabric's own would accept any host key.
    :raises UsageError: the jump hosts have no end.
    """
    hops = connection.ssh_config.get("proxyjump")
    if hops is None:
        return connection.ssh_config.get("proxycommand", connection.config.gateway)
    ssh, gateway = connection.ssh, None
    values = token_values(
        name=ssh.name_in_ssh_config, address=ssh.host, port=ssh.port, user=ssh.user or ""
    )
    with _one_deeper():
        for hop in jump_hosts(hops, values):
            settings = clone_of(connection.config)  # a change to one does not affect the other
            gateway = _jump_host(hop, connect, config=settings, gateway=gateway)
            gateway.keep_in_process()
    return gateway


@contextlib.contextmanager
def _one_deeper() -> Iterator[None]:
    """Count the jump hosts that are being made for one another.

    :raises UsageError: they have no end.
    """
    deep = _DEPTH.get()
    if deep == MAX_HOPS:
        raise endless()
    before = _DEPTH.set(deep + 1)
    try:
        yield
    finally:
        _DEPTH.reset(before)


def _jump_host(name: str, connect: Callable[..., Any], **options: Any) -> Any:
    """Return the Connection to a jump host; ssh's files may name one that only resembles ours."""
    try:
        return connect(name, **options)
    except UnknownHostError:
        return connect(SSHConfig.parse(name), **options)


def opener(connection: Any) -> Callable[[str, int, float], Any] | None:
    """Return a function (host, port, seconds) that opens the direct route; None: plain TCP."""
    sock = connection.connect_kwargs.get("sock")
    if sock is not None:
        return lambda host, port, timeout: sock
    gateway = connection.gateway
    if not gateway:
        return None
    if isinstance(gateway, str):
        from ringtasks.ssh.proxies import ProxyProcess, in_users_shell  # few hosts have one

        name, user = connection.original_host, connection.user
        alias = connection.ssh_config.get("hostkeyalias", "")

        def start(host: str, port: int, _timeout: float) -> ProxyProcess:
            values = token_values(name=name, address=host, port=port, user=user, alias=alias)
            return ProxyProcess(ProcessProxy(in_users_shell(expand_proxy_command(gateway, values))))

        return start
    return lambda host, port, timeout: _through(gateway, host, port, timeout)


def _through(gateway: Any, host: str, port: int, timeout: float) -> Any:
    """Open a channel to the host; both the log-in to the jump host and the channel take their time.

    The jump host's own limit counts if it is shorter.  It fails a little before the host's limit,
    so that its failure, which names it, is still heard.
    """
    own_timeout = timeout - min(timeout / 2, _MARGIN)
    deadline = time.monotonic() + own_timeout
    if not gateway.is_connected:
        _open_within(gateway, own_timeout)
    left = max(_LEAST_TIMEOUT, deadline - time.monotonic())
    return gateway.transport.open_channel("direct-tcpip", (host, port), ("", 0), timeout=left)


def _open_within(gateway: Any, timeout: float) -> None:
    """Open a jump host's connection within ``timeout`` seconds, or its own limit.

    :raises ConnectionError: it fails; the text names it.
    """
    given, arguments = gateway.connect_timeout, gateway.connect_kwargs
    is_ours = hasattr(gateway, "ssh")
    own = given or (gateway.ssh.connect_timeout if is_ours else timeout)
    limits = {} if is_ours else dict.fromkeys(_PARAMIKOS_LIMITS, timeout)
    if "timeout" not in arguments:  # Fabric accepts the limit in one place only
        gateway.connect_timeout = min(own, timeout)
    gateway.connect_kwargs = {**limits, **arguments}
    try:
        gateway.open()
    except (paramiko.SSHException, OSError) as error:
        if is_ours:
            raise
        raise ConnectionError(f"{gateway.host}: {error}") from error
    finally:
        gateway.connect_timeout, gateway.connect_kwargs = given, arguments

"""`Connection`: a ``fabric.Connection`` that finds its way.

``open()`` walks the host's routes (`approach`), checks who answered (`hostkeys`) and logs in; a
route that fails at any of these is given up for the next, since no command can have started.
All else works as in Fabric: ``run``, ``sudo``, ``put``, ``get``, ``shell``, ``forward_local``.

Where a control master can hold the connection (`multiplex`), it does: then ``open()`` costs next to
nothing while one is alive, and ``client`` stays unconnected.  What a master has no part in
(``forward_remote``, being somebody's gateway) gets an in-process connection of its own.

One connection is used by many threads: ``open`` is safe to call from any of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fabric
import paramiko

from .approach import Approach, outcome
from .config import SSHConfig, expand
from .dialing import Dialled
from .errors import (
    AuthenticationError,
    HostKeyError,
    Reason,
    RouteError,
    UnreachableError,
    UsageError,
)
from .faults import classify, printable
from .health import Outcome
from .health_store import HealthStore
from .hostkeys import HostKey, Pins, judge
from .inventory import find_host
from .pins import KnownHosts
from .private_keys import PRIVATE_KEY_VARIABLE, key_of_file, key_of_text
from .remote_runner import Remote
from .routes import Route, routes_of
from .stream import Stream
from .tcp import refuse_taken
from .transport import Transport

if TYPE_CHECKING:
    from .multiplex.channel import Sessions
    from .multiplex.link import MuxLink

__all__ = ["Connection"]


class Connection(fabric.Connection):  # type: ignore[misc]  # Fabric is untyped
    """A connection to a host of the inventory, to any other host, or as an SSHConfig says.

    ``user``, ``port``, ``connect_timeout`` (seconds, for all routes together) and ``gateway``
    override what the inventory says; the other parameters are Fabric's.

    :param host: a name in the inventory, ``[user@]host[:port]``, or an `SSHConfig`.
    :param transport: use this route only.
    :param approach: one to the same host that was sent ahead; keeps the connection in process.
    :param report: gets the `Outcome` of each ``open``; the default records it in the health file.
    :raises UsageError: a key file that is not there, a route that the host does not have.
    """

    # Fabric's Context keeps what is not declared on the class in its configuration, which links
    # share; Fabric itself forgot to declare the first of these.
    inline_ssh_env: bool = True
    transport: Any = None
    _sftp: Any = None
    ssh: SSHConfig = None  # type: ignore[assignment]
    route: Route | None = None
    _transport_name: str | None = None
    _approach: Approach | None = None
    _report: Callable[[Outcome], None] = None  # type: ignore[assignment]
    _known_hosts: KnownHosts = None  # type: ignore[assignment]
    _owns_gateway: bool = False
    _opening: threading.RLock = None  # type: ignore[assignment]
    _own_connect_kwargs: dict[str, Any] = None  # type: ignore[assignment]
    _shared_config: SSHConfig | None = None
    _sessions: Sessions | None = None
    _in_process: Connection | None = None

    def __init__(
        self,
        host: str | SSHConfig,
        user: str | None = None,
        port: int | None = None,
        config: Any = None,
        gateway: Any = None,
        *,
        connect_timeout: float | None = None,
        connect_kwargs: dict[str, Any] | None = None,
        transport: str | None = None,
        report: Callable[[Outcome], None] | None = None,
        approach: Approach | None = None,
        **options: Any,
    ) -> None:
        ssh = self._config_of(host, user, port)
        if connect_timeout is not None:
            ssh = replace(ssh, connect_timeout=connect_timeout)
        is_plain = gateway is None and not connect_kwargs and approach is None
        self._owns_gateway = gateway is None
        if gateway is None and ssh.proxy_jump:
            report_jump = approach.record if approach is not None else None
            gateway = Connection(ssh.proxy_jump, config=config, report=report_jump)
        if isinstance(gateway, Connection):
            gateway.keep_in_process()
        super().__init__(
            # A host without a public address is known to Fabric by its name.
            ssh.host or ssh.id,
            user=ssh.user,
            # 22 is the default and gives way to what ~/.ssh/config says.
            port=ssh.port if ssh.port != 22 else None,
            config=config,
            gateway=gateway,
            connect_kwargs=_with_identity(ssh, connect_kwargs),
            **options,
        )
        if is_plain and not self.config.connect_kwargs and not self.forward_agent:
            self._shared_config = ssh  # nothing but what ssh can be told says how to connect
        if ssh.host and (ssh.host, ssh.port) != (self.host, self.port):
            ssh = replace(ssh, host=self.host, port=self.port)
        self.ssh = ssh
        if self.config.runners.remote is not Remote:
            self.config.runners.remote = Remote
        self._transport_name = transport
        self._report = report or _record
        self._known_hosts = KnownHosts()
        self._opening = threading.RLock()
        self._own_connect_kwargs = dict(self.connect_kwargs)
        self.client.set_missing_host_key_policy(_PinPolicy(self))
        if approach is not None and (approach.config != ssh or self.gateway):
            approach.abandon()  # ~/.ssh/config knows better
            approach = None
        # A wrong route or proxy setting is told now, not when it is too late.
        self._approach = approach or Approach(ssh, transport)

    def __setattr__(self, name: str, value: Any) -> None:
        # Fabric looks through all attributes for each one that is set: 20 of them for a connection.
        if hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def transport_used(self) -> str | None:
        """The route that the connection goes over; None before it was opened."""
        return self.route.name if self.route else None

    def open(self) -> Any:
        """Connect by whichever route works, and log in.

        :raises UnreachableError: no route worked; its ``failures`` say why.
        :raises UsageError: no route worked, and one for the caller's own mistake.
        """
        with self._opening:
            if self.is_connected or self._open_shared():
                return None
            approach, self._approach = self._approach, None
            if approach is None:
                approach = Approach(self.ssh, self._transport_name)
            try:
                result = self._log_in_somewhere(approach)
            except UnreachableError as error:
                self._report(outcome(self.ssh.id, None, error.failures))
                raise
            self._report(outcome(self.ssh.id, self.transport_used, approach.arrived()))
            return result

    def keep_in_process(self) -> None:
        """Let no control master hold this connection; before it is opened."""
        self._shared_config = None

    def close(self) -> None:
        """Close it, and leave a control master to others. Safe to repeat."""
        with self._opening:
            super().close()
            sessions, self._sessions = self._sessions, None
            if sessions is not None:
                sessions.link.close()
                self.transport = None
            if self._in_process is not None:
                self._in_process.close()
            if self._owns_gateway:
                self.close_gateway()

    def sftp(self) -> Any:
        """One SFTP client, kept until the connection is closed (``paramiko.SFTPClient``)."""
        self.open()
        if self._sftp is None and self._sessions is not None:
            self._sftp = self._sessions.link.open_sftp()
        return super().sftp()

    def shell(self, **options: Any) -> Any:
        """An interactive login shell, as in Fabric, which would offer it all of our environment."""
        return super().shell(**{"replace_env": True, **options})

    @contextlib.contextmanager
    def forward_local(
        self,
        local_port: int,
        remote_port: int | None = None,
        remote_host: str = "localhost",
        local_host: str = "localhost",
    ) -> Iterator[None]:
        """Inside, ``local_port`` leads to ``remote_port`` of what the host knows by that name.

        :raises OSError: ``local_port`` is taken.
        """
        refuse_taken(local_host, local_port)  # Fabric would say so at the end, ssh perhaps never
        self.open()
        if self._sessions is None:
            with super().forward_local(local_port, remote_port, remote_host, local_host):
                yield
            return
        from .multiplex.wire import Forward

        forward = Forward(local_host, local_port, remote_host, remote_port or local_port)
        with self._sessions.link.forward(forward):
            yield

    @contextlib.contextmanager
    def forward_remote(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Inside, a port of the host leads here; as in Fabric, over a connection in process."""
        self.open()
        with fabric.Connection.forward_remote(self._own_process(), *args, **kwargs):
            yield

    def get_gateway(self) -> Any:
        """The jump host that ``~/.ssh/config`` names.

        It is a Connection of ours: Fabric's would accept any host key. ``ProxyJump a,b`` goes
        through ``a`` first (ssh_config(5)).
        """
        hops = self.ssh_config.get("proxyjump", "none")
        if hops == "none":
            return super().get_gateway()
        gateway = None
        for hop in hops.split(","):
            if self.derive_shorthand(hop)["host"] == self.original_host:
                return None  # the jump host itself, where the setting is for "Host *"
            gateway = Connection(hop.strip(), gateway=gateway)
            gateway.keep_in_process()
        return gateway

    def open_gateway(self) -> Any:
        """The stream that was dialled: Fabric asks here when there is a jump host."""
        return self.connect_kwargs["sock"]

    def create_session(self) -> Any:
        """A new channel, opened within ``connect_timeout`` (Fabric waits for an hour)."""
        self.open()
        channel = self.transport.open_session(timeout=self.ssh.connect_timeout)
        if self.forward_agent:
            self._agent_handler = paramiko.agent.AgentRequestHandler(channel)
        return channel

    def gateway_opener(self) -> Callable[[str, int, float], Any] | None:
        """What opens the direct route by way of the jump host; None where there is none."""
        if not self.gateway:
            return None
        if isinstance(self.gateway, str):  # a ProxyCommand of ~/.ssh/config
            return lambda host, port, timeout: fabric.Connection.open_gateway(self)
        return self._open_through_jump_host

    def close_gateway(self) -> None:
        """Close the connection to the jump host, where there is one."""
        if isinstance(self.gateway, fabric.Connection):
            self.gateway.close()

    def _open_shared(self) -> bool:
        """Open it over a control master; False: it has to be kept in process."""
        if self._shared_config is None:
            return False
        from .multiplex.channel import Sessions
        from .multiplex.opening import open_link

        link = open_link(self._shared_config, self._transport_name, self._report)
        if link is None:
            return False
        self.transport = self._sessions = Sessions(link, self.ssh.connect_timeout)
        self.route = _named(link, self.ssh)
        return True

    def _own_process(self) -> Connection:
        """This connection, or one like it, over Paramiko."""
        if self._sessions is None:
            return self
        if self._in_process is None:
            ssh = replace(self.ssh, use_control_master=False)
            self._in_process = Connection(ssh, transport=self._transport_name)
        self._in_process.open()
        return self._in_process

    def _log_in_somewhere(self, approach: Approach) -> Any:
        """Log in at the first door that opens; what is refused is given up for the next."""
        gateway = self.gateway_opener()
        while True:
            dialled = approach.next_door(gateway)
            try:
                result = self._log_in(dialled, approach.remaining())
            except RouteError as error:
                approach.refused(error)
            else:
                self.route = dialled.route
                return result

    def _log_in(self, dialled: Dialled, timeout: float) -> Any:
        """Fabric's own ``open`` over a stream that is already there."""
        started = time.monotonic()
        try:
            pins = self._known_hosts.pins(self.ssh)
        except HostKeyError as error:
            dialled.stream.close()
            raise self._route_error(error, dialled.route, time.monotonic() - started) from error

        def transport_factory(sock: Stream, **options: Any) -> Transport:
            return Transport(sock, pins, **options)

        self.connect_timeout = None  # else Fabric refuses the one below
        self.connect_kwargs = {
            **self._own_connect_kwargs,
            "sock": dialled.stream,
            "transport_factory": transport_factory,
            "timeout": timeout,
            "banner_timeout": timeout,
            "auth_timeout": timeout,
            "channel_timeout": timeout,
        }
        try:
            result = super().open()
        except Exception as error:
            self.client.close()
            dialled.stream.close()
            if isinstance(error, UsageError):
                raise
            raise self._route_error(error, dialled.route, time.monotonic() - started) from error
        self.transport.watch(self.ssh.server_alive_interval, self.ssh.server_alive_count_max)
        return result

    def _open_through_jump_host(self, host: str, port: int, timeout: float) -> Any:
        self.gateway.open()
        return self.gateway.transport.open_channel(
            "direct-tcpip", (host, port), ("", 0), timeout=timeout
        )

    def _route_error(self, error: Exception, route: Route, elapsed: float) -> RouteError:
        """What Paramiko raised during the log-in, as our own error."""
        if isinstance(error, HostKeyError):  # it was raised where the route is not known
            error.route, error.address, error.elapsed = route.name, route.address, elapsed
            return error
        at: dict[str, Any] = {"route": route.name, "address": route.address, "elapsed": elapsed}
        if isinstance(error, paramiko.AuthenticationException):
            user = f"user {self.user}: {printable(str(error))}"
            return AuthenticationError(
                self.ssh.id, reason=Reason.AUTHENTICATION, evidence=user, **at
            )
        reason, evidence = classify(error)
        return RouteError(self.ssh.id, reason=reason, evidence=printable(evidence), **at)

    @staticmethod
    def _config_of(host: str | SSHConfig, user: str | None, port: int | None) -> SSHConfig:
        if isinstance(host, SSHConfig):
            ssh = host
        else:
            found = find_host(host)
            ssh = SSHConfig.from_host_config(found) if found else SSHConfig.parse(host)
        given: dict[str, Any] = {"user": user, "port": port}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(ssh, **given) if given else ssh


def _named(link: MuxLink, ssh: SSHConfig) -> Route:
    """The route that a master holds: another one by now, perhaps, than its host's settings say."""
    for route in routes_of(ssh, os.environ):
        if route.name == link.route:
            return route
    return Route(link.route, ssh.host or ssh.id, ssh.port)


class _PinPolicy(paramiko.MissingHostKeyPolicy):
    """Asked by Paramiko about every key, since its own table of known hosts stays empty."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        ssh, known_hosts = self._connection.ssh, self._connection._known_hosts
        offered = HostKey(key.get_name(), key.get_base64())
        pins = known_hosts.pins(ssh)
        verdict = judge(offered, pins, is_ephemeral=ssh.is_ephemeral)
        if verdict.is_new and not known_hosts.pin(ssh, offered):
            pins = known_hosts.pins(ssh)  # pinned by somebody else, a moment ago
            verdict = judge(offered, pins)
        if not verdict.is_trusted:
            raise _changed_key(ssh, known_hosts, offered, pins)


def _changed_key(
    ssh: SSHConfig, known_hosts: KnownHosts, offered: HostKey, pins: Pins
) -> HostKeyError:
    if ssh.ssh_host_key:
        place = "ssh_host_key in the hosts file"
    else:
        place = f"{known_hosts.path} (remove the line of {ssh.id!r})"
    pinned = ", ".join(str(pin) for pin in pins.keys)
    why = "WHICH IS REVOKED" if offered in pins.revoked else f"PINNED IS {pinned}"
    return HostKeyError(
        ssh.id,
        route="",
        reason=Reason.HOST_KEY,
        evidence=f"IT SHOWED {offered}, {why}: this may be an impostor",
        advice=f"if the box was rebuilt, update {place}",
    )


def _with_identity(ssh: SSHConfig, connect_kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
    """Fabric's ``connect_kwargs`` with the key that the host or the environment names.

    :raises UsageError: the key file is not there, or the key's text is not a private key.
    """
    own = dict(connect_kwargs or {})  # Fabric writes into what it is given
    text = ssh.private_key or os.environ.get(PRIVATE_KEY_VARIABLE)
    if text and "pkey" not in own:
        own["pkey"] = key_of_text(text)
    if ssh.key_path:
        file = Path(expand(ssh.key_path)).expanduser()
        if not file.is_file():
            raise UsageError(f"{ssh.id}: ssh_key: no such file: {file}")
        key = None if {"pkey", "passphrase", "password"} & own.keys() else key_of_file(file)
        if key is not None:
            own["pkey"] = key
        else:
            own.setdefault("key_filename", [str(file)])
    return own or None


def _record(outcome: Outcome) -> None:
    HealthStore().record([outcome])

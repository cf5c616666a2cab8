"""`Connection`: a ``fabric.Connection`` that tries each route to its host.

``open()`` dials the host's routes (`attempts`), checks the host key (`host_keys`) and logs in; a
route that fails at any of these is given up for the next, since no command can have started.
All else works as in Fabric: ``run``, ``sudo``, ``put``, ``get``, ``shell``, ``forward_local``.

If a control master can hold the connection (`master`), it does: then ``open()`` costs next to
nothing while a master runs.  The features that a master lacks (``client``, ``forward_remote``,
being a gateway, most of ``transport``) get an in-process connection of their own at their first
use.

Many threads may use one connection: ``open`` is safe to call from any of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fabric
import paramiko

from ringtasks.errors import UnreachableError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.attempts import HostAttempt, chosen_routes
from ringtasks.ssh.dialing import KnownWay
from ringtasks.ssh.routes import Route, routes_of
from ringtasks.ssh.substitutes import substitute_for_links

from .agent_forwarding import forward_agent
from .connection_values import (
    check_connect_kwargs,
    given_by,
    key_file_of,
    settle,
    ssh_config_of,
)
from .dialled import DialledConnection
from .fabric_settings import fabric_config, shared_settings
from .gateways import configured_gateway
from .host_key_policy import check_pins

if TYPE_CHECKING:
    from ringtasks.ssh.link import Link
    from ringtasks.ssh.master.channel import Sessions

__all__ = ["Connection", "find_way"]


class Connection(DialledConnection):
    """A connection to a host of the inventory, to any other host, or to that of an SSHConfig.

    ``user``, ``port``, ``connect_timeout`` (seconds, for all routes together) and ``gateway``
    override the inventory; the other parameters are Fabric's.

    :param host: a name in the inventory, ``[user@]host[:port]``, or an `SSHConfig`.
    :param transport: use this route only.
    :raises UsageError: the key file does not exist, or the host does not have the route.
    """

    # Fabric's Context stores attributes that the class does not declare in its configuration, which
    # links share; Fabric itself forgot to declare the first of these.
    inline_ssh_env: bool = True
    _has_fake_link: bool = False
    _owns_gateway: bool = False
    _opening: threading.RLock = None  # type: ignore[assignment]
    _given_connect_kwargs: dict[str, Any] | None = None
    _settled: tuple[Any, ...] = ()
    _for_master: SSHConfig | None = None
    _client: Any = None
    _sessions: Sessions | None = None
    _twin: Connection | None = None

    def __init__(
        self,
        host: str | SSHConfig,
        user: str | None = None,
        port: int | None = None,
        config: Any = None,
        gateway: Any = None,
        forward_agent: bool | None = None,
        connect_timeout: float | None = None,
        connect_kwargs: dict[str, Any] | None = None,
        inline_ssh_env: bool | None = None,
        *,
        transport: str | None = None,
    ) -> None:
        given = given_by(host, user, port, connect_timeout)
        settings = fabric_config(config, given.ssh.ssh_config_file)
        ssh_config = ssh_config_of(settings, given)
        settled = settle(given, settings, ssh_config)
        self.replace_config(settings)
        self.ssh, self.ssh_config = settled.ssh, ssh_config
        self.original_host = given.ssh.host or given.ssh.id  # a host without an address: its name
        self._key_file = key_file_of(settled.ssh)
        self._owns_gateway = gateway is None
        if gateway is None:
            gateway = self._jump_host_of_inventory() or self.get_gateway()
        if forward_agent is None and "forwardagent" in ssh_config:
            forward_agent = ssh_config["forwardagent"] not in ("no", "false")
        self._init_fabric(settings, gateway, forward_agent, inline_ssh_env)
        self.connect_timeout = settled.connect_timeout
        self._given_connect_kwargs = connect_kwargs
        self.connect_kwargs = self.resolve_connect_kwargs(connect_kwargs)
        self._transport_name = transport
        self._opening = threading.RLock()
        self._pin_policy = check_pins(self.client, self)
        if not connect_kwargs and self._is_told_by_settings():
            self._for_master = settled.for_master
        self._settled = self._values()
        # A wrong route or proxy setting is reported now, not only when the connection is opened.
        self._attempt = self._first_attempt()

    def _init_fabric(
        self, settings: Any, gateway: Any, forward_agent: bool | None, inline_ssh_env: bool | None
    ) -> None:
        """Call Fabric's constructor; the settings of ssh stay, which it would look up again."""
        ssh, ssh_config = self.ssh, self.ssh_config
        with self.without_look_up():
            super().__init__(
                self.original_host,
                user=ssh.user,
                port=ssh.port,
                config=settings,
                gateway=False if gateway is None else gateway,
                forward_agent=forward_agent,
                connect_timeout=0,  # else Fabric takes that of its settings
                inline_ssh_env=inline_ssh_env,
            )
        self.host, self.ssh_config, self.gateway = ssh.host or ssh.id, ssh_config, gateway
        if isinstance(gateway, Connection):
            gateway.keep_in_process()

    def __setattr__(self, name: str, value: Any) -> None:
        # For each attribute that is set, Fabric looks through all: 20 of them for a connection.
        if hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy or pickle of a connection that is not open, as in Fabric."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_opening", "_attempt")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opening=threading.RLock())

    @property
    def client(self) -> Any:
        """The ``paramiko.SSHClient``; over a control master, that of a connection in process.

        That connection is opened at the first use.
        """
        if self._sessions is None or self._has_fake_link:
            return self._client
        return self._in_process().client

    @client.setter
    def client(self, client: Any) -> None:
        self._client = client

    def open(self) -> Any:
        """Connect over the first route that works, and log in.

        :raises UnreachableError: no route worked; its ``failures`` give the reasons. It is also the
            error that Paramiko or the system has for them (`connection_errors`).
        :raises UsageError: no route worked, one of them because of the caller's own mistake.
        """
        with self._opening:
            if self.is_connected:
                return None
            if self._has_foreign_client:
                return super().open()
            check_connect_kwargs(self.connect_kwargs, self.connect_timeout, self.ssh_config)
            self._follow_changes()
            started, has_moved = time.time(), False
            while True:
                try:
                    return None if self._open_shared() else self._open_in_process()
                except UnreachableError as error:
                    if has_moved or not self._has_moved(started):
                        from .connection_errors import also_paramikos

                        raise also_paramikos(error) from error.__cause__
                    has_moved = True  # once, to the new place

    @property
    def _has_foreign_client(self) -> bool:
        """True if ``client`` was replaced, as ``fabric.testing.MockRemote`` does.

        Such a client lacks the Paramiko methods that ringtasks calls, and expects Fabric's calls.
        """
        return not isinstance(self._client, paramiko.SSHClient)

    def keep_in_process(self) -> None:
        """Keep the connection off any control master; to be called before it is opened."""
        self._for_master = None

    def _as_link(self) -> Link:
        """Return the open connection as a `ringtasks.ssh.link.Link`."""
        if self._sessions is not None:
            return self._sessions.link
        from .link import InProcessLink

        return InProcessLink(self)

    def _spare_link(self) -> Link:
        """Log in anew to the same host; the caller closes the link.

        :raises UnreachableError: no route works.
        """
        from .link import InProcessLink

        return InProcessLink(self._like_this())

    def close(self) -> None:
        """Close it, and leave a control master to its other users. Safe to repeat."""
        with self._opening:
            sessions, self._sessions = self._sessions, None
            if sessions is not None:
                sessions.link.close()
                self.transport = None
            super().close()
            if self._twin is not None:
                self._twin.close()
            if self._owns_gateway:
                self.close_gateway()

    def sftp(self) -> Any:
        """Return the connection's SFTP client (``paramiko.SFTPClient``), kept until it closes."""
        self.open()
        if self.sftp_client is None and self._sessions is not None:
            self.sftp_client = self._sessions.open_sftp()
        return super().sftp()

    def shell(self, **options: Any) -> Any:
        """Run an interactive login shell; unlike Fabric's, it is not sent our environment."""
        return super().shell(**{"replace_env": True, **options})

    @contextlib.contextmanager
    def forward_local(
        self,
        local_port: int,
        remote_port: int | None = None,
        remote_host: str = "localhost",
        local_host: str = "localhost",
    ) -> Iterator[None]:
        """Forward ``local_port`` in the block to ``remote_port`` of a name that the host resolves.

        :raises OSError: ``local_port`` is taken.
        """
        self.open()
        if self._has_foreign_client:
            with super().forward_local(local_port, remote_port, remote_host, local_host):
                yield
            return
        from ringtasks.ssh.tcp import listen
        from ringtasks.ssh.tunnels import TunnelListener, open_tunnel

        link, port = self._as_link(), int(remote_port or local_port)
        listener = TunnelListener(
            listen(local_host, local_port), lambda: open_tunnel(link, remote_host, port)
        )
        listener.serve()
        with contextlib.closing(listener):
            yield

    @contextlib.contextmanager
    def forward_remote(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Forward a port of the host to here in the block; as in Fabric, in process."""
        self.open()
        other = self._in_process()
        forward = super().forward_remote if other is self else other.forward_remote
        with forward(*args, **kwargs):
            yield

    def get_gateway(self) -> Any:
        """Return the configured jump host or ProxyCommand."""
        return configured_gateway(self, Connection)

    def resolve_connect_kwargs(self, connect_kwargs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the arguments of ``SSHClient.connect``, in a dict of this connection's own.

        Fabric would write into the dict that it is given, or into the caller's Config.
        ``key_filename`` has the key of the inventory, then those that Fabric documents.
        """
        configured = dict(self.config.connect_kwargs)
        resolved = dict(connect_kwargs or configured)
        keys = [] if self._key_file is None else [str(self._key_file)]
        for names in (configured, connect_kwargs or {}):
            named = names.get("key_filename", [])
            keys += [named] if isinstance(named, str) else named
        keys += self.ssh_config.get("identityfile", [])
        return {**resolved, "key_filename": keys} if keys else resolved

    def create_session(self) -> Any:
        """Open a channel, within ``connect_timeout`` (Fabric waits for an hour)."""
        self.open()
        if self._has_foreign_client:
            return super().create_session()
        if self._sessions is not None:
            return self._sessions.channel()
        channel = self.transport.open_session(timeout=self.ssh.connect_timeout)
        if self.forward_agent:
            forward_agent(channel, self.ssh_config)
        return channel

    def close_gateway(self) -> None:
        """Close the connection to the jump host, if there is one."""
        if isinstance(self.gateway, fabric.Connection):
            self.gateway.close()

    def _first_attempt(self) -> HostAttempt | None:
        """Check the routes; an attempt of this connection begins, with its limit, in `open`."""
        chosen_routes(self.ssh, self._transport_name)
        return None

    def _jump_host_of_inventory(self) -> Connection | None:
        if not self.ssh.proxy_jump:
            return None
        return Connection(self.ssh.jump_host or self.ssh.proxy_jump, config=self.config)

    def _is_told_by_settings(self) -> bool:
        """Return True if no setting is used that only Paramiko can be given."""
        configured = self.config.connect_kwargs or self.config.authentication.strategy_class
        is_way_known = not self.gateway or (self._owns_gateway and self._has_gateway_of_ssh())
        return is_way_known and not configured and not self.forward_agent

    def _has_gateway_of_ssh(self) -> bool:
        """Return True if the gateway is of the inventory or of ssh's files, not of Fabric's."""
        is_command = self.gateway == self.ssh_config.get("proxycommand")
        return bool(self.ssh.proxy_jump) or "proxyjump" in self.ssh_config or is_command

    def _values(self) -> tuple[Any, ...]:
        """Return the values that Fabric's users may change until the connection is opened."""
        place = (self.host, self.user, self.port, self.connect_timeout)
        return (*place, self.gateway, self.forward_agent, dict(self.connect_kwargs))

    def _follow_changes(self) -> None:
        """Use values changed since the construction, which a control master cannot be given."""
        values = self._values()
        if values == self._settled:
            return
        self._settled, self._for_master = values, None
        timeout = self.connect_timeout or self.ssh.connect_timeout
        known = replace(self.ssh, user=self.user, port=int(self.port), connect_timeout=timeout)
        self.ssh = replace(known, host=self.host) if known.host else known
        if self._attempt is not None:
            self._attempt.abandon()
            self._attempt = None

    def _has_moved(self, started: float) -> bool:
        """Ask the host's inventory sources where it is now; True if that is another place."""
        from ringtasks.inventory.relocation import relocate

        moved = replace(self.ssh)
        if not relocate(moved, started):
            return False
        changes: Any = dict(set(moved.inventory_place) - set(self.ssh.inventory_place))
        self.ssh = moved
        if self._for_master is not None:
            self._for_master = replace(self._for_master, **changes)
        self.host, self.port = moved.host or moved.id, moved.port
        self._settled = self._values()
        return True

    def _open_shared(self) -> bool:
        """Open it over a control master; False: it has to be kept in process."""
        link = self._shared_link()
        if link is None:
            return False
        from ringtasks.ssh.master.channel import Sessions

        self.transport = self._sessions = Sessions(
            link,
            self.ssh.connect_timeout,
            None if self._has_fake_link else lambda: self._in_process()._as_link(),
        )
        self.route = _named(link, self.ssh)
        return True

    def _shared_link(self) -> Link | None:
        substitute = substitute_for_links()
        self._has_fake_link = substitute is not None
        if substitute is not None:
            return substitute(self.ssh, self._transport_name, self._report)
        if self._for_master is None:
            return None
        from ringtasks.ssh.master.open import open_link

        return open_link(self._for_master, self._transport_name, self._report, find_way)

    def _in_process(self) -> Connection:
        """Return this connection, or its twin, over Paramiko."""
        if self._sessions is None:
            return self
        with self._opening:
            if self._twin is None:
                self._twin = self._like_this()
            self._twin.open()
            return self._twin

    def _like_this(self) -> Connection:
        """Return another connection to the same host, over Paramiko."""
        other = Connection(
            self.ssh,
            config=self.config,
            gateway=None if self._owns_gateway else self.gateway,
            connect_kwargs=self._given_connect_kwargs,
            transport=self._transport_name,
        )
        other._report = self._report
        other.keep_in_process()
        return other

    def remote_runner(self) -> Any:
        """Return a runner of the user's own class, if the configuration names one; else ours."""
        runner = self.config.runners.remote
        if runner is fabric.runners.Remote and not self._has_foreign_client:
            from .runner import Remote  # links run no commands by it

            runner = Remote
        return runner(context=self, inline_env=self.inline_ssh_env)


def _named(link: Link, ssh: SSHConfig) -> Route:
    """Return a master's route, which may differ from the current settings of its host."""
    for route in routes_of(ssh, os.environ):
        if route.name == link.route:
            return route
    return Route(link.route, ssh.host or ssh.id, ssh.port)


def find_way(config: SSHConfig, transport: str | None) -> KnownWay:
    """Return the way to a host, as the settings of Fabric and ssh have it (`dialing.FindWay`)."""
    known = Connection(
        replace(config, use_control_master=False),
        config=shared_settings(config.ssh_config_file),
        transport=transport,
    )
    return KnownWay(known.ssh, known.gateway_opener(), known.close_gateway)

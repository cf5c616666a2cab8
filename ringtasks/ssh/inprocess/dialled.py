"""A ``fabric.Connection`` that logs in over the first route of its host that works.

Fabric opens a connection over the stream that was dialled; a route whose log-in fails is given up
for the next, since no command can have started.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ringtasks.common.threads import translated
from ringtasks.errors import RouteError, StateFileError, UnreachableError, UsageError
from ringtasks.health.model import HostOutcome
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.attempts import HostAttempt, outcome
from ringtasks.ssh.dialing import Dialled
from ringtasks.ssh.keywords import check_in_process
from ringtasks.ssh.patience import Patience
from ringtasks.ssh.pins import KnownHosts
from ringtasks.ssh.routes import Route
from ringtasks.ssh.sent_environment import own_variables
from ringtasks.ssh.stream import Stream

from .algorithms import apply as apply_algorithms
from .connection_values import with_keys
from .fabric_private import PublicConnection
from .gateways import opener
from .host_key_policy import PinPolicy
from .log_in import with_log_in
from .transport import Transport

__all__ = ["DialledConnection"]


def _record(outcome: HostOutcome) -> None:
    HealthStore().record([outcome])


class DialledConnection(PublicConnection):
    """The log-in of a `Connection`, within this process."""

    transport: Any = None
    ssh: SSHConfig = None  # type: ignore[assignment]
    route: Route | None = None
    _transport_name: str | None = None
    _attempt: HostAttempt | None = None
    _report: Callable[[HostOutcome], None] = staticmethod(_record)
    _key_file: Path | None = None
    _pin_policy: PinPolicy = None  # type: ignore[assignment]
    connect_kwargs: dict[str, Any]
    connect_timeout: float | None

    @property
    def transport_used(self) -> str | None:
        """The name of the connection's route; None before it was opened."""
        return self.route.name if self.route else None

    def open_gateway(self) -> Any:
        """Open a stream to the host through the jump host or ProxyCommand.

        While the connection is being opened, Fabric calls this for the stream that was dialled.
        """
        dialled = self.connect_kwargs.get("sock")
        return super().open_gateway() if dialled is None else dialled

    def gateway_opener(self) -> Callable[[str, int, float], Any] | None:
        """Return a function that opens the direct route through the gateway; None: no gateway."""
        return opener(self)

    def _open_in_process(self) -> Any:
        check_in_process(self.ssh_config, self.ssh.id)
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            attempt = HostAttempt(self.ssh, self._transport_name)
        try:
            result = self._log_in_somewhere(attempt)
        except UnreachableError as error:
            self._report(outcome(self.ssh.id, None, error.failures))
            raise
        self._report(outcome(self.ssh.id, self.transport_used, attempt.arrived()))
        return result

    def _log_in_somewhere(self, attempt: HostAttempt) -> Any:
        """Log in over the first route that works; after a refusal try the next."""
        gateway = self.gateway_opener()
        while True:
            dialled = attempt.dial_next(gateway)
            patience = Patience(self.ssh, attempt.remaining())
            try:
                with patience.awaiting(dialled.route, has_banner=True):
                    result = self._log_in(dialled, patience)
            except RouteError as error:
                attempt.refused(error, waited=patience.is_prolonged)
            else:
                self.route = dialled.route
                return result

    def _log_in(self, dialled: Dialled, patience: Patience) -> Any:
        """Run Fabric's own ``open`` over a dialled stream."""
        started = time.monotonic()
        try:
            with self._connecting_over(dialled.stream, patience), translated(self.ssh.id):
                result = super().open()
                self._pin_policy.pin()
                self._watch()
        except Exception as error:
            is_mistake = isinstance(error, TypeError | AttributeError) and self._is_speaking()
            transport = self.client.get_transport()
            self.client.close()
            dialled.stream.close()
            if is_mistake or isinstance(error, UsageError | StateFileError):
                raise
            from ringtasks.ssh.failure_table import add_banner  # with the reasons of failures

            from .connection_errors import route_error

            elapsed = time.monotonic() - started
            failure = route_error(error, self.ssh, dialled.route, elapsed, transport)
            add_banner(failure, patience.banner)
            raise failure from error
        return result

    def _watch(self) -> None:
        """Begin to look for silence, and set the variables of the sessions.

        :raises EOFError: the connection has ended already.
        """
        if not isinstance(self.transport, Transport):
            return
        self.transport.environment = own_variables(self.ssh_config)
        try:
            self.transport.watch(self.ssh.server_alive_interval, self.ssh.server_alive_count_max)
        except OSError as error:  # its socket is closed
            raise EOFError("closed by the host after the log-in") from error

    def _is_speaking(self) -> bool:
        """Return True unless Paramiko's thread has ended: then the error may be the server's."""
        transport = self.client.get_transport()
        return transport is None or transport.is_active()

    @contextlib.contextmanager
    def _connecting_over(self, stream: Stream, patience: Patience) -> Iterator[None]:
        """Give Fabric's ``open`` all arguments for Paramiko while the block runs."""
        pins = KnownHosts().pins(self.ssh)

        def transport_factory(sock: Stream, **options: Any) -> Transport:
            transport = Transport(sock, pins, **options)
            named = self.ssh_config.get("hostkeyalgorithms", "")
            transport.named_key_types = named.split(",") if named else ()
            apply_algorithms(transport, self.ssh_config, self.ssh.id, transport.pinned_types)
            return transport

        limits = ("timeout", "banner_timeout", "auth_timeout", "channel_timeout")
        given = self.connect_kwargs, self.connect_timeout
        self.connect_timeout = None  # Fabric accepts the limit in one place only
        self.connect_kwargs = {
            "transport_factory": transport_factory,
            **dict.fromkeys(limits, patience.remaining()),
            **self._log_in_arguments(patience),
            "sock": stream,
        }
        try:
            yield
        finally:
            self.connect_kwargs, self.connect_timeout = given

    def _log_in_arguments(self, patience: Patience) -> dict[str, Any]:
        given = with_keys(self.connect_kwargs, self.ssh, self._key_file, self.ssh_config)
        if self.config.authentication.strategy_class is not None:
            return given
        is_named_only = self._key_file is not None
        return with_log_in(given, self.user, self.ssh_config, patience, is_named_only)

"""The log-in behind a new control master, over the first route that works.

Every process on this machine is to use the same master, so one of them at a time logs in; the
others wait, and use it, or share the failure.  The route is chosen as for any connection
(`dialing`, `attempts`): the first that shows a banner, and if its log-in fails, the next.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.errors import Reason, RouteError, UnreachableError
from ringtasks.health.model import HostOutcome
from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.attempts import HostAttempt, outcome
from ringtasks.ssh.patience import Patience
from ringtasks.ssh.ssh_config import is_configured

from . import failures, locks, records
from .folder import control_folder
from .identity import control_name
from .link import MuxLink
from .lookup import find
from .master import lock_file, put_aside
from .start import can_master, check_key, start

if TYPE_CHECKING:
    from ringtasks.health.notes import HealthRecorder
    from ringtasks.ssh.dialing import Gateway

__all__ = ["LogIn"]


class LogIn:
    """One attempt at a link over a new master.

    :param note: receives the routes that failed, and the one that works.
    :param recorder: the health of the routes; None: the health file.
    """

    def __init__(
        self,
        config: SSHConfig,
        transport: str | None,
        note: Callable[[HostOutcome], None],
        recorder: HealthRecorder | None = None,
    ) -> None:
        self._config, self._transport, self._note = config, transport, note
        self._recorder = recorder
        self._began = time.time()

    def run(self) -> MuxLink | None:
        """Log in, and return the link; None: no control master can hold this connection.

        :raises UnreachableError: no route works.
        :raises UsageError: the configuration cannot be used.
        """
        if shutil.which("ssh") is None:
            return None
        check_key(self._config)
        folder = control_folder()
        name = control_name(self._config, self._transport, os.environ)
        patience = self._config.connect_timeout
        with locks.locked(lock_file(folder, name), patience) as is_mine:
            if not is_mine:
                raise UnreachableError(self._config.id, (self._kept_waiting(),))
            return find(self._config, self._transport) or self._exclusively(folder, name)

    def _exclusively(self, folder: Path, name: str) -> MuxLink | None:
        failures.share(self._config.id, folder / name, since=self._began)
        for unusable in records.current(folder, name):
            put_aside(unusable)
        way = _Way(self._config, self._transport, self._recorder)
        try:
            return self._by_any_route(way, name)
        except UnreachableError as error:
            failures.note(folder / name, error.failures)
            self._note(outcome(self._config.id, None, error.failures))
            raise
        finally:
            way.close_gateway()

    def _by_any_route(self, way: _Way, name: str) -> MuxLink | None:
        while way.is_open_to_ssh:
            dialled = way.attempt.dial_next(way.gateway)
            try:
                if not can_master(self._config, dialled.route):
                    break
                patience = Patience(self._config, way.attempt.remaining())
                master = start(self._config, dialled.route, name, patience, dialled.stream)
            except RouteError as error:
                way.attempt.refused(error, waited=patience.is_prolonged)
                continue
            finally:
                dialled.stream.close()
            self._note(outcome(self._config.id, master.route, way.attempt.arrived()))
            return find(self._config, self._transport)
        return None

    def _kept_waiting(self) -> RouteError:
        return RouteError(
            self._config.id,
            self._transport or "",
            Reason.TIMED_OUT,
            "another process is still connecting",
            elapsed=time.time() - self._began,
        )


class _Way:
    """The order of the routes to a host, and the gateway to it.

    If there is a jump host, or ``~/.ssh/config`` may know the address, Fabric determines them.
    """

    def __init__(
        self, config: SSHConfig, transport: str | None, recorder: HealthRecorder | None
    ) -> None:
        self.gateway: Gateway | None = None
        self.close_gateway: Callable[[], None] = lambda: None
        self.is_open_to_ssh = True
        if config.proxy_jump or is_configured(config.ssh_config_file):
            from ringtasks.ssh.inprocess.connection import Connection
            from ringtasks.ssh.inprocess.fabric_settings import shared_settings

            known = Connection(
                replace(config, use_control_master=False),
                config=shared_settings(config.ssh_config_file),
                transport=transport,
            )
            # A jump host of ~/.ssh/config: ssh would reach it without checking our pins.
            self.is_open_to_ssh = bool(config.proxy_jump) or not known.gateway
            self.gateway, self.close_gateway = known.gateway_opener(), known.close_gateway
            config = known.ssh
        self.attempt = HostAttempt(config, transport, recorder)

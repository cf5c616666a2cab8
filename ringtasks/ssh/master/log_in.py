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
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.errors import Reason, RouteError, UnreachableError
from ringtasks.health.model import HostOutcome
from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.attempts import HostAttempt, outcome
from ringtasks.ssh.patience import Patience
from ringtasks.ssh.ssh_config import is_configured
from ringtasks.ssh.ways import FindWay, KnownWay

from . import failures, locks, records
from .folder import control_folder
from .identity import control_name
from .link import MuxLink
from .lookup import find
from .master import lock_file, put_aside
from .start import can_master, check_key, start

if TYPE_CHECKING:
    from ringtasks.health.notes import HealthRecorder

__all__ = ["LogIn"]


class LogIn:
    """One attempt at a link over a new master.

    :param note: receives the routes that failed, and the one that works.
    :param recorder: the health of the routes; None: the health file.
    :param find_way: finds the way to a host with a jump host, or one that ``~/.ssh/config`` may
        know; None: such a host is left to a connection in process.
    """

    def __init__(
        self,
        config: SSHConfig,
        transport: str | None,
        note: Callable[[HostOutcome], None],
        recorder: HealthRecorder | None = None,
        find_way: FindWay | None = None,
    ) -> None:
        self._config, self._transport, self._note = config, transport, note
        self._recorder, self._find_way = recorder, find_way
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
        way = self._way()
        attempt = HostAttempt(way.config, self._transport, self._recorder)
        try:
            return self._by_any_route(way, attempt, name)
        except UnreachableError as error:
            failures.note(folder / name, error.failures)
            self._note(outcome(self._config.id, None, error.failures))
            raise
        finally:
            way.close_gateway()

    def _way(self) -> KnownWay:
        if not (self._config.proxy_jump or is_configured(self._config.ssh_config_file)):
            return KnownWay(self._config)
        if self._find_way is None:
            return KnownWay(self._config, is_open_to_ssh=False)
        return self._find_way(self._config, self._transport)

    def _by_any_route(self, way: KnownWay, attempt: HostAttempt, name: str) -> MuxLink | None:
        while way.is_open_to_ssh:
            dialled = attempt.dial_next(way.gateway)
            try:
                if not can_master(self._config, dialled.route):
                    break
                patience = Patience(self._config, attempt.remaining())
                master = start(self._config, dialled.route, name, patience, dialled.stream)
            except RouteError as error:
                attempt.refused(error, waited=patience.is_prolonged)
                continue
            finally:
                dialled.stream.close()
            self._note(outcome(self._config.id, master.route, attempt.arrived()))
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

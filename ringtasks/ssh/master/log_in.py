"""The log-in behind a new control master, over the first route that works.

Every process on this machine is to use the same master, so one of them at a time logs in; the
others wait, and use it, or share the failure.  The route is chosen as for any connection
(`dialing`, `attempts`): the first that shows a banner, and if its log-in fails, the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ringtasks.common import file_lock, rehearsal
from ringtasks.common.atomic_file import replace_file
from ringtasks.common.regular_file import UNUSABLE
from ringtasks.errors import (
    AuthenticationError,
    HostKeyError,
    Reason,
    RouteError,
    UnreachableError,
)
from ringtasks.health.model import HostOutcome
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.attempts import HostAttempt, chosen_routes, outcome
from ringtasks.ssh.dialing import FindWay, KnownWay
from ringtasks.ssh.key_files import existing_key_file
from ringtasks.ssh.merged_settings import or_by_openssh, with_jump_host
from ringtasks.ssh.openssh import is_usable, why_no_master
from ringtasks.ssh.patience import Patience
from ringtasks.ssh.prompts import can_ask
from ringtasks.ssh.routes import Route, is_hop_known
from ringtasks.ssh.settings_files import is_configured

from . import records
from .client_links import drop_link, keep_link
from .folder import check_sockets, control_folder
from .identity import control_name, jump_chain
from .link import MuxLink
from .lookup import find
from .records import Master
from .running_masters import lock_file, put_aside
from .start import can_master, start

if TYPE_CHECKING:
    from ringtasks.health.recorder import HealthRecorder

__all__ = ["LogIn", "log_in_anew"]

_FAILURE_SUFFIX = ".fail"  # shorter than the suffix of a start (`records`)
_ERRORS = {cls.__name__: cls for cls in (RouteError, HostKeyError, AuthenticationError)}


class LogIn:
    """One attempt at a link over a new master.

    :param note: receives the routes that failed, and the one that works.
    :param recorder: the health of the routes; None: the health file.
    :param find_way: finds the way to a host with a jump host, or one that ``~/.ssh/config`` may
        know.
    """

    def __init__(
        self,
        config: SSHConfig,
        transport: str | None,
        note: Callable[[HostOutcome], None],
        recorder: HealthRecorder | None,
        find_way: FindWay,
    ) -> None:
        self._config, self._transport, self._note = config, transport, note
        self._recorder, self._find_way = recorder, find_way
        self._began = time.time()
        #: True if OpenSSH's own clients may use the master.
        self._is_usual = transport is None and rehearsal.current() is None

    def run(self) -> MuxLink | None:
        """Log in, and return the link; None: no control master can hold this connection.

        :raises UnreachableError: no route works.
        :raises UsageError: the configuration cannot be used.
        """
        if not is_usable():
            return None
        existing_key_file(self._config)
        folder = control_folder()
        name = control_name(self._config, self._transport, os.environ)
        patience = self._config.connect_timeout
        with file_lock.locked(lock_file(folder, name), patience) as is_mine:
            if not is_mine:
                raise UnreachableError(self._config.id, (self._kept_waiting(),))
            return find(self._config, self._transport) or self._exclusively(folder, name)

    def _exclusively(self, folder: Path, name: str) -> MuxLink | None:
        _share_failure(self._config.id, folder / name, since=self._began)
        for unusable in records.current(folder, name):
            put_aside(unusable)
        check_sockets(folder)
        if self._is_usual:
            drop_link(self._config, folder)  # it leads to a master for other routes or pins
        way = _way(self._config, self._transport, self._find_way)
        attempt = HostAttempt(way.config, self._transport, self._recorder)
        try:
            master = _started(way, attempt, self._config, name)
        except UnreachableError as error:
            _note_failure(folder / name, error.failures)
            self._note(outcome(self._config.id, None, error.failures))
            raise
        finally:
            way.close_gateway()
        if master is None:
            return None
        if self._is_usual:
            keep_link(self._config, master)
        self._note(outcome(self._config.id, master.route, attempt.arrived()))
        return find(self._config, self._transport)

    def _kept_waiting(self) -> RouteError:
        return RouteError(
            self._config.id,
            self._transport or "",
            Reason.TIMED_OUT,
            "another process is still connecting",
            elapsed=time.time() - self._began,
        )


def log_in_anew(config: SSHConfig, transport: str | None, find_way: FindWay) -> Master | None:
    """Log in as `LogIn` does, for the caller alone; None: no control master can hold it.

    :raises UnreachableError: no route works.
    :raises UsageError: the configuration cannot be used.
    :raises StateFileError: the folder of the sockets cannot be used.
    """
    if not is_usable() or why_no_master(config) is not None:
        return None
    existing_key_file(config)
    check_sockets(control_folder())
    way = _way(config, transport, find_way)
    try:
        # A name as long as `control_name`, so that no other process finds it.
        return _started(way, HostAttempt(way.config, transport), config, os.urandom(10).hex())
    finally:
        way.close_gateway()


def _way(config: SSHConfig, transport: str | None, find_way: FindWay) -> KnownWay:
    if not (config.proxy_jump or is_configured(config.ssh_config_file)):
        return KnownWay(config)
    return find_way(config, transport)


def _started(way: KnownWay, attempt: HostAttempt, config: SSHConfig, name: str) -> Master | None:
    """Start a master over the first route that works; None: none is possible over it."""
    known = with_jump_host(config)
    dialled, gateway = None, way.gateway
    if gateway is not None:
        gateway = or_by_openssh(gateway, known)
        dialled = attempt.dial_ahead_of("direct")
        if dialled is None and (only := attempt.only_route):
            master = _started_by_ssh_alone(known, only, attempt, name)
            if master is not None:
                return master
    while True:
        try:
            dialled = dialled or attempt.dial_next(gateway)
        except UnreachableError as error:
            if (master := _started_by_asking(known, attempt, error, name)) is not None:
                return master
            raise
        is_carried = dialled.route.name == "direct" and way.gateway is not None
        try:
            if not can_master(known, dialled.route, is_carried=is_carried):
                break
            patience = Patience(known, attempt.remaining())
            with patience.awaiting(dialled.route, has_banner=True):
                return start(known, dialled.route, name, patience, dialled.stream)
        except RouteError as error:
            attempt.refused(error, waited=patience.is_prolonged)
        finally:
            dialled.stream.close()
        dialled = None
    return None


def _started_by_ssh_alone(
    known: SSHConfig, route: Route, attempt: HostAttempt, name: str
) -> Master | None:
    """Start a master over the only route, through its gateway; None: it has to be dialled.

    ssh logs in to the jump host, or starts the ProxyCommand, itself, so that happens once.  If that
    fails, the dialling has the reasons: ssh may end a program before it has told them.
    """
    # Otherwise the routes to a jump host have to race first.
    is_known = all(map(is_hop_known, jump_chain(known)))
    is_plain = route.name == "direct" and rehearsal.current() is None
    if not (is_known and is_plain) or not can_master(known, route, is_carried=True):
        return None
    patience = Patience(known, attempt.remaining() / (2 if attempt.has_others else 1))
    try:
        with patience.awaiting(route, has_banner=False):
            return start(known, route, name, patience)
    except AuthenticationError as error:
        attempt.refused(error)
    except RouteError as error:
        if error.reason is Reason.TIMED_OUT:  # there is no time left
            attempt.refused(error)
    return None


def _started_by_asking(
    known: SSHConfig, attempt: HostAttempt, error: UnreachableError, name: str
) -> Master | None:
    """Start a master through a jump host that asks a person, which the race does not wait for.

    None: there is no such jump host, no person, or ``ssh`` does not get in either.
    """
    direct = next((found for found in error.failures if found.route == "direct"), None)
    if direct is None or not isinstance(direct.__cause__, UnreachableError):
        return None
    is_refused = any(isinstance(each, AuthenticationError) for each in direct.__cause__.failures)
    if not (is_refused and can_ask(known) and rehearsal.current() is None):
        return None
    route = next(route for route in chosen_routes(known, None) if route.name == "direct")
    if not can_master(known, route, is_carried=True):
        return None
    try:
        master = start(known, route, name, Patience(known, attempt.remaining()))
    except RouteError:
        return None  # the race has the reasons
    attempt.failures.remove(direct)  # it works
    return master


def _note_failure(name: Path, failures: Sequence[RouteError]) -> None:
    """Keep the reason why each route failed: the waiting processes would fail the same way in turn.

    The caller holds the connection's lock.
    """
    routes = [{**vars(error), "class": type(error).__name__} for error in failures]
    noted = json.dumps({"at": time.time(), "routes": routes})
    with contextlib.suppress(OSError):  # the waiting processes then try by themselves
        replace_file(Path(f"{name}{_FAILURE_SUFFIX}"), noted)


def _share_failure(host: str, name: Path, since: float) -> None:
    """Raise the failure noted after ``since`` (Unix seconds); the caller holds the lock.

    :raises UnreachableError: the start that the caller has waited for has failed.
    """
    try:
        noted = json.loads(Path(f"{name}{_FAILURE_SUFFIX}").read_bytes())
        failures = tuple(_route_error(fields) for fields in noted["routes"])
        is_new = noted["at"] >= since
    except UNUSABLE:
        return
    if is_new:
        raise UnreachableError(host, failures)


def _route_error(fields: dict[str, object]) -> RouteError:
    kind = _ERRORS[str(fields.pop("class"))]
    return kind(**fields | {"reason": Reason(fields["reason"])})  # type: ignore[arg-type]  # as noted

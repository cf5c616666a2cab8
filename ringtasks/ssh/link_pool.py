"""Keep one link to a host open, and report its outcome to the health file.

The route outcomes of an attempt to reach the host are gathered in a Report, which is recorded
once, together with the outcome of the call that needed the link.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ringtasks.common import fork, one_look, rehearsal
from ringtasks.common.collector import loading
from ringtasks.common.text import printable
from ringtasks.errors import Reason, RouteError, UnreachableError, UsageError
from ringtasks.inventory.host_settings import SSHConfig, changed, is_reached_alike
from ringtasks.inventory.state_files import health_file

from .link import Link, LinkLostError
from .openssh import why_no_master
from .settings_files import is_configured
from .substitutes import Note, substitute_for_links

if TYPE_CHECKING:  # imported while the remote command runs, see `LinkPool.prepare`
    from ringtasks.common.processor import Company
    from ringtasks.health.model import HostOutcome, RouteOutcome
    from ringtasks.health.recorder import HealthRecorder

    from .dialing import KnownWay

__all__ = ["LinkPool", "RouteReport"]


class RouteReport:
    """The route outcomes of one call so far."""

    def __init__(self, routes: Iterable[RouteOutcome] = ()) -> None:
        self.routes: list[RouteOutcome] = [*routes]

    def lost(self, route: str) -> None:
        """Count a broken route as a failure, even if its log-in succeeded before."""
        self.routes = [known for known in self.routes if known.route != route]
        self._add(route, success=False, reason=str(Reason.LINK_LOST))

    def served(self, route: str) -> None:
        """Count a link that was already open as a success."""
        if not self.routes:
            self._add(route, success=True)

    def _add(self, route: str, *, success: bool, reason: str = "") -> None:
        from ringtasks.health.model import RouteOutcome

        self.routes.append(RouteOutcome(route, success, reason))


#: The pools of this process.
_pools: weakref.WeakSet[LinkPool] = weakref.WeakSet()
#: The links of the parent, in a forked child: kept, since an object that is deleted may close the
#: connection that the parent uses.
_of_parent: list[Link] = []


def _leave_links_to_parent() -> None:
    """Reset all pools in a forked child: it opens links of its own."""
    for pool in list(_pools):
        pool.leave_to_parent()


#: Paramiko's modules import each other, which fails if two threads begin with different ones.
_importing = fork.RenewedLock()

#: Seconds that the exit waits for an import: a quarter of a second, but many times that on a busy
#: machine.
_EXIT_LIMIT = 10.0


def _wait_for_import() -> None:
    """Wait until no thread imports Paramiko, and let none begin: Python is about to exit.

    At the exit Python ends its other threads where they are.  One that is within the Rust code of
    cryptography, as while it is imported, then aborts the whole process: exit status 134.
    """
    _importing.lock.acquire(timeout=_EXIT_LIMIT)


atexit.register(_wait_for_import)
os.register_at_fork(after_in_child=_leave_links_to_parent)
fork.wait_for_threads()  # the functions here import what each kind of link needs


class LinkPool:
    """At most one open link to one host; usable from any thread.

    :param transport: use this route only.
    :param on_open: receives each opening: the routes that failed, and the one that works.
    """

    def __init__(
        self, config: SSHConfig, transport: str | None = None, on_open: Note | None = None
    ) -> None:
        self.config = config
        self._transport = transport
        self._on_open = on_open
        self._link: Link | None = None
        self._opened_with = config
        self._rehearsal = ""
        self._lock = threading.RLock()
        _pools.add(self)
        self._made_with = substitute_for_links()
        self.recorder: HealthRecorder | None = None
        """Receives the health of the host; None: the health file."""
        self._health_file = health_file()
        self._store: HealthRecorder | None = None
        self._under_way: weakref.WeakSet[RouteReport] = weakref.WeakSet()

    @property
    def store(self) -> HealthRecorder:
        """The recorder, else the file: that configured now, while links are substituted."""
        if self.recorder is not None:
            return self.recorder
        from ringtasks.health.store import HealthStore

        if substitute_for_links():
            return HealthStore()
        if self._store is None:
            self._store = HealthStore(self._health_file)
        return self._store

    @property
    def current(self) -> Link | None:
        """The link, if one is open and believed to be up."""
        link = self._link
        return link if link is not None and link.is_alive() else None

    @property
    def company(self) -> Company | None:
        """The calls over the open link, if a thread of this process reads from it."""
        return getattr(self._link, "company", None)

    def link(self, report: RouteReport) -> Link:
        """Return the open link; opens one if necessary.

        :raises UnreachableError: no route works.
        :raises UsageError: the configuration cannot be used, or has a ``fault``.
        """
        self._under_way.add(report)
        with self._lock:
            if self.current is None or not self._is_as_opened():
                self.close()
                started = time.time()
                for may_have_moved in (True, False):
                    # Its owner may change the config at any time: one attempt uses one version.
                    self._opened_with = changed(self.config)
                    self._rehearsal = rehearsal.token()
                    try:
                        with self._settings_begun(self._opened_with):
                            for open_link in self._openers(self._opened_with, report):
                                self._link = open_link()
                                if self._link is not None:
                                    return self._link
                    except UnreachableError:
                        if not (may_have_moved and self._has_moved(started)):
                            raise
                        report.routes.clear()  # those were the routes to its former place
            assert self._link is not None  # noqa: S101  # the last opener returns one, or raises
            return self._link

    def _has_moved(self, started: float) -> bool:
        """Ask the host's inventory sources where it is now; True if that is another place."""
        if not self.config.inventory_files:
            return False
        from ringtasks.inventory.relocation import relocate

        return relocate(self.config, started)

    def _is_as_opened(self) -> bool:
        is_alike = is_reached_alike(self.config, self._opened_with)
        return is_alike and self._rehearsal == rehearsal.token()

    def new_link(self, report: RouteReport) -> Link:
        """Log in anew, whether a link is open or not; the caller closes the link."""
        config = changed(self.config, use_control_master=False)
        link = self._openers(config, report)[-1]()
        assert link is not None  # noqa: S101  # the last opener returns one, or raises
        return link

    @contextlib.contextmanager
    def fresh_link(self, report: RouteReport) -> Iterator[Link]:
        """Log in anew by the same program as every command; the link is closed with the block.

        :raises UnreachableError: no route works.
        """
        is_faked = self._made_with or substitute_for_links()
        if self.config.use_control_master and not self.config.embedded and not is_faked:
            from .master.open import fresh_link

            with fresh_link(changed(self.config), self._transport, _find_way) as shared:
                if shared is not None:
                    yield shared
                    return
        with contextlib.closing(self.new_link(report)) as link:
            yield link

    def has_old_link(self) -> bool:
        """Return True if the host needs no new log-in: a link or a control master is open."""
        if self.current is not None:
            return True
        if self._made_with or substitute_for_links() or not self.config.use_control_master:
            return False
        from .master.lookup import find

        link = find(self.config, self._transport)
        if link is None:
            return False
        link.close()
        return True

    def _settings_begun(self, config: SSHConfig) -> contextlib.AbstractContextManager[None]:
        """Let OpenSSH work on the settings that the look-up of a master needs, within the block."""
        is_faked = self._made_with or substitute_for_links()
        # The hosts of a run share answers.
        if is_faked or config.fault is not None or one_look.is_shared() or why_no_master(config):
            return contextlib.nullcontext()
        from .host_key_settings import settings_begun

        return settings_begun(config)

    def _openers(self, config: SSHConfig, report: RouteReport) -> list[Callable[[], Link | None]]:
        """Return the ways to open a link, in order; each but the last may return None.

        :raises UsageError: the configuration cannot be used.
        """
        if config.fault is not None:
            raise UsageError(config.fault)
        transport, recorder = self._transport, self.recorder

        def note(outcome: HostOutcome) -> None:
            report.routes.extend(outcome.routes)
            if self._on_open is not None:
                self._on_open(outcome)

        substitute = self._made_with or substitute_for_links()
        if substitute is not None:
            return [functools.partial(substitute, config, transport, note)]
        in_process = functools.partial(_connect_in_process, config, transport, note, recorder)
        if why_no_master(config) is not None:
            return [in_process]
        from .master.lookup import find

        log_in = functools.partial(_log_in, config, transport, note, recorder)
        return [functools.partial(find, config, transport), log_in, in_process]

    def lost_before_start(
        self, link: Link, report: RouteReport, error: LinkLostError
    ) -> RouteError:
        """Drop a link over which nothing can have started, and record that in the health file.

        It is recorded at once, so that the next attempt prefers another route.
        """
        from .rehearsal import mark_of_loss

        self.drop(link)
        report.lost(link.route)
        self.record(report, success=None)
        report.routes.clear()
        marked = printable(str(error)) + mark_of_loss(self.config.id, link.route)
        return RouteError(self.config.id, link.route, Reason.LINK_LOST, marked)

    def drop(self, link: Link) -> None:
        """Close a link that proved broken. The next call opens a new one."""
        with self._lock:
            if self._link is link:
                self._link = None
        link.close()

    def leave_to_parent(self) -> None:
        """Forget the link without closing it, in a forked child."""
        self._lock, self._under_way = threading.RLock(), weakref.WeakSet()
        if self._link is not None:
            _of_parent.append(self._link)
            self._link = None

    def close(self) -> None:
        """Close the link, if one is open. Safe to repeat."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()
            from ringtasks.health.store import HealthStore

            if isinstance(self._store, HealthStore):
                self._store.release()

    def prepare(self, report: RouteReport) -> None:
        """Prepare the record of a success; to be called while a remote command runs.

        With several commands under way, their records share a write, and another content is likely.
        """
        from ringtasks.health.store import HealthStore

        link, store = self._link, self.store
        if link is not None and isinstance(store, HealthStore) and len(self._under_way) == 1:
            likely = RouteReport(report.routes)
            likely.served(link.route)
            store.prepare(self._outcome(likely, success=True))

    def record(self, report: RouteReport, *, success: bool | None, reason: str = "") -> None:
        """Report one call to the health file."""
        self._under_way.discard(report)
        self.store.record([self._outcome(report, success, reason)])

    def _outcome(self, report: RouteReport, success: bool | None, reason: str = "") -> HostOutcome:
        from ringtasks.health.model import HostOutcome

        return HostOutcome(self.config.id, success, reason, tuple(report.routes))

    def record_unreachable(self, report: RouteReport, error: UnreachableError) -> None:
        """Report to the health file that no route worked."""
        self.record(report, success=False, reason=error.reason)


def _log_in(
    config: SSHConfig, transport: str | None, note: Note, recorder: HealthRecorder | None
) -> Link | None:
    """Open a link over a new control master; imported only if none is running."""
    from .master.open import log_in

    return log_in(config, transport, note, recorder, _find_way)


@contextlib.contextmanager
def _importing_paramiko() -> Iterator[None]:
    from ringtasks.common.quick_versions import quick_versions  # not over a running master

    with _importing.lock, loading(), quick_versions():
        yield


def _find_way(config: SSHConfig, transport: str | None) -> KnownWay:
    with _importing_paramiko():
        from .inprocess.connection import find_way

    return find_way(config, transport)


def _connect_in_process(
    config: SSHConfig, transport: str | None, note: Note, recorder: HealthRecorder | None
) -> Link:
    """Open a link within this process; its host may be in this process, too."""
    from ringtasks.common.processor import leave

    from .attempts import HostAttempt

    leave()  # the threads that begin here outlive this call
    if config.embedded:
        from .embedded.server import serve

        config = serve(config)
    # The pool asks the inventory's sources, for the config of its owner.
    config = changed(config, use_control_master=False, inventory_files=())
    attempt = HostAttempt(config, transport, recorder)
    if "paramiko" not in sys.modules and _is_plain(config):
        attempt.begin()  # meanwhile Paramiko is imported: a quarter of a short command's time
    with _importing_paramiko():
        from .inprocess.link import InProcessLink
        from .inprocess.pooled import PooledConnection
    try:
        return InProcessLink(PooledConnection(config, transport, attempt, note))
    except BaseException:
        attempt.abandon()
        raise


def _is_plain(config: SSHConfig) -> bool:
    """Return True if the address is known without Fabric's settings."""
    return not config.proxy_jump and not is_configured(config.ssh_config_file)

"""Keeping one link to a host open, and telling the health file how it went.

What an attempt to reach the host taught of its routes is gathered in a Report, which is recorded
once, together with the outcome of the call that needed the link.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ringtasks.common.text import printable
from ringtasks.errors import Reason, RouteError, UnreachableError
from ringtasks.inventory.config import SSHConfig, health_file, is_reached_alike

from .link import Link, LinkLostError
from .ssh_config import is_configured

if TYPE_CHECKING:  # loaded while the host works, see `prepare`
    from ringtasks.health.model import Outcome, RouteOutcome
    from ringtasks.health.notes import Ledger

__all__ = [
    "LinkKeeper",
    "Note",
    "OpenLink",
    "Report",
    "links_from",
    "prepare",
    "substitute_for_links",
]

#: Is told of each opening: the routes that failed, and the one that works.
Note = Callable[["Outcome"], None]
#: Makes a link to a host, by one route only where that is named.
OpenLink = Callable[[SSHConfig, str | None, Note], Link]

#: What stands in for the network, innermost last.
_substitutes: list[OpenLink] = []


@contextlib.contextmanager
def links_from(open_link: OpenLink) -> Iterator[None]:
    """Inside, every link that any thread opens comes from ``open_link``, none from the network.

    It may be nested.  A keeper that was made inside stays with ``open_link`` afterwards.
    """
    _substitutes.append(open_link)
    try:
        yield
    finally:
        _substitutes.remove(open_link)


class Report:
    """What one call has learned of the host's routes so far."""

    def __init__(self) -> None:
        self.routes: list[RouteOutcome] = []

    def lost(self, route: str) -> None:
        """A route that broke counts as a failure, even if it was good for a log-in before."""
        self.routes = [known for known in self.routes if known.route != route]
        self._add(route, success=False, reason=str(Reason.LINK_LOST))

    def served(self, route: str) -> None:
        """A link that was open already is good for another command."""
        if not self.routes:
            self._add(route, success=True)

    def _add(self, route: str, *, success: bool, reason: str = "") -> None:
        from ringtasks.health.model import RouteOutcome

        self.routes.append(RouteOutcome(route, success, reason))


class LinkKeeper:
    """At most one open link to one host; from any thread.

    :param transport: use this route only.
    :param on_open: told of each opening: the routes that failed, and the one that works.
    :param ledger: takes what was learned of the host's health; None: the health file.
    """

    def __init__(
        self,
        config: SSHConfig,
        transport: str | None = None,
        on_open: Note | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.config = config
        self._transport = transport
        self._on_open = on_open
        self._link: Link | None = None
        self._opened_with = config
        self._lock = threading.RLock()
        self._made_with = substitute_for_links()
        self._ledger = ledger
        self._health_file = health_file()
        self._store = ledger

    @property
    def store(self) -> Ledger:
        """The health file; where links are substituted, the one that is named now."""
        from ringtasks.health.store import HealthStore

        if substitute_for_links() and self._ledger is None:
            return HealthStore()
        if self._store is None:
            self._store = HealthStore(self._health_file)
        return self._store

    @property
    def current(self) -> Link | None:
        """The link, if one is open and believed to be up."""
        link = self._link
        return link if link is not None and link.is_alive() else None

    def link(self, report: Report) -> Link:
        """The open link, opened now if need be.

        :raises UnreachableError: no route works.
        :raises UsageError: the configuration cannot be used.
        """
        with self._lock:
            if self.current is None or not is_reached_alike(self.config, self._opened_with):
                self.close()
                # Its owner may change the config at any time: one attempt goes by one version.
                self._opened_with = replace(self.config)
                self._link = self._open(self._opened_with, report)
            assert self._link is not None  # noqa: S101  # for the type checker
            return self._link

    def new_link(self, report: Report) -> Link:
        """A log-in of its own, whether one is open or not; the caller closes it."""
        return self._open(replace(self.config, use_control_master=False), report)

    def has_old_link(self) -> bool:
        """Whether the host can be used without a new log-in: by us, or over a control master."""
        if self.current is not None:
            return True
        if self._made_with or substitute_for_links() or not self.config.use_control_master:
            return False
        from .master.link import MuxLink

        link = MuxLink.find(self.config, self._transport)
        if link is None:
            return False
        link.close()
        return True

    def _open(self, config: SSHConfig, report: Report) -> Link:
        def note(outcome: Outcome) -> None:
            report.routes.extend(outcome.routes)
            if self._on_open is not None:
                self._on_open(outcome)

        open_link = self._made_with or substitute_for_links()
        if open_link is None:
            return _connect(config, self._transport, note, self._ledger)
        return open_link(config, self._transport, note)

    def lost_before_start(self, link: Link, report: Report, error: LinkLostError) -> RouteError:
        """Drop a link over which nothing can have started, and say so in the health file.

        It is told at once, so that the next attempt prefers another route.
        """
        self.drop(link)
        report.lost(link.route)
        self.record(report, success=None)
        report.routes.clear()
        return RouteError(self.config.id, link.route, Reason.LINK_LOST, printable(str(error)))

    def drop(self, link: Link) -> None:
        """Close a link that proved bad. The next call opens a new one."""
        with self._lock:
            if self._link is link:
                self._link = None
        link.close()

    def close(self) -> None:
        """Close the link, if one is open. Safe to repeat."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def record(self, report: Report, *, success: bool | None, reason: str = "") -> None:
        """Tell the health file of one call."""
        from ringtasks.health.model import Outcome

        outcome = Outcome(self.config.id, success, reason, tuple(report.routes))
        self.store.record([outcome])

    def record_unreachable(self, report: Report, error: UnreachableError) -> None:
        """Tell the health file that no route worked."""
        self.record(report, success=False, reason=error.reason)


def prepare() -> None:
    """Load what `LinkKeeper.record` needs: to be called while there is nothing else to do."""
    from ringtasks.health import store  # noqa: F401


def substitute_for_links() -> OpenLink | None:
    """What opens links instead of the network just now (`links_from`); None: nothing does."""
    return next(reversed(_substitutes), None)


def _connect(
    config: SSHConfig, transport: str | None, note: Note, ledger: Ledger | None = None
) -> Link:
    """A link over the network: over a control master wherever there can be one."""
    if config.embedded:
        from ringtasks.embedded.server import serve

        return _connect_in_process(serve(config), transport, note, ledger)
    if config.use_control_master:
        from .master.open import open_link

        link = open_link(config, transport, note, ledger)
        if link is not None:
            return link
    return _connect_in_process(config, transport, note, ledger)


def _connect_in_process(
    config: SSHConfig, transport: str | None, note: Note, ledger: Ledger | None
) -> Link:
    from .attempts import Approach

    config = replace(config, use_control_master=False)
    approach = Approach(config, transport, ledger)
    if "paramiko" not in sys.modules and _is_plain(config):
        approach.begin()  # meanwhile, Paramiko is loaded: a quarter of a short command's time
    with _no_collection():
        from .inprocess.connection import Connection
        from .inprocess.fabric_settings import shared_settings
        from .inprocess.link import InProcessLink
    try:
        return InProcessLink(
            Connection(
                config,
                config=shared_settings(config.ssh_config_file),
                transport=transport,
                report=note,
                approach=approach,
            )
        )
    except BaseException:
        approach.abandon()
        raise


def _is_plain(config: SSHConfig) -> bool:
    """Whether the address is known without Fabric's settings."""
    return not config.proxy_jump and not is_configured(config.ssh_config_file)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Looking for garbage among what is just being loaded takes 5 ms."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

"""Dial a host's routes, healthiest first.

A `HostAttempt` keeps the routes that have failed.  The code that logs in takes a dialled route from
it (`dial_next`), and reports a refused log-in; then the attempt continues with the routes that are
left.  It needs no Paramiko, so a short-lived program can start it early (`begin`), while it still
imports its log-in code.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ringtasks.common.threads import start_thread
from ringtasks.errors import (
    ADVICE,
    NOT_APPROVED,
    Reason,
    RingtasksError,
    RouteError,
    UnreachableError,
    UsageError,
)
from ringtasks.health.model import HostOutcome, RouteOutcome, order_routes
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig

from .dialing import Begun, Dialled, Gateway, dial
from .host_keys import IMPOSTOR
from .race import HEAD_START
from .routes import Route, only, routes_of

if TYPE_CHECKING:
    from ringtasks.health.recorder import HealthRecorder

__all__ = ["HostAttempt", "chosen_routes", "fallback_note", "ordered_routes", "outcome"]

#: Reasons of a route that may still answer.
_SILENT = {Reason.TIMED_OUT, Reason.SILENT}


class HostAttempt:
    """One attempt to reach one host, within ``config.connect_timeout`` seconds from its creation.

    :param transport: use this route only.
    :param recorder: the health of the routes; None: the health file.
    :param begun: connections that were begun to the likely first routes.
    :raises UsageError: the host has no such route, or a proxy setting makes no sense.
    """

    def __init__(
        self,
        config: SSHConfig,
        transport: str | None = None,
        recorder: HealthRecorder | None = None,
        begun: Sequence[Begun] = (),
    ) -> None:
        self.config = config
        self._begun = begun
        self.failures: list[RouteError] = []
        self._recorder = recorder
        self._deadline = time.monotonic() + config.connect_timeout
        self._routes = _by_health(config.id, chosen_routes(config, transport), recorder)
        self._overtaken: tuple[RouteError, ...] = ()
        self._ahead: _Ahead | None = None

    @property
    def has_proxy(self) -> bool:
        """True if a route needs a proxy."""
        return any(route.proxy is not None for route in self._routes)

    @property
    def has_others(self) -> bool:
        """True if several routes are left."""
        return len(self._routes) > 1

    @property
    def only_route(self) -> Route | None:
        """The first route, if no other is left, or the others were failing lately; else None."""
        if not self.has_others:
            return self._routes[0] if self._routes else None
        known, now = (self._recorder or HealthStore()).get(self.config.id).transports, time.time()
        first, *others = self._routes
        is_failing = [
            r.name in known and known[r.name].route_state_at(now) == "open" for r in others
        ]
        return first if all(is_failing) else None

    def dial_ahead_of(self, name: str) -> Dialled | None:
        """Dial the routes that come before one, within their head start; None: none answers.

        Those that fail are given up; those that stay silent are left to `dial_next`.
        """
        ahead = list(itertools.takewhile(lambda route: route.name != name, self._routes))
        if not ahead:
            return None
        try:
            dialled = dial(self.config.id, ahead, min(HEAD_START, self.remaining()))
        except UnreachableError as error:
            self._give_up(*(found for found in error.failures if found.reason not in _SILENT))
        except UsageError:
            pass  # `dial_next` raises it, unless another route works
        else:
            return self._taken(dialled)
        return None

    def begin(self) -> None:
        """Start dialling in the background, for the first `dial_next`, if a thread can be had."""
        with contextlib.suppress(UsageError):
            self._ahead = _Ahead(self._dial)

    def dial_next(self, gateway: Gateway | None = None) -> Dialled:
        """Return the stream of the first route that shows an SSH banner.

        :raises UnreachableError: every route has failed.
        :raises UsageError: one of them did because of the caller's own mistake.
        """
        if not self._routes:
            raise self._unreachable()
        ahead, self._ahead = self._ahead, None
        try:
            dialled = ahead.result() if ahead else self._dial(gateway)
        except UnreachableError as error:
            raise self._unreachable(*error.failures) from error
        return self._taken(dialled)

    def _taken(self, dialled: Dialled) -> Dialled:
        # An overtaken route has not failed for good: it is tried if this one is refused.
        self._overtaken = tuple(f for f in dialled.failures if f.reason is Reason.OVERTAKEN)
        self._give_up(*(f for f in dialled.failures if f.reason is not Reason.OVERTAKEN))
        return dialled

    def refused(self, error: RouteError, *, waited: bool = False) -> None:
        """Mark this route as failed: it is not tried again.

        :param waited: the log-in waited for a person, who may have used up the time of the others.
        """
        self._overtaken = ()
        if waited:
            self._deadline = time.monotonic() + self.config.connect_timeout
            if error.reason is Reason.TIMED_OUT:
                error.advice = NOT_APPROVED
        self._give_up(error)

    def arrived(self) -> tuple[RouteError, ...]:
        """Return every route that did worse than the one that works; warn about an impostor."""
        self._sound_alarms()
        return (*self.failures, *self._overtaken)

    def remaining(self) -> float:
        """Return the seconds left; never quite 0, which some callees take for "no limit"."""
        return max(0.05, self._deadline - time.monotonic())

    def record(self, outcome: HostOutcome) -> None:
        """Record the health of another host on the way: a jump host."""
        (self._recorder or HealthStore()).record([outcome])

    def abandon(self) -> None:
        """Close the connection that `begin` opened, if no caller has taken it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.discard()

    def _unreachable(self, *others: RouteError) -> UnreachableError:
        self._give_up(*others)
        self._sound_alarms()
        return UnreachableError(self.config.id, tuple(self.failures))

    def _sound_alarms(self) -> None:
        for failure in self.failures:
            if IMPOSTOR in failure.evidence:
                from ringtasks.common import alarms

                alarms.sound(self.config.id, failure.explain())

    def _dial(self, gateway: Gateway | None = None) -> Dialled:
        begun, self._begun = self._begun, ()
        return dial(self.config.id, self._routes, self.remaining(), gateway=gateway, begun=begun)

    def _give_up(self, *errors: RouteError) -> None:
        for error in errors:
            is_own_key = error.reason is Reason.HOST_KEY and IMPOSTOR in error.evidence
            if is_own_key and error.advice == ADVICE[error.reason]:
                from .refused_host_key import advice_to_update

                error.advice = advice_to_update(
                    self.config, error.evidence
                )  # a rehearsal does not know the file
        self.failures += errors
        gone = {error.route for error in errors}
        self._routes = [route for route in self._routes if route.name not in gone]


def chosen_routes(config: SSHConfig, transport: str | None) -> tuple[Route, ...]:
    """Return the routes to try: all of the host, or the one that ``transport`` names.

    :raises UsageError: the host has no such route, or a proxy setting makes no sense.
    """
    routes = routes_of(config, os.environ)
    return only(routes, transport, config.id) if transport else routes


def outcome(host: str, used: str | None, failures: tuple[RouteError, ...]) -> HostOutcome:
    """Return an attempt's outcome for the health file; ``used`` None: no route worked."""
    routes = [RouteOutcome(f.route, success=False, reason=str(f.reason)) for f in failures]
    if used is not None:
        routes.append(RouteOutcome(used, success=True))
    reason = "" if used is not None else UnreachableError(host, failures).reason
    return HostOutcome(host, success=used is not None, reason=reason, routes=tuple(routes))


def fallback_note(outcome: HostOutcome) -> str:
    """Return the text that names the routes which failed before one worked, empty if none did."""
    used = [route.route for route in outcome.routes if route.success]
    failed = [route for route in outcome.routes if not route.success]
    if not (used and failed):
        return ""
    from .rehearsal import mark

    told = [f"{each.route} {each.reason}{mark(outcome.host, each.route)}" for each in failed]
    return f"{', '.join(told)}; connected via {used[0]}"


class _Ahead:
    """A dial that runs in a thread of its own."""

    def __init__(self, start: Callable[[], Dialled]) -> None:
        self._start = start
        self._dialled: Dialled | None = None
        self._error: RingtasksError | None = None
        self._thread = start_thread(self._run, name="ringtasks-dial-ahead")

    def result(self) -> Dialled:
        self._thread.join()
        if self._dialled is None:
            raise self._error or RuntimeError("dialling ahead failed")
        return self._dialled

    def discard(self) -> None:
        """Close the stream when there is one, without waiting for it."""

        def close() -> None:
            self._thread.join()
            if self._dialled is not None:
                self._dialled.stream.close()

        with contextlib.suppress(UsageError):
            start_thread(close, name="ringtasks-dial-discard")

    def _run(self) -> None:
        try:
            self._dialled = self._start()
        except RingtasksError as error:
            self._error = error


def ordered_routes(config: SSHConfig, transport: str | None) -> list[Route]:
    """Return a host's routes in the order in which they would be tried now.

    :param transport: the only route to use; None: any.
    :raises UsageError: the host does not have that route.
    """
    by_name = {route.name: route for route in chosen_routes(config, transport)}
    known = HealthStore().get(config.id).transports
    return [by_name[name] for name in order_routes(list(by_name), known, time.time())]


def _by_health(
    host: str, routes: tuple[Route, ...], recorder: HealthRecorder | None
) -> list[Route]:
    """Return ``routes`` with the failing ones at the back."""
    if len(routes) < 2:
        return list(routes)
    by_name = {route.name: route for route in routes}
    now = time.time()
    store = recorder or HealthStore()
    known = store.get(host).transports
    first, *others = order_routes(list(by_name), known, now)
    is_recovering = first in known and known[first].route_state_at(now) == "half_open"
    if is_recovering and not store.claim_probe(host, first, now):
        first, *others = *others, first  # another process is testing whether it works again
    return [by_name[name] for name in (first, *others)]

"""`FleetRun`: one run, from the selected hosts to the last result."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Generator
from typing import BinaryIO

from ringtasks.client.targets import Hosts, id_of, targets_of
from ringtasks.common import collector, one_look
from ringtasks.common.fanout import affordable
from ringtasks.health.store import HealthStore
from ringtasks.remote.script import Script

from .broadcast import Broadcast
from .eligibility import eligible_hosts
from .host_run import HostRun, OnOutput
from .request import FleetRequest
from .results import FleetResult, HostResult, skipped
from .schedule import Schedule
from .workers import Workers

__all__ = ["FleetRun"]

_LOOK_INTERVAL = 0.2  # seconds between checks whether a stopped run has ended


class FleetRun:
    """A run that starts when it is iterated over or waited for; it runs once.

    :raises UsageError: no host, or a configuration that cannot be used; nothing was sent.
    """

    def __init__(self, hosts: Hosts, request: FleetRequest) -> None:
        Script(request.command, cwd=request.cwd, env=request.env)  # refused before anything is sent
        given = targets_of(hosts, request.transport)
        self._store = HealthStore()
        names = [id_of(host) for host in given]
        known = self._store.load(names)
        eligible = eligible_hosts(
            names, known, time.time(), skip_unhealthy=request.skip_unhealthy, pick=request.pick
        )
        self.on_output: OnOutput | None = None
        """Called with a host's name, 1 or 2, and the bytes as they arrive, from many threads; the
        results then hold them only with `keeps_output`. Set both before the run starts."""
        self.keeps_output = False
        self.on_stop: Callable[[], None] = lambda: None
        """Called when a stopped run starts to wait for its end."""
        self._runs = [
            HostRun(host, request, known, self._store)
            for host in given
            if id_of(host) in eligible.chosen
        ]
        self._skipped = [
            skipped(name, request.label or request.command, reason)
            for name, reason in eligible.skipped.items()
        ]
        asked_for = {*eligible.chosen, *eligible.skipped}
        self.hosts = tuple(name for name in names if name in asked_for)
        """The hosts of the run, in their order."""
        self.arrived: list[HostResult] = []
        """The results so far, also if the run was left early."""
        self._workers = Workers(self._runs, self._schedule(request), _readers(request.stdin))
        self._began_at: float | None = None
        self._left = len(self.hosts)

    def __iter__(self) -> Generator[HostResult, None, None]:
        """Yield each result as it arrives.

        If the loop is left early, also by Ctrl-C, the run is stopped and its end awaited; results
        that arrive meanwhile are in ``arrived``.  A second Ctrl-C leaves at once.
        """
        if self._began_at is not None:
            raise RuntimeError("a FleetRun runs once")
        from ringtasks.ssh.master.running_masters import MOST_MASTERS

        self._began_at = time.monotonic()
        for found in self._skipped:
            self._workers.answers.put(found)
        for run in self._runs:
            run.on_output = self.on_output
            run.keeps_output = self.keeps_output
            run.starts_masters = len(self._runs) <= MOST_MASTERS
        with one_look.shared(), collector.seldom():
            self._workers.start()
            try:
                while self._left:
                    yield self._next()
            finally:
                try:
                    if self._left and self._workers.stop():
                        self._drain()
                finally:
                    self.record_health()

    def _next(self) -> HostResult:
        answer = self._workers.answers.get()
        self._left -= 1
        if isinstance(answer, BaseException):
            raise answer
        self.arrived.append(answer)
        return answer

    def _drain(self) -> None:
        """Take the answers that still arrive; see `on_stop`.

        Counting alone is not enough: Ctrl-C may have struck between taking an answer and noting it.
        """
        self.on_stop()
        while self._left and not self._workers.is_over:
            with contextlib.suppress(queue.Empty):
                answer = self._workers.answers.get(timeout=_LOOK_INTERVAL)
                self._left -= 1
                if isinstance(answer, HostResult):  # the first error is being raised already
                    self.arrived.append(answer)

    def wait(self) -> FleetResult:
        """Return all results, in the order of the hosts."""
        for _ in self:
            pass
        return self.in_order()

    def in_order(self) -> FleetResult:
        """Return the results so far, in the order of the hosts; the others are unknown."""
        by_host = {found.host: found for found in (*self._skipped, *self.arrived)}
        by_host |= {run.host: run.left() for run in self._runs if run.host not in by_host}
        elapsed = time.monotonic() - (self._began_at or time.monotonic())
        results = tuple(by_host[host] for host in self.hosts)
        return FleetResult(results, round(elapsed * 1000, 3))

    def stop(self) -> None:
        """Start no more hosts and end the running commands; callable from any thread.

        The results still arrive.
        """
        self._workers.stop()

    def record_health(self) -> None:
        """Record the outcomes of all hosts so far in one write; each is recorded once."""
        outcomes = [outcome for run in self._runs for outcome in run.outcomes]
        for run in self._runs:
            run.outcomes = []
        self._store.record(outcomes)

    def _schedule(self, request: FleetRequest) -> Schedule:
        count = len(self._runs)
        return Schedule(
            [run.config.proxy_jump for run in self._runs],
            fanout=affordable(request.fanout),
            jump_fanout=request.jump_fanout,
            batch_size=request.batch_size(count),
            failure_limit=request.failure_limit(count),
        )


def _readers(stdin: BinaryIO | None) -> Callable[[], BinaryIO | None]:
    if stdin is None:
        return lambda: None
    return Broadcast(stdin).reader

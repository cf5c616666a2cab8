"""`FleetRun`: one run, from the hosts that are meant to the last of their results."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Generator
from typing import BinaryIO

from ringtasks.client.targets import Hosts, id_of, targets_of
from ringtasks.health.store import HealthStore
from ringtasks.inventory.config import SSHConfig
from ringtasks.remote.script import Script

from .broadcast import Broadcast
from .eligibility import choose
from .host_run import HostRun, OnOutput
from .masters import may_start
from .prechecks import check
from .request import Request
from .results import FleetResult, HostResult, skipped
from .schedule import Schedule
from .workers import Crew

__all__ = ["FleetRun"]

_LOOK_INTERVAL = 0.2  # seconds between looks at whether a stopped run has ended


class FleetRun:
    """A run that begins when it is iterated over, or waited for; once only.

    :raises UsageError: no host, or a configuration that cannot be used; nothing was sent.
    """

    def __init__(self, hosts: Hosts, request: Request) -> None:
        Script(request.command, cwd=request.cwd, env=request.env)  # refused before anything is sent
        given = targets_of(hosts)
        self._store = HealthStore()
        names = [id_of(host) for host in given]
        known = self._store.load(names)
        choice = choose(
            names, known, time.time(), skip_unhealthy=request.skip_unhealthy, pick=request.pick
        )
        configs = (host for host in given if isinstance(host, SSHConfig))
        check((config for config in configs if config.id in choice.chosen), request.transport)
        self.on_output: OnOutput | None = None
        """Gets a host's name, 1 or 2, and the bytes as they come, in many threads; then they are
        not kept in the results. To be set before the run begins."""
        self.on_stop: Callable[[], None] = lambda: None
        """Is called when a stopped run begins to wait for its end."""
        self._runs = [
            HostRun(host, request, known, self._store)
            for host in given
            if id_of(host) in choice.chosen
        ]
        self._skipped = [
            skipped(name, request.label or request.command, reason)
            for name, reason in choice.skipped.items()
        ]
        asked_for = {*choice.chosen, *choice.skipped}
        self.hosts = tuple(name for name in names if name in asked_for)
        """Those asked for, in their order."""
        self.arrived: list[HostResult] = []
        """The results so far, also where the run was left early."""
        self._crew = Crew(self._runs, self._schedule(request), _readers(request.stdin))
        self._began_at: float | None = None
        self._left = len(self.hosts)

    def __iter__(self) -> Generator[HostResult, None, None]:
        """Each result as it arrives.

        Where it is left early, also by Ctrl-C, the run is stopped and its end waited for; what
        comes meanwhile is in ``arrived``.  Ctrl-C once more leaves at once.
        """
        if self._began_at is not None:
            raise RuntimeError("a FleetRun runs once")
        self._began_at = time.monotonic()
        for found in self._skipped:
            self._crew.answers.put(found)
        for run in self._runs:
            run.on_output = self.on_output
            run.starts_masters = may_start(len(self._runs))
        self._crew.start()
        try:
            while self._left:
                yield self._next()
        finally:
            try:
                if self._left and self._crew.stop():
                    self._drain()
            finally:
                self.record_health()

    def _next(self) -> HostResult:
        answer = self._crew.answers.get()
        self._left -= 1
        if isinstance(answer, BaseException):
            raise answer
        self.arrived.append(answer)
        return answer

    def _drain(self) -> None:
        """Take what still comes; see `on_stop`.

        Not by counting alone: Ctrl-C may have struck when an answer was taken and not yet noted.
        """
        self.on_stop()
        while self._left and not self._crew.is_over:
            with contextlib.suppress(queue.Empty):
                answer = self._crew.answers.get(timeout=_LOOK_INTERVAL)
                self._left -= 1
                if isinstance(answer, HostResult):  # the first error is being raised already
                    self.arrived.append(answer)

    def wait(self) -> FleetResult:
        """All results, in the order of the hosts."""
        for _ in self:
            pass
        return self.in_order()

    def in_order(self) -> FleetResult:
        """What has arrived, in the order of the hosts; of the others nothing is known any more."""
        by_host = {found.host: found for found in (*self._skipped, *self.arrived)}
        by_host |= {run.host: run.left() for run in self._runs if run.host not in by_host}
        elapsed = time.monotonic() - (self._began_at or time.monotonic())
        results = tuple(by_host[host] for host in self.hosts)
        return FleetResult(results, round(elapsed * 1000, 3))

    def stop(self) -> None:
        """Begin no more hosts and end what runs; from any thread. The results still arrive."""
        self._crew.stop()

    def record_health(self) -> None:
        """Write what was learned of all hosts so far, in one go; what was written is not again."""
        outcomes = [outcome for run in self._runs for outcome in run.outcomes]
        for run in self._runs:
            run.outcomes = []
        self._store.record(outcomes)

    def _schedule(self, request: Request) -> Schedule:
        count = len(self._runs)
        return Schedule(
            [run.config.proxy_jump for run in self._runs],
            fanout=request.fanout,
            jump_fanout=request.jump_fanout,
            batch_size=request.batch_size(count),
            failure_limit=request.failure_limit(count),
        )


def _readers(stdin: BinaryIO | None) -> Callable[[], BinaryIO | None]:
    if stdin is None:
        return lambda: None
    return Broadcast(stdin).reader

"""`FleetRun`: one run, from the hosts that are meant to the last of their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from ..client import SSHClient
from ..health_store import HealthStore
from ..script import Script
from .broadcast import Broadcast
from .crew import Crew
from .host_run import HostRun, OnOutput
from .hosts import Hosts, check, hosts_of
from .request import Request
from .results import FleetResult, HostResult
from .schedule import Schedule

__all__ = ["FleetRun"]


class FleetRun:
    """A run that begins when it is iterated over, or waited for; once only.

    :param on_output: gets the host's name, 1 or 2, and the bytes, as they come, in many threads;
        they are then not kept in the results.
    :raises UsageError: no host, or a configuration that cannot be used; nothing was sent.
    """

    def __init__(
        self, hosts: Hosts, request: Request, *, on_output: OnOutput | None = None
    ) -> None:
        Script(request.command, cwd=request.cwd, env=request.env)  # refused before anything is sent
        reachable = hosts_of(hosts)
        store = HealthStore()
        known = store.load()
        self._store = store
        self._runs = [HostRun(host, request, known, store, on_output) for host in reachable]
        for host in reachable:
            if not isinstance(host, SSHClient):
                check(host, request.transport)
        self.hosts = tuple(run.host for run in self._runs)
        self._crew = Crew(self._runs, self._schedule(request), _readers(request.stdin))
        self._began_at: float | None = None

    def __iter__(self) -> Iterator[HostResult]:
        """Each result as it arrives; leaving early stops the run and waits for its end."""
        if self._began_at is not None:
            raise RuntimeError("a FleetRun runs once")
        self._began_at = time.monotonic()
        self._crew.start()
        left = len(self._runs)
        try:
            while left:
                answer = self._crew.answers.get()
                left -= 1
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            if left:
                self.stop()
                for _ in range(left):
                    self._crew.answers.get()
            self.record_health()

    def wait(self) -> FleetResult:
        """All results, in the order of the hosts."""
        return self.in_order(self)

    def in_order(self, arrived: Iterable[HostResult]) -> FleetResult:
        """What has arrived, in the order of the hosts."""
        by_host = {found.host: found for found in arrived}
        results = tuple(by_host[host] for host in self.hosts if host in by_host)
        elapsed = time.monotonic() - (self._began_at or time.monotonic())
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

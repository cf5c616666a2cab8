"""Health of hosts and routes, and the circuit breaker.  Pure: outcomes and ``now`` in, states out.

Health is about reaching a host: a command that ran and exited 1 was a success of the connection.

::

    closed ──3 failures in a row──▶ open ──back-off over──▶ half_open ──one attempt──▶ closed | open

The back-off starts at 30 s and doubles with each further failure, up to 300 s.  All times are Unix
seconds, since they are kept in a file that several machines' clocks may have written: a time in the
future is taken for now.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = [
    "BACKOFF_MAX",
    "BACKOFF_START",
    "FAILURES_TO_OPEN",
    "Outcome",
    "RouteOutcome",
    "SSHHealth",
    "order_routes",
]

FAILURES_TO_OPEN = 3
BACKOFF_START = 30.0
BACKOFF_MAX = 300.0
#: Seconds for which a half-open attempt is somebody's; after that he is taken for dead.
CLAIM_TIMEOUT = 30.0


@dataclass(frozen=True)
class SSHHealth:
    """What is remembered of one host, or of one of its routes (then without ``transports``)."""

    last_success: float | None = None
    last_failure: float | None = None
    consecutive_failures: int = 0
    consecutive_successes: int = 0
    total_successes: int = 0
    total_failures: int = 0
    last_reason: str = ""
    """Why it failed last."""
    probing_since: float | None = None
    """Since when somebody has had the one attempt that a half-open circuit allows."""
    transports: Mapping[str, SSHHealth] = field(default_factory=dict)

    @property
    def is_healthy(self) -> bool:
        """False from three consecutive failures."""
        return self.consecutive_failures < FAILURES_TO_OPEN

    @property
    def success_rate(self) -> float:
        """Successes by attempts, 0.0 to 1.0; 0.0 with no attempts."""
        attempts = self.total_successes + self.total_failures
        return self.total_successes / attempts if attempts else 0.0

    @property
    def circuit_state(self) -> str:
        """``closed``, ``open`` or ``half_open``, by the wall clock."""
        return self.circuit_state_at(time.time())

    def circuit_state_at(self, now: float) -> str:
        """``closed``, ``open`` or ``half_open`` at ``now``."""
        if self.is_healthy:
            return "closed"
        opened = self.consecutive_failures - FAILURES_TO_OPEN + 1
        return "half_open" if now >= self._recovers_at(opened, now) else "open"

    def succeeded(self, now: float) -> SSHHealth:
        """After a success at ``now``: the circuit is closed."""
        return replace(
            self,
            last_success=now,
            consecutive_failures=0,
            consecutive_successes=self.consecutive_successes + 1,
            total_successes=self.total_successes + 1,
            probing_since=None,
        )

    def failed(self, now: float, reason: str) -> SSHHealth:
        """After a failure at ``now``: three in a row open the circuit."""
        return replace(
            self,
            last_failure=now,
            consecutive_failures=self.consecutive_failures + 1,
            consecutive_successes=0,
            total_failures=self.total_failures + 1,
            last_reason=reason,
            probing_since=None,
        )

    def recovers_at(self, now: float) -> float:
        """When a route that has been failing is worth trying first again; ``now`` if it is.

        One failure sends a route to the back of the order: another one may do better meanwhile,
        and nothing is lost.
        """
        if not self.consecutive_failures:
            return now
        return max(now, self._recovers_at(self.consecutive_failures, now))

    def is_being_probed(self, now: float) -> bool:
        """Whether somebody has the half-open attempt."""
        since = self.probing_since
        return since is not None and 0 <= now - since < CLAIM_TIMEOUT

    def _recovers_at(self, step: int, now: float) -> float:
        last_failure = min(self.last_failure or 0.0, now)
        return last_failure + min(BACKOFF_START * 2 ** min(step - 1, 10), BACKOFF_MAX)


@dataclass(frozen=True)
class RouteOutcome:
    """One route's part in an attempt to reach a host."""

    route: str
    success: bool
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """One attempt to reach a host. ``success`` None: it tells of routes only."""

    host: str
    success: bool | None
    reason: str = ""
    routes: tuple[RouteOutcome, ...] = ()
    at: float = field(default_factory=time.time)


def order_routes(
    routes: Sequence[str], transports: Mapping[str, SSHHealth], now: float
) -> list[str]:
    """The routes in the order to try them: none is dropped.

    One that has been failing goes to the back until its back-off is over, or while somebody else
    finds out; among those the first to recover comes first.
    """

    def rank(route: str) -> tuple[bool, float]:
        health = transports.get(route, SSHHealth())
        recovers_at = health.recovers_at(now)
        return recovers_at > now or health.is_being_probed(now), recovers_at

    return sorted(routes, key=rank)

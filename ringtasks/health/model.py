"""Health of hosts and routes, and the circuit breaker.  Pure: outcomes and ``now`` in, states out.

Health is about reaching a host: a command that ran and exited 1 was a success of the connection.
The state of a circuit is never stored: it follows from the consecutive failures and the time of the
last one, so that it cannot contradict them, and no state can be skipped.

=========  =======  ==============================  =============  ==================
state      success  failure                         back-off over  an attempt claimed
=========  =======  ==============================  =============  ==================
closed     closed   closed; open from the n-th on   (has none)     granted
open       closed   open, with the next back-off    half_open      refused
half_open  closed   open, with the next back-off    half_open      granted to one
=========  =======  ==============================  =============  ==================

A host's circuit opens at the third consecutive failure.  A route's circuit opens at the first: it
only sends the route to the back of the order, so that other routes are tried before it.

All times are Unix seconds, since they are kept in a file for other processes and across reboots.
That clock may be set back, so a failure or a claim in the future counts as expired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal

from ringtasks.common.light_dataclass import dataclass
from ringtasks.common.light_typing import NamedTuple

from .counts import (
    FAILURES_TO_OPEN,
    after_failure,
    after_success,
    backoff,
    is_claimed,
    state_at,
)

__all__ = [
    "HOST_CIRCUIT",
    "ROUTE_CIRCUIT",
    "Circuit",
    "CircuitState",
    "HostOutcome",
    "RouteOutcome",
    "SSHHealth",
    "order_routes",
    "with_closed_circuits",
    "with_reset",
]

CircuitState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class SSHHealth:
    """Health of one host, or of one of its routes (then without ``transports``)."""

    last_success: float | None = None
    last_failure: float | None = None
    consecutive_failures: int = 0
    consecutive_successes: int = 0
    total_successes: int = 0
    total_failures: int = 0
    last_reason: str = ""
    """The reason of the last failure."""
    probing_since: float | None = None
    """The time at which the single attempt of a half-open circuit was claimed."""
    transports: Mapping[str, SSHHealth] = field(default_factory=dict, hash=False)
    _on_reset: Callable[[], None] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    """Carries `reset_circuit` to the health file; None: this value alone is changed."""

    @property
    def is_healthy(self) -> bool:
        """False after three or more consecutive failures."""
        return self.consecutive_failures < HOST_CIRCUIT.failures_to_open

    @property
    def success_rate(self) -> float:
        """Successes divided by attempts, 0.0 to 1.0; 0.0 without attempts."""
        attempts = self.total_successes + self.total_failures
        return self.total_successes / attempts if attempts else 0.0

    @property
    def circuit_state(self) -> CircuitState:
        """The state that `circuit_state_at` gives for the present time."""
        return self.circuit_state_at(time.time())

    @property
    def is_circuit_open(self) -> bool:
        """True if the circuit is open now: advice only, since calls are tried nevertheless."""
        return self.circuit_state == "open"

    @property
    def seconds_until_recovery(self) -> float:
        """Seconds until an open circuit is half-open; 0.0 if it is not open."""
        now = time.time()
        if self.circuit_state_at(now) != "open":
            return 0.0
        return HOST_CIRCUIT.recovers_at(self) - now

    def reset_circuit(self) -> None:
        """Close the circuits of the host and its routes, here and in the health file.

        For a host that is known to be reachable again.  The total counts stay.
        """
        if self._on_reset is not None:
            self._on_reset()
        # All other changes make a new value; this method has the name and the effect that callers
        # of a mutable health object expect.
        for name, value in vars(with_reset(with_closed_circuits(self), self._on_reset)).items():
            object.__setattr__(self, name, value)

    def circuit_state_at(self, now: float) -> CircuitState:
        """Return ``closed``, ``open`` or ``half_open``, by the rule for hosts."""
        return HOST_CIRCUIT.state_at(self, now)

    def route_state_at(self, now: float) -> CircuitState:
        """Return the state by the stricter rule for routes, which `order_routes` applies."""
        return ROUTE_CIRCUIT.state_at(self, now)

    def succeeded(self, now: float) -> SSHHealth:
        """Return the health after a success at ``now``: every circuit is closed."""
        return _changed(self, after_success(vars(self), now))

    def failed(self, now: float, reason: str) -> SSHHealth:
        """Return the health after a failure at ``now``."""
        return _changed(self, after_failure(vars(self), now, reason))

    def after(self, outcome: HostOutcome) -> SSHHealth:
        """Return a host's health after one attempt to reach it."""
        transports = dict(self.transports)
        for part in outcome.routes:
            route = transports.get(part.route, SSHHealth())
            transports[part.route] = _counted(route, part.success, outcome.at, part.reason)
        host = _changed(self, {"transports": transports})
        if outcome.success is None:
            return host
        return _counted(host, outcome.success, outcome.at, outcome.reason)


class RouteOutcome(NamedTuple):
    """Result of one route in an attempt to reach a host."""

    route: str
    success: bool
    reason: str = ""


class HostOutcome:
    """Result of an attempt to reach a host; ``success`` None: it counts for routes only."""

    def __init__(
        self,
        host: str,
        success: bool | None,
        reason: str = "",
        routes: tuple[RouteOutcome, ...] = (),
        at: float | None = None,
    ) -> None:
        """:param at: Unix seconds; None: now."""
        self.host, self.success, self.reason, self.routes = host, success, reason, routes
        self.at = time.time() if at is None else at

    def is_like(self, other: HostOutcome) -> bool:
        """Return True if they differ by their times only."""
        return vars(self) == {**vars(other), "at": self.at}


class Circuit(NamedTuple):
    """Rule by which consecutive failures open a circuit and time makes it half-open."""

    failures_to_open: int

    def backoff(self, consecutive_failures: int) -> float:
        """Return the seconds from the last failure until half-open; 0.0 for a closed circuit."""
        return backoff(consecutive_failures - self.failures_to_open)

    def recovers_at(self, health: SSHHealth) -> float:
        """Return the time at which the back-off ends; 0.0 if there was no failure."""
        return (health.last_failure or 0.0) + self.backoff(health.consecutive_failures)

    def state_at(self, health: SSHHealth, now: float) -> CircuitState:
        """Return the circuit's state at ``now``."""
        return state_at(vars(health), now, self.failures_to_open)

    def admits(self, health: SSHHealth, now: float) -> bool:
        """Return True if an attempt would be granted at ``now``."""
        state = self.state_at(health, now)
        return state == "closed" or (state == "half_open" and not is_claimed(vars(health), now))

    def claim(self, health: SSHHealth, now: float) -> SSHHealth | None:
        """Return the health after an attempt is granted; None if it is refused.

        A closed circuit grants any number of attempts; its health stays unchanged.
        """
        if not self.admits(health, now):
            return None
        is_closed = self.state_at(health, now) == "closed"
        return health if is_closed else replace(health, probing_since=now)


HOST_CIRCUIT = Circuit(FAILURES_TO_OPEN)
ROUTE_CIRCUIT = Circuit(failures_to_open=1)


def with_closed_circuits(health: SSHHealth) -> SSHHealth:
    """Return the health without consecutive failures, of the host and of all its routes."""
    routes = {name: with_closed_circuits(own) for name, own in health.transports.items()}
    return replace(health, consecutive_failures=0, probing_since=None, transports=routes)


def with_reset(health: SSHHealth, on_reset: Callable[[], None] | None) -> SSHHealth:
    """Return the health, changed so that `SSHHealth.reset_circuit` also calls ``on_reset``."""
    own = replace(health)
    object.__setattr__(own, "_on_reset", on_reset)
    return own


def order_routes(
    routes: Sequence[str], transports: Mapping[str, SSHHealth], now: float
) -> list[str]:
    """Return all routes in the order in which to try them.

    A failing route goes to the back until its back-off is over, or while another attempt has
    claimed its half-open circuit; among the routes at the back, the first to recover comes first.
    """

    def rank(route: str) -> tuple[bool, float]:
        health = transports.get(route, SSHHealth())
        if ROUTE_CIRCUIT.admits(health, now):
            return False, 0.0
        return True, ROUTE_CIRCUIT.recovers_at(health)

    return sorted(routes, key=rank)  # stable: equals keep the caller's order


def _changed(health: SSHHealth, values: dict[str, Any]) -> SSHHealth:
    """Return a copy with these values; `dataclasses.replace` takes more than twice as long."""
    made = object.__new__(type(health))
    made.__dict__.update(health.__dict__, _on_reset=None, **values)
    return made


def _counted(health: SSHHealth, success: bool, at: float, reason: str) -> SSHHealth:
    return health.succeeded(at) if success else health.failed(at, reason)

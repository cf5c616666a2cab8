"""Which host is next.  Pure: the clock is handed in, and nothing here waits.

A host's ticket is *waiting*, then *under way*, and in the end *over*.  Under way it counts against
the fanout, with one exception: while it has not been reached for a second it is *parked*, so that
dead hosts do not keep the living from their turn; once reached, it needs a place again before its
command may start.  Log-ins through one jump host are counted apart.

::

    waiting ── take ──> under way ── done ──────────────────> over
       ^                 │  ^  └──── park ──> parked ── done ──^
       └──── again ──────┘  └────── unpark ──────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .overload import Limit

__all__ = ["PARK_AFTER", "Schedule", "Ticket"]

#: Seconds after which a host that has not been reached gives up its place.
PARK_AFTER = 1.0
#: So many times the fanout are under way at most, parked ones included: each takes a thread.
_MOST = 4


@dataclass(eq=False)
class Ticket:
    """One host's turn; times are monotonic seconds."""

    index: int
    gate: str | None = None
    """The jump host that it goes through."""
    attempts: int = 0
    began_at: float = 0.0
    not_before: float = 0.0
    is_reached: bool = False
    is_parked: bool = False


@dataclass
class Schedule:
    """The turns of one run.

    :param gates: the jump host of each host, None where it is reached directly.
    :param failure_limit: begin no more when so many have failed; None: never mind.
    """

    gates: Sequence[str | None]
    fanout: int
    jump_fanout: int
    batch_size: int
    failure_limit: int | None = None
    failures: int = 0
    _waiting: deque[Ticket] = field(default_factory=deque)
    _later: deque[Ticket] = field(default_factory=deque)
    """The batches to come."""
    _under_way: set[Ticket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._later.extend(Ticket(index, gate) for index, gate in enumerate(self.gates))
        self._limit = Limit(self.fanout)
        self._gate_limits = {gate: Limit(self.jump_fanout) for gate in self.gates if gate}
        self._next_batch()

    @property
    def is_over(self) -> bool:
        """Nobody is waiting or under way."""
        return not (self._waiting or self._later or self._under_way)

    def take(self, now: float) -> Ticket | None:
        """The next host, from now on under way; None: nobody may begin now."""
        if len(self._under_way) >= _MOST * self.fanout or not self._has_place():
            return None
        for ticket in self._waiting:
            if ticket.not_before <= now and self._is_gate_open(ticket.gate):
                self._waiting.remove(ticket)
                self._under_way.add(ticket)
                ticket.attempts += 1
                ticket.began_at = now
                return ticket
        return None

    def reached(self, ticket: Ticket) -> None:
        """Its log-in went well."""
        ticket.is_reached = True
        self._limit.served()
        if ticket.gate:
            self._gate_limits[ticket.gate].served()

    def park(self, now: float) -> None:
        """Take their places from those that have not been reached for long."""
        for ticket in self._under_way:
            if not ticket.is_reached and now - ticket.began_at >= PARK_AFTER:
                ticket.is_parked = True

    def unpark(self, ticket: Ticket) -> bool:
        """Give it its place back; False: there is none."""
        if ticket.is_parked and not self._has_place():
            return False
        ticket.is_parked = False
        return True

    def done(self, ticket: Ticket, *, is_failure: bool) -> None:
        """It is over."""
        self._under_way.discard(ticket)
        self.failures += is_failure
        self._next_batch()

    def again(self, ticket: Ticket, now: float, delay: float) -> None:
        """The door was overrun: it waits for another turn, and fewer begin at once."""
        self._under_way.discard(ticket)
        limit = self._gate_limits[ticket.gate] if ticket.gate else self._limit
        limit.overloaded(ticket.began_at, now)
        ticket.is_reached = ticket.is_parked = False
        ticket.not_before = now + delay
        self._waiting.appendleft(ticket)

    def has_enough(self) -> bool:
        """Whether so many have failed that nobody else is to begin."""
        return self.failure_limit is not None and self.failures >= self.failure_limit

    def give_up(self) -> list[Ticket]:
        """Those that have not begun, who now never will."""
        left = [*self._waiting, *self._later]
        self._waiting.clear()
        self._later.clear()
        return left

    def next_wake(self, now: float) -> float | None:
        """Seconds until time alone may change something; None: it will not."""
        times = [t.not_before for t in self._waiting if t.not_before > now]
        times += [t.began_at + PARK_AFTER for t in self._under_way if _may_be_parked(t)]
        return max(0.0, min(times) - now) if times else None

    def _has_place(self) -> bool:
        return sum(not ticket.is_parked for ticket in self._under_way) < self._limit.size

    def _is_gate_open(self, gate: str | None) -> bool:
        if gate is None:
            return True
        at_it = sum(ticket.gate == gate and not ticket.is_reached for ticket in self._under_way)
        return at_it < self._gate_limits[gate].size

    def _next_batch(self) -> None:
        if self._waiting or self._under_way:
            return
        for _ in range(min(self.batch_size, len(self._later))):
            self._waiting.append(self._later.popleft())


def _may_be_parked(ticket: Ticket) -> bool:
    return not ticket.is_reached and not ticket.is_parked

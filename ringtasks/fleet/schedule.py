"""Which host is next.  Pure: the clock is handed in, and nothing here waits.

A host's ticket is *waiting*, then *under way*, and in the end *over*.  Under way it counts against
the fanout, with one exception: while it has not been reached for a while it is *parked*, so that
dead hosts do not keep the living from their turn; once reached, it needs a place again before its
command may start.  Log-ins through one jump host are counted apart.

::

    waiting ── take ──> under way ── done ──────────────────> over
       ^                 │  ^  └──── park ──> parked ── done ──^
       └──── again ──────┘  └────── unpark ──────┘
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ringtasks.ssh.race import HEAD_START

from .overload import Limit

__all__ = ["PARK_AFTER", "Schedule", "Ticket"]

#: Seconds after which a host that has not been reached gives up its place: as long as one of its
#: routes has to itself.
PARK_AFTER = HEAD_START
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


class Schedule:
    """The turns of one run.

    :param gates: the jump host of each host, None where it is reached directly.
    :param failure_limit: begin no more when so many have failed; None: never mind.
    """

    def __init__(
        self,
        gates: Sequence[str | None],
        *,
        fanout: int,
        jump_fanout: int,
        batch_size: int,
        failure_limit: int | None = None,
    ) -> None:
        self.failures = 0
        self._fanout, self._batch_size, self._failure_limit = fanout, batch_size, failure_limit
        self._later = deque(Ticket(index, gate) for index, gate in enumerate(gates))
        self._waiting: deque[Ticket] = deque()
        self._turned_away: list[Ticket] = []
        self._under_way: set[Ticket] = set()
        self._begun: deque[tuple[float, Ticket]] = deque()
        """In the order of their beginning, to be parked in that order; some are over by now."""
        self._places_taken = 0
        self._limit = Limit(fanout)
        self._gates = {gate: Limit(jump_fanout) for gate in gates if gate}
        self._at_gate: Counter[str] = Counter()
        self._next_batch()

    @property
    def is_over(self) -> bool:
        """Nobody is waiting or under way."""
        return not (self._waiting or self._turned_away or self._later or self._under_way)

    def take(self, now: float) -> Ticket | None:
        """The next host, from now on under way; None: nobody may begin now."""
        if len(self._under_way) >= _MOST * self._fanout or not self._has_place():
            return None
        for queue in (self._turned_away, self._waiting):
            for ticket in queue:
                if ticket.not_before <= now and self._is_gate_open(ticket.gate):
                    queue.remove(ticket)
                    self._begin(ticket, now)
                    return ticket
        return None

    def reached(self, ticket: Ticket) -> None:
        """Its log-in went well."""
        if ticket.is_reached:
            return
        self._leave_gate(ticket)
        ticket.is_reached = True
        self._limit.served()
        if ticket.gate:
            self._gates[ticket.gate].served()

    def park(self, now: float) -> None:
        """Take their places from those that have not been reached for long."""
        while (first := self._longest_unreached()) and first.began_at + PARK_AFTER <= now:
            self._begun.popleft()
            first.is_parked = True
            self._places_taken -= 1

    def unpark(self, ticket: Ticket) -> bool:
        """Give it its place back; False: there is none."""
        if ticket.is_parked:
            if not self._has_place():
                return False
            ticket.is_parked = False
            self._places_taken += 1
        return True

    def done(self, ticket: Ticket, *, is_failure: bool) -> None:
        """It is over."""
        self._leave(ticket)
        self.failures += is_failure
        self._next_batch()

    def again(self, ticket: Ticket, now: float, delay: float) -> None:
        """The door was overrun: it waits for another turn, and fewer begin at once."""
        self._leave(ticket)
        limit = self._gates[ticket.gate] if ticket.gate else self._limit
        limit.overloaded(ticket.began_at, now)
        ticket.is_reached = ticket.is_parked = False
        ticket.not_before = now + delay
        self._turned_away.append(ticket)

    def has_enough(self) -> bool:
        """Whether so many have failed that nobody else is to begin."""
        return self._failure_limit is not None and self.failures >= self._failure_limit

    def give_up(self) -> list[Ticket]:
        """Those that are not under way, who now never will be."""
        left = [*self._turned_away, *self._waiting, *self._later]
        for queue in (self._turned_away, self._waiting, self._later):
            queue.clear()
        return left

    def next_wake(self, now: float) -> float | None:
        """Seconds until time alone may change something; None: it will not."""
        times = [ticket.not_before for ticket in self._turned_away if ticket.not_before > now]
        first = self._longest_unreached()
        if first is not None:
            times.append(first.began_at + PARK_AFTER)
        return max(0.0, min(times) - now) if times else None

    def _begin(self, ticket: Ticket, now: float) -> None:
        ticket.attempts += 1
        ticket.began_at = now
        self._under_way.add(ticket)
        self._begun.append((now, ticket))
        self._places_taken += 1
        if ticket.gate:
            self._at_gate[ticket.gate] += 1

    def _leave(self, ticket: Ticket) -> None:
        self._under_way.discard(ticket)
        self._places_taken -= not ticket.is_parked
        if not ticket.is_reached:
            self._leave_gate(ticket)

    def _leave_gate(self, ticket: Ticket) -> None:
        if ticket.gate:
            self._at_gate[ticket.gate] -= 1

    def _longest_unreached(self) -> Ticket | None:
        """Who has been in his place without being reached for longest."""
        while self._begun:
            began_at, ticket = self._begun[0]
            if (
                ticket in self._under_way
                and ticket.began_at == began_at
                and not (ticket.is_reached or ticket.is_parked)
            ):
                return ticket
            self._begun.popleft()
        return None

    def _has_place(self) -> bool:
        return self._places_taken < self._limit.size

    def _is_gate_open(self, gate: str | None) -> bool:
        return gate is None or self._at_gate[gate] < self._gates[gate].size

    def _next_batch(self) -> None:
        if self._waiting or self._turned_away or self._under_way:
            return
        for _ in range(min(self._batch_size, len(self._later))):
            self._waiting.append(self._later.popleft())

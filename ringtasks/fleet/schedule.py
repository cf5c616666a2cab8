"""Decide which host is next.  Pure: the clock is passed in, and nothing here waits.

A host's ticket is *waiting*, then *under way*, and in the end *over*.  Under way it counts against
the fanout, with one exception: a host that has not answered for a while is *parked*, so that
unreachable hosts do not hold up the others.  When it is reached it needs a place again before its
command may start.  Log-ins through one jump host have a limit of their own.

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

#: Seconds after which a host that has not been reached gives up its place: the head start of one
#: route before the next one is tried.
PARK_AFTER = HEAD_START
#: At most this many times the fanout are under way, parked ones included: each has a thread.
_MOST = 4


@dataclass(eq=False)
class Ticket:
    """One host's turn; times are monotonic seconds."""

    index: int
    jump_host: str | None = None
    """The jump host of its direct route."""
    attempts: int = 0
    began_at: float = 0.0
    not_before: float = 0.0
    is_reached: bool = False
    is_parked: bool = False


class Schedule:
    """The order of one run.

    :param jump_hosts: the jump host of each host; None if it has none.
    :param failure_limit: start no more hosts after this many failures; None: no limit.
    """

    def __init__(
        self,
        jump_hosts: Sequence[str | None],
        *,
        fanout: int,
        jump_fanout: int,
        batch_size: int,
        failure_limit: int | None = None,
    ) -> None:
        self.failures = 0
        self._fanout, self._batch_size, self._failure_limit = fanout, batch_size, failure_limit
        self._later = deque(Ticket(index, jump) for index, jump in enumerate(jump_hosts))
        self._waiting: deque[Ticket] = deque()
        self._turned_away: list[Ticket] = []
        self._under_way: set[Ticket] = set()
        self._begun: deque[tuple[float, Ticket]] = deque()
        """In the order of their start, to be parked in that order; some may be over."""
        self._places_taken = 0
        self._limit = Limit(fanout)
        self._jump_limits = {jump: Limit(jump_fanout) for jump in jump_hosts if jump}
        self._at_jump_host: Counter[str] = Counter()
        self._next_batch()

    @property
    def is_over(self) -> bool:
        """True if no host is waiting or under way."""
        return not (self._waiting or self._turned_away or self._later or self._under_way)

    def take(self, now: float) -> Ticket | None:
        """Return the next host, which is under way from now on; None if none may start now."""
        if len(self._under_way) >= _MOST * self._fanout or not self._has_place():
            return None
        for queue in (self._turned_away, self._waiting):
            for ticket in queue:
                if ticket.not_before <= now and self._has_jump_place(ticket.jump_host):
                    queue.remove(ticket)
                    self._begin(ticket, now)
                    return ticket
        return None

    def reached(self, ticket: Ticket) -> None:
        """Note a successful log-in."""
        if ticket.is_reached:
            return
        self._leave_jump_host(ticket)
        ticket.is_reached = True
        self._limit.served()
        if ticket.jump_host:
            self._jump_limits[ticket.jump_host].served()

    def park(self, now: float) -> None:
        """Park the hosts that have not been reached for `PARK_AFTER` seconds."""
        while (first := self._longest_unreached()) and first.began_at + PARK_AFTER <= now:
            self._begun.popleft()
            first.is_parked = True
            self._places_taken -= 1

    def unpark(self, ticket: Ticket) -> bool:
        """Give a parked host a place again; False if none is free."""
        if ticket.is_parked:
            if not self._has_place():
                return False
            ticket.is_parked = False
            self._places_taken += 1
        return True

    def done(self, ticket: Ticket, *, is_failure: bool) -> None:
        """Note that a host has ended."""
        self._leave(ticket)
        self.failures += is_failure
        self._next_batch()

    def again(self, ticket: Ticket, now: float, delay: float) -> None:
        """Queue a host whose log-in was dropped, and lower the number of log-ins at once."""
        self._leave(ticket)
        limit = self._jump_limits[ticket.jump_host] if ticket.jump_host else self._limit
        limit.overloaded(ticket.began_at, now)
        ticket.is_reached = ticket.is_parked = False
        ticket.not_before = now + delay
        self._turned_away.append(ticket)

    def has_enough(self) -> bool:
        """Return True if the failure limit is reached: no more hosts are to start."""
        return self._failure_limit is not None and self.failures >= self._failure_limit

    def give_up(self) -> list[Ticket]:
        """Remove and return the hosts that are not under way."""
        left = [*self._turned_away, *self._waiting, *self._later]
        for queue in (self._turned_away, self._waiting, self._later):
            queue.clear()
        return left

    def next_wake(self, now: float) -> float | None:
        """Return the seconds until a delay or a head start ends; None if none is pending."""
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
        if ticket.jump_host:
            self._at_jump_host[ticket.jump_host] += 1

    def _leave(self, ticket: Ticket) -> None:
        self._under_way.discard(ticket)
        self._places_taken -= not ticket.is_parked
        if not ticket.is_reached:
            self._leave_jump_host(ticket)

    def _leave_jump_host(self, ticket: Ticket) -> None:
        if ticket.jump_host:
            self._at_jump_host[ticket.jump_host] -= 1

    def _longest_unreached(self) -> Ticket | None:
        """Return the unreached, unparked ticket that started first."""
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

    def _has_jump_place(self, jump: str | None) -> bool:
        return jump is None or self._at_jump_host[jump] < self._jump_limits[jump].size

    def _next_batch(self) -> None:
        if self._waiting or self._turned_away or self._under_way:
            return
        for _ in range(min(self._batch_size, len(self._later))):
            self._waiting.append(self._later.popleft())

"""Back off when sshd drops log-ins.  Pure: times and random numbers are passed in.

sshd drops new connections, during the key exchange or before its banner, while too many clients
have not logged in yet (sshd_config(5), MaxStartups and PerSourceMaxStartups); a jump host refuses
to open more channels ("open failed").  Nothing was sent then, so the host is tried again later.
Meanwhile fewer log-ins run at once: half as many after each drop, one more after each success, as
TCP does on a congested path (RFC 5681 section 3.1).
"""

from __future__ import annotations

from ringtasks.errors import Reason
from ringtasks.health.model import HostOutcome

__all__ = ["Limit", "is_overload", "retry_delay"]

#: Seconds before the first retry; doubled for each further one.
_FIRST_DELAY = 0.25
_MAX_DELAY = 4.0

_REASONS = frozenset(map(str, (Reason.OVERLOADED, Reason.RESET, Reason.JUMP_FAILED)))


def is_overload(outcome: HostOutcome | None) -> bool:
    """Return True if too many simultaneous log-ins may be the reason for the failure."""
    if outcome is None or any(route.success for route in outcome.routes):
        return False
    return any(route.reason in _REASONS for route in outcome.routes)


def retry_delay(attempt: int, chance: float) -> float:
    """Return the seconds to wait after this attempt (counted from 1).

    :param chance: from 0 to 1; spreads the retries of hosts that were dropped together.
    """
    doublings = min(attempt - 1, 10)
    return min(_FIRST_DELAY * 2.0**doublings, _MAX_DELAY) * (0.5 + chance)


class Limit:
    """The number of log-ins at once, at most ``most``; times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._cut_at = float("-inf")

    @property
    def size(self) -> int:
        """At least 1."""
        return int(self._now)

    def overloaded(self, began_at: float, now: float) -> None:
        """Halve the limit, once for all attempts that began before the last cut."""
        if began_at >= self._cut_at:
            self._now = max(1.0, self._now / 2)
            self._cut_at = now

    def served(self) -> None:
        """Raise the limit by one, after a successful log-in."""
        self._now = min(float(self._most), self._now + 1)

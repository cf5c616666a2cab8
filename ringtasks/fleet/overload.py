"""Storms: a door that is overrun by our own log-ins.  Pure: times and chance are handed in.

sshd drops new connections, during the key exchange or before it says a word, when too many have not
logged in yet (sshd_config(5), MaxStartups and PerSourceMaxStartups); a jump host refuses to open
more channels ("open failed").  Nothing was sent then, so the host is tried again, later, and fewer
are tried at once meanwhile: half as many after each such answer, one more after each success, as
TCP does with a congested path (RFC 5681 section 3.1).
"""

from __future__ import annotations

from ringtasks.errors import Reason
from ringtasks.health.model import Outcome

__all__ = ["Limit", "is_overload", "retry_delay"]

#: Seconds before the first repetition; doubled for each further one.
_FIRST_DELAY = 0.25
_MAX_DELAY = 4.0

_REASONS = frozenset(
    map(str, (Reason.OVERLOADED, Reason.RESET, Reason.KEY_EXCHANGE, Reason.JUMP_FAILED))
)


def is_overload(outcome: Outcome | None) -> bool:
    """Whether a host that was not reached may just have been asked by too many at once."""
    if outcome is None or any(route.success for route in outcome.routes):
        return False
    return any(route.reason in _REASONS for route in outcome.routes)


def retry_delay(attempt: int, chance: float) -> float:
    """Seconds to wait after the attempt of this number (from 1); ``chance`` is from 0 to 1.

    Spread, so that those who were turned away together do not come back together.
    """
    doublings = min(attempt - 1, 10)
    return min(_FIRST_DELAY * 2.0**doublings, _MAX_DELAY) * (0.5 + chance)


class Limit:
    """How many at once, of at most ``most``; times are monotonic seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._cut_at = float("-inf")

    @property
    def size(self) -> int:
        """At least 1."""
        return int(self._now)

    def overloaded(self, began_at: float, now: float) -> None:
        """Halve; once for all that had begun by then, whose number was not yet the smaller one."""
        if began_at >= self._cut_at:
            self._now = max(1.0, self._now / 2)
            self._cut_at = now

    def served(self) -> None:
        """One more, after a log-in that went well."""
        self._now = min(float(self._most), self._now + 1)

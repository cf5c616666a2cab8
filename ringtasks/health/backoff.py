"""The back-off of a route or host that has failed: its state by its count of failures.  Pure."""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to load, and `quick_connect` starts with each ssh
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CLAIM_TIMEOUT", "FAILURES_TO_OPEN", "backoff", "route_state"]

FAILURES_TO_OPEN = 3  # of a host's circuit, in a row
#: Seconds until the claim to a half-open attempt expires, in case the claiming process has ended:
#: longer than the default ``connect_timeout`` (10 s), and no longer than the shortest back-off.
CLAIM_TIMEOUT = 30.0
BACKOFF_START = 30.0  # seconds; doubled by each further failure
BACKOFF_MAX = 300.0  # seconds


def backoff(doublings: int) -> float:
    """Return the seconds from the last failure until half-open; 0.0 for a closed circuit.

    :param doublings: the failures since the one that opened the circuit.
    """
    if doublings < 0:
        return 0.0
    # Past four doublings it is BACKOFF_MAX, and 2.0 ** 1024 would overflow.
    return min(BACKOFF_START * 2.0 ** min(doublings, 4), BACKOFF_MAX)


def route_state(health: dict[str, Any], now: float) -> str:
    """Return ``closed``, ``open``, ``half-open``, or ``claimed``: half-open, and being tried."""
    failures = health.get("consecutive_failures", 0)
    if not failures:
        return "closed"
    if 0 <= now - health["last_failure"] < backoff(failures - 1):
        return "open"
    claimed_at = health.get("probing_since")
    is_claimed = claimed_at is not None and 0 <= now - claimed_at < CLAIM_TIMEOUT
    return "claimed" if is_claimed else "half-open"

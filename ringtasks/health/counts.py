"""The counts of a host or a route: what an outcome changes, and the state that follows.  Pure.

The counts are a mapping of the fields in the health file, since `quick_connect`, which starts with
each ssh, has no time for the types of `model`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is slow to load
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    Counts = Mapping[str, Any]
    CircuitState = Literal["closed", "open", "half_open"]

__all__ = [
    "BACKOFF_START",
    "CLAIM_TIMEOUT",
    "FAILURES_TO_OPEN",
    "FRESH",
    "after_failure",
    "after_success",
    "backoff",
    "computed",
    "is_claimed",
    "state_at",
]

#: The counts before the first attempt.
FRESH = {"last_success": None, "last_failure": None, "consecutive_failures": 0,
         "consecutive_successes": 0, "total_successes": 0, "total_failures": 0,
         "last_reason": "", "probing_since": None}  # fmt: skip
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


def state_at(counts: Counts, now: float, failures_to_open: int) -> CircuitState:
    """Return ``closed``, ``open`` or ``half_open``."""
    doublings = counts["consecutive_failures"] - failures_to_open
    if doublings < 0:
        return "closed"
    return "open" if _is_within(backoff(doublings), counts["last_failure"], now) else "half_open"


def is_claimed(counts: Counts, now: float) -> bool:
    """Return True if a process makes the single attempt of a half-open circuit."""
    return _is_within(CLAIM_TIMEOUT, counts["probing_since"], now)


def after_success(counts: Counts, now: float) -> dict[str, Any]:
    """Return the fields that a success changes: every circuit is closed."""
    return {
        "last_success": now,
        "consecutive_failures": 0,
        "consecutive_successes": counts["consecutive_successes"] + 1,
        "total_successes": counts["total_successes"] + 1,
        "probing_since": None,
    }


def after_failure(counts: Counts, now: float, reason: str) -> dict[str, Any]:
    """Return the fields that a failure changes."""
    return {
        "last_failure": now,
        "consecutive_failures": counts["consecutive_failures"] + 1,
        "consecutive_successes": 0,
        "total_failures": counts["total_failures"] + 1,
        "last_reason": reason,
        "probing_since": None,
    }


def computed(counts: Counts, now: float) -> dict[str, Any]:
    """Return the further fields of an entry in the health file, which are for people."""
    attempts = counts["total_successes"] + counts["total_failures"]
    return {
        "is_healthy": counts["consecutive_failures"] < FAILURES_TO_OPEN,
        "success_rate": round(counts["total_successes"] / attempts, 4) if attempts else 0.0,
        "circuit_state": state_at(counts, now, FAILURES_TO_OPEN),
    }


def _is_within(span: float, since: float | None, now: float) -> bool:
    return since is not None and 0 <= now - since < span

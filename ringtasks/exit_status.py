"""What exit statuses mean, and one for several hosts.  Imports nothing: every task may need it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["INTERRUPTED", "TIMED_OUT", "UNREACHABLE", "USAGE", "combined_status"]

# As ssh(1) and timeout(1) have it; 130 is 128 + SIGINT.
USAGE = 2
TIMED_OUT = 124
INTERRUPTED = 130
UNREACHABLE = 255


def combined_status(statuses: Iterable[int]) -> int:
    """0, the status that all failures share, else 1."""
    failed = {status for status in statuses if status != 0}
    if not failed:
        return 0
    return failed.pop() if len(failed) == 1 else 1

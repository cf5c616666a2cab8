"""One exit status for several hosts.  Imports nothing: every task may need it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["combined_status"]


def combined_status(statuses: Iterable[int]) -> int:
    """0, the status that all failures share, else 1."""
    failed = {status for status in statuses if status != 0}
    if not failed:
        return 0
    return failed.pop() if len(failed) == 1 else 1

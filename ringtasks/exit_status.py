"""Exit statuses of the tasks, and one for several hosts.

Every task may need them, so this module imports no other module of ringtasks.
"""

from __future__ import annotations

TYPE_CHECKING = False  # every program loads this module, and typing takes a while
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["INTERRUPTED", "TIMED_OUT", "UNREACHABLE", "USAGE", "combined_status"]

# As defined by ssh(1) and timeout(1); 130 is 128 + SIGINT.
USAGE = 2
TIMED_OUT = 124
INTERRUPTED = 130
UNREACHABLE = 255


def combined_status(statuses: Iterable[int]) -> int:
    """Return 0 if there is no failure, else the status that all failures share, else 1."""
    failed = {status for status in statuses if status != 0}
    if not failed:
        return 0
    return failed.pop() if len(failed) == 1 else 1

"""The start times of several routes to one host.  Pure: the clock is passed in.

RFC 8305 ("Happy Eyeballs") section 5: attempts are staggered, not queued and not all at once.  The
next one starts when all running ones have failed, or when the latest has had its head start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["COSTLY_DELAY", "HEAD_START", "Race"]

#: Seconds before the next attempt starts; RFC 8305 section 8, "Connection Attempt Delay".
HEAD_START = 0.250
#: Seconds a costly attempt waits for the cheap ones.
COSTLY_DELAY = 1.0

T = TypeVar("T")


class Race(Generic[T]):
    """The schedule of one race; times are monotonic seconds.

    A costly runner waits until those already running have failed, or `COSTLY_DELAY` has passed.
    """

    def __init__(
        self, runners: Sequence[T], *, is_costly: Callable[[T], bool] = lambda _: False
    ) -> None:
        self._waiting = list(runners)
        self._is_costly = is_costly
        self._running: list[T] = []
        self._first_start = 0.0
        self._last_start = 0.0

    @property
    def running(self) -> tuple[T, ...]:
        """The runners that have started and not failed yet."""
        return tuple(self._running)

    @property
    def is_over(self) -> bool:
        """True if every runner has failed."""
        return not self._waiting and not self._running

    def next_start(self, now: float) -> float | None:
        """Return the time of the next runner's start (not before ``now``); None if none waits."""
        if not self._waiting:
            return None
        if not self._running:
            return now
        due = self._last_start + HEAD_START
        if self._is_costly(self._waiting[0]):
            due = max(due, self._first_start + COSTLY_DELAY)
        return max(due, now)

    def start(self, now: float) -> T:
        """Return the next runner, which is running from now on."""
        runner = self._waiting.pop(0)
        if not self._running:
            self._first_start = now
        self._running.append(runner)
        self._last_start = now
        return runner

    def failed(self, runner: T) -> None:
        """Remove a runner that has failed."""
        self._running.remove(runner)

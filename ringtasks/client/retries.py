"""The rules for repeating work that may be done twice.  Pure.

`Attempts` counts the attempts that a user allows, whatever the failure.  `LinkRetries` is for
ringtasks' own steps: they are repeated only if nothing but the connection failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import SSHResult

__all__ = ["RETRY_DELAY", "Attempts", "LinkRetries"]

RETRY_DELAY = 2.0  # seconds between attempts: time for a service that restarts
#: Seconds before each new attempt to reach a host that was reached before.
_UNREACHABLE_DELAYS = (0.5, 1.0, 2.0, 5.0, 10.0)


class Attempts:
    """The attempts at one command, ``most`` in all.

    An attempt whose outcome is unknown may have run the command: the last result tells of it.

    :param until_known: an attempt whose outcome is known is the last, also if it failed.
    """

    def __init__(self, most: int, *, until_known: bool = False) -> None:
        self.most, self.made = most, 0
        self._until_known = until_known
        self._unknown: list[str] = []

    def is_last(self, result: SSHResult) -> bool:
        """Count an attempt; return True if it succeeded, or if no more are allowed."""
        self.made += 1
        is_good = not result.is_unknown if self._until_known else result.success
        if is_good or self.made == self.most:
            return True
        if result.is_unknown:
            self._unknown.append(f"attempt {self.made}: {result.error}")
        return False

    def with_notes(self, result: SSHResult) -> SSHResult:
        """Return the last result; ``error`` also lists the attempts with an unknown outcome."""
        return result.with_note("; ".join(self._unknown)) if self._unknown else result


class LinkRetries:
    """The attempts at steps that may run twice, while only the connection to the host fails.

    After a lost link the next attempt is made at once; while the host is unreachable, after growing
    delays.

    :param most_losses: the number of lost links after which there is no further attempt.
    :param is_reached: the host was reached before; else only a lost link shows that it was.
    """

    def __init__(self, most_losses: int, *, is_reached: bool = False) -> None:
        self.losses = 0
        self._most_losses, self._is_reached = most_losses, is_reached
        self._refused = 0

    def delay(self, result: SSHResult) -> float | None:
        """Return the seconds until the next attempt; None: it succeeded, or is not repeated."""
        if not result.is_worth_another_try or self.losses >= self._most_losses:
            self._refused = 0
            return None
        if result.is_unknown:
            self.losses += 1
            self._refused, self._is_reached = 0, True
            return 0.0
        if not self._is_reached or self._refused == len(_UNREACHABLE_DELAYS):
            return None
        self._refused += 1
        return _UNREACHABLE_DELAYS[self._refused - 1]

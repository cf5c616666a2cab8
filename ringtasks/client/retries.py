"""The rule for repeating a command that may run twice.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .result import SSHResult

__all__ = ["RETRY_DELAY", "Attempts"]

RETRY_DELAY = 2.0  # seconds between attempts


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

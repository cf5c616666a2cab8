"""Ending work that waits in another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Cancellation"]


class Cancellation:
    """A request to stop, and the one thing to do when it comes (close what is waited on).

    `cancel` and `when_cancelled` may be called from different threads in any order: what is
    registered after the request is done at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._action: Callable[[], None] | None = None

    def when_cancelled(self, action: Callable[[], None] | None) -> bool:
        """Replace the action (None: nothing to do any more). False: it is too late for that."""
        with self._lock:
            if not self._is_cancelled:
                self._action = action
                return True
        if action is not None:
            action()
        return False

    def cancel(self) -> None:
        """Do the action, now and in future. Safe to repeat."""
        with self._lock:
            self._is_cancelled = True
            action, self._action = self._action, None
        if action is not None:
            action()

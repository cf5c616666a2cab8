"""End work that waits in another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Cancellation"]


class Cancellation:
    """A request to stop, and one action for it (such as to close a socket that a thread waits on).

    `cancel` and `when_cancelled` may be called from different threads in any order: an action that
    is registered after the request runs at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._action: Callable[[], None] | None = None

    def when_cancelled(self, action: Callable[[], None] | None) -> bool:
        """Replace the action (None: no action). Return False if the request has already come."""
        with self._lock:
            if not self._is_cancelled:
                self._action = action
                return True
        if action is not None:
            action()
        return False

    def cancel(self) -> None:
        """Run the action now, and later ones when they are registered. Safe to repeat."""
        with self._lock:
            self._is_cancelled = True
            action, self._action = self._action, None
        if action is not None:
            action()

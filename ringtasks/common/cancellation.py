"""A request to stop that reaches all work under way, from any thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["Cancellation"]


class Cancellation:
    """A request to stop, and the actions that end the work under way.

    An example of an action is to close a socket that a thread waits on.  Once made, the request
    stays: an action that is added afterwards runs at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self._event = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        """End the work under way, and all work that begins from now on. Safe to repeat."""
        with self._lock:
            self._event.set()
            actions = list(self._actions)
        for action in actions:
            action()

    def wait(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds, or until `cancel`; return whether it was called."""
        return self._event.wait(timeout)

    def add(self, action: Callable[[], None]) -> None:
        """Let `cancel` call ``action``."""
        with self._lock:
            self._actions.append(action)
            is_cancelled = self.is_cancelled
        if is_cancelled:
            action()

    def clear(self) -> None:
        """Remove all actions."""
        with self._lock:
            self._actions.clear()

    @contextlib.contextmanager
    def calling(self, action: Callable[[], None]) -> Iterator[None]:
        """Let `cancel` call ``action`` while the block runs."""
        self.add(action)
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)

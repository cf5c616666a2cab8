"""A request to stop that reaches all work under way, from any thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["Stop"]


class Stop:
    """A request to stop: unset at first; once set, it stays set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self._event = threading.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """End the work under way, and all work that begins from now on."""
        with self._lock:
            self._event.set()
            actions = list(self._actions)
        for action in actions:
            action()

    def wait(self, timeout: float) -> None:
        """Wait ``timeout`` seconds, or until the request is set."""
        self._event.wait(timeout)

    @contextlib.contextmanager
    def ending(self, action: Callable[[], None]) -> Iterator[None]:
        """Call ``action`` if the request comes inside the block; at once if it has come before."""
        with self._lock:
            self._actions.append(action)
            is_set = self.is_set
        if is_set:
            action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)

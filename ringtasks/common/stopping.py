"""A request to stop that reaches whatever is under way, from any thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["Stop"]


class Stop:
    """Unset at first; once set it stays so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self._event = threading.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """End what is under way, and whatever begins from now on."""
        with self._lock:
            self._event.set()
            actions = list(self._actions)
        for action in actions:
            action()

    def wait(self, timeout: float) -> None:
        """For ``timeout`` seconds, or until it is set."""
        self._event.wait(timeout)

    @contextlib.contextmanager
    def ending(self, action: Callable[[], None]) -> Iterator[None]:
        """Inside, ``action`` is called when the request comes; at once if it has come."""
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

"""The progress line of a run on several hosts, shown after the first second."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .screen import Screen

if TYPE_CHECKING:
    from ringtasks.fleet import HostResult

__all__ = ["HostProgress"]

_FIRST_AFTER = 1.0  # seconds
_INTERVAL = 0.25  # seconds


class HostProgress:
    """Counter of finished hosts with a progress line; used with ``with``, around the run."""

    def __init__(self, screen: Screen, hosts: int) -> None:
        self._screen, self._hosts = screen, hosts
        self._counts: dict[str, int] = {}
        self._is_over = threading.Event()
        self._began_at = time.monotonic()
        self._note = ""

    def arrived(self, found: HostResult) -> None:
        """Count a host that has ended."""
        self._counts[str(found.state)] = self._counts.get(str(found.state), 0) + 1

    def stopping(self) -> None:
        """Show that the run is being ended."""
        self._note = "stopping"

    def __enter__(self) -> HostProgress:
        if self._screen.has_progress:
            threading.Thread(target=self._tick, name="ringtasks-progress", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._screen.progress("")

    def _tick(self) -> None:
        pause = _FIRST_AFTER
        while not self._is_over.wait(pause):
            self._screen.progress(self._text())
            pause = _INTERVAL
        self._screen.progress("")

    def _text(self) -> str:
        done = sum(self._counts.values())
        parts = [f"{count} {state}" for state, count in sorted(self._counts.items())]
        elapsed = f"{time.monotonic() - self._began_at:.0f} s"
        told = [f"{done}/{self._hosts} hosts", *parts, elapsed, *([self._note] * bool(self._note))]
        return "ringtasks: " + ", ".join(told)

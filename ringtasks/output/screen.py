"""Write whole pieces to stdout and stderr, and hide the progress line meanwhile.

The line of a run on several hosts is shown after its first second.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from .display import write_bytes

if TYPE_CHECKING:
    from ringtasks.fleet import HostResult

__all__ = ["HostProgress", "Screen"]

_FIRST_AFTER = 1.0  # seconds
_INTERVAL = 0.25  # seconds
_CLEAR_LINE = b"\r\x1b[K"  # ECMA-48: EL


class Screen:
    """Writer to stdout and stderr for all threads, one piece at a time."""

    def __init__(self) -> None:
        self.has_progress = _is_terminal(2)
        """True if a progress line is shown: on a terminal only."""
        self.has_colour = _is_terminal(1) and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._progress = b""

    def write(self, stream: int, piece: bytes) -> None:
        """Write ``piece``, which ends in a newline, to 1 (stdout) or 2 (stderr)."""
        with self._lock:
            self._hide()
            write_bytes(stream, piece)
            self._show()

    def progress(self, text: str) -> None:
        """Replace the progress line; an empty text removes it."""
        if not self.has_progress:
            return
        with self._lock:
            self._hide()
            self._progress = text[: _columns() - 1].encode()
            self._show()

    def _hide(self) -> None:
        if self._progress:
            write_bytes(2, _CLEAR_LINE)

    def _show(self) -> None:
        if self._progress:
            write_bytes(2, self._progress)


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


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80  # 0: the size of the terminal is not set
    except OSError:
        return 80


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor) and os.environ.get("TERM", "dumb") != "dumb"
    except OSError:
        return False

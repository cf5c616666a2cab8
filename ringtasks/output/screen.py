"""Write whole pieces to stdout and stderr, and hide the progress line meanwhile."""

from __future__ import annotations

import os
import threading

from .display import write_bytes

__all__ = ["Screen"]

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

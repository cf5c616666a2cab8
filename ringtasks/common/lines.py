"""The lines of a byte stream that arrives in chunks.  Pure."""

from __future__ import annotations

__all__ = ["Lines"]

#: A longer line is folded, and then comes in pieces: output without newlines uses bounded memory.
_MAX_LINE_BYTES = 1024 * 1024


class Lines:
    """Joins pieces to whole lines, each in the form that a terminal shows in the end.

    A progress bar that returns to the beginning of its line (``\\r``) is one line: its last form.
    """

    def __init__(self, max_line_bytes: int = _MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._partial = b""

    def add(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are complete now, without their line ends."""
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        if len(self._partial) > self._max_line_bytes:
            self._partial = _folded(self._partial) + b"\r" * self._partial.endswith(b"\r")
        if len(self._partial) > self._max_line_bytes:
            whole += self.end()
        return [_folded(line) for line in whole]

    def end(self) -> list[bytes]:
        """Return the rest: a line without a line end."""
        partial, self._partial = self._partial, b""
        return [_folded(partial)] if partial else []


def _folded(line: bytes) -> bytes:
    """Return the final form of the line: the text after the last ``\\r`` that is not at its end."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]

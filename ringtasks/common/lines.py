"""The lines of a byte stream that arrives in chunks."""

from __future__ import annotations

__all__ = ["LineBuffer"]

#: A longer line comes in pieces, so that output without newlines uses bounded memory.
_MAX_LINE_BYTES = 64 * 1024


class LineBuffer:
    """Takes chunks and returns the lines that they complete, without their newlines."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, and the pieces of one that is too long."""
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        return whole if len(self._partial) <= _MAX_LINE_BYTES else [*whole, *self.rest()]

    def rest(self) -> list[bytes]:
        """Return the line that has no end, if there is one."""
        partial, self._partial = self._partial, b""
        return [partial] if partial else []

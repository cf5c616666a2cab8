"""The lines of a byte stream that arrives in chunks.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["LineBuffer", "Lines", "folded_line"]

#: A longer line comes in pieces, so that output without newlines uses bounded memory.
_MAX_BUFFER_BYTES = 64 * 1024
#: The same for `Lines`, which folds it first.
_MAX_LINE_BYTES = 1024 * 1024


class LineBuffer:
    """Takes chunks and returns the lines that they complete, without their newlines."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` completes, and the pieces of one that is too long."""
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        return whole if len(self._partial) <= _MAX_BUFFER_BYTES else [*whole, *self.rest()]

    def rest(self) -> list[bytes]:
        """Return the line that has no end, if there is one."""
        partial, self._partial = self._partial, b""
        return [partial] if partial else []


class Lines:
    """Joins pieces to whole lines, each in the form that a terminal shows in the end.

    A progress bar that returns to the beginning of its line (``\\r``) is one line: its last form.
    """

    def __init__(self, max_line_bytes: int = _MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._partial = b""

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete now, without their line ends."""
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        for line in whole:
            yield folded_line(line)
        if len(self._partial) > self._max_line_bytes:
            self._partial = folded_line(self._partial) + b"\r" * self._partial.endswith(b"\r")
        if len(self._partial) > self._max_line_bytes:
            yield from self.end()

    def end(self) -> Iterator[bytes]:
        """Yield the rest: a line without a line end."""
        partial, self._partial = self._partial, b""
        if partial:
            yield folded_line(partial)


def folded_line(line: bytes) -> bytes:
    """Return the final form of the line: the text after the last ``\\r`` that is not at its end."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]

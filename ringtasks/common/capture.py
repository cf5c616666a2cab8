"""Output kept in bounded memory: its head and its tail."""

from __future__ import annotations

import collections

__all__ = ["MAX_OUTPUT_BYTES", "Capture", "CapturedOutput"]

#: Default bound for one stream of one command.
MAX_OUTPUT_BYTES = 64 * 1024 * 1024


class Capture:
    """Collected bytes; beyond ``limit_bytes`` only the first and last half of that are kept."""

    def __init__(self, limit_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self._head_limit = limit_bytes // 2
        self._tail_limit = limit_bytes - self._head_limit
        self._head = bytearray()
        self._tail: collections.deque[bytes] = collections.deque()
        self._tail_bytes = 0
        self.dropped_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Add the next bytes."""
        room = self._head_limit - len(self._head)
        self._head += chunk[:room]
        rest = chunk[room:]
        if not rest:
            return
        self._tail.append(rest)
        self._tail_bytes += len(rest)
        while self._tail_bytes > self._tail_limit:
            self._drop_oldest(self._tail_bytes - self._tail_limit)

    def clear(self) -> None:
        """Drop what was kept."""
        self.dropped_bytes += len(self._head) + self._tail_bytes
        self._head, self._tail_bytes = bytearray(), 0
        self._tail.clear()

    def getvalue(self) -> bytes:
        """Return the kept bytes, with a line in the middle that gives the number dropped."""
        gap = b""
        if self.dropped_bytes:
            gap = b"\n[ringtasks: %d bytes dropped here]\n" % self.dropped_bytes
        return b"".join([bytes(self._head), gap, *self._tail])

    def _drop_oldest(self, excess: int) -> None:
        oldest = self._tail.popleft()
        kept = oldest[excess:]
        if kept:
            self._tail.appendleft(kept)
        dropped = len(oldest) - len(kept)
        self._tail_bytes -= dropped
        self.dropped_bytes += dropped


class CapturedOutput:
    """The two output streams of a program, each a `Capture`."""

    def __init__(self, limit_bytes: int = MAX_OUTPUT_BYTES) -> None:
        self.stdout, self.stderr = Capture(limit_bytes), Capture(limit_bytes)

    def add(self, stream: int, chunk: bytes) -> None:
        """Add the next bytes of stream 1 (stdout) or 2 (stderr)."""
        (self.stdout if stream == 1 else self.stderr).add(chunk)

    def clear(self) -> None:
        """Free the memory of what was kept."""
        for capture in (self.stdout, self.stderr):
            capture.clear()

    def getvalues(self) -> tuple[bytes, bytes]:
        """Return the kept bytes of stdout and of stderr."""
        return self.stdout.getvalue(), self.stderr.getvalue()

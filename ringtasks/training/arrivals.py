"""The times at which a log's local copy grew, for curves over time.

``LOG.times`` has a line for each second in which it grew: its size, and the Unix time; ``-`` for a
time if the output until there is older: it came at once, after an interruption.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.regular_file import open_regular

__all__ = ["ArrivalTimes", "pieces"]

_INTERVAL = 1.0
#: The time in which a host sends the output that was printed while nothing followed it.
_CATCH_UP = 5.0
_MAX_BYTES = 16 << 20
_PIECE_BYTES = 1 << 20


def _file(log: Path) -> Path:
    return log.with_name(f"{log.name}.times")


class ArrivalTimes:
    """Notes the times at which a copy grows. A failure to write them is no failure of the run.

    :param known: the size of the copy that was there before.
    """

    def __init__(self, log: Path, known: int) -> None:
        self._file, self._noted = _file(log), known
        now = time.time()
        self._known_from = now + _CATCH_UP if known else now
        self._size, self._next = known, now
        self._grown_at = now

    def grown(self, size: int) -> None:
        """Note that the copy has this size now, at most once a second."""
        self._size, self._grown_at = size, time.time()
        if self._grown_at >= self._next:
            self.end()

    def end(self) -> None:
        """Note the last size, if it was not noted yet."""
        if self._size <= self._noted:
            return
        is_known = self._grown_at >= self._known_from
        self._next, self._noted = self._grown_at + _INTERVAL, self._size
        with contextlib.suppress(OSError), self._file.open("a") as out:
            out.write(f"{self._size} {f'{self._grown_at:.1f}' if is_known else '-'}\n")


def pieces(log: Path) -> Iterator[tuple[bytes, float | None]]:
    """Yield the pieces of a log's copy, each with the time at which it came; None: not known."""
    with os.fdopen(open_regular(log), "rb") as content:
        at = 0
        for size, when in (*_noted(_file(log)), (sys.maxsize, None)):
            while piece := content.read(min(_PIECE_BYTES, max(0, size - at))):
                yield piece, when
                at += len(piece)


def _noted(file: Path) -> Iterator[tuple[int, float | None]]:
    try:
        with os.fdopen(open_regular(file), "rb") as noted:
            lines = noted.read(_MAX_BYTES).split(b"\n")[:-1]  # the last one may be incomplete
    except OSError:
        return
    for line in lines:
        size, _, when = line.partition(b" ")
        with contextlib.suppress(ValueError):
            yield int(size), None if when == b"-" else float(when)

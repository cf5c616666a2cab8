"""Read the output of a training program into its history."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .history import History
from .line_reader import LineReader
from .lines import LineSplitter
from .stamps import Clock
from .wrapped_lines import WrappedLines

if TYPE_CHECKING:
    from .bulk_reader import BulkReader

__all__ = ["LogReader"]

_CHUNK_BYTES = 1 << 21
#: Fewer lines are read one by one: the bulk reader imports NumPy.
_MIN_LINES = 128
#: In front of all lines: "docker logs -t", "kubectl logs --timestamps", CRI, GitHub's runners.
_STAMP = re.compile(
    rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,9}Z (?:std(?:out|err) F )?(?=[^\n])", re.MULTILINE
)
_LAST_WORD = re.compile(rb"[^\s)\]}|]*\Z")


class LogReader:
    """Reads one stream of output into a history; several may share it, one for each host.

    :param one_by_one: read no lines together.  The result is the same.
    :param has_stamps: read the lines' time stamps, too.
    """

    def __init__(
        self, history: History, *, one_by_one: bool = False, has_stamps: bool = False
    ) -> None:
        self._history = history
        self._one_by_one = one_by_one
        self._clock = Clock() if has_stamps else None
        self._lines = LineSplitter()
        self._wrapped = WrappedLines()
        self._reader = LineReader()
        self._bulk: BulkReader | None = None
        self._is_stamped: bool | None = None

    @property
    def read_alone(self) -> int:
        """The number of lines of long pieces of output that were read one by one."""
        return self._bulk.read_alone if self._bulk else 0

    def feed(self, chunk: bytes) -> None:
        """Read the program's next output."""
        for start in range(0, len(chunk), _CHUNK_BYTES):
            text = self._wrapped.feed(self._lines.feed(chunk[start : start + _CHUNK_BYTES]))
            if self._one_by_one or text.count(b"\n") < _MIN_LINES:
                self._read_each(text)
            else:
                self._in_bulk.read(self._without_stamps(text), self._times_of(text))

    def _read_each(self, text: bytes) -> None:
        for line in text.split(b"\n") if text else ():
            self._read(line)

    def _read(self, line: bytes) -> None:
        if self._clock is not None:
            self._history.set_time(self._clock.read(line.decode("latin-1")))
        self._history.merge(self._reader.read(self._without_stamps(line)))

    def _without_stamps(self, text: bytes) -> bytes:
        """Return lines without the stamp that something else put in front, if the first has one."""
        if self._is_stamped is None:
            self._is_stamped = _STAMP.match(text) is not None
        return _STAMP.sub(b"", text) if self._is_stamped else text

    def _times_of(self, text: bytes) -> list[float | None] | None:
        if self._clock is None:
            return None
        return [self._clock.read(line) for line in text.decode("latin-1").split("\n")]

    @property
    def _in_bulk(self) -> BulkReader:
        if self._bulk is None:
            from .bulk_reader import BulkReader

            self._bulk = BulkReader(self._reader, self._history)
        return self._bulk

    def end(self, *, is_cut: bool = False) -> None:
        """Read the text after the last line's end, and the records that were held back.

        :param is_cut: the text may go on: its last word is left out, as it may be half a number.
        """
        rest = self._lines.rest()
        text = b"\n".join(filter(None, (self._wrapped.feed(rest), self._wrapped.rest())))
        if is_cut and (rest or self._wrapped.is_sure):
            text = _LAST_WORD.sub(b"", text)
        self._read_each(text)
        self._history.merge(self._reader.end())

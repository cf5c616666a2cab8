"""Read the output of a training program into its history.

Each layout has a reader, which recognises its own lines; a line that no reader recognises goes to
the grammar.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .bars import BarReader, parse_bar
from .blocks import BlockReader
from .boxes import BoxReader, begins_box
from .grammar import parse
from .history import History
from .keras import KerasReader, is_of_keras
from .lines import LineSplitter
from .numbers import as_float
from .parsed import Parsed
from .records import Position, Record
from .shapes import ByShape
from .tables import ColumnReader, may_be_row

__all__ = ["LogReader"]

#: Fits the processor's cache, so that work on whole blocks is fast.
_BLOCK_BYTES = 1 << 18
#: A warning quotes a line of source; LightGBM prints its best iteration again.
_NEXT_IS_NO_METRIC = re.compile(r"\w+\.py:\d+: \w*Warning\b|[Bb]est iteration is:$", re.ASCII)
_LIGHTNING_BEGINS = ("GPU available: ", "Sanity Checking", "`Trainer.fit`")


class _Line(NamedTuple):
    """A line's shape. ``is_common``: a layout that is open may have it, but none begins here."""

    is_common: bool
    skips_next: bool
    parsed: Parsed


def _look_at(text: str) -> _Line:
    is_common = may_be_row(text) and not begins_box(text) and not is_of_keras(text)
    parsed = parse(text)
    values = tuple(
        value._replace(name=value.name.encode("latin-1").decode("utf-8", "replace"))
        for value in parsed.values
    )
    skips_next = _NEXT_IS_NO_METRIC.search(text) is not None
    return _Line(is_common, skips_next, parsed._replace(values=values))


_line_of = ByShape(_look_at)


class LogReader:
    """Reads one stream of output into a history; several may share it, one for each host."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._lines = LineSplitter()
        self._bars = BarReader()
        self._keras = KerasReader()
        self._columns = ColumnReader()
        self._boxes = BoxReader()
        self._blocks = BlockReader()
        self._skips_next = False

    def feed(self, chunk: bytes) -> None:
        """Read the program's next output."""
        for start in range(0, len(chunk), _BLOCK_BYTES):
            for line in self._lines.feed(chunk[start : start + _BLOCK_BYTES]):
                if line:
                    self._read(line.decode("latin-1"))

    def end(self) -> None:
        """Read the text after the last line's end, and the records that were held back."""
        for line in self._lines.rest():
            self._read(line.decode("latin-1"))
        self._history.merge(self._bars.end())
        self._history.merge(self._keras.end())
        self._history.merge(self._boxes.end())

    def _read(self, text: str) -> None:
        skips, self._skips_next = self._skips_next, False
        if skips and (text[:1].isspace() or text.startswith("[")):
            return
        block = self._blocks.read(text)
        if block is not None:
            text = block
        if "it/s" in text or "%|" in text or "s/it" in text or "| 0/? [" in text:
            bar = parse_bar(text)
            if bar is not None:
                self._bars.is_lightning |= _is_of_lightning(text)
                self._history.merge(self._bars.read(bar))
                if not bar.head and bar.unit in ("", "step"):
                    self._history.show_bar(Position(bar.done, bar.total))
                text = text[bar.end :]
        if not text.strip():
            return
        self._bars.is_lightning = self._bars.is_lightning or _is_of_lightning(text)
        line = _line_of(text)
        if line.is_common:
            record = self._columns.row(text)
            if record is None and self._boxes.is_open:
                record = self._boxes.read(text)
        else:
            records = self._keras.read(text)
            if records is not None:
                self._history.merge(records)
                return
            record = self._columns.read(text) or self._boxes.read(text)
        if record is not None:
            self._history.add(record)
            return
        self._skips_next = line.skips_next
        self._history.add(_record(line.parsed, text))


def _is_of_lightning(text: str) -> bool:
    return text.startswith(_LIGHTNING_BEGINS) or "DataLoader 0:" in text or "v_num=" in text


def _record(parsed: Parsed, text: str) -> Record:
    def number(span: tuple[int, int]) -> float | None:
        return as_float(text[slice(*span)])

    places: dict[str, Position] = {}
    for unit, done, total in parsed.places:
        count = number(done)
        if count is not None:
            places[unit] = Position(count, (number(total) or None) if total else None)
    values = []
    for name, span in parsed.values:
        value = number(span)
        if value is not None:
            values.append((name, value))
    totals = {unit: value for unit, span in parsed.totals if (value := number(span))}
    rank = number(parsed.rank) if parsed.rank else None
    return Record(
        places, values, totals, int(rank) if rank is not None else None,
        "dict" if parsed.is_dict else "line",
    )  # fmt: skip

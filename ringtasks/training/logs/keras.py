"""Keras: ``Epoch 1/5``, then a bar whose metrics are means of the epoch so far.

Only a full bar shows the epoch's own metrics.  A bar without such a heading is of ``evaluate`` or
``predict``, which belong to no epoch.  keras/src/utils/progbar.py (Keras 2 and 3, ``verbose`` 1 and
2).
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from .numbers import as_float
from .parsed import Span, Value
from .records import Position, Record
from .template_cache import TemplateCache
from .text_lines import parse_fields
from .words import is_unrecorded

__all__ = ["KerasLine", "KerasReader", "find_line", "is_of_keras"]

_HEADING = re.compile(r"\s*Epoch (\d+)/(\d+)\s*$", re.ASCII)
_BAR = re.compile(
    r"\s*(?P<done>\d+)/(?P<total>\d+|Unknown|\?)\s(?:\[[=>.]{5,}\] -|[\x80-\xff]{10,}\s?|-)\s"
    r"(?P<rest>.*\d+m?[su](?:/step|/sample|/epoch)?\b.*)$",
    re.ASCII,
)


class KerasLine(NamedTuple):
    """The parts of a heading, or of a bar, and the spans of a bar's metrics."""

    is_heading: bool = False
    done: Span = (0, 0)
    total: Span = (0, 0)
    values: tuple[Value, ...] = ()

    def __bool__(self) -> bool:
        return self.done[1] > 0


def _find_line(text: str) -> KerasLine:
    if heading := _HEADING.match(text):
        return KerasLine(True, heading.span(1), heading.span(2))
    bar = _BAR.match(text)
    if bar is None:
        return KerasLine()
    start = bar.start("rest")
    values = tuple(
        Value(value.name, (value.span[0] + start, value.span[1] + start))
        for value in parse_fields(bar["rest"])
        if not is_unrecorded(value.name)
    )
    return KerasLine(False, bar.span("done"), bar.span("total"), values)


#: Finds the parts of a line; the result is false for the lines of other trainers.
find_line = TemplateCache(_find_line)


def is_of_keras(text: str) -> bool:
    """Return whether a line is a heading or a bar."""
    return _HEADING.match(text) is not None or _BAR.match(text) is not None


class KerasReader:
    """Reads headings and bars; holds the last epoch's metrics until the next begins."""

    def __init__(self) -> None:
        self._epoch: Position | None = None
        self._total = b""
        self._full = 0.0
        self._done = 0
        self._held: Record | None = None

    def read(self, text: str) -> list[Record] | None:
        """Return the records of a line; None if the line is not of Keras."""
        found = find_line(text)
        return self.take(text.encode("latin-1"), found) if found else None

    def take(self, line: bytes, found: KerasLine) -> list[Record]:
        """Return the records of a line of which the parts are known."""
        done, total = line[slice(*found.done)], line[slice(*found.total)]
        if found.is_heading:
            records = self.end()
            self._epoch = Position(float(done), float(total))
            self._done, self._total = 0, b""
            return [*records, Record({"epoch": self._epoch})]
        if self._epoch is None:
            return []
        count = int(done)
        if total != self._total:
            if count < self._done or self._total not in (b"", b"Unknown", b"?"):
                return self._end_epoch()
            self._total = total
            self._full = int(total) if total.isdigit() else math.inf
        elif count < self._done:
            return self._end_epoch()
        self._done = count
        if count >= self._full:
            self._hold(line, found.values)
        return []

    def _end_epoch(self) -> list[Record]:
        """End the epoch: the bar is another, of no epoch."""
        self._epoch = None
        return self.end()

    def _hold(self, line: bytes, found: tuple[Value, ...]) -> None:
        values = [
            (value.name, number)
            for value in found
            if (number := as_float(line[slice(*value.span)])) is not None
        ]
        if self._held and not {name for name, _ in self._held.values} <= {n for n, _ in values}:
            return  # fewer metrics than the epoch has: a bar of evaluate with as many batches
        if self._epoch is not None and values:
            self._held = Record({"epoch": self._epoch}, values)

    def end(self) -> list[Record]:
        """Return the metrics of the last complete epoch."""
        held, self._held = self._held, None
        return [held] if held else []

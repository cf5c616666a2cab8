"""Keras: ``Epoch 1/5``, then a bar whose metrics are means of the epoch so far.

Only a full bar shows the epoch's own metrics.  A bar without such a heading is of ``evaluate`` or
``predict``, which belong to no epoch.  keras/src/utils/progbar.py (Keras 2 and 3, ``verbose`` 1 and
2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from .numbers import as_float
from .parsed import Span, Value
from .records import Position, Record
from .template_cache import TemplateCache
from .text_lines import parse_fields

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
    values = parse_fields(bar["rest"], bar.start("rest"))
    return KerasLine(False, bar.span("done"), bar.span("total"), values)


#: Finds the parts of a line; the result is false for the lines of other trainers.
find_line = TemplateCache(_find_line)


def is_of_keras(text: str) -> bool:
    """Return whether a line is a heading or a bar."""
    return _HEADING.match(text) is not None or _BAR.match(text) is not None


class KerasReader:
    """Reads headings and bars; holds the last epoch's metrics until the next begins."""

    def __init__(self) -> None:
        #: Reads lines that were collected, and come before the line that is read next.
        self.read_before: Callable[[], object] = list
        self.epoch: Position | None = None
        self.done, self.full = 0.0, math.inf
        self.held: Record | None = None

    def read(self, text: str) -> list[Record] | None:
        """Return the records of a line; None if the line is not of Keras."""
        found = find_line(text)
        if not found:
            return None
        self.read_before()
        return self.take(text.encode("latin-1"), found)

    def take(self, line: bytes, found: KerasLine) -> list[Record]:
        """Return the records of a line of which the parts are known."""
        done, text = float(line[slice(*found.done)]), line[slice(*found.total)]
        total = float(text) if text.isdigit() else math.inf  # "Unknown"
        if found.is_heading:
            records = self._release()
            self.begin(Position(done, total))
            return [*records, Record({"epoch": Position(done, total)})]
        if self.epoch is None:
            return []
        if done < self.done or (total != self.full and math.isfinite(self.full)):
            records = self._release()
            self.stop()
            return records
        self.done, self.full = done, total
        if done >= total:
            self._hold(line, found.values)
        return []

    def begin(self, epoch: Position) -> None:
        """Begin an epoch."""
        self.epoch, self.held = epoch, None
        self.done, self.full = 0.0, math.inf

    def stop(self) -> None:
        """End the epoch: the bar is another, of no epoch."""
        self.epoch = self.held = None

    def _hold(self, line: bytes, found: tuple[Value, ...]) -> None:
        values = [
            (value.name, number)
            for value in found
            if (number := as_float(line[slice(*value.span)])) is not None
        ]
        if self.held and not {name for name, _ in self.held.values} <= {n for n, _ in values}:
            return  # fewer metrics than the epoch has: a bar of evaluate with as many batches
        if self.epoch is not None and values:
            self.held = Record({"epoch": self.epoch}, values)

    def end(self) -> list[Record]:
        """Return the metrics of the last complete epoch."""
        self.read_before()
        return self._release()

    def _release(self) -> list[Record]:
        held, self.held = self.held, None
        return [held] if held else []

"""Keras: ``Epoch 1/5``, then a bar whose metrics are means of the epoch so far.

Only a full bar shows the epoch's own metrics.  A bar without such a heading is of ``evaluate`` or
``predict``, which belong to no epoch.  keras/src/utils/progbar.py (Keras 2 and 3, ``verbose`` 1 and
2).
"""

from __future__ import annotations

import re

from .numbers import as_float
from .parsed import Span
from .records import Position, Record
from .templates import TemplateCache
from .text import parse_fields
from .words import is_unrecorded

__all__ = ["KerasReader", "find_bar", "is_of_keras"]

_HEADING = re.compile(r"\s*Epoch (\d+)/(\d+)\s*$", re.ASCII)
_BAR = re.compile(
    r"\s*(?P<done>\d+)/(?P<total>\d+|Unknown|\?)\s(?:\[[=>.]{5,}\] -|[\x80-\xff]{10,}\s?|-)\s"
    r"(?P<rest>.*\d+m?[su](?:/step|/sample|/epoch)?\b.*)$",
    re.ASCII,
)
_fields = TemplateCache(parse_fields)


def is_of_keras(text: str) -> bool:
    """Tell whether a line is a heading or a bar."""
    return _HEADING.match(text) is not None or _BAR.match(text) is not None


def find_bar(text: str) -> tuple[Span, Span] | None:
    """Return the positions of a bar's count and total; None if one of them is missing."""
    found = _BAR.match(text)
    return (found.span("done"), found.span("total")) if found and found["total"].isdigit() else None


class KerasReader:
    """Reads headings and bars; holds the last epoch's metrics until the next begins."""

    def __init__(self) -> None:
        self._epoch: Position | None = None
        self._total: str | None = None
        self._total_text, self._full = b"", 0
        self._done = 0
        self._held: Record | None = None

    def read(self, text: str) -> list[Record] | None:
        """Return the records of a line; None if the line is not of Keras."""
        if heading := _HEADING.match(text):
            records = self.end()
            self._epoch = Position(float(heading[1]), float(heading[2]))
            self._done, self._total, self._total_text = 0, None, b""
            return [*records, Record({"epoch": self._epoch})]
        bar = _BAR.match(text)
        if bar is None:
            return None
        if self._epoch is None:
            return []
        done = int(bar["done"])
        if done < self._done or (self._total not in (None, "Unknown", "?", bar["total"])):
            self._epoch = None  # another bar, of no epoch
            return self.end()
        self._done, self._total = done, bar["total"]
        self._total_text = bar["total"].encode()
        self._full = int(bar["total"]) if bar["total"].isdigit() else 0
        if bar["total"].isdigit() and done >= int(bar["total"]):
            self._hold(bar["rest"])
        return []

    def skip(self, done: bytes, total: bytes) -> bool:
        """Skip a bar whose metrics are not yet the epoch's; False if it has to be read."""
        if self._epoch is None:
            return True
        if total != self._total_text or not self._done <= (count := int(done)) < self._full:
            return False
        self._done = count
        return True

    def _hold(self, rest: str) -> None:
        values = [
            (value.name, number)
            for value in _fields(rest)
            if (number := as_float(rest[slice(*value.span)])) is not None
            and not is_unrecorded(value.name)
        ]
        if self._held and not {name for name, _ in self._held.values} <= {n for n, _ in values}:
            return  # fewer metrics than the epoch has: a bar of evaluate with as many batches
        if self._epoch is not None and values:
            self._held = Record({"epoch": self._epoch}, values)

    def end(self) -> list[Record]:
        """Return the metrics of the last complete epoch."""
        held, self._held = self._held, None
        return [held] if held else []

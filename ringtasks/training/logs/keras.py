"""Keras: ``Epoch 1/5``, then a bar whose metrics are means of the epoch so far.

Only a full bar shows the epoch's own metrics.  A bar without such a heading is of ``evaluate`` or
``predict``, which belong to no epoch.  keras/src/utils/progbar.py (Keras 2 and 3, ``verbose`` 1 and
2).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise, starmap
from operator import gt

from .numbers import as_float
from .parsed import Span
from .records import Position, Record
from .shapes import ByShape
from .text import parse_fields
from .words import is_unrecorded

__all__ = ["KerasReader", "find_bar", "is_of_keras"]

_HEADING = re.compile(r"\s*Epoch (\d+)/(\d+)\s*$", re.ASCII)
_BAR = re.compile(
    r"\s*(?P<done>\d+)/(?P<total>\d+|Unknown|\?)\s(?:\[[=>.]{5,}\] -|[\x80-\xff]{10,}\s?|-)\s"
    r"(?P<rest>.*\d+m?[su](?:/step|/sample|/epoch)?\b.*)$",
    re.ASCII,
)
_fields = ByShape(parse_fields)


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
        self._done = 0
        self._held: Record | None = None

    def read(self, text: str) -> list[Record] | None:
        """Return the records of a line; None if the line is not of Keras."""
        if heading := _HEADING.match(text):
            records = self.end()
            self._epoch = Position(float(heading[1]), float(heading[2]))
            self._done, self._total = 0, None
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
        if bar["total"].isdigit() and done >= int(bar["total"]):
            self._hold(bar["rest"])
        return []

    def skip(self, done: Sequence[float], totals: Sequence[float]) -> list[int] | None:
        """Skip bars that are not full.

        :returns: the indices of the others; None if the bars are not those of one epoch.
        """
        total = totals[0]
        if self._epoch is None or self._total != f"{total:g}" or totals.count(total) < len(totals):
            return None
        if any(starmap(gt, pairwise([self._done, *done]))):
            return None
        first = bisect_left(done, total)
        self._done = int(done[first - 1]) if first else self._done
        return list(range(first, len(done)))

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

"""A stretch of a log, column by column instead of line by line.  Pure.

Most points of a long log are thinned out again, so a point of a stretch is made only when it is
asked for: the part of its place that it inherits from the lines before it is looked up then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress, pairwise, starmap
from operator import and_, eq, gt, ne
from typing import Any, NamedTuple, TypeAlias

from .columns import Columns
from .records import Point, Position, Record

__all__ = ["INNER", "OF_ONE_LINE", "Before", "Points", "Segment", "is_repeat"]

#: Units within others, the innermost first: the total of one of them is a point's.
INNER = ("sample", "batch", "step", "round", "episode")
#: Units that later lines do not inherit.
OF_ONE_LINE = ("batch", "sample")
#: The fields of one of many points, and those in which the others differ, with their columns.
_Template: TypeAlias = "tuple[list[Any], list[tuple[int, list[float]]]]"


class Before(NamedTuple):
    """Values that the lines before a record determine: its serial number, what it may inherit."""

    serial: int
    attempt: int
    bar_epoch: Position | None
    at: Mapping[str, Position]


#: Makes the point of a record.
_PointOf = Callable[[Before, Record], Point]


class Assignments:
    """The places of one unit, in the order of the lines that give them."""

    def __init__(self, unit: str, columns: Sequence[Columns]) -> None:
        sources = [own for own in columns if unit in own.places]
        self.lines, self.done = sources[0].lines, sources[0].places[unit]
        self._totals = sources[0].totals.get(unit)
        if len(sources) > 1:
            rows = sorted(
                row
                for own in sources
                for row in zip(own.lines, own.places[unit], _totals(own, unit), strict=True)
            )
            self.lines, self.done, self._totals = map(list, zip(*rows, strict=True))

    def before(self, line: int) -> int:
        """Return the number of lines up to ``line`` that give a place."""
        return bisect_right(self.lines, line)

    def place(self, n: int) -> Position:
        return Position(self.done[n], (self._totals[n] or None) if self._totals else None)

    @property
    def falls(self) -> bool:
        """True if a count begins anew, false if all only grow."""
        return any(starmap(gt, pairwise(self.done)))

    @property
    def last_total(self) -> tuple[int, float] | None:
        """The last total, and its line."""
        lines = reversed(self.lines)
        found = zip(lines, reversed(self._totals or ()), strict=False)
        return next(((line, total) for line, total in found if total), None)


def _totals(columns: Columns, unit: str) -> list[float]:
    return columns.totals.get(unit) or [0.0] * len(columns.lines)


def _assignments(columns: Sequence[Columns]) -> dict[str, Assignments]:
    units = {unit for own in columns for unit in own.places}
    return {unit: Assignments(unit, columns) for unit in sorted(units)}


class Segment:
    """The places in a stretch of lines. ``before``: the state at its start.

    Lines inherit places from lines.  Bars may be written on another stream, so lines and bars
    inherit an epoch alone from bars.
    """

    def __init__(self, columns: Sequence[Columns], before: Before) -> None:
        self._start = before
        bars = [own for own in columns if own.kind == "bar"]
        lines = [own for own in columns if own.kind != "bar"] if bars else columns
        self.units = _assignments(columns)
        self._of_lines = _assignments(lines) if bars else self.units
        self._bar_epochs: Assignments | None = None
        if any("epoch" in own.places for own in bars):
            self._bar_epochs = Assignments("epoch", bars)
        self._inherited = {*self._of_lines, *before.at} - {*OF_ONE_LINE}
        self.last_line = max(own.lines[-1] for own in columns)
        measured = [own.lines for own in columns if own.values]
        self._measured: Sequence[int] = (
            measured[0] if len(measured) == 1 else sorted(n for own in measured for n in own)
        )
        self._epochs: list[int] = []  # the lines at which the epoch changes
        if "epoch" in self._of_lines:
            known = before.at["epoch"].done if "epoch" in before.at else None
            given = self._of_lines["epoch"]
            changes = starmap(ne, pairwise([known, *given.done]))
            self._epochs = list(compress(given.lines, changes))

    @property
    def measured(self) -> int:
        """The number of lines that print a metric."""
        return len(self._measured)

    def measured_before(self, line: int) -> int:
        """Return the number of lines before one that print a metric."""
        return bisect_left(self._measured, line)

    def serial_at(self, line: int) -> int:
        """Return the serial number of the points of a line."""
        return self._start.serial + bisect_left(self._measured, line)

    def points(self, name: str, of: Sequence[Columns], point_of: _PointOf) -> Points:
        """Return the points of a metric that records of those schemas print."""
        if len(of) == 1:
            return Points(of[0].values[name], _RowsOfOne(of[0]), self, point_of)
        merged = sorted(
            (line, n, row) for n, columns in enumerate(of) for row, line in enumerate(columns.lines)
        )
        rows = [(of[n], row) for _, n, row in merged]
        return Points([c.values[name][row] for c, row in rows], _Rows(rows), self, point_of)

    def may_inherit(self, columns: Columns) -> bool:
        """Tell whether records may take a part of their place from other lines of the stretch."""
        own = columns.places
        if self._bar_epochs is not None and "epoch" not in own:
            return True
        if columns.kind == "bar":
            return False
        if "epoch" in self._inherited and "epoch" not in own:
            return True
        return len(own) == ("epoch" in own) and not self._inherited <= own.keys()

    def before(self, line: int) -> Before:
        """Return what the lines up to ``line`` determine for a record there."""
        return Before(
            self.serial_at(line), self._start.attempt, self.bar_epoch(line), self.at(line)
        )

    def bar_epoch(self, line: int) -> Position | None:
        """Return the epoch of the last bar that gives one."""
        if self._bar_epochs is None or not (n := self._bar_epochs.before(line)):
            return self._start.bar_epoch
        return self._bar_epochs.place(n - 1)

    def at(self, line: int) -> dict[str, Position]:
        """Return the places of the run at a line, without those that later lines do not inherit."""
        change = bisect_right(self._epochs, line)
        since = self._epochs[change - 1] if change else -1
        before = self._start.at
        found = {} if change else {u: p for u, p in before.items() if u not in OF_ONE_LINE}
        for unit, given in self._of_lines.items():
            n = given.before(line) - 1
            if n >= 0 and given.lines[n] >= (line if unit in OF_ONE_LINE else since):
                found[unit] = given.place(n)
        return found


class _Rows:
    """The rows of one or several schemas that print a metric, in the order of their lines."""

    def __init__(self, rows: Sequence[tuple[Columns, int]]) -> None:
        self._rows = rows

    def at(self, n: int) -> tuple[Columns, int]:
        return self._rows[n]


class _RowsOfOne:
    """All rows of one schema."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def at(self, n: int) -> tuple[Columns, int]:
        return self.columns, n


class Points:
    """The points of one metric in a stretch of lines; ``rows``: the records that print them."""

    def __init__(
        self,
        values: Sequence[float],
        rows: _Rows | _RowsOfOne,
        segment: Segment,
        point_of: _PointOf,
    ) -> None:
        self.values = values
        self._rows, self._segment, self._point_of = rows, segment, point_of
        self._templates: dict[int, _Template | None] = {}
        self._serial_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.values)

    def without_repeats(self) -> Points:
        """Return the points without those that are printed or drawn again at the same place.

        Of a line that is printed twice the first stays, of a bar the last.
        """
        dropped, serial_of = set[int](), dict[int, int]()
        for n in self._candidates():
            first, second = self[n], self[n + 1]
            if not is_repeat(first, second):
                continue
            dropped.add(n if second.kind == "bar" else n + 1)
            if second.kind == "bar":
                serial_of[n + 1] = serial_of.get(n, first.serial)
        if not dropped:
            return self
        kept = [n for n in range(len(self.values)) if n not in dropped]
        points = Points(
            [self.values[n] for n in kept],
            _Rows([self._rows.at(n) for n in kept]),
            self._segment,
            self._point_of,
        )
        points._serial_of = {k: serial_of[n] for k, n in enumerate(kept) if n in serial_of}
        return points

    def _candidates(self) -> Iterator[int]:
        """Yield the indices of points whose next point may be the same."""
        if not isinstance(self._rows, _RowsOfOne):
            has_bars = any(self._rows.at(n)[0].kind == "bar" for n in range(len(self)))
            for n, (a, b) in enumerate(pairwise(self.values)):
                if has_bars or a == b:
                    yield n
            return
        columns = self._rows.columns
        places = list(columns.places.values())
        if not places:
            return  # they inherit their place, or have none
        same: Iterator[bool] = starmap(eq, pairwise(places[0]))
        if columns.kind != "bar":
            same = map(and_, same, starmap(eq, pairwise(self.values)))
        for n in compress(range(len(self.values)), same):
            if all(column[n] == column[n + 1] for column in places):
                yield n

    def __getitem__(self, n: int) -> Point:
        columns, row = self._rows.at(n)
        line = columns.lines[row]
        template = self._template(columns)
        if template is None:
            point = self._point_of(self._segment.before(line), columns.record(row))
            point = point._replace(value=self.values[n])
        else:
            fields, varying = template
            fields[_SERIAL] = self._segment.serial_at(line)
            fields[_VALUE] = self.values[n]
            for field, column in varying:
                fields[field] = column[row]
            point = Point._make(fields)
        if n in self._serial_of:
            return point._replace(serial=self._serial_of[n])
        return point

    def _template(self, columns: Columns) -> _Template | None:
        """Return a point's fields, and the columns in which others differ; None if in more."""
        key = id(columns)
        if key not in self._templates:
            self._templates[key] = None
            if not self._segment.may_inherit(columns):
                varying = [(_FIELD[unit], column) for unit, column in columns.places.items()]
                if unit := next((unit for unit in INNER if unit in columns.totals), None):
                    varying.append((_FIELD["inner_total"], columns.totals[unit]))
                first = self._point_of(self._segment.before(-1), columns.record(0))
                self._templates[key] = list(first), varying
        return self._templates[key]


_FIELD = {name: n for n, name in enumerate(Point._fields)}
_SERIAL, _VALUE = _FIELD["serial"], _FIELD["value"]


def is_repeat(last: Point, point: Point) -> bool:
    """Tell whether a point is that of the line before, printed twice, or of a bar drawn again."""
    if last.place != point.place or last.attempt != point.attempt:
        return False
    if all(done is None for done in point.place):
        return False
    return point.kind == "bar" or (not point.inherited and last.value == point.value)

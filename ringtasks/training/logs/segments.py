"""A stretch of a log, column by column instead of line by line.  Pure.

Most points of a long log are thinned out again, so a point of a stretch is made only when it is
asked for: what it inherits from the lines before it is looked up then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import compress, pairwise, repeat, starmap
from operator import eq, gt, ne
from typing import Any, NamedTuple, TypeAlias

from .records import Point, Position, Record

__all__ = ["INNER", "OF_ONE_LINE", "Assignments", "Columns", "Points", "Segment"]

#: Units within others, the innermost first: the total of one of them is a point's.
INNER = ("sample", "batch", "step", "round", "episode")
#: Units that later lines do not inherit.
OF_ONE_LINE = ("batch", "sample")
#: Makes the point of a record from the places of the lines before.
_Template: TypeAlias = "tuple[Point | None, dict[str, list[float]]]"
_PointOf = Callable[[Record, Mapping[str, Position]], Point]


class Columns(NamedTuple):
    """Records of one layout. ``lines``: their line numbers; ``totals``: of some of the places."""

    lines: list[int]
    places: Mapping[str, list[float]]
    totals: Mapping[str, list[float]]
    values: Mapping[str, list[float]]
    rank: int
    kind: str

    def record(self, n: int) -> Record:
        """Return the places of one of the records."""
        places = {
            unit: Position(done[n], self.totals[unit][n] if unit in self.totals else None)
            for unit, done in self.places.items()
        }
        return Record(places, rank=self.rank, kind=self.kind)


def _totals(columns: Columns, unit: str) -> list[float]:
    return columns.totals.get(unit) or [0.0] * len(columns.lines)


class Assignments:
    """The places of one unit, in the order of the lines that give them."""

    def __init__(self, unit: str, columns: Sequence[Columns]) -> None:
        sources = [own for own in columns if unit in own.places]
        self.lines, self.done = sources[0].lines, sources[0].places[unit]
        self._totals = _totals(sources[0], unit)
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
        return Position(self.done[n], self._totals[n] or None)

    @property
    def falls(self) -> bool:
        """True if a count begins anew, false if all only grow."""
        return any(starmap(gt, pairwise(self.done)))

    @property
    def last_total(self) -> float | None:
        return next((total for total in reversed(self._totals) if total), None)


class Segment:
    """The places in a stretch of lines. ``before``: the place at its start."""

    def __init__(self, columns: Sequence[Columns], before: Mapping[str, Position]) -> None:
        units = {unit for own in columns for unit in own.places}
        self.units = {unit: Assignments(unit, columns) for unit in sorted(units)}
        self._before = before
        self._inherited = {*units, *before} - {*OF_ONE_LINE}
        self.last_line = max(own.lines[-1] for own in columns)
        self._measured = sorted(line for own in columns if own.values for line in own.lines)
        self._epochs: list[int] = []  # the lines at which the epoch changes
        if "epoch" in self.units:
            known = before["epoch"].done if "epoch" in before else None
            given = self.units["epoch"]
            changes = starmap(ne, pairwise([known, *given.done]))
            self._epochs = list(compress(given.lines, changes))

    @property
    def measured(self) -> int:
        """The number of lines that print a metric."""
        return len(self._measured)

    def measured_before(self, line: int) -> int:
        """Return the number of lines before one that print a metric."""
        return bisect_left(self._measured, line)

    def points(self, name: str, of: Sequence[Columns], point_of: _PointOf) -> Points:
        """Return the points of a metric that records of those layouts print."""
        values: Sequence[float] = of[0].values[name]
        rows = list(zip(repeat(of[0]), range(len(values)), strict=False))
        if len(of) > 1:
            merged = sorted(
                (line, n, row)
                for n, columns in enumerate(of)
                for row, line in enumerate(columns.lines)
            )
            rows = [(of[n], row) for _, n, row in merged]
            values = [columns.values[name][row] for columns, row in rows]
        return Points(values, rows, self, point_of)

    def may_inherit(self, columns: Columns) -> bool:
        """Tell whether records may take a part of their place from other lines."""
        own = columns.places
        if "epoch" in self._inherited and "epoch" not in own:
            return True
        return len(own) == ("epoch" in own) and not self._inherited <= own.keys()

    def at(self, line: int) -> dict[str, Position]:
        """Return the places of the run at a line, without those that later lines do not inherit."""
        change = bisect_right(self._epochs, line)
        since = self._epochs[change - 1] if change else -1
        found = {} if change else {u: p for u, p in self._before.items() if u not in OF_ONE_LINE}
        for unit, given in self.units.items():
            n = given.before(line) - 1
            if n >= 0 and given.lines[n] >= (line if unit in OF_ONE_LINE else since):
                found[unit] = given.place(n)
        return found


class Points:
    """The points of one metric in a stretch of lines; ``rows``: where each of them is printed."""

    def __init__(
        self,
        values: Sequence[float],
        rows: Sequence[tuple[Columns, int]],
        segment: Segment,
        point_of: _PointOf,
    ) -> None:
        self.values = values
        self._rows, self._segment, self._point_of = rows, segment, point_of
        self._templates: dict[int, _Template] = {}

    @property
    def may_repeat(self) -> bool:
        """True if a value is perhaps printed twice at the same place, false if none is."""
        if not any(starmap(eq, pairwise(self.values))):
            return False
        layouts = {id(columns): columns for columns, _ in self._rows}
        if len(layouts) > 1:
            return True
        places = self._rows[0][0].places.values()
        return bool(places) and all(any(starmap(eq, pairwise(each))) for each in places)

    def __getitem__(self, n: int) -> Point:
        columns, row = self._rows[n]
        line = columns.lines[row]
        first, varying = self._template(columns)
        changes: dict[str, Any] = {name: column[row] for name, column in varying.items()}
        if first is None:
            first = self._point_of(columns.record(row), self._segment.at(line))
        serial = first.serial + self._segment.measured_before(line)
        return first._replace(serial=serial, value=self.values[n], **changes)

    def _template(self, columns: Columns) -> _Template:
        """Return a point, and the columns in which the others differ from it; None if in more."""
        found = self._templates.get(id(columns))
        if found is None:
            found = None, {}
            if not self._segment.may_inherit(columns):
                varying = dict(columns.places)
                if unit := next((unit for unit in INNER if unit in columns.totals), None):
                    varying["inner_total"] = columns.totals[unit]
                found = self._point_of(columns.record(0), {}), varying
            self._templates[id(columns)] = found
        return found

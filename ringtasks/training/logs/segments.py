"""A segment of a log, column by column instead of line by line.  Pure.

Most points of a long log are thinned out again, so a point of a segment is made only when it is
asked for: the part of its position that it inherits from the lines before it is looked up then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .columns import Columns
from .extremes import extremes
from .number_columns import Floats, Ints
from .points import INNER, OF_ONE_LINE, Before, is_repeat, point_of
from .records import Point, Position

__all__ = ["PointsOfColumns", "Segment", "TimeOf"]

#: Returns the time of a line by its serial number; None: not known.
TimeOf: TypeAlias = "Callable[[int], float | None]"

#: The fields of one of many points, and those in which the others differ, with their columns.
_Prototype: TypeAlias = "tuple[list[Any], list[tuple[int, Floats]]]"


class _Assignments:
    """The positions of one unit, in the order of the lines that give them."""

    def __init__(self, unit: str, columns: Sequence[Columns]) -> None:
        sources = [own for own in columns if unit in own.positions]
        lines: Ints = np.concatenate([own.lines for own in sources])
        done: Floats = np.concatenate([own.positions[unit] for own in sources])
        totals = np.concatenate([own.totals.get(unit, np.zeros(len(own.lines))) for own in sources])
        if len(sources) > 1:
            order = np.argsort(lines, kind="stable")
            lines, done, totals = lines[order], done[order], totals[order]
        #: True if a count begins anew, false if all only grow.
        self.falls = bool((done[1:] < done[:-1]).any())
        self.given_at: Ints = lines
        self.counts: Floats = done
        self._totals: Floats = totals

    @cached_property
    def lines(self) -> list[int]:
        lines: list[int] = self.given_at.tolist()
        return lines

    def before(self, line: int) -> int:
        """Return the number of lines up to ``line`` that give a position."""
        return bisect_right(self.lines, line)

    def position(self, n: int) -> Position:
        return Position(float(self.counts[n]), float(self._totals[n]) or None)

    @property
    def last_total(self) -> tuple[int, float] | None:
        """The last total, and its line."""
        found = np.flatnonzero(self._totals)
        if not len(found):
            return None
        return int(self.given_at[found[-1]]), float(self._totals[found[-1]])


def _assignments(columns: Sequence[Columns]) -> dict[str, _Assignments]:
    units = {unit for own in columns for unit in own.positions}
    return {unit: _Assignments(unit, columns) for unit in sorted(units)}


class Segment:
    """The positions in a segment of the log. ``before``: the state at its start.

    Lines inherit positions from lines.  Bars may be written on another stream, so lines and bars
    inherit an epoch alone from bars.
    """

    def __init__(
        self, columns: Sequence[Columns], before: Before, time_of: TimeOf | None = None
    ) -> None:
        self._start, self._time_of = before, time_of
        bars = [own for own in columns if own.kind == "bar"]
        lines = [own for own in columns if own.kind != "bar"] if bars else columns
        self.units = _assignments(columns)
        self._of_lines = _assignments(lines) if bars else self.units
        self._bar_epochs: _Assignments | None = None
        if any("epoch" in own.positions for own in bars):
            self._bar_epochs = _Assignments("epoch", bars)
        self._inherited = {*self._of_lines, *before.at} - {*OF_ONE_LINE}
        self.last_line = int(max(own.lines[-1] for own in columns))
        measured = [own.lines for own in columns if own.values]
        self._measured_lines = np.sort(np.concatenate([np.array([], dtype=np.int64), *measured]))
        alone = [own.lines for own in lines if own.positions.keys() == {"epoch"}]
        of_whole_epochs = np.concatenate(alone).tolist() if alone else []
        self._epochs = sorted({*self._changes_of_epoch(), *of_whole_epochs})

    def _changes_of_epoch(self) -> list[int]:
        """Return the lines at which the epoch changes."""
        given = self._of_lines.get("epoch")
        if given is None:
            return []
        done = given.counts
        changes = np.flatnonzero(done[1:] != done[:-1]) + 1
        lines: list[int] = given.given_at[changes].tolist()
        known = self._start.at.get("epoch")
        return lines if known and known.done == done[0] else [int(given.given_at[0]), *lines]

    @property
    def measured(self) -> int:
        """The number of lines that print a metric."""
        return len(self._measured_lines)

    @cached_property
    def _measured(self) -> list[int]:
        measured: list[int] = self._measured_lines.tolist()
        return measured

    def measured_before(self, lines: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for each line the number of lines before it that print a metric."""
        before: npt.NDArray[np.int64] = np.searchsorted(self._measured_lines, lines)
        return before

    def serial_at(self, line: int) -> int:
        """Return the serial number of the points of a line."""
        return self._start.serial + bisect_left(self._measured, line)

    def serials_at(self, lines: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the serial numbers of the points of many lines."""
        return self.measured_before(lines) + self._start.serial

    def may_inherit(self, columns: Columns) -> bool:
        """Return whether records may take a part of their position from other lines of the log."""
        own = columns.positions
        if self._bar_epochs is not None and "epoch" not in own:
            return True
        if columns.kind == "bar":
            return False
        if "epoch" in self._inherited and "epoch" not in own:
            return True
        return len(own) == ("epoch" in own) and not self._inherited <= own.keys()

    def before(self, line: int) -> Before:
        """Return what the lines up to ``line`` determine for a record there."""
        start = self._start
        serial, at = self.serial_at(line), self.at(line)
        return Before(serial, start.attempt, self.bar_epoch(line), at, self.time_at(line))

    def time_at(self, line: int) -> float | None:
        """Return the time of a line."""
        return self._start.time if self._time_of is None else self._time_of(line)

    def bar_epoch(self, line: int) -> Position | None:
        """Return the epoch of the last bar that gives one."""
        if self._bar_epochs is None or not (n := self._bar_epochs.before(line)):
            return self._start.bar_epoch
        return self._bar_epochs.position(n - 1)

    def at(self, line: int) -> dict[str, Position]:
        """Return the run's positions at a line, without those that later lines do not inherit."""
        change = bisect_right(self._epochs, line)
        since = self._epochs[change - 1] if change else -1
        before = self._start.at
        found = {} if change else {u: p for u, p in before.items() if u not in OF_ONE_LINE}
        for unit, given in self._of_lines.items():
            n = given.before(line) - 1
            if n >= 0 and given.lines[n] >= (line if unit in OF_ONE_LINE else since):
                found[unit] = given.position(n)
        return found


class PointsOfColumns:
    """The points of one metric in a segment, made when they are asked for.

    :param of: the records that print the metric.
    """

    def __init__(self, name: str, of: Sequence[Columns], segment: Segment) -> None:
        self._columns, self._segment = of, segment
        self.values = np.concatenate([own.values[name] for own in of])
        self._lines = np.concatenate([own.lines for own in of])
        self._rows = np.concatenate([np.arange(len(own.lines)) for own in of])
        self._sources = np.repeat(np.arange(len(of)), [len(own.lines) for own in of])
        self._order = np.arange(len(self.values))
        #: The serial number of a point, if it is not that of its line; else -1.
        self._serials = np.full(len(self.values), -1)
        if len(of) > 1:
            self._select(np.argsort(self._lines, kind="stable"))
        self._prototypes: dict[int, _Prototype | None] = {}

    def __len__(self) -> int:
        return len(self.values)

    def _select(self, kept: Any) -> None:
        self.values, self._lines = self.values[kept], self._lines[kept]
        self._rows, self._sources = self._rows[kept], self._sources[kept]
        self._order, self._serials = self._order[kept], self._serials[kept]

    def drop_first(self) -> None:
        """Drop the first point."""
        self._select(slice(1, None))

    def drop_repeats(self) -> None:
        """Drop the points that are printed or drawn again at the same position.

        Of a line that is printed twice the first stays, of a bar the last.
        """
        lines = self._repeats() & ~self._is_bar[1:]
        if lines.any():
            self._select(np.concatenate([[True], ~lines]))
        bars = self._repeats() & self._is_bar[1:]
        if not bars.any():
            return
        kept = np.concatenate([~bars, [True]])
        starts = np.flatnonzero(bars & ~np.concatenate([[False], bars[:-1]]))
        firsts = starts[np.searchsorted(starts, np.flatnonzero(bars), side="right") - 1]
        self._serials[1:][bars] = self._segment.serials_at(self._lines[firsts])
        self._select(kept)

    @property
    def _is_bar(self) -> Any:
        return np.array([own.kind == "bar" for own in self._columns])[self._sources]

    def _repeats(self) -> Any:
        """Return which points the next point repeats."""
        same = self._is_bar[1:] | (self.values[1:] == self.values[:-1])
        units = {unit for own in self._columns for unit in own.positions}
        is_placed = np.zeros(len(same), dtype=bool)
        for unit in units:
            done = np.concatenate([self._positions(own, unit) for own in self._columns])[
                self._order
            ]
            after, before = done[1:], done[:-1]
            same &= (after == before) | np.isnan(after) | np.isnan(before)
            is_placed |= np.isfinite(after)
        if not units:  # they inherit their position, or have none
            return is_placed
        inherits = np.array([self._segment.may_inherit(own) for own in self._columns])
        is_certain = ~(inherits[self._sources[1:]] | inherits[self._sources[:-1]])
        for n in np.flatnonzero(same & ~is_certain).tolist():
            same[n] = is_repeat(self[n], self[n + 1])
        return same & (is_placed | ~is_certain)

    def _positions(self, columns: Columns, unit: str) -> Floats:
        """Return the positions of one unit; NaN if a record may inherit it, infinite if not."""
        missing = np.nan if self._segment.may_inherit(columns) else np.inf
        return columns.positions.get(unit, np.full(len(columns.lines), missing))

    def __getitem__(self, n: int) -> Point:
        columns, row, line = self._columns[self._sources[n]], self._rows[n], int(self._lines[n])
        prototype = self._prototype(columns)
        if prototype is None:
            point = point_of(self._segment.before(line), columns.record(row))
            point = point._replace(value=float(self.values[n]))
        else:
            fields, varying = prototype
            fields[_SERIAL] = self._segment.serial_at(line)
            fields[_VALUE], fields[_TIME] = float(self.values[n]), self._segment.time_at(line)
            for field, column in varying:
                fields[field] = float(column[row])
            point = Point._make(fields)
        serial = int(self._serials[n])
        return point if serial < 0 else point._replace(serial=serial)

    def extremes(self, start: int, count: int, size: int) -> list[int]:
        """Return the indices of the two values that stand for each of several windows."""
        found = _extremes(self.values[start : start + count * size].reshape(count, size))
        indices: list[int] = (found + start).tolist()
        return indices

    @staticmethod
    def extremes_of_windows(values: Sequence[float], size: int) -> list[int]:
        """Return the same as the function of that name."""
        whole = len(values) // size * size
        found: list[int] = _extremes(np.array(values[:whole]).reshape(-1, size)).tolist()
        return [*found, *(whole + n for n in extremes(values[whole:]))]

    def made(self, indices: Sequence[int]) -> list[Point]:
        """Return some of the points, those of like records made together."""
        at = np.array(indices)
        found: list[Point | None] = [None] * len(at)
        sources = self._sources[at]
        for source in np.unique(sources).tolist():
            own = np.flatnonzero(sources == source)
            made = self._made_of(self._columns[source], at[own])
            for n, point in zip(own.tolist(), made, strict=True):
                found[n] = point
        return [point for point in found if point is not None]

    def _made_of(self, columns: Columns, at: Any) -> Iterable[Point]:
        """Yield points of one kind of records."""
        prototype = self._prototype(columns)
        if prototype is None:
            return map(self.__getitem__, at.tolist())
        fields: list[Iterable[Any]] = [repeat(field, len(at)) for field in prototype[0]]
        own, rows = self._serials[at], self._rows[at]
        fields[_SERIAL] = np.where(own < 0, self._segment.serials_at(self._lines[at]), own).tolist()
        fields[_VALUE] = self.values[at].tolist()
        fields[_TIME] = map(self._segment.time_at, self._lines[at].tolist())
        for field, column in prototype[1]:
            fields[field] = column[rows].tolist()
        return map(Point._make, zip(*fields, strict=True))

    def _prototype(self, columns: Columns) -> _Prototype | None:
        """Return a point's fields, and the columns in which others differ; None if in more."""
        key = id(columns)
        if key not in self._prototypes:
            self._prototypes[key] = None
            if not self._segment.may_inherit(columns):
                varying = [(_FIELD[unit], column) for unit, column in columns.positions.items()]
                if unit := next((unit for unit in INNER if unit in columns.totals), None):
                    varying.append((_FIELD["inner_total"], columns.totals[unit]))
                first = point_of(self._segment.before(int(columns.lines[0])), columns.record(0))
                self._prototypes[key] = list(first), varying
        return self._prototypes[key]


_FIELD = {name: n for n, name in enumerate(Point._fields)}
_SERIAL, _VALUE, _TIME = _FIELD["serial"], _FIELD["value"], _FIELD["time"]


def _extremes(windows: npt.NDArray[np.float64]) -> Ints:
    """Return the indices of the values that stand for each window."""
    size = windows.shape[1]
    pairs = np.stack([windows.argmin(axis=1), windows.argmax(axis=1)], axis=1)
    ends = np.take_along_axis(windows, pairs, axis=1)
    pairs.sort(axis=1)
    pairs[pairs[:, 0] == pairs[:, 1]] = 0, size - 1
    for n in np.flatnonzero(~np.isfinite(ends).all(axis=1)).tolist():
        pairs[n] = extremes(windows[n].tolist())
    indices: Ints = (pairs + np.arange(0, windows.size, size)[:, None]).ravel()
    return indices

"""A segment of a log, column by column instead of line by line.  Pure.

Most points of a long log are thinned out again, so a point of a segment is made only when it is
asked for.  Its position, with the part that it inherits from the lines before it, is that of
``points.point_of``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .columns import Columns
from .extremes import extremes
from .number_columns import Flags, Floats, Ints, in_order
from .points import INHERITED, INNER, OF_ONE_LINE, Before
from .records import Point, Position

__all__ = ["Assignments", "PointsOfColumns", "Segment", "TimeOf"]

#: Returns the time of a line by its serial number; None: not known.
TimeOf: TypeAlias = "Callable[[int], float | None]"
#: Positions, NaN if not known, and their totals, 0 if not known.
_Carried: TypeAlias = "tuple[Floats, Floats]"
#: The inherited units as in ``Point.inherited``, by their bits; the last one is a bar's epoch.
_INHERITED = [
    "".join(unit[0] for bit, unit in enumerate((*INHERITED, "epoch")) if number >> bit & 1)
    for number in range(2 << len(INHERITED))
]


class Assignments:
    """The positions of one unit, in the order of the lines that give them."""

    def __init__(self, unit: str, columns: Sequence[Columns]) -> None:
        sources = [own for own in columns if unit in own.positions]
        self.given_at, order = in_order([own.lines for own in sources])
        done = np.concatenate([own.positions[unit] for own in sources])[order]
        totals = [own.totals.get(unit, np.zeros(len(own.lines))) for own in sources]
        #: True if a count begins anew, false if all only grow.
        self.falls = bool((done[1:] < done[:-1]).any())
        self.counts: Floats = done
        self.totals: Floats = np.concatenate(totals)[order]

    def position(self, n: int) -> Position:
        return Position(float(self.counts[n]), float(self.totals[n]) or None)

    @property
    def last_total(self) -> tuple[int, float] | None:
        """The last total, and its line."""
        found = np.flatnonzero(self.totals)
        if not len(found):
            return None
        return int(self.given_at[found[-1]]), float(self.totals[found[-1]])


def _assignments(columns: Sequence[Columns]) -> dict[str, Assignments]:
    units = {unit for own in columns for unit in own.positions}
    return {unit: Assignments(unit, columns) for unit in sorted(units)}


def _carried(
    given: Assignments | None, start: Position | None, lines: Ints, since: Ints
) -> _Carried:
    """Return the last position that was given up to each of some lines.

    :param start: the position before the segment.
    :param since: the first line of which each may be; negative: also the one before the segment.
    """
    first, total = start or Position(np.nan)
    dones = np.where(since < 0, first, np.nan)
    totals = np.where(since < 0, total or 0.0, 0.0)
    if given is None:
        return dones, totals
    n = np.searchsorted(given.given_at, lines, side="right") - 1
    is_given = (n >= 0) & (given.given_at[n] >= since)
    return np.where(is_given, given.counts[n], dones), np.where(is_given, given.totals[n], totals)


class _Places(NamedTuple):
    """The lines that print a metric, and the positions of its points.

    ``order``: that of the lines among the columns; ``positions``: NaN if not known;
    ``inner_total``: 0 if not known; ``inherited``: see ``_INHERITED``.
    """

    order: Ints
    lines: Ints
    kinds: npt.NDArray[np.str_]
    positions: Mapping[str, Floats]
    inner_total: Floats
    inherited: Ints


class Segment:
    """The positions in a segment of the log. ``before``: the state at its start.

    Lines inherit positions from lines.  Bars may be written on another stream, so lines and bars
    inherit an epoch alone from bars.
    """

    def __init__(
        self, columns: Sequence[Columns], before: Before, time_of: TimeOf | None = None
    ) -> None:
        self._start, self._time_of = before, time_of
        self.attempt = before.attempt
        bars = [own for own in columns if own.kind == "bar"]
        lines = [own for own in columns if own.kind != "bar"] if bars else columns
        self.units = _assignments(columns)
        self._of_lines = _assignments(lines) if bars else self.units
        self._bar_epochs: Assignments | None = None
        if any("epoch" in own.positions for own in bars):
            self._bar_epochs = Assignments("epoch", bars)
        self._last_line = int(max(own.lines[-1] for own in columns))
        measured = [own.lines for own in columns if own.values]
        self._measured_lines = np.sort(np.concatenate([np.array([], dtype=np.int64), *measured]))
        alone = [own.lines for own in lines if own.positions.keys() == {"epoch"}]
        self._epochs: Ints = np.unique(np.concatenate([self._changes_of_epoch(), *alone]))
        self._places: dict[tuple[int, ...], _Places] = {}

    def _changes_of_epoch(self) -> Ints:
        """Return the lines at which the epoch changes."""
        given = self._of_lines.get("epoch")
        if given is None:
            return np.array([], dtype=np.int64)
        known = self._start.at.get("epoch")
        before = [np.nan if known is None else known.done]
        changes: Ints = given.given_at[given.counts != np.concatenate([before, given.counts[:-1]])]
        return changes

    @property
    def measured(self) -> int:
        """The number of lines that print a metric."""
        return len(self._measured_lines)

    def measured_before(self, lines: Ints) -> Ints:
        """Return for each line the number of lines before it that print a metric."""
        return np.searchsorted(self._measured_lines, lines)

    def serials_at(self, lines: Ints) -> Ints:
        """Return the serial numbers of the points of many lines."""
        return self.measured_before(lines) + self._start.serial

    def times_at(self, lines: Ints) -> Iterable[float | None]:
        """Return the times of lines."""
        if self._time_of is None:
            return repeat(self._start.time, len(lines))
        return map(self._time_of, lines.tolist())

    def end(self) -> tuple[dict[str, Position], Position | None]:
        """Return the run's positions at the end, and the epoch of the last bar that gives one."""
        last = np.array([self._last_line])
        at = {
            unit: position
            for unit in (*self._of_lines, *self._start.at)
            if (position := _position(self._at(unit, last)))
        }
        return at, _position(self._bar_epoch_at(last))

    def _at(self, unit: str, lines: Ints) -> _Carried:
        """Return the run's positions at lines."""
        since = lines
        if unit not in OF_ONE_LINE:
            change = np.searchsorted(self._epochs, lines, side="right")
            since = np.concatenate([[-1], self._epochs])[change]
        return _carried(self._of_lines.get(unit), self._start.at.get(unit), lines, since)

    def _bar_epoch_at(self, lines: Ints) -> _Carried:
        since = np.full(len(lines), -1)
        return _carried(self._bar_epochs, self._start.bar_epoch, lines, since)

    def places(self, of: Sequence[Columns]) -> _Places:
        """Return the places of records, once for all metrics that the same ones print."""
        key = tuple(map(id, of))
        if key not in self._places:
            self._places[key] = self._placed(of)
        return self._places[key]

    def _placed(self, of: Sequence[Columns]) -> _Places:
        parts = [_Inherited(own) for own in of]
        for own, part in zip(of, parts, strict=True):
            for bit, unit in enumerate(INHERITED if own.kind != "bar" else ()):
                if part.may_inherit(unit):
                    part.inherit(unit, self._at(unit, own.lines), bit)
            part.inherit("epoch", self._bar_epoch_at(own.lines), len(INHERITED))
        lines, order = in_order([own.lines for own in of])
        units = dict.fromkeys(unit for part in parts for unit in part.positions)

        def joined(columns: Iterable[Any]) -> Any:
            return np.concatenate([*columns])[order]

        return _Places(
            order,
            lines,
            joined(np.full(len(own.lines), own.kind) for own in of),
            {
                unit: joined(p.positions.get(unit, np.full(len(p.bits), np.nan)) for p in parts)
                for unit in units
            },
            joined(part.inner_total() for part in parts),
            joined(part.bits for part in parts),
        )


def _position(carried: _Carried) -> Position | None:
    done, total = (float(column[0]) for column in carried)
    return None if done != done else Position(done, total or None)


class _Inherited:
    """The positions of records, with those that they inherit. ``bits``: see ``_INHERITED``."""

    def __init__(self, own: Columns) -> None:
        self.positions, self._totals = dict(own.positions), dict(own.totals)
        self.bits = np.zeros(len(own.lines), dtype=np.int64)
        self._is_placed = np.full(len(own.lines), bool(own.positions.keys() & {*INNER}))

    def may_inherit(self, unit: str) -> bool:
        return unit not in self.positions and (unit == "epoch" or not self._is_placed.all())

    def inherit(self, unit: str, carried: _Carried, bit: int) -> None:
        """Take a position over for the records that have none."""
        given = self.positions.get(unit)
        dones, totals = carried
        is_new = ~np.isnan(dones) & (True if given is None else np.isnan(given))
        if unit in INNER:
            is_new &= ~self._is_placed
            self._is_placed |= is_new
        if not is_new.any():
            return
        self.bits |= is_new.astype(np.int64) << bit
        self.positions[unit] = np.where(is_new, dones, np.nan if given is None else given)
        self._totals[unit] = np.where(is_new, totals, self._totals.get(unit, 0.0))

    def inner_total(self) -> Floats:
        """Return the total of the innermost unit that has one."""
        total = np.zeros(len(self.bits))
        for unit in reversed(INNER):
            if unit in self._totals:
                total = np.where(self._totals[unit] != 0, self._totals[unit], total)
        return total


class PointsOfColumns:
    """The points of one metric in a segment, made when they are asked for.

    :param of: the records that print the metric.
    """

    def __init__(self, name: str, of: Sequence[Columns], segment: Segment) -> None:
        self._segment, self._places = segment, segment.places(of)
        self.values = np.concatenate([own.values[name] for own in of])[self._places.order]
        self._rows = np.arange(len(self.values))
        #: The serial number of a point, if it is not that of its line; else -1.
        self._serials = np.full(len(self.values), -1)

    def __len__(self) -> int:
        return len(self.values)

    def _select(self, kept: Any) -> None:
        self.values, self._rows = self.values[kept], self._rows[kept]
        self._serials = self._serials[kept]

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
        lines = self._places.lines[self._rows[firsts]]
        self._serials[1:][bars] = self._segment.serials_at(lines)
        self._select(kept)

    @property
    def _is_bar(self) -> Any:
        return self._places.kinds[self._rows] == "bar"

    def _repeats(self) -> Any:
        """Return which points the next point repeats; see ``points.is_repeat``."""
        places, rows = self._places, self._rows
        is_own = places.inherited[rows[1:]] == 0
        same = self._is_bar[1:] | (is_own & (self.values[1:] == self.values[:-1]))
        is_placed = np.zeros(len(same), dtype=bool)
        for column in places.positions.values():
            after, before = column[rows[1:]], column[rows[:-1]]
            same &= (after == before) | (np.isnan(after) & np.isnan(before))
            is_placed |= ~np.isnan(after)
        return same & is_placed

    def __getitem__(self, n: int) -> Point:
        return self.made([n])[0]

    def made(self, indices: Sequence[int]) -> list[Point]:
        """Return some of the points."""
        at = np.array(indices)
        places, rows, own = self._places, self._rows[at], self._serials[at]
        lines = places.lines[rows]
        fields: dict[str, Iterable[Any]] = dict.fromkeys(Point._fields, repeat(None))
        fields["serial"] = np.where(own < 0, self._segment.serials_at(lines), own).tolist()
        fields["attempt"] = repeat(self._segment.attempt)
        fields["value"] = self.values[at].tolist()
        for unit, column in places.positions.items():
            fields[unit] = _known(column[rows], ~np.isnan(column[rows]))
        totals = places.inner_total[rows]
        fields["inner_total"] = _known(totals, totals != 0)
        fields["kind"] = places.kinds[rows].tolist()
        fields["inherited"] = map(_INHERITED.__getitem__, places.inherited[rows].tolist())
        fields["time"] = self._segment.times_at(lines)
        return list(map(Point._make, zip(*fields.values(), strict=False)))

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


def _known(column: Floats, is_known: Flags) -> list[float | None]:
    """Return the numbers of a column; None if not known."""
    numbers: npt.NDArray[np.object_] = column.astype(object)
    numbers[~is_known] = None
    found: list[float | None] = numbers.tolist()
    return found


def _extremes(windows: Floats) -> Ints:
    """Return the indices of the values that stand for each window."""
    size = windows.shape[1]
    pairs = np.stack([windows.argmin(axis=1), windows.argmax(axis=1)], axis=1)
    ends = np.take_along_axis(windows, pairs, axis=1)
    pairs.sort(axis=1)
    pairs[pairs[:, 0] == pairs[:, 1]] = 0, size - 1
    for n in np.flatnonzero(~np.isfinite(ends).all(axis=1)).tolist():
        pairs[n] = extremes(windows[n].tolist())
    return (pairs + np.arange(0, windows.size, size)[:, None]).ravel()

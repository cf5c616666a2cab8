"""A run as its log describes it: points of metrics, each at its place, and the progress.  Pure.

Lines seldom give their whole place.  The missing part is taken from the lines before only while it
is certain: a step not from another epoch, a batch only from a heading.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .records import Point, Position, Record
from .segments import INNER, OF_ONE_LINE, Columns, Points, Segment
from .series import Series

__all__ = ["History"]

_OUTERMOST = ("epoch", "round", "episode", "step", "batch", "sample", "")


class History:
    """Takes records and keeps points; for one thread.

    :param max_points: a longer curve keeps the lowest and the highest point of each stretch; None
        keeps all.
    """

    def __init__(self, max_points: int | None = None) -> None:
        self.series: dict[str, Series] = {}
        self.at: dict[str, Position] = {}
        self.totals: dict[str, float] = {}
        self.serial = 0
        self.attempt = 1
        #: The count of the run's own bar, and the count that it showed after each printed dict.
        self.bar: Position | None = None
        self.bar_after: dict[int, float] = {}
        self._max_points = max_points
        self._ranks: dict[str, int] = {}
        self._is_heading = False
        self._bar_epoch: Position | None = None
        self._latest: dict[str, Position] = {}
        self._local: set[str] = set()  # units that begin anew with each epoch

    def add(self, record: Record) -> None:
        """Add one line's record."""
        self.totals.update(record.totals)
        rank = record.rank or 0
        values = [(name, value) for name, value in record.values if self._owns(name, rank)]
        if not values and (record.values or rank):
            return  # another rank prints the same
        self._move(record, has_values=bool(values))
        if not values:
            return
        self.serial += 1
        start = _Start(self.serial, self.attempt, self._bar_epoch)
        point = _point(start, record, self.at, is_heading=self._is_heading)
        for name, value in values:
            self._append(name, point._replace(value=value), record.kind)

    def add_columns(self, columns: Sequence[Columns]) -> bool:
        """Add the records of a stretch of lines.

        :returns: False, having added none, if they have to be added one by one.
        """
        owned = self._owned(columns)
        if owned is None or (self._is_heading and not self.at.keys().isdisjoint(OF_ONE_LINE)):
            return False
        if not owned:
            return True
        segment = Segment(owned, self.at)
        point_of = functools.partial(_point, _Start(self.serial + 1, self.attempt, self._bar_epoch))
        found = {name: segment.points(name, of, point_of) for name, of in _by_name(owned).items()}
        if any(map(self._may_repeat, found, found.values())):
            return False
        for name, points in found.items():
            self.series.setdefault(name, Series(self._max_points)).extend(points)
        self._end_at(segment, owned)
        return True

    def _owned(self, columns: Sequence[Columns]) -> list[Columns] | None:
        """Return the records without metrics of other ranks; None if an owner may change."""
        for name, of in _by_name(columns).items():
            ranks = {own.rank for own in of}
            if len(ranks | {self._ranks.get(name, of[0].rank)}) > 1 and (
                min(ranks) < self._ranks.get(name, max(ranks))
            ):
                return None
        owned = []
        for own in columns:
            values = {
                name: column
                for name, column in own.values.items()
                if self._ranks.setdefault(name, own.rank) == own.rank
            }
            if values or not (own.values or own.rank):
                owned.append(own._replace(values=values))
        return owned

    def _may_repeat(self, name: str, points: Points) -> bool:
        """Tell whether a value is perhaps printed twice at the same place."""
        series = self.series.get(name)
        last = series.last if series else None
        if last is not None and last.value == points.values[0] and last.place == points[0].place:
            return True
        return points.may_repeat

    def _end_at(self, segment: Segment, columns: Sequence[Columns]) -> None:
        self.serial += segment.measured
        self.at = segment.at(segment.last_line)
        placed = [own for own in columns if own.places]
        if placed:
            self._is_heading = not max(placed, key=lambda own: own.lines[-1]).values
        for unit, given in segment.units.items():
            before = self._latest.get(unit, given.place(0))
            if unit != "epoch" and (given.falls or given.done[0] < before.done):
                self._local.add(unit)
            self._latest[unit] = given.place(-1)
            if total := given.last_total:
                self.totals[unit] = total

    def show_bar(self, place: Position) -> None:
        """Note the state of a bar that shows only its count; the first such bar counts the run."""
        if self.bar is not None and self.bar.total != place.total:
            return
        self.bar = place
        if place.done:
            self.bar_after.setdefault(self.serial, place.done)

    @property
    def progress(self) -> tuple[str, Position] | None:
        """The outermost unit whose total is known; else the outermost unit of the log."""
        known = {
            unit: Position(place.done, self.totals.get(unit))
            for unit, place in self._latest.items()
            if unit not in self._local or "epoch" not in self._latest
        }
        if self.bar is not None:
            known[""] = self.bar
        ordered = [(unit, known[unit]) for unit in _OUTERMOST if unit in known]
        told = [each for each in ordered if each[1].total]
        return next(iter(told or ordered), None)

    def new_attempt(self) -> None:
        """Begin a further attempt, perhaps from a checkpoint: its log gives all places anew."""
        self.attempt += 1
        self.at = {}
        self.bar = None
        self._bar_epoch = None
        self._is_heading = False

    def _owns(self, name: str, rank: int) -> bool:
        """Return whether a metric is read from that rank: the lowest that prints it."""
        owner = self._ranks.get(name)
        if owner is None or rank < owner:
            self._ranks[name] = rank
            if owner is not None:
                self.series.pop(name, None)
            return True
        return rank == owner

    def _move(self, record: Record, *, has_values: bool) -> None:
        """Move to the record's place."""
        places = record.places
        for unit, place in places.items():
            self._go_on(unit, place, is_inner=record.kind == "bar" and "epoch" in places)
        if record.kind == "bar":
            # Bars and lines may arrive on two streams, so a line does not know the bar's count.
            self._bar_epoch = places.get("epoch", self._bar_epoch)
            return
        epoch = places.get("epoch")
        known = self.at.get("epoch")
        if epoch is not None and (known is None or epoch.done != known.done):
            self.at = {}
        if places:
            if not self._is_heading:
                self.at.pop("batch", None)
                self.at.pop("sample", None)
            self.at.update(places)
            self._is_heading = not has_values

    def _go_on(self, unit: str, place: Position, *, is_inner: bool) -> None:
        if place.total:
            self.totals[unit] = place.total
        before = self._latest.get(unit)
        if unit != "epoch" and (is_inner or (before is not None and place.done < before.done)):
            self._local.add(unit)
        self._latest[unit] = place

    def _append(self, name: str, point: Point, kind: str) -> None:
        series = self.series.get(name)
        if series is None:
            series = self.series[name] = Series(self._max_points)
        last = series.last
        if last is not None and last.place == point.place and last.attempt == point.attempt:
            is_placed = any(done is not None for done in point.place)
            if kind == "bar" and is_placed:
                series.replace_last(point._replace(serial=last.serial))
                return
            if is_placed and not point.inherited and last.value == point.value:
                return  # printed twice
        series.append(point)

    def merge(self, records: Iterable[Record]) -> None:
        """Add several records."""
        for record in records:
            self.add(record)


class _Start(NamedTuple):
    """The parts of a point that its record does not give."""

    serial: int
    attempt: int
    bar_epoch: Position | None


def _point(
    start: _Start, record: Record, at: Mapping[str, Position], *, is_heading: bool = False
) -> Point:
    """Return the point of a record; ``at``: the places of the lines before, and its own."""
    places = dict(record.places)
    inherited = ""
    if record.kind != "bar":
        for unit in ("epoch", "step", "round", "episode"):
            if unit not in places and unit in at and _may_inherit(unit, places):
                places[unit] = at[unit]
                inherited += unit[0]
        if is_heading and "batch" in at:
            places.setdefault("batch", at["batch"])
    if "epoch" not in places and start.bar_epoch is not None:
        places["epoch"] = start.bar_epoch
        inherited += "e"
    inner = next(
        (places[unit].total for unit in INNER if unit in places and places[unit].total), None
    )
    return Point(
        start.serial,
        start.attempt,
        0.0,
        **{unit: place.done for unit, place in places.items()},
        inner_total=inner,
        kind=record.kind,
        inherited=inherited,
    )


def _may_inherit(unit: str, places: Mapping[str, Position]) -> bool:
    if unit == "epoch":
        return True
    return not any(inner in places for inner in ("step", "round", "episode", "batch", "sample"))


def _by_name(columns: Sequence[Columns]) -> dict[str, list[Columns]]:
    """Return the records that print each metric, in the order of the first lines."""
    found: dict[str, list[Columns]] = {}
    for own in sorted(columns, key=lambda own: own.lines[0]):
        for name in own.values:
            found.setdefault(name, []).append(own)
    return found

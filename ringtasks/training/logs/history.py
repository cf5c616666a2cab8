"""A run as its log describes it: points of metrics, each at its place, and the progress.  Pure.

Lines seldom give their whole place.  The missing part is taken from the lines before only while it
is certain: a step not from another epoch, a batch only from a heading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

from .columns import Columns, records_in_order
from .records import Point, Position, Record
from .segments import INNER, OF_ONE_LINE, Before, Points, Segment, is_repeat
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
        if record.kind == "count":
            self._show_bar(self.serial, record.places[""])
            return
        if record.kind == "attempt":
            self.new_attempt()
            return
        rank = record.rank or 0
        values = [(name, value) for name, value in record.values if self._owns(name, rank)]
        if not values and (record.values or rank):
            return  # another rank prints the same
        self._move(record, has_values=bool(values))
        if not values:
            return
        self.serial += 1
        point = _point(self._before(self.serial), record, is_heading=self._is_heading)
        for name, value in values:
            self._append(name, point._replace(value=value), record.kind)

    def add_columns(self, columns: Sequence[Columns]) -> None:
        """Add the records of a stretch of lines."""
        if not self._add_columns(columns):
            self.merge(records_in_order(columns))

    def _add_columns(self, columns: Sequence[Columns]) -> bool:
        """Add the records of a stretch; False, having added none, if one by one is necessary."""
        placed = [own for own in columns if own.kind != "count"]
        if self._is_heading and not self.at.keys().isdisjoint(OF_ONE_LINE):
            return False
        if any(_is_heading_of_batch(own) for own in placed):
            return False
        owned = self._owned(placed)
        if owned is None:
            return False
        if not owned:
            self._note_totals(columns, None)
            self._show_bars(columns, None)
            return True
        segment = Segment(owned, self._before(self.serial + 1))
        found = {
            name: segment.points(name, of, _point).without_repeats()
            for name, of in _by_name(owned).items()
        }
        if any(map(self._repeats_last, found, found.values())):
            return False
        for name, points in found.items():
            self.series.setdefault(name, Series(self._max_points)).extend(points)
        self._note_totals(columns, segment)
        self._show_bars(columns, segment)
        self._end_at(segment, owned)
        return True

    def _before(self, serial: int) -> Before:
        return Before(serial, self.attempt, self._bar_epoch, self.at)

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

    def _repeats_last(self, name: str, points: Points) -> bool:
        """Tell whether the first point is the last one again."""
        series = self.series.get(name)
        last = series.last if series else None
        return last is not None and is_repeat(last, points[0])

    def _end_at(self, segment: Segment, columns: Sequence[Columns]) -> None:
        self.serial += segment.measured
        last = segment.last_line
        self.at, self._bar_epoch = segment.at(last), segment.bar_epoch(last)
        headings = [own for own in columns if own.places and own.kind != "bar"]
        if headings:
            self._is_heading = not max(headings, key=lambda own: own.lines[-1]).values
        for own in columns:
            if own.kind == "bar" and "epoch" in own.places:
                self._local.update(own.places.keys() - {"epoch"})
        for unit, given in segment.units.items():
            before = self._latest.get(unit, given.place(0))
            if unit != "epoch" and (given.falls or given.done[0] < before.done):
                self._local.add(unit)
            self._latest[unit] = given.place(-1)

    def _note_totals(self, columns: Sequence[Columns], segment: Segment | None) -> None:
        """Note the last total of each unit."""
        found = [
            (line, unit, total)
            for own in columns
            for unit, totals in own.run_totals.items()
            for line, total in [(own.lines[-1], totals[-1])]
        ]
        for unit, given in segment.units.items() if segment else ():
            if last := given.last_total:
                found.append((last[0], unit, last[1]))
        for _, unit, total in sorted(found):
            self.totals[unit] = total

    def _show_bars(self, columns: Sequence[Columns], segment: Segment | None) -> None:
        counts = sorted(
            (line, done, total)
            for own in columns
            if own.kind == "count"
            for line, done, total in zip(
                own.lines, own.places[""], own.totals.get("", repeat(None)), strict=False
            )
        )
        for line, done, total in counts:
            measured = segment.measured_before(line) if segment else 0
            self._show_bar(self.serial + measured, Position(done, total))

    def _show_bar(self, serial: int, place: Position) -> None:
        """Note the state of a bar that shows only its count; the first such bar counts the run."""
        if self.bar is not None and self.bar.total != place.total:
            return
        self.bar = place
        if place.done:
            self.bar_after.setdefault(serial, place.done)

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
        if last is not None and is_repeat(last, point):
            if kind == "bar":
                series.replace_last(point._replace(serial=last.serial))
            return  # printed twice
        series.append(point)

    def merge(self, records: Iterable[Record]) -> None:
        """Add several records."""
        for record in records:
            self.add(record)


def _is_heading_of_batch(columns: Columns) -> bool:
    """Tell whether records give only a place that the lines below them inherit."""
    is_of_line = columns.kind != "bar" and not columns.values
    return is_of_line and not columns.places.keys().isdisjoint(OF_ONE_LINE)


def _point(before: Before, record: Record, *, is_heading: bool = False) -> Point:
    """Return the point of a record; ``before.at``: the places of the lines before, and its own."""
    places, at = dict(record.places), before.at
    inherited = ""
    if record.kind != "bar":
        for unit in ("epoch", "step", "round", "episode"):
            if unit not in places and unit in at and _may_inherit(unit, places):
                places[unit] = at[unit]
                inherited += unit[0]
        if is_heading and "batch" in at:
            places.setdefault("batch", at["batch"])
    if "epoch" not in places and before.bar_epoch is not None:
        places["epoch"] = before.bar_epoch
        inherited += "e"
    inner = next(
        (places[unit].total for unit in INNER if unit in places and places[unit].total), None
    )
    return Point(
        before.serial,
        before.attempt,
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

"""A run as its log describes it: points of metrics, each at its place, and the progress.  Pure.

Lines seldom give their whole place.  The missing part is taken from the lines before only while it
is certain: a step not from another epoch, a batch only from a heading.
"""

from __future__ import annotations

from collections.abc import Iterable

from .records import Point, Position, Record
from .series import Series

__all__ = ["History"]

_OUTERMOST = ("epoch", "round", "episode", "step", "batch", "sample", "")
_INNER = ("sample", "batch", "step", "round", "episode")


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
        inherited = self._move(record, has_values=bool(values))
        if not values:
            return
        self.serial += 1
        point = self._point(record, inherited)
        for name, value in values:
            self._append(name, point._replace(value=value), record.kind)

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

    def _move(self, record: Record, *, has_values: bool) -> str:
        """Move to the record's place; return the units that it takes from the lines before."""
        places = record.places
        for unit, place in places.items():
            self._go_on(unit, place, is_inner=record.kind == "bar" and "epoch" in places)
        if record.kind == "bar":
            # Bars and lines may arrive on two streams, so a line does not know the bar's count.
            self._bar_epoch = places.get("epoch", self._bar_epoch)
            return ""
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
        return ""

    def _go_on(self, unit: str, place: Position, *, is_inner: bool) -> None:
        if place.total:
            self.totals[unit] = place.total
        before = self._latest.get(unit)
        if unit != "epoch" and (is_inner or (before is not None and place.done < before.done)):
            self._local.add(unit)
        self._latest[unit] = place

    def _point(self, record: Record, inherited: str) -> Point:
        places = dict(record.places)
        if record.kind != "bar":
            for unit in ("epoch", "step", "round", "episode"):
                if unit not in places and unit in self.at and self._may_inherit(unit, places):
                    places[unit] = self.at[unit]
                    inherited += unit[0]
            if self._is_heading and "batch" in self.at:
                places.setdefault("batch", self.at["batch"])
        if "epoch" not in places and self._bar_epoch is not None:
            places["epoch"] = self._bar_epoch
            inherited += "e"
        inner = next(
            (places[unit].total for unit in _INNER if unit in places and places[unit].total), None
        )
        return Point(
            self.serial,
            self.attempt,
            0.0,
            **{unit: place.done for unit, place in places.items()},
            inner_total=inner,
            kind=record.kind,
            inherited=inherited,
        )

    @staticmethod
    def _may_inherit(unit: str, places: dict[str, Position]) -> bool:
        if unit == "epoch":
            return True
        return not any(inner in places for inner in ("step", "round", "episode", "batch", "sample"))

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

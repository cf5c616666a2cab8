"""A run as its log describes it: points of metrics, each at its position, and the progress.  Pure.

Lines seldom give their whole position.  The missing part is taken from the lines before only while
it is certain: a step not from another epoch, a batch only from a heading.
"""

from __future__ import annotations

from collections.abc import Iterable

from .points import OF_ONE_LINE, Before, is_repeat, point_of
from .records import Point, Position, Record
from .series import Series

__all__ = ["History"]

_OUTERMOST = ("epoch", "round", "episode", "step", "batch", "sample", "")


class History:
    """Takes records and keeps points; for one thread.

    :param max_points: a longer curve keeps the lowest and the highest point of each window; None
        keeps all.
    """

    def __init__(self, max_points: int | None = None) -> None:
        self.series: dict[str, Series] = {}
        self.at: dict[str, Position] = {}
        self.totals: dict[str, float] = {}
        self.serial = 0
        self.attempt = 1
        #: The time of the next records, and the first one of the log.
        self.time: float | None = None
        self.started: float | None = None
        #: The count of the run's own bar, and the count that it showed after each printed dict.
        self.bar: Position | None = None
        self.bar_after: dict[int, float] = {}
        self._max_points = max_points
        #: The rank from which each metric is read.
        self.owners: dict[str, int] = {}
        #: Whether the last line gave a position alone, which the lines below it inherit.
        self.is_heading = False
        self.bar_epoch: Position | None = None
        self.latest: dict[str, Position] = {}
        #: Units that begin anew with each epoch.
        self.local_units: set[str] = set()

    def add(self, record: Record) -> None:
        """Add one line's record."""
        self.totals.update(record.totals)
        if record.kind == "count":
            self.show_bar(self.serial, record.positions[""])
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
        if self.started is None:
            self.started = record.time
        point = point_of(self.before(self.serial), record, is_heading=self.is_heading)
        for name, value in values:
            self._append(name, point._replace(value=value))

    def set_time(self, time: float | None) -> None:
        """Set the time at which the next records were printed, or seen; None: not known."""
        self.time = time
        if self.started is None:
            self.started = time

    def show_bar(self, serial: int, position: Position) -> None:
        """Note the state of a bar that shows only its count; the first such bar counts the run."""
        if self.bar is not None and self.bar.total != position.total:
            return
        self.bar = position
        if position.done:
            self.bar_after.setdefault(serial, position.done)

    @property
    def progress(self) -> tuple[str, Position] | None:
        """The outermost unit whose total is known; else the outermost unit of the log."""
        known = {
            unit: Position(position.done, self._total_beyond(unit, position.done))
            for unit, position in self.latest.items()
            if unit not in self.local_units or "epoch" not in self.latest
        }
        if self.bar is not None:
            known[""] = self.bar
        ordered = [(unit, known[unit]) for unit in _OUTERMOST if unit in known]
        told = [each for each in ordered if each[1].total]
        return next(iter(told or ordered), None)

    def _total_beyond(self, unit: str, done: float) -> float | None:
        """Return the total of a unit; None if there is none, or if it was passed."""
        total = self.totals.get(unit)
        return total if total and done <= total else None

    def new_attempt(self) -> None:
        """Begin a further attempt, perhaps from a checkpoint: its log gives all positions anew."""
        self.attempt += 1
        self.at = {}
        self.bar = None
        self.bar_epoch = None
        self.is_heading = False

    def _owns(self, name: str, rank: int) -> bool:
        """Return whether a metric is read from that rank: the lowest that prints it."""
        owner = self.owners.get(name)
        if owner is None or rank < owner:
            self.owners[name] = rank
            if owner is not None:
                self.series.pop(name, None)
            return True
        return rank == owner

    def _move(self, record: Record, *, has_values: bool) -> None:
        """Move to the record's position."""
        positions = record.positions
        for unit, position in positions.items():
            is_inner = "epoch" in positions and (record.kind == "bar" or unit in OF_ONE_LINE)
            self._go_on(unit, position, is_inner=is_inner)
        if record.kind == "bar":
            # Bars and lines may arrive on two streams, so a line does not know the bar's count.
            self.bar_epoch = positions.get("epoch", self.bar_epoch)
            return
        epoch = positions.get("epoch")
        known = self.at.get("epoch")
        # A line that gives an epoch alone is of the whole epoch, not of its last step.
        is_alone = epoch is not None and len(positions) == 1
        if epoch is not None and (is_alone or known is None or epoch.done != known.done):
            self.at = {}
        if positions:
            if not self.is_heading:
                self.at.pop("batch", None)
                self.at.pop("sample", None)
            self.at.update(positions)
            self.is_heading = not has_values

    def _go_on(self, unit: str, position: Position, *, is_inner: bool) -> None:
        if position.total:
            self.totals[unit] = position.total
        before = self.latest.get(unit)
        if unit != "epoch" and (is_inner or (before is not None and position.done < before.done)):
            self.local_units.add(unit)
        self.latest[unit] = position

    def _append(self, name: str, point: Point) -> None:
        series = self.series_of(name)
        if series.last is not None and is_repeat(series.last, point):
            series.repeat_last(point)
        else:
            series.append(point)

    def series_of(self, name: str) -> Series:
        """Return the points of a metric, to which more can be added."""
        series = self.series.get(name)
        if series is None:
            series = self.series[name] = Series(self._max_points)
        return series

    def before(self, serial: int) -> Before:
        """Return the positions that the next record may inherit."""
        return Before(serial, self.attempt, self.bar_epoch, self.at, self.time)

    def merge(self, records: Iterable[Record]) -> None:
        """Add several records."""
        for record in records:
            self.add(record)

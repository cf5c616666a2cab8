"""A run as its log describes it so far: its progress, and one curve for each metric.

Memory is bounded by default: a long curve keeps the lowest and the highest point of each window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ringtasks.common.collector import paused
from ringtasks.errors import UsageError

from .arrivals import pieces
from .logs import History, LogReader, Resolved, resolved
from .logs.axes import printed_once, without_repeats, x_values
from .logs.metric_files import MAX_BYTES, is_metric_file, json_lines, records_of
from .logs.records import Point
from .logs.words import HELD_OUT_LOSS, NO_METRIC, UNITS, metric_order

__all__ = ["Curve", "Curves", "RunProgress"]

#: More points than a screen has pixels in a row.
_MAX_POINTS = 8192
_CHUNK_BYTES = 1 << 21
_PLURALS = {"batch": "batches"}


class RunProgress(NamedTuple):
    """The progress of a run: ``done`` of ``total`` (None: not given). ``unit`` of a bar: ``""``."""

    unit: str
    done: float
    total: float | None = None


class Curve(NamedTuple):
    """One metric over ``axis``: ``step``, ``epoch`` …, or ``reading``, a serial number."""

    name: str
    axis: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


class Curves:
    """Reads a run's output and returns its curves and progress; for one thread.

    :param max_points: the number of points that a curve keeps; None keeps all.
    :param has_stamps: read the lines' time stamps, for curves over time; this takes longer.
    """

    def __init__(self, max_points: int | None = _MAX_POINTS, *, has_stamps: bool = False) -> None:
        self._history = History(max_points)
        self._has_stamps = has_stamps
        self._readers: dict[str, LogReader] = {}
        self._resolved: tuple[int, Resolved] | None = None

    def feed(self, chunk: bytes, source: str = "", *, seen_at: float | None = None) -> None:
        """Read a program's output.

        :param source: separates the logs of several hosts.
        :param seen_at: the time of the output, for curves over time.
        """
        reader = self._readers.get(source)
        if reader is None:
            reader = LogReader(self._history, has_stamps=self._has_stamps)
            self._readers[source] = reader
        self._history.set_time(seen_at)
        reader.feed(chunk)

    def read_file(self, path: Path, *, is_cut: bool = False) -> None:
        """Read a whole log, or a file of metrics that a trainer wrote beside it.

        :param is_cut: see `end`.
        :raises UsageError: the file of metrics is too large.
        """
        if is_metric := is_metric_file(path.name):
            if path.stat().st_size > MAX_BYTES:
                raise UsageError(f"{path}: has more than {MAX_BYTES >> 20} MiB")
            before = self._history.serial
            data = path.read_bytes()
            self._history.merge(records_of(path, data))
            if lines := json_lines(data):
                self.feed(lines, str(path))
                self.end()
            if self._history.serial > before:
                return  # else it is a log of that name
        with path.open("rb") as log, paused():
            while chunk := log.read(_CHUNK_BYTES):
                self.feed(chunk, str(path))
            self.end(is_cut=is_cut or is_metric)

    def read_attempts(
        self,
        attempts: Sequence[Iterable[Path]],
        *,
        is_cut: bool = False,
        with_arrivals: bool = False,
    ) -> None:
        """Read the logs of a run's attempts, for each those of its hosts.

        :param is_cut: for the last attempt, see `end`; those before it were cut off.
        :param with_arrivals: they are local copies: take the times at which they grew.
        """
        for n, logs in enumerate(attempts):
            if n:
                self.new_attempt()
            is_cut_now = is_cut or n < len(attempts) - 1
            for log in logs:
                if with_arrivals:
                    self._read_copy(log, is_cut=is_cut_now)
                else:
                    self.read_file(log, is_cut=is_cut_now)

    def _read_copy(self, log: Path, *, is_cut: bool) -> None:
        with paused():
            for piece, seen_at in pieces(log):
                self.feed(piece, str(log), seen_at=seen_at)
            self.end(is_cut=is_cut)

    def end(self, *, is_cut: bool = False) -> None:
        """Read the text after the last line's end.

        :param is_cut: the program still writes, or was ended while it wrote: a number at the end of
            that text may be half a number, and is left out.
        """
        for reader in self._readers.values():
            reader.end(is_cut=is_cut)

    def new_attempt(self) -> None:
        """Begin a further attempt: the program was started again, perhaps from a checkpoint."""
        self.end(is_cut=True)
        self._readers = {}
        self._history.new_attempt()

    @property
    def names(self) -> list[str]:
        """The metrics, the most important one first: a loss, if there is one.

        A single value, such as a script prints at its end, comes behind the curves of training.
        """
        points = self._final().points
        orders = {name: metric_order(name) for name in points}
        losses = [name for name, order in orders.items() if order <= HELD_OUT_LOSS]
        if any(len(points[name]) > 1 for name in losses):
            orders |= {name: HELD_OUT_LOSS for name in losses if len(points[name]) == 1}
        return sorted(points, key=orders.__getitem__)

    @property
    def main(self) -> str | None:
        """The metric to draw by default: no rate, time, memory or setting, such as ``lr``."""
        return next((name for name in self.names if metric_order(name) < NO_METRIC), None)

    @property
    def progress(self) -> RunProgress | None:
        """The outermost progress whose total is known; else the outermost of the log."""
        found = self._history.progress
        return RunProgress(found[0], *found[1]) if found else None

    @property
    def fraction(self) -> float | None:
        """The completed part of the run, from 0 to 1; None if the log does not give it."""
        progress = self.progress
        if progress is None or not progress.total:
            return None
        return min(1.0, max(0.0, progress.done / progress.total))

    def latest(self, name: str) -> float:
        """Return the last value of a metric.

        :raises KeyError: there is no such metric.
        """
        return self._final().points[name][-1].value

    def curve(self, name: str, axis: str | None = None) -> Curve:
        """Return one metric's curve.

        If an attempt began before the end of the one before it, its points replace those.

        :param axis: the axis to place its points on, if the log gives it; None: the best one.
        :raises KeyError: there is no such metric.
        """
        axis, rows = self._rows(name, axis)
        return Curve(name, axis, tuple(x for x, _ in rows), tuple(point.value for _, point in rows))

    def objects(self, name: str, axis: str | None = None) -> Iterator[dict[str, object]]:
        """Yield a metric's points as JSON objects: its x, and all known places.

        :param axis: see `curve`.
        :raises KeyError: there is no such metric.
        """
        axis, rows = self._rows(name, axis)
        totals = self._final().totals
        highest = {
            unit: max(
                (p for _, point in rows if (p := getattr(point, unit)) is not None), default=0
            )
            for unit in UNITS
        }
        for x, point in rows:
            yield {
                "metric": name, "axis": axis, "x": _short(x), "value": point.value,
                **_positions(point, totals, highest),
            }  # fmt: skip

    def _rows(self, name: str, wanted: str | None = None) -> tuple[str, list[tuple[float, Point]]]:
        points = self._final().points[name]
        started = self._history.started
        axis, xs = x_values(points, wanted, started)
        if axis == "reading":
            once = printed_once(points)
            own_axis, own_xs = x_values(once, wanted, started)
            if own_axis != "reading":
                points, axis, xs = once, own_axis, own_xs
        kept = range(len(points)) if axis == "reading" else without_repeats(points, xs)
        return axis, [(xs[n], points[n]) for n in kept]

    def _final(self) -> Resolved:
        """Return the points so far, resolved once for each state of the history."""
        serial = self._history.serial
        if self._resolved is None or self._resolved[0] != serial:
            with paused():
                self._resolved = (serial, resolved(self._history))
        return self._resolved[1]


def _positions(
    point: Point, totals: dict[str, float], highest: dict[str, float]
) -> dict[str, float | int]:
    """Return the place of a point. A total that a count has passed is dropped."""
    places: dict[str, float | int] = {}
    has_inner = point.inner_total is not None
    for unit in reversed(UNITS):
        done = getattr(point, unit)
        if done is None:
            continue
        places[unit] = _short(done)
        total = totals.get(unit)
        highest_count = highest[unit]
        if has_inner and unit != "epoch":
            total, has_inner, highest_count = point.inner_total, False, done
        elif unit in ("batch", "sample"):
            total = None
        if total and total >= highest_count:
            places[f"total_{_PLURALS.get(unit, unit + 's')}"] = _short(total)
    return places


def _short(number: float) -> float | int:
    return int(number) if number == int(number) else number

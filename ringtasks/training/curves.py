"""A run as its log tells it so far: how far it is, and one curve a metric.  Pure.

Memory is bounded: a curve that has grown too long keeps every other point.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .metrics import LogLines, Progress, Reading, read_line

__all__ = ["Curve", "Curves", "curves_of"]

_MAX_POINTS = 8192

#: What points are drawn over, best first, where every point has it and it only grows.
_AXES = ("step", "epoch", "round", "batch")
#: Whose progress is the run's.
_OUTERMOST = ("epoch", "round", "step", "batch", "")


class Curve(NamedTuple):
    """One metric over ``axis``: ``step``, ``epoch`` …, or ``reading``, a serial number."""

    name: str
    axis: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]


class _Point(NamedTuple):
    serial: int
    attempt: int
    y: float
    at: dict[str, float]


class Curves:
    """Takes lines and gives curves and progress; for one thread."""

    def __init__(self) -> None:
        self._points: dict[str, list[_Point]] = {}
        self._progress: dict[str, Progress] = {}
        self._at: dict[str, float] = {}
        self._serial = 0
        self._attempt = 1
        self._lines: dict[str, LogLines] = {}

    def feed(self, chunk: bytes, source: str = "") -> None:
        """Read what a program has printed; ``source`` tells the logs of several hosts apart."""
        for line in self._lines.setdefault(source, LogLines()).feed(chunk):
            self.add(read_line(line))

    def end(self) -> None:
        """Read what stands behind the last line's end."""
        for lines in self._lines.values():
            for line in lines.rest():
                self.add(read_line(line))

    def add(self, reading: Reading) -> None:
        """Take what one line tells."""
        for unit, progress in reading.progress.items():
            known = self._progress.get(unit)
            total = progress.total or (known.total if known else None)
            self._progress[unit] = progress._replace(total=total)
            self._at[unit] = progress.done
        if not reading.metrics:
            return
        self._serial += 1
        for name, y in reading.metrics.items():
            points = self._points.setdefault(name, [])
            points.append(_Point(self._serial, self._attempt, y, dict(self._at)))
            if len(points) > _MAX_POINTS:
                del points[1::2]

    def new_attempt(self) -> None:
        """What follows comes from a program that was started again, perhaps from a checkpoint."""
        self.end()
        self._attempt += 1
        self._at = {}

    @property
    def names(self) -> list[str]:
        """The metrics, in front the one that people look at first: a loss, if there is one."""
        return sorted(self._points, key=_rank)

    @property
    def progress(self) -> Progress | None:
        """The outermost progress whose total is known; else the outermost there is."""
        known = [self._progress[unit] for unit in _OUTERMOST if unit in self._progress]
        return next((each for each in known if each.total), known[0] if known else None)

    @property
    def fraction(self) -> float | None:
        """How much of the run is done, from 0 to 1; None where that is not told."""
        progress = self.progress
        if progress is None or not progress.total:
            return None
        return min(1.0, max(0.0, progress.done / progress.total))

    def latest(self, name: str) -> float:
        """The last value of a metric.

        :raises KeyError: there is no such metric.
        """
        return self._points[name][-1].y

    def curve(self, name: str) -> Curve:
        """One metric's curve.

        Where an attempt began before the end of the one before it, its points replace those.

        :raises KeyError: there is no such metric.
        """
        points = self._points[name]
        for axis in _AXES:
            if _grows(points, axis):
                kept = _without_repeats(points, axis)
                return Curve(name, axis, tuple(p.at[axis] for p in kept), tuple(p.y for p in kept))
        return Curve(
            name, "reading", tuple(float(p.serial) for p in points), tuple(p.y for p in points)
        )


def curves_of(attempts: Iterable[Iterable[bytes]]) -> Curves:
    """The curves of whole logs: of each attempt, those of its hosts."""
    curves = Curves()
    for n, logs in enumerate(attempts):
        if n:
            curves.new_attempt()
        for log in logs:
            curves.feed(log)
            curves.end()
    return curves


def _rank(name: str) -> int:
    return 0 if name.lower() == "loss" else 1 if "loss" in name.lower() else 2


def _grows(points: Sequence[_Point], axis: str) -> bool:
    """Whether every point has it, and it never goes back within an attempt."""
    if not all(axis in point.at for point in points):
        return False
    return all(
        before.at[axis] <= after.at[axis] or before.attempt != after.attempt
        for before, after in itertools.pairwise(points)
    )


def _without_repeats(points: Sequence[_Point], axis: str) -> list[_Point]:
    """Without those points of an attempt that the next attempt made again."""
    kept: list[_Point] = []
    for point in points:
        while kept and kept[-1].attempt != point.attempt and kept[-1].at[axis] >= point.at[axis]:
            kept.pop()
        kept.append(point)
    return kept

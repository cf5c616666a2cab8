"""The points of one metric, thinned out if there are more than the limit.  Pure.

Of each window the lowest and the highest value stay, so no spike is lost; the ends stay, too, and
so do values that are not finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, TypeAlias

from .extremes import extremes, extremes_of_windows
from .records import Point

if TYPE_CHECKING:
    from .segments import PointsOfColumns

__all__ = ["Series"]

#: Fewer points are made at once, and those of long windows: one that is not made yet holds on to
#: the lines around it.
_MIN_UNMADE = 256
_MAX_UNMADE_STRIDE = 32
_AT_ONCE = 4096
#: A point, or its position among others that are made when they are asked for.
_Found: TypeAlias = "Point | tuple[PointsOfColumns, int]"


class Series:
    """Takes points in order. ``max_points``: None keeps all."""

    def __init__(self, max_points: int | None = None) -> None:
        self._max_points = max_points
        self._stride = 1  # the number of points that one kept point stands for
        self._kept: list[_Found] = []
        self._kept_values: list[float] = []
        self._window: list[_Found] = []
        self._window_values: list[float] = []
        self._last: Point | None = None
        self._extremes_of_windows = extremes_of_windows

    def __iter__(self) -> Iterator[Point]:
        window = [self._window[n] for n in extremes(self._window_values)]
        yield from map(_made, _all_made([*self._kept, *window]))
        if self._last is not None:
            yield self._last

    @property
    def last(self) -> Point | None:
        return self._last

    def append(self, point: Point) -> None:
        """Add the next point."""
        if self._last is not None:
            self._keep((self._last.value,), (self._last,))
        self._last = point

    def extend(self, points: PointsOfColumns) -> None:
        """Add the next points."""
        last = len(points) - 1
        self._extremes_of_windows = points.extremes_of_windows
        self.append(points[0])
        if last:
            self._keep_many(points, last)
            self._last = points[last]

    def repeat_last(self, point: Point) -> None:
        """Add the last point again: that of a bar corrects it."""
        if self._last is not None and point.kind == "bar":
            self._last = point._replace(serial=self._last.serial)

    def _keep_many(self, points: PointsOfColumns, end: int) -> None:
        """Keep the first points of many; without a list of them if most are thinned out."""
        at = 0
        while at < end:
            size = 2 * self._stride
            if self._stride > 1 and not self._window and end - at >= size:
                at += self._keep_windows(points, at, (end - at) // size)
                continue
            size = min(size - len(self._window) if self._stride > 1 else _AT_ONCE, end - at)
            values = points.values[at : at + size].tolist()
            found: Iterable[_Found] = zip(repeat(points), range(at, at + size), strict=False)
            if self._stride == 1 and size < _MIN_UNMADE:
                found = points.made(range(at, at + size))
            self._keep(values, list(found))
            at += size

    def _keep_windows(self, points: PointsOfColumns, start: int, count: int) -> int:
        """Keep the extremes of whole windows; return the number of points in them."""
        assert self._max_points is not None  # noqa: S101  # for the type checker: it thins out
        size = 2 * self._stride
        count = min(count, max(1, (self._max_points - len(self._kept)) // 2))
        indices = points.extremes(start, count, size)
        is_made = self._stride >= _MAX_UNMADE_STRIDE
        self._kept += (
            points.made(indices) if is_made else zip(repeat(points), indices, strict=False)
        )
        self._kept_values += points.values[indices].tolist()
        self._thin_out()
        return count * size

    def _keep(self, values: Sequence[float], found: Sequence[_Found]) -> None:
        at = 0
        while at < len(values):
            if self._stride > 1:
                end = at + 2 * self._stride - len(self._window)
                self._window += found[at:end]
                self._window_values += values[at:end]
                if len(self._window) == 2 * self._stride:
                    self._keep_extremes(self._window_values, self._window)
                    self._window, self._window_values = [], []
            else:
                end = len(values)
                if self._max_points is not None:
                    end = at + max(1, self._max_points - 1 - len(self._kept))
                self._kept += found[at:end]
                self._kept_values += values[at:end]
            self._thin_out()
            at = end

    def _thin_out(self) -> None:
        if self._max_points is None or len(self._kept) < self._max_points - 1:
            return
        kept, values = self._kept, self._kept_values
        if self._stride >= _MAX_UNMADE_STRIDE:
            kept = _all_made(kept)
        indices = [0, *(n + 1 for n in self._extremes_of_windows(values[1:], 4))]
        self._kept = [_made(kept[0]), *(kept[n] for n in indices[1:])]
        self._kept_values = [values[n] for n in indices]
        self._stride *= 2

    def _keep_extremes(self, values: Sequence[float], found: Sequence[_Found]) -> None:
        for n in extremes(values):
            is_made = self._stride < _MAX_UNMADE_STRIDE
            self._kept.append(found[n] if is_made else _made(found[n]))
            self._kept_values.append(values[n])


def _all_made(found: Sequence[_Found]) -> list[_Found]:
    """Return points for all, those of the same segment made together."""
    unmade: dict[int, tuple[PointsOfColumns, list[int]]] = {}
    for n, each in enumerate(found):
        if not isinstance(each, Point):
            unmade.setdefault(id(each[0]), (each[0], []))[1].append(n)
    made = list(found)
    for points, at in unmade.values():
        indices = [each[1] for n in at if not isinstance(each := found[n], Point)]
        for n, point in zip(at, points.made(indices), strict=True):
            made[n] = point
    return made


def _made(found: _Found) -> Point:
    return found if isinstance(found, Point) else found[0][found[1]]

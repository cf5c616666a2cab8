"""The points of one metric, thinned out if there are more than the limit.  Pure.

Of each stretch the lowest and the highest value stay, so no spike is lost; the ends stay, too, and
so do values that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .records import Point

__all__ = ["Series"]


class Series:
    """Takes points in order. ``max_points``: None keeps all."""

    def __init__(self, max_points: int | None = None) -> None:
        self._max_points = max_points
        self._stride = 1  # the number of points that one kept point stands for
        self._kept: list[Point] = []
        self._stretch: list[Point] = []
        self._last: Point | None = None

    def __iter__(self) -> Iterator[Point]:
        yield from self._kept
        yield from _extremes(self._stretch) if self._stride > 1 else self._stretch
        if self._last is not None:
            yield self._last

    @property
    def last(self) -> Point | None:
        return self._last

    def append(self, point: Point) -> None:
        """Add the next point."""
        if self._last is not None:
            self._keep(self._last)
        self._last = point

    def replace_last(self, point: Point) -> None:
        """Correct the last point."""
        self._last = point

    def _keep(self, point: Point) -> None:
        if self._stride == 1:
            self._kept.append(point)
        else:
            self._stretch.append(point)
            if len(self._stretch) < 2 * self._stride:
                return
            self._kept += _extremes(self._stretch)
            self._stretch = []
        if self._max_points is not None and len(self._kept) >= self._max_points - 1:
            kept, self._kept = self._kept, self._kept[:1]
            for start in range(1, len(kept), 4):
                self._kept += _extremes(kept[start : start + 4])
            self._stride *= 2


def _extremes(stretch: Sequence[Point]) -> list[Point]:
    """Return the lowest and the highest point, in their order, after those that are not finite."""
    if len(stretch) <= 2:
        return list(stretch)
    odd = [point for point in stretch if not math.isfinite(point.value)]
    if odd:
        return [odd[0], stretch[-1]] if odd[0] is not stretch[-1] else [stretch[0], odd[0]]
    low = min(range(len(stretch)), key=lambda n: stretch[n].value)
    high = max(range(len(stretch)), key=lambda n: stretch[n].value)
    if low == high:
        return [stretch[0], stretch[-1]]
    return [stretch[min(low, high)], stretch[max(low, high)]]

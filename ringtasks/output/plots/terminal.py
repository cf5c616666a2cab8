"""A curve as lines of text, in dots: two across and four down a character.  Pure.

This is own code, because a plot of one colour is short, and plotting libraries for the terminal
change their interfaces between versions.
"""

from __future__ import annotations

import itertools
import math

from ringtasks.training.curves import Curve

__all__ = ["draw", "short"]

_BLANK = (
    0x2800  # the Unicode block of dot patterns (U+2800); the bits of a dot's column, from the top
)
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_LABEL_WIDTH = 9


def draw(curve: Curve, width: int, height: int) -> list[str]:
    """Return ``height`` lines of at most ``width`` characters; the scale is above and below.

    Values that are not numbers are left out; without any number there are no lines.
    """
    points = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(x + y)]
    if not points or width <= _LABEL_WIDTH + 2 or height < 1:
        return []
    low, high = min(y for _, y in points), max(y for _, y in points)
    across, down = (width - _LABEL_WIDTH - 1) * 2, height * 4
    cells = [[0] * (across // 2) for _ in range(height)]
    for x, y in _pixels(points, across, down, low, high):
        cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
    labels = {0: short(high), height - 1: short(low)} if height > 1 else {0: short(high)}
    return [
        f"{labels.get(row, ''):>{_LABEL_WIDTH}}▕" + "".join(chr(_BLANK + cell) for cell in line)
        for row, line in enumerate(cells)
    ]


def short(value: float) -> str:
    """Return a number in at most nine characters."""
    return f"{value:.4g}"


def _pixels(
    points: list[tuple[float, float]], across: int, down: int, low: float, high: float
) -> set[tuple[int, int]]:
    """Return the dots of a line through the points, the highest value in row 0."""
    first, last = points[0][0], points[-1][0]
    scaled = [
        (
            round((x - first) / (last - first) * (across - 1)) if last > first else 0,
            round((high - y) / (high - low) * (down - 1)) if high > low else down // 2,
        )
        for x, y in points
    ]
    dots = set(scaled)
    for (x0, y0), (x1, y1) in itertools.pairwise(scaled):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for n in range(1, steps):
            dots.add((x0 + (x1 - x0) * n // steps, y0 + (y1 - y0) * n // steps))
    return dots

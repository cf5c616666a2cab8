"""The two values that stand for a window of a curve.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["extremes", "extremes_of_windows"]


def extremes(values: Sequence[float]) -> Sequence[int]:
    """Return the indices of the lowest and the highest value, after those that are not finite."""
    last = len(values) - 1
    if last < 2:
        return range(last + 1)
    if math.isfinite(sum(values)) or all(map(math.isfinite, values)):
        low, high = values.index(min(values)), values.index(max(values))
        return sorted((low, high)) if low != high else (0, last)
    odd = next(n for n, value in enumerate(values) if not math.isfinite(value))
    return (odd, last) if odd != last else (0, odd)


def extremes_of_windows(values: Sequence[float], size: int) -> list[int]:
    """Return the indices of the extremes of each window; the last one may be shorter."""
    return [
        start + n
        for start in range(0, len(values), size)
        for n in extremes(values[start : start + size])
    ]

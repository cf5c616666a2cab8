"""The x of points: the axis over which a metric is drawn.  Pure.

Every point has an x of its own: an axis counts only if it grows from each point to the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from .records import Point

__all__ = ["printed_once", "without_repeats", "x_values"]

_X = Callable[[Point], "float | None"]
#: Relative difference of a value that is printed with four digits and once more with all of them.
_ROUNDING = 1e-3


def x_values(
    points: Sequence[Point], wanted: str | None = None, started: float | None = None
) -> tuple[str, list[float]]:
    """Return the axis of the points and the x of each: a step, an epoch, or a serial number.

    :param wanted: the axis to take if all points have a position on it; ``time``: seconds.
    :param started: the time from which seconds count.
    Points within an epoch lie between it and the next.
    """
    if wanted == "time" and started is not None:
        times = [point.time - started for point in points if point.time is not None]
        if len(times) == len(points) and _grow(times, points, may_be_equal=True):
            return "time", times
    candidates: list[tuple[str, _X]] = [
        ("step", lambda point: point.step),
        ("round", lambda point: point.round),
        ("episode", lambda point: point.episode),
        ("epoch", _within_epochs(points)),
        ("epoch", lambda point: point.epoch),
        ("batch", lambda point: point.batch),
        ("sample", lambda point: point.sample),
    ]
    for axis, x_of in sorted(candidates, key=lambda each: each[0] != wanted):
        xs = [x_of(point) for point in points]
        known = [x for x in xs if x is not None]
        if len(known) == len(xs) and _grow(known, points):
            return axis, known
    return "reading", [float(point.serial) for point in points]


def printed_once(points: Sequence[Point]) -> list[Point]:
    """Return the points without those that print the value before them again, at its position.

    A script prints the result of ``trainer.evaluate()``, which the trainer itself has printed, or
    "saved the model (val_loss=0.5)" below the epoch's line.
    """
    pairs = itertools.pairwise(points)
    return [*points[:1], *(point for before, point in pairs if not _is_again(point, before))]


def _is_again(point: Point, before: Point) -> bool:
    place, other = ((p.kind, p.attempt, p.position) for p in (point, before))
    has_own = sum(done is not None for done in point.position) > len(point.inherited)
    is_same_place = (point.kind == "dict" or not has_own) and place == other
    return is_same_place and math.isclose(point.value, before.value, rel_tol=_ROUNDING)


def without_repeats(points: Sequence[Point], xs: Sequence[float]) -> list[int]:
    """Return the indices of the points that no later attempt has repeated."""
    kept: list[int] = []
    for n, point in enumerate(points):
        while kept and points[kept[-1]].attempt != point.attempt and xs[kept[-1]] >= xs[n]:
            kept.pop()
        kept.append(n)
    return kept


def _grow(xs: Sequence[float], points: Sequence[Point], *, may_be_equal: bool = False) -> bool:
    return all(
        before < after
        or (may_be_equal and before == after)
        or points[n].attempt != points[n + 1].attempt
        for n, (before, after) in enumerate(itertools.pairwise(xs))
    )


def _inner(point: Point) -> float | None:
    counts = point.sample, point.batch, point.step
    return next((count for count in counts if count is not None), None)


def _within_epochs(points: Sequence[Point]) -> _X:
    inner = [count for point in points if (count := _inner(point)) is not None]
    epochs = [point.epoch for point in points if point.epoch is not None]
    if len(inner) < len(points) or len(epochs) < len(points):
        return lambda point: None
    # If batches count from 0, the batch of the total is the one after the last: timm's "[5/5]".
    longest = max(inner, default=0.0) + (min(inner, default=1.0) == 0)
    # Epoch 1 is from 0 to 1, if it is the first.
    first = 0.0 if min(epochs, default=0.0) < 1 else 1.0

    def x_of(point: Point) -> float | None:
        count = _inner(point)
        if count is None or point.epoch is None:
            return None
        return point.epoch - first + count / max(point.inner_total or 0.0, longest, 1.0)

    return x_of

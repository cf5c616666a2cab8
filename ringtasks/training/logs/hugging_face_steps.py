"""The steps of ``transformers.Trainer``, which prints dicts with a rounded epoch.  Pure.

Only its bar shows the step (trainer_callback.py, ``ProgressCallback``).  The bar goes to stderr and
the dicts to stdout, so they may arrive in any order; a step is given only if the bar agrees with
the epochs, or the end of the run determines the length of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from .history import History
from .records import Point

__all__ = ["steps_of_epochs"]

#: Names that no other trainer prints.
_NAMES = ("train_runtime", "grad_norm", "eval_runtime", "train_samples_per_second")


#: A step, and the epoch that was printed rounded.
_Place = tuple[float, "float | None"]


def steps_of_epochs(
    history: History, points: Mapping[str, Sequence[Point]], totals: dict[str, float]
) -> dict[int, _Place]:
    """Return steps and exact epochs by the serial numbers of points.

    :param totals: the totals that can be derived are filled in.
    """
    if not any(name in points for name in _NAMES):
        return {}
    epochs = _epochs_without_steps(points)
    if not epochs:
        return {}
    bar, ends = history.bar, points.get("train_runtime")
    if bar and bar.total:
        totals["step"] = bar.total
    elif ends and "step" not in totals:
        totals |= _stated_total(points)
    rounding = _Rounding(epochs.values())
    shown = {serial: history.bar_after.get(serial) for serial in epochs}
    bounds = _agreed_bounds(epochs, shown, rounding)
    length = _only_between(*bounds) if bounds else None
    if length is None and ends:
        length = _length_by_end(bar.done if bar else totals.get("step"), ends[-1].epoch, rounding)
    if length and totals.get("step", 1.0) % length == 0:
        totals.setdefault("epoch", totals["step"] / length)
    if bounds:
        steps = {serial: step for serial, step in shown.items() if step is not None}
    elif length is not None:
        steps = {
            serial: step
            for serial, epoch in epochs.items()
            if (step := _only_whole(epoch * length, length * rounding(epoch))) is not None
        }
    else:
        return {}
    return {serial: (step, _epoch_of(step, length)) for serial, step in steps.items()}


def _epochs_without_steps(points: Mapping[str, Sequence[Point]]) -> dict[int, float]:
    """Return the printed epochs by the serial numbers of points."""
    return {
        point.serial: point.epoch
        for of_metric in points.values()
        for point in of_metric
        if point.kind == "dict" and point.epoch and point.step is None
    }


def _epoch_of(step: float, length: float | None) -> float | None:
    """Return the epoch as the trainer computes it."""
    return step // length + step % length / length if length else None


class _Rounding:
    """The largest distance between a printed epoch and the true one."""

    def __init__(self, epochs: Iterable[float]) -> None:
        values = list(epochs)
        self._is_two_decimals = all(
            abs(value * 100 - round(value * 100)) < 1e-6 for value in values
        )
        self._is_four_digits = all(f"{value:.4g}" == f"{value:.12g}" for value in values)

    def __call__(self, epoch: float) -> float:
        if self._is_two_decimals:  # version 4 rounds to two; 0.25 may be exact, too
            return 0.005
        if self._is_four_digits:
            return 0.5 * 10.0 ** (math.floor(math.log10(epoch)) - 3)
        return 1e-9 * max(1.0, epoch)


def _agreed_bounds(
    epochs: Mapping[int, float], shown: Mapping[int, float | None], rounding: _Rounding
) -> tuple[float, float] | None:
    """Return the bounds of the steps of an epoch, if the bar agrees with all epochs on them."""
    pairs = [(epochs[serial], step) for serial, step in shown.items()]
    if any(step is None for _, step in pairs[:-1]) or len({step for _, step in pairs}) < 2:
        return None
    low, high = _bounds(((e, step) for e, step in pairs if step is not None), rounding)
    return (low, high) if low <= high else None


def _bounds(pairs: Iterable[tuple[float, float]], rounding: _Rounding) -> tuple[float, float]:
    known = list(pairs)
    low = max(step / (epoch + rounding(epoch)) for epoch, step in known)
    high = min(step / max(epoch - rounding(epoch), 1e-12) for epoch, step in known)
    return low, high


def _only_between(low: float, high: float) -> float | None:
    """Return the only whole number between two, else None."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    return float(first) if first == last else None


def _length_by_end(steps: float | None, last: float | None, rounding: _Rounding) -> float | None:
    """Return the steps of an epoch from the run's last step and epoch."""
    if not last or not steps:
        return None
    found = _only_between(*_bounds([(last, steps)], rounding))
    if found is None and last == round(last) and steps % last == 0:
        return steps / last  # a run that ends with an epoch prints it exactly
    return found


def _stated_total(points: Mapping[str, Sequence[Point]]) -> dict[str, float]:
    """Return the steps of the run from its time and its steps a second, of four digits each."""
    speed = points.get("train_steps_per_second")
    if not speed:
        return {}
    steps = speed[-1].value * points["train_runtime"][-1].value
    whole = _only_whole(steps, steps * 1.1e-3)
    return {"step": whole} if whole else {}


def _only_whole(value: float, slack: float) -> float | None:
    """Return the only whole number within ``slack`` of ``value``."""
    nearest = round(value)
    if slack >= 0.5 or abs(value - nearest) > slack + 1e-6:
        return None
    return float(nearest)

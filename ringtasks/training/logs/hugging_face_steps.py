"""The steps of ``transformers.Trainer``, which prints dicts with a rounded epoch.  Pure.

Only its bar shows the step (trainer_callback.py, ``ProgressCallback``).  The bar goes to stderr and
the dicts to stdout, so they may arrive in any order; a step is given only if the bar agrees with
the epochs, or the end of the run determines the length of an epoch.

The trainer counts an epoch in batches (trainer.py, ``_inner_training_loop``), so with gradient
accumulation an epoch of 559 steps may be 558.7 times as long as its first step: its last step is
shorter.  Before version 4.46 it was left out: 558 steps, and the last one is at epoch 0.9987.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

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
    if not bounds and length is None:
        return {}
    scale = _scale_of(length, epochs.values(), rounding) if length else None
    if bounds:
        steps = {serial: step for serial, step in shown.items() if step is not None}
    else:
        steps = {
            serial: found.pop()
            for serial, epoch in epochs.items()
            if scale and len(found := scale.steps_at(epoch, rounding(epoch))) == 1
        }
    exact = length if scale and scale.is_whole else None
    return {serial: (step, _epoch_of(step, exact)) for serial, step in steps.items()}


class _Scale(NamedTuple):
    """The steps of an epoch, and the bounds of its length in units of its first step."""

    steps: float
    low: float
    high: float

    @classmethod
    def of_any_end(cls, steps: float) -> _Scale:
        """Return the scale of epochs whose last step may be shorter, or left out."""
        return cls(steps, steps - 1 + 1e-9, steps + 1 - 1e-9)

    @property
    def is_whole(self) -> bool:
        return self.low <= self.steps <= self.high

    def steps_at(self, epoch: float, rounding: float) -> set[float]:
        """Return the steps whose epoch may have been printed as ``epoch``."""
        found = set()
        for n in {math.floor(epoch - rounding), math.floor(epoch + rounding)}:
            first = max(epoch - n - rounding, 0.0) * self.low
            last = min(epoch - n + rounding, 1.0) * self.high
            for step in range(math.ceil(first - 1e-6), math.floor(last + 1e-6) + 1):
                found.add(n * self.steps + min(step, self.steps))
            if epoch - n + rounding >= 1.0:
                found.add((n + 1) * self.steps)
        return {step for step in found if step > 0}


def _are_regular(steps: Iterable[float]) -> bool:
    """Return whether steps are as far from each other as those of a log are."""
    ordered = sorted({*steps})
    return len({after - before for before, after in itertools.pairwise(ordered)}) < 2


def _scale_of(length: float, epochs: Iterable[float], rounding: _Rounding) -> _Scale | None:
    """Return the scale on which all epochs are whole steps; None if there is none."""
    printed = sorted({*epochs}, key=lambda epoch: epoch % 1)
    scale = _Scale(length, length, length)
    found_at = (scale.steps_at(epoch, rounding(epoch)) for epoch in printed)
    on_whole = [*itertools.takewhile(bool, found_at)]
    if len(on_whole) == len(printed) and _are_regular(
        min(steps) for steps in on_whole if len(steps) == 1
    ):
        return scale
    scale = _Scale.of_any_end(length)
    for epoch in printed:
        slack, part = rounding(epoch), epoch % 1
        found = scale.steps_at(epoch, slack)
        if not found:
            return None
        if len(found) == 1 and slack < part < 1 - slack:
            step = found.pop() - length * math.floor(epoch)
            low, high = step / (part + slack), step / (part - slack)
            scale = _Scale(length, max(scale.low, low), min(scale.high, high))
    return scale


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
    known = [*{(e, step) for e, step in pairs if step is not None}]
    low, high = _bounds(known, rounding)
    return (low, high) if low <= high else _bounds_of_scales(known, rounding)


def _bounds_of_scales(
    known: Sequence[tuple[float, float]], rounding: _Rounding
) -> tuple[float, float] | None:
    """Return the bounds of the steps of an epoch whose last step is shorter, or left out."""
    low, high = _bounds([max(known)], rounding)
    found = [
        length
        for length in map(float, range(math.floor(low) - 1, math.ceil(high) + 2))
        for scale in [_Scale.of_any_end(length)]
        if all(step in scale.steps_at(epoch, rounding(epoch)) for epoch, step in known)
    ]
    return (min(found), max(found)) if found else None


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
    epochs = math.ceil(last)
    if found is None and steps % epochs == 0:
        length = steps / epochs  # the last batches of each epoch are left out
        is_at_end = last - (epochs - 1) + rounding(last) >= length / (length + 1)
        return length if is_at_end else None
    return found


def _stated_total(points: Mapping[str, Sequence[Point]]) -> dict[str, float]:
    """Return the steps of the run from its time and its steps a second, of four digits each."""
    speed = points.get("train_steps_per_second")
    if not speed:
        return {}
    steps = speed[-1].value * points["train_runtime"][-1].value
    slack, whole = steps * 1.1e-3, float(round(steps))
    is_it = whole and slack < 0.5 and abs(steps - whole) <= slack + 1e-6
    return {"step": whole} if is_it else {}

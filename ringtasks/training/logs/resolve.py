"""Steps that a trainer's log does not print beside its metrics, but gives away.  Pure.

A step is filled in only if all that the log tells agrees on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .history import History
from .records import Point

__all__ = ["Resolved", "resolved"]


class Resolved(NamedTuple):
    """Points by metric, and how many epochs and steps the run has, as far as known."""

    points: dict[str, list[Point]]
    totals: dict[str, float]


def resolved(history: History) -> Resolved:
    """Return the points of each metric, with the steps that can be told for certain."""
    totals = dict(history.totals)
    points = {name: list(series) for name, series in history.series.items()}
    steps = {**_of_hugging_face(history, points, totals), **_of_whole_epochs(history, points)}
    if not steps:
        return Resolved(points, totals)
    points = {
        name: [
            point._replace(step=steps.get(point.serial)) if point.step is None else point
            for point in of_metric
        ]
        for name, of_metric in points.items()
    }
    return Resolved(points, totals)


# --- transformers.Trainer --------------------------------------------------------------------
# It prints dicts with a rounded epoch; the step stands on its bar alone (trainer_callback.py,
# ProgressCallback).  The bar goes to stderr, so dict and bar may come in any order.

#: What no other trainer prints.
_HF_NAMES = ("train_runtime", "grad_norm", "eval_runtime", "train_samples_per_second")


def _of_hugging_face(
    history: History, points: Mapping[str, Sequence[Point]], totals: dict[str, float]
) -> dict[int, float]:
    if not any(name in points for name in _HF_NAMES):
        return {}
    epochs = {
        point.serial: point.epoch
        for of_metric in points.values()
        for point in of_metric
        if point.kind == "dict" and point.epoch and point.step is None
    }
    if not epochs:
        return {}
    rounding = _Rounding(epochs.values())
    if history.bar and history.bar.total:
        totals["step"] = history.bar.total
    shown = {serial: history.bar_after.get(serial) for serial in epochs}
    if _agrees(epochs, shown, rounding):
        return {serial: step for serial, step in shown.items() if step is not None}
    ends = points.get("train_runtime")
    length = _epoch_length(history, ends[-1], rounding) if ends else None
    if length is None:
        return {}
    if "step" in totals and totals["step"] % length == 0:
        totals.setdefault("epoch", totals["step"] / length)
    return {
        serial: step
        for serial, epoch in epochs.items()
        if (step := _only_whole(epoch * length, length * rounding(epoch))) is not None
    }


class _Rounding:
    """How far a printed epoch may be from the true one."""

    def __init__(self, epochs: Iterable[float]) -> None:
        values = list(epochs)
        self._is_two_decimals = all(
            abs(value * 100 - round(value * 100)) < 1e-6 for value in values
        )
        self._is_four_digits = all(f"{value:.4g}" == f"{value:.12g}" for value in values)

    def __call__(self, epoch: float) -> float:
        four_digits = 0.5 * 10.0 ** (math.floor(math.log10(epoch)) - 3) if epoch > 0 else 0.0
        if self._is_two_decimals:  # version 4 rounds to two; 0.25 may be exact, too
            return 0.005
        return four_digits if self._is_four_digits else 1e-9 * max(1.0, epoch)


def _agrees(
    epochs: Mapping[int, float], shown: Mapping[int, float | None], rounding: _Rounding
) -> bool:
    """Tell whether the bar's counts are in step with the epochs all the way."""
    pairs = [(epochs[serial], step) for serial, step in shown.items()]
    if len(pairs) < 2 or any(step is None for _, step in pairs[:-1]):
        return False
    known = [(epoch, step) for epoch, step in pairs if step is not None]
    low = max(step / (epoch + rounding(epoch)) for epoch, step in known)
    high = min(step / max(epoch - rounding(epoch), 1e-12) for epoch, step in known)
    return low <= high and len({step for _, step in known}) > 1


def _epoch_length(history: History, end: Point, rounding: _Rounding) -> float | None:
    """Return the steps of an epoch, if the end of the run tells it."""
    last = end.epoch
    steps = history.bar.done if history.bar else history.totals.get("step")
    if not last or not steps:
        return None
    slack = rounding(last)
    low = math.ceil(steps / (last + slack) - 1e-9)
    high = math.floor(steps / max(last - slack, 1e-12) + 1e-9)
    whole = float(round(steps / last))
    if low == high:
        return float(low)
    # "epoch: 3.0" is exact where a run ends with an epoch: then its length is a whole number.
    if last == round(last) and steps % last == 0 and history.totals.get("epoch", last) == last:
        return whole
    return None


def _only_whole(value: float, slack: float) -> float | None:
    """Return the only whole number within ``slack`` of ``value``."""
    nearest = round(value)
    if slack >= 0.5 or abs(value - nearest) > slack + 1e-6:
        return None
    return float(nearest)


# --- scripts that say at the end of an epoch how it went --------------------------------------
# "Num examples = 256", "Total optimization steps = 24" (transformers, examples/*_no_trainer.py).


def _of_whole_epochs(history: History, points: Mapping[str, Sequence[Point]]) -> dict[int, float]:
    length = _told_length(history)
    if length is None:
        return {}
    total = history.totals["step"]
    found: dict[int, float] = {}
    for of_metric in points.values():
        own = [p for p in of_metric if p.kind == "line" and p.epoch is not None and p.step is None]
        if not own or not _is_once_an_epoch(own):
            continue
        found |= {p.serial: min((p.epoch + 1) * length, total) for p in own if p.epoch is not None}
    return found


def _told_length(history: History) -> float | None:
    """Return the steps of an epoch, if the run's examples and its total agree on it."""
    totals = history.totals
    examples, batch = (
        totals.get("examples"),
        totals.get("total_batch") or totals.get("device_batch"),
    )
    epochs, steps = totals.get("epoch"), totals.get("step")
    if not (examples and batch and epochs and steps):
        return None
    if "total_batch" in totals:
        length = math.ceil(examples / batch)
    else:
        length = math.ceil(math.ceil(examples / batch) / totals.get("accumulation", 1.0))
    return float(length) if length * epochs == steps else None


def _is_once_an_epoch(points: Sequence[Point]) -> bool:
    epochs = [point.epoch for point in points]
    return len(set(epochs)) == len(epochs) and all(e == int(e) for e in epochs if e is not None)

"""Steps that a trainer's log does not print beside its metrics, but determines.  Pure.

A step is filled in only if all parts of the log agree on it.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .history import History
from .hugging_face_steps import steps_of_epochs
from .records import Point

__all__ = ["Resolved", "resolved"]

_EPOCH = Point._fields.index("epoch")  # before the step


class Resolved(NamedTuple):
    """Points by metric, and the number of epochs and steps of the run, if known."""

    points: dict[str, list[Point]]
    totals: dict[str, float]


def resolved(history: History) -> Resolved:
    """Return the points of each metric, with the steps that are certain."""
    totals = dict(history.totals)
    points = {name: list(series) for name, series in history.series.items()}
    exact = steps_of_epochs(history, points, totals)
    steps = {serial: step for serial, (step, _) in exact.items()} | _of_whole_epochs(
        history, points
    )
    if not steps:
        return Resolved(_apart(points), totals)
    epochs = {serial: epoch for serial, (_, epoch) in exact.items() if epoch is not None}
    found = {
        name: [
            _placed(point, steps.get(point.serial), epochs.get(point.serial, point.epoch))
            if point.step is None
            else point
            for point in of_metric
        ]
        for name, of_metric in points.items()
    }
    return Resolved(_apart(found), totals)


def _placed(point: Point, step: float | None, epoch: float | None) -> Point:
    """Return a point at a step and an epoch."""
    return Point._make((*point[:_EPOCH], epoch, step, *point[_EPOCH + 2 :]))


# --- metrics of whole epochs -----------------------------------------------------------------


def _apart(points: dict[str, list[Point]]) -> dict[str, list[Point]]:
    """Return the means of whole epochs apart from the values of their batches.

    "epoch 1 iter 100/101 loss 0.5", then "EPOCH 1 done: loss 0.6".
    """
    found: dict[str, list[Point]] = {}
    highest = max((p.step or 0.0 for of_metric in points.values() for p in of_metric), default=0.0)
    for name, of_metric in points.items():
        of_metric = _without_epochs_as_steps(of_metric, highest)
        is_mean = [
            point.step is None and point.batch is None and point.sample is None
            and point.epoch is not None and point.kind != "bar"
            for point in of_metric
        ]  # fmt: skip
        if any(is_mean) and not all(is_mean) and f"epoch_{name}" not in points:
            means = [*itertools.compress(of_metric, is_mean)]
            inner = [point for point, is_it in zip(of_metric, is_mean, strict=True) if not is_it]
            if _follow_their_epochs(means, inner):
                found[name], found[f"epoch_{name}"] = inner, means
                continue
        found[name] = of_metric
    return found


def _follow_their_epochs(means: Sequence[Point], inner: Sequence[Point]) -> bool:
    """Return whether there is one mean an epoch, behind the epoch's batches."""
    if all(point.epoch is None for point in inner):
        serials = [point.serial for point in means]
        return {bisect(serials, point.serial) for point in inner} >= {*range(len(means))}
    last = {(point.attempt, point.epoch): point.serial for point in inner}
    places = [(point.attempt, point.epoch) for point in means]
    return len({*places}) == len(places) and all(
        last.get(place, point.serial) < point.serial
        for place, point in zip(places, means, strict=True)
    )


def _without_epochs_as_steps(points: list[Point], highest: float) -> list[Point]:
    """Return the points of a validation without a step that is an epoch's number (MMEngine)."""
    is_epoch = all(p.kind == "dict" and p.step == p.epoch and "e" in p.inherited for p in points)
    if is_epoch and points[-1].step != highest:
        return [point._replace(step=None) for point in points]
    return points


# --- scripts that print a summary at the end of an epoch ------------------------------------
# "Num examples = 256", "Total optimization steps = 24" (transformers, examples/*_no_trainer.py).


def _of_whole_epochs(history: History, points: Mapping[str, Sequence[Point]]) -> dict[int, float]:
    length = _stated_length(history)
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


def _stated_length(history: History) -> float | None:
    """Return the steps of an epoch, if the run's examples and its total agree on it."""
    totals = history.totals
    examples = totals.get("examples")
    batch = totals.get("total_batch") or totals.get("device_batch")
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

"""Steps that a trainer's log does not print beside its metrics, but determines.  Pure.

A step is filled in only if all parts of the log agree on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .history import History
from .hugging_face_steps import steps_of_epochs
from .records import Point

__all__ = ["Resolved", "resolved"]


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
        return Resolved(points, totals)
    epochs = {serial: epoch for serial, (_, epoch) in exact.items() if epoch is not None}
    found = {
        name: [
            point._replace(
                step=steps.get(point.serial), epoch=epochs.get(point.serial, point.epoch)
            )
            if point.step is None
            else point
            for point in of_metric
        ]
        for name, of_metric in points.items()
    }
    return Resolved(found, totals)


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

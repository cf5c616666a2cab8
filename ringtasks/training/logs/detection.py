"""The results of object detection: what was detected, and rows of several metrics.  Pure.

    [d2.evaluation.testing]: copypaste: Task: bbox
    [d2.evaluation.testing]: copypaste: AP,AP50,AP75
    [d2.evaluation.testing]: copypaste: 29.5,53.6,27.3

Boxes, masks and keypoints have the same metrics.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .numbers import NUMBER, as_float
from .parsed import Parsed
from .records import Record

__all__ = ["NO_DETECTION", "Detection", "detection_after", "kind_of", "of_task", "row_of"]

_TASK = re.compile(
    r"\s*IoU metric: (?P<iou>\w+)\s*\Z|Evaluate annotation type \*(?P<type>\w+)\*"
    r"|.*\bEvaluating (?P<work>bbox|segm|keypoints|proposal)\.\.\.\s*\Z"
    r"|.*\bEvaluation results for (?P<results>\w+):\s*\Z|.*\bcopypaste: Task: (?P<task>[\w-]+)",
    re.ASCII,
)
_COLUMNS = re.compile(
    r".*\bcopypaste: (?P<names>[A-Za-z][\w-]*(?:,[A-Za-z][\w-]*)*)\s*\Z", re.ASCII
)
_ROW = re.compile(rf".*\bcopypaste: (?P<numbers>{NUMBER}(?:,{NUMBER})*)\s*\Z", re.ASCII)
_BEGINNINGS = ("IoU metric", "annotation type", "Evaluat", "copypaste: ")


class Detection(NamedTuple):
    """The objects whose metrics follow, and the names of the next row's metrics."""

    task: str = ""
    columns: tuple[str, ...] = ()


NO_DETECTION = Detection()


def kind_of(text: str) -> Detection | None:
    """Return what a line says of the lines below it; None if it says nothing."""
    if not any(part in text for part in _BEGINNINGS):
        return None
    if found := _TASK.match(text):
        return Detection(next(task for task in found.groups() if task))
    found = None if _ROW.match(text) else _COLUMNS.match(text)
    return Detection(columns=tuple(found["names"].split(","))) if found else None


def detection_after(before: Detection, told: Detection) -> Detection:
    """Return the state after a line. ``told``: see `kind_of`."""
    return told if told.task else before._replace(columns=told.columns)


def row_of(detection: Detection, text: str) -> Record | None:
    """Return the metrics of a row under its names; None if a line is no such row."""
    found = _ROW.match(text) if detection.columns and "copypaste: " in text else None
    numbers = [as_float(number) for number in found["numbers"].split(",")] if found else []
    if not found or len(numbers) != len(detection.columns):
        return None
    group = f"{detection.task}/" if detection.task else ""
    named = zip(detection.columns, numbers, strict=True)
    return Record({}, [(group + name, number) for name, number in named if number is not None])


def of_task(parsed: Parsed, task: str) -> Parsed:
    """Return the content of a line whose metrics pycocotools names alike for each task."""
    if not task or not parsed.values or not parsed.values[0].name.startswith(("AP@", "AR@")):
        return parsed
    return parsed.named(f"{task}_{value.name}" for value in parsed.values)

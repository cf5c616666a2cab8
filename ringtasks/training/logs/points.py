"""The point of a record: its position in the run, with the part from the lines before.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .records import Point, Position, Record

__all__ = ["INHERITED", "INNER", "OF_ONE_LINE", "Before", "is_repeat", "point_of"]

#: Units within others, the innermost first: the total of one of them is a point's.
INNER = ("sample", "batch", "step", "round", "episode")
#: Units that lines inherit from those before, and units that they do not.
INHERITED = ("epoch", "step", "round", "episode")
OF_ONE_LINE = ("batch", "sample")


class Before(NamedTuple):
    """The serial number and the time of a record, and the positions that it may inherit."""

    serial: int
    attempt: int
    bar_epoch: Position | None
    at: Mapping[str, Position]
    time: float | None = None


def point_of(before: Before, record: Record, *, is_heading: bool = False) -> Point:
    """Return the point of a record; ``before.at``: the positions of the lines before, and its."""
    positions, at = dict(record.positions), before.at
    inherited = ""
    if record.kind != "bar":
        for unit in INHERITED:
            if unit not in positions and unit in at and _may_inherit(unit, positions):
                positions[unit] = at[unit]
                inherited += unit[0]
        if is_heading and "batch" in at:
            positions.setdefault("batch", at["batch"])
    if "epoch" not in positions and before.bar_epoch is not None:
        positions["epoch"] = before.bar_epoch
        inherited += "e"
    inner = next(
        (positions[unit].total for unit in INNER if unit in positions and positions[unit].total),
        None,
    )
    return Point(
        before.serial,
        before.attempt,
        0.0,
        **{unit: position.done for unit, position in positions.items()},
        inner_total=inner,
        kind=record.kind,
        inherited=inherited,
        time=before.time if record.time is None else record.time,
    )


def _may_inherit(unit: str, positions: Mapping[str, Position]) -> bool:
    if unit == "epoch":
        return True
    return not any(inner in positions for inner in INNER)


def is_repeat(last: Point, point: Point) -> bool:
    """Return whether a point is that of the line before, printed twice, or of a bar drawn again."""
    if last.position != point.position or last.attempt != point.attempt:
        return False
    if all(done is None for done in point.position):
        return False
    return point.kind == "bar" or (not point.inherited and last.value == point.value)

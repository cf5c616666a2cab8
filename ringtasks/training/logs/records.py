"""The results of the line readers: positions in the run and metrics, as numbers.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .numbers import as_float
from .parsed import Parsed

__all__ = ["Point", "Position", "Record", "fields_of", "record_of"]


class Position(NamedTuple):
    """``done`` of ``total`` (None: not given)."""

    done: float
    total: float | None = None


class Record(NamedTuple):
    """The content of one line, or of one state of a bar.

    ``kind`` determines its possible corrections: a ``bar`` is drawn again at the same position, a
    ``dict`` of a trainer may get its step later.  A ``count`` is the state of a bar without
    metrics, under the unit ``""``; with an ``attempt`` the run begins again, perhaps from a
    checkpoint.
    """

    positions: Mapping[str, Position]
    values: Sequence[tuple[str, float]] = ()
    totals: Mapping[str, float] = {}
    rank: int | None = None
    kind: str = "line"
    time: float | None = None


class Point(NamedTuple):
    """One value of a metric, and the known part of its position in the run."""

    serial: int
    attempt: int
    value: float
    epoch: float | None = None
    step: float | None = None
    batch: float | None = None
    round: float | None = None
    episode: float | None = None
    sample: float | None = None
    inner_total: float | None = None
    kind: str = "line"
    inherited: str = ""
    time: float | None = None

    @property
    def position(self) -> tuple[float | None, ...]:
        """The position of the point in the run."""
        return self.epoch, self.step, self.batch, self.round, self.episode, self.sample


def fields_of(record: Record) -> tuple[list[str], list[float]]:
    """Return the kind and the name of each number of a record, in one list, and the numbers.

    See ``columns.Schema``.
    """
    fields: list[str] = []  # a flat one is hashed faster
    numbers: list[float] = []
    for unit, (done, total) in record.positions.items():
        fields += "done", unit
        numbers.append(done)
        if total:
            fields += "total", unit
            numbers.append(total)
    for name, value in record.values:
        fields += "value", name
        numbers.append(value)
    for unit, total in record.totals.items():
        fields += "run", unit
        numbers.append(total)
    if record.rank:
        fields += "rank", ""
        numbers.append(record.rank)
    return fields, numbers


def record_of(parsed: Parsed, text: str) -> Record:
    """Return the numbers of a line that was read."""

    def number(span: tuple[int, int]) -> float | None:
        return as_float(text[slice(*span)])

    positions: dict[str, Position] = {}
    for unit, done, total in parsed.positions:
        count = number(done)
        if count is not None and math.isfinite(count):
            positions[unit] = Position(count, (number(total) or None) if total else None)
    values: dict[str, float] = {}
    for name, span in parsed.values:
        value = number(span)
        if value is not None:
            values.setdefault(name, value)
    totals = {unit: value for unit, span in parsed.totals if (value := number(span))}
    rank = number(parsed.rank) if parsed.rank else None
    return Record(
        positions, tuple(values.items()), totals, int(rank) if rank is not None else None,
        "dict" if parsed.is_dict else "line",
    )  # fmt: skip

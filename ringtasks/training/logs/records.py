"""The results of the line readers: places in the run and metrics, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Point", "Position", "Record"]


class Position(NamedTuple):
    """``done`` of ``total`` (None: not given)."""

    done: float
    total: float | None = None


class Record(NamedTuple):
    """The content of one line, or of one state of a bar.

    ``kind`` determines its possible corrections: a ``bar`` is drawn again at the same place, a
    ``dict`` of a trainer may get its step later, an ``epoch`` stands for a whole epoch.
    """

    places: Mapping[str, Position]
    values: Sequence[tuple[str, float]] = ()
    totals: Mapping[str, float] = {}
    rank: int | None = None
    kind: str = "line"


class Point(NamedTuple):
    """One value of a metric, and the known part of its place in the run."""

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

    @property
    def place(self) -> tuple[float | None, ...]:
        """The place of the point in the run."""
        return self.epoch, self.step, self.batch, self.round, self.episode, self.sample

"""What readers of lines hand on: places in the run and metrics, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Place", "Point", "Record"]


class Place(NamedTuple):
    """``done`` of ``total`` (None: not told)."""

    done: float
    total: float | None = None


class Record(NamedTuple):
    """What one line, or one state of a bar, tells.

    ``kind`` says how it may be corrected: a ``bar`` is drawn again at the same place, a ``dict``
    of a trainer may get its step later, an ``epoch`` stands for a whole epoch.
    """

    places: Mapping[str, Place]
    values: Sequence[tuple[str, float]] = ()
    totals: Mapping[str, float] = {}
    rank: int | None = None
    kind: str = "line"


class Point(NamedTuple):
    """One value of a metric, and what is known of where the run was."""

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
        """Where in the run the point is."""
        return self.epoch, self.step, self.batch, self.round, self.episode, self.sample

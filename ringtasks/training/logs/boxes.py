"""Names and values below each other: in a box, or as the indented lines of one result.

Stable-Baselines3 and Ray Tune, whose trials are kept apart.
"""

from __future__ import annotations

import re

from .numbers import NUMBER, as_float
from .records import Position, Record
from .tables import VERTICAL
from .words import is_measure, is_unrecorded, position_of

__all__ = ["BoxReader", "begins_box"]

_NUMBER = re.compile(rf"(?P<number>{NUMBER})\s?%?\Z", re.ASCII)
_BOX_ROW = re.compile(r"\s*\|\s+(?P<name>[^|]+?)\s*\|\s+(?P<value>[^|]*?)\s*\|\s*\Z", re.ASCII)
_FRAMED_ROW = re.compile(r"\s*\|\s(?P<name>[\w/.@%-]+)\s+(?P<value>[^|\s]+)\s*\|\s*\Z", re.ASCII)
_EDGE = re.compile(r"\s*(?:-{8,}|(?:\xe2[\x94-\x95][\x80-\xbf]){8,})\s*\Z")
_MAX_ROWS = 400
_TRIAL = re.compile(r"\s*\|?\s*Trial (?P<trial>\w+) (?:result|finished iteration)", re.ASCII)


# Ray Tune's older reports.
_RESULT = re.compile(r"\s*Result for (?P<trial>\S+):\s*\Z", re.ASCII)
_RESULT_ROW = re.compile(r"  (?P<name>[\w/.@-]+): (?P<value>\S.*)\Z", re.ASCII)
_NO_METRIC = re.compile(r"time/|time_|.*_since_restore|timesteps_|episodes_total", re.ASCII)


def begins_box(text: str) -> bool:
    """Tell whether a line is the edge of a box, or heads a result."""
    return _EDGE.match(text) is not None or _RESULT.match(text) is not None


class BoxReader:
    """Reads boxes of names and values; a box is one record."""

    def __init__(self) -> None:
        self._row: re.Pattern[str] | None = None  # matches a row of the open box
        self._rows = 0
        self._group = ""
        self._trial = ""
        self._values: dict[str, str] = {}

    @property
    def is_open(self) -> bool:
        return self._row is not None

    def read(self, text: str) -> Record | None:
        """Return the record of a box at its end; an empty record inside; None outside of boxes."""
        if _EDGE.match(text):
            return self._edge()
        if found := _RESULT.match(text):
            record = self._close()
            self._row, self._trial = _RESULT_ROW, found["trial"]
            return record or Record({})
        if self._row is None:
            return None
        if self._row is _RESULT_ROW:
            return self._result(text)
        plain = VERTICAL.sub("|", text)
        if found := _TRIAL.match(plain):
            self._trial = found["trial"]
            return Record({})
        row = _BOX_ROW.match(plain) or _FRAMED_ROW.match(plain)
        self._rows += 1
        if self._rows > _MAX_ROWS or not (row or plain.lstrip().startswith("|")):
            self._values, self._row = {}, None
            return None
        if row is not None:
            self._take(
                row["name"].strip(), row["value"].strip(), row.start("name") - plain.index("|")
            )
        return Record({})

    def _take(self, name: str, value: str, indent: int) -> None:
        if name.endswith("/") and not value:
            self._group = name
        elif _NUMBER.match(value):
            self._values[self._group + name if indent > 2 else name] = value

    def _edge(self) -> Record | None:
        trial = "" if self._values else self._trial  # named above the line in a box
        record = self._close()
        self._row, self._trial = _BOX_ROW, trial
        return record

    def _result(self, text: str) -> Record | None:
        if row := _RESULT_ROW.match(text):
            if _NUMBER.match(row["value"]):
                self._values[row["name"]] = row["value"]
            return Record({})
        return self._close()

    def end(self) -> list[Record]:
        """Return the record of the last result."""
        record = self._close() if self._row is _RESULT_ROW else None
        return [record] if record else []

    def _close(self) -> Record | None:
        values, trial = self._values, self._trial
        self._values, self._group, self._rows, self._trial, self._row = {}, "", 0, "", None
        places: dict[str, Position] = {}
        ranks: dict[str, int] = {}
        metrics: list[tuple[str, float]] = []
        for name, text in values.items():
            number = as_float(text.rstrip(" %"))
            if number is None:
                continue
            last = name.rpartition("/")[2]
            position = position_of(name) or position_of(last)
            if position and (name.startswith("time/") or "/" not in name):
                unit, rank = position
                if rank < ranks.get(unit, 99):
                    places[unit], ranks[unit] = Position(number), rank
            elif not is_unrecorded(last) and not _NO_METRIC.match(name):
                metrics.append((f"{trial}/{name}" if trial else name, number))
        if not places and not any(is_measure(name) for name, _ in metrics):
            return None
        return Record(places, metrics)

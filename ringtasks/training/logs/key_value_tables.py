"""Names and values below each other: in a box, or as the indented lines of one result.

Stable-Baselines3 prints such a table at each update, and Ray Tune one for each result; the trials
of Ray Tune are kept apart.

    | rollout/           |       |
    |    ep_rew_mean     | 22.5  |
    | train/             |       |
    |    loss            | 0.123 |
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from .numbers import NUMBER, as_float
from .parsed import Span
from .records import Position, Record
from .tables import VERTICAL
from .template_cache import TemplateCache
from .words import is_metric, is_unrecorded, position_field

__all__ = ["KeyValueReader", "begins_table"]

_NUMBER = re.compile(rf"(?P<number>{NUMBER})\s?%?\Z", re.ASCII)
_BOX_ROW = re.compile(r"\s*\|\s+(?P<name>[^|]+?)\s*\|\s+(?P<value>[^|]*?)\s*\|\s*\Z", re.ASCII)
_FRAMED_ROW = re.compile(r"\s*\|\s(?P<name>[\w/.@%-]+)\s+(?P<value>[^|\s]+)\s*\|\s*\Z", re.ASCII)
# Not "| end of epoch 1 | valid loss 5.1 | valid ppl 167", which may follow a ruler.
_OF_BOX = re.compile(r"\s*\|[^|]*\|?[^|]*\|\s*\Z")
_EDGE = re.compile(r"\s*(?:-{8,}|(?:\xe2[\x94-\x95][\x80-\xbf]){8,})\s*\Z")
_MAX_ROWS = 400
_TRIAL = re.compile(r"\s*\|?\s*Trial (?P<trial>\w+) (?:result|finished iteration)", re.ASCII)

# Ray Tune's older reports.
_RESULT = re.compile(r"\s*Result for (?P<trial>\S+):\s*\Z", re.ASCII)
_RESULT_ROW = re.compile(r"  (?P<name>[\w/.@-]+): (?P<value>\S.*)\Z", re.ASCII)
_NO_METRIC = re.compile(r"time/|time_|.*_since_restore|timesteps_|episodes_total", re.ASCII)


# AllenNLP: a column for each part of the data, behind the prefix of its logger.
_PARTS = re.compile(r"(?:.*\s)?Training \|  Validation\s*\Z", re.ASCII)
_PARTS_ROW = re.compile(
    rf"(?:.*\s-\s)?\s*(?P<name>[\w/.@-]+)\s*\|\s+(?P<training>{NUMBER}|N/A)"
    rf"(?:\s+\|\s+(?P<validation>{NUMBER}|N/A))?\s*\Z",
    re.ASCII,
)


def begins_table(text: str) -> bool:
    """Return whether a line is the edge of a box, or heads a result."""
    return bool(_EDGE.match(text) or _RESULT.match(text) or _has_parts(text))


def _has_parts(text: str) -> bool:
    return "Training |  " in text and _PARTS.match(text) is not None


# Lightning's table of a validation or a test, with a column for each of its loaders.
_LOADERS = re.compile(r"\s*(?:Validate|Test) metric((?:\s+DataLoader \d+)+)\s*\Z", re.ASCII)
_LOADERS_ROW = re.compile(
    rf"\s*(?P<name>[A-Za-z_][\w/.@%-]*(?: [\w/.@%-]+)*)(?P<values>(?:\s{{2,}}{NUMBER})+)\s*\Z",
    re.ASCII,
)


class _Row(NamedTuple):
    """A row. ``name``: ends with ``/`` if it heads a group; ``value``: the span of a number."""

    name: str
    value: Span
    is_in_group: bool = False

    def __bool__(self) -> bool:
        return bool(self.name)


_NO_NUMBER = (0, 0)
_NO_ROW = _Row("", _NO_NUMBER)


def _find_row(text: str) -> _Row:
    plain = VERTICAL.sub("  |", text)
    row = _BOX_ROW.match(plain) or _FRAMED_ROW.match(plain)
    if row is None:
        return _NO_ROW
    name, value = row["name"].strip(), row["value"].strip()
    if name.endswith("/") and not value:
        return _Row(name, _NO_NUMBER)
    indent = row.start("name") - plain.index("|")
    found = _NUMBER.match(value)
    return _Row(name, row.span("value") if found else _NO_NUMBER, indent > 2)


#: Finds the name and the number in a row of a box: ``|    ep_rew_mean     | 22.5  |``.
_row_of = TemplateCache(_find_row)


class KeyValueReader:
    """Reads boxes and results; each is one record."""

    def __init__(self) -> None:
        self.go_to(("", ""))

    @property
    def is_open(self) -> bool:
        return self._kind != ""

    @property
    def layout(self) -> tuple[str, str] | None:
        """The kind of the open table, and its trial; None if some of its rows were read."""
        if self._values or self._rows:
            return None
        return self._kind, self._trial

    def go_to(self, layout: tuple[str, str]) -> None:
        """Take over the layout after lines that were recognized by their templates."""
        self._kind, self._trial = layout
        self._values: dict[str, str] = {}
        self._rows, self._group = 0, ""

    def read(self, text: str) -> Record | None:
        """Return the record of a box at its end; an empty record inside; None outside of boxes."""
        if _EDGE.match(text):
            return self._edge()
        if found := _RESULT.match(text):
            return self._open("result", found["trial"]) or Record({})
        if _has_parts(text):
            return self._open("parts", "") or Record({})
        if self._kind == "parts":
            return self._of_parts(text)
        if not self._kind:
            return None
        if self._kind == "result":
            return self._result(text)
        plain = VERTICAL.sub("  |", text)
        if self._kind == "loaders" or _LOADERS.match(plain.replace("|", " ")):
            return self._of_loaders(plain.replace("|", "  "))
        if found := _TRIAL.match(plain):
            self._trial = found["trial"]
            return Record({})
        row = _row_of(text)
        if self._rows >= _MAX_ROWS or not (row or _OF_BOX.match(plain)):
            self.go_to(("", ""))
            return None
        if row.name.endswith("/") and not row.value[1]:
            self._group = row.name
        self._rows += 1
        if row.value[1]:
            name = self._group + row.name if row.is_in_group else row.name
            self._values[name] = text[slice(*row.value)]
        return Record({})

    def _of_parts(self, text: str) -> Record | None:
        row = _PARTS_ROW.match(text)
        if row is None:
            self._kind = ""
            return None
        values = [(f"{part}_{row['name']}", row[part]) for part in ("training", "validation")]
        return Record({}, [(n, float(text)) for n, text in values if text not in (None, "N/A")])

    def _of_loaders(self, text: str) -> Record | None:
        if _LOADERS.match(text):
            self._kind = "loaders"
            return Record({})
        row = _LOADERS_ROW.match(text)
        self._rows += 1
        if row is None or self._rows >= _MAX_ROWS:
            self.go_to(("", ""))
            return None
        values = row["values"].split()
        for n, value in enumerate(values):
            name = row["name"] + (f"/dataloader_idx_{n}" if len(values) > 1 else "")
            self._values[name] = value
        return Record({})

    def _edge(self) -> Record | None:
        """Return the record of the box that a line of dashes ends; another may begin there."""
        if self._kind == "loaders" and not self._values:
            return Record({})  # below the heading
        trial = "" if self._values else self._trial  # named above the line in a box
        return self._open("box", trial)

    def _open(self, kind: str, trial: str) -> Record | None:
        """Open a table; return the record of the one before it."""
        record = self._close()
        self._kind, self._trial = kind, trial
        return record

    def _result(self, text: str) -> Record | None:
        if row := _RESULT_ROW.match(text):
            if _NUMBER.match(row["value"]):
                self._values[row["name"]] = row["value"]
            return Record({})
        # A dict within the result ("  info:") has lines of its own, with a deeper indentation.
        return Record({}) if text.startswith("  ") and not text.isspace() else self._close()

    def end(self) -> list[Record]:
        """Return the record of the last result."""
        record = self._close() if self._kind == "result" else None
        return [record] if record else []

    def _close(self) -> Record | None:
        texts, trial = self._values, self._trial
        self.go_to(("", ""))
        plain = ((name, as_float(text.rstrip(" %"))) for name, text in texts.items())
        numbers = {name: number for name, number in plain if number is not None}
        content = _content_of(tuple(numbers), trial)
        if not content:
            return None
        positions = {unit: Position(numbers[name]) for unit, name in content.positions.items()}
        return Record(positions, [(name, numbers[own]) for own, name in content.metrics])


class _TableContent(NamedTuple):
    """The names of a table that give positions, by unit, and metrics, with their names as such."""

    positions: Mapping[str, str]
    metrics: tuple[tuple[str, str], ...]

    def __bool__(self) -> bool:
        return bool(self.positions) or any(is_metric(name) for _, name in self.metrics)


@functools.lru_cache(maxsize=1024)
def _content_of(names: tuple[str, ...], trial: str) -> _TableContent:
    positions: dict[str, str] = {}
    priorities: dict[str, int] = {}
    metrics: list[tuple[str, str]] = []
    for name in names:
        last = name.rpartition("/")[2]
        named_unit = position_field(name) or position_field(last)
        if named_unit and (name.startswith(("time/", "misc/")) or "/" not in name):
            unit, priority = named_unit
            if priority < priorities.get(unit, 99):
                positions[unit], priorities[unit] = name, priority
        elif not is_unrecorded(last) and not _NO_METRIC.match(name):
            metrics.append((name, f"{trial}/{name}" if trial else name))
    return _TableContent(positions, tuple(metrics))

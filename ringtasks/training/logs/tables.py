"""Tables of metrics, with columns under a heading.

scikit-learn, skorch, fastai, spaCy, ultralytics, CSV on stdout.  A row belongs to the last heading
that names a place in the run (``epoch``, ``iter``) and has as many cells.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .numbers import NUMBER, WHOLE, as_float, counted
from .records import Position, Record
from .words import is_measure, is_unrecorded, position_of

__all__ = ["VERTICAL", "ColumnReader", "may_be_row"]

_CELL = re.compile(rf"(?P<number>{NUMBER})\s?%?\Z", re.ASCII)
_OF = re.compile(rf"(?P<done>{WHOLE})(?:\s?/\s?(?P<total>{WHOLE}))?\Z", re.ASCII)
_HEADING_CELL = re.compile(r"[A-Za-z_#][\w/()@.%# -]{0,40}\Z", re.ASCII)
_GAP = re.compile(r"\t+|\s{2,}")
VERTICAL = re.compile("\xe2(?:\x94[\x82\x83\x86]|\x95\x91|\x94\x8a)")
_RULER = re.compile(
    r"[\s|+:=-]*-{2,}[\s|+:=-]*\Z|(?:\s|\xe2[\x94-\x95][\x80-\xbf]){4,}\Z", re.ASCII
)
_BAR_BEHIND = re.compile(r":?\s+\d{1,3}%[|\s\xe2].*", re.DOTALL)
_SHORT_POSITIONS = {"e": "epoch", "#": "step", "it": "step", "ep": "epoch", "n": "step"}
# ultralytics/utils/metrics: the table of a validation, which follows the epoch's row.
_VALIDATION = re.compile(
    r"\s*Class\s+Images\s+Instances\s+(?P<names>(?:\w+\(P\s+R\s+mAP50\s+mAP50-95\)\s*)+|top1_acc.*)"
)


def may_be_row(text: str) -> bool:
    """Tell whether a line is a row if it is of a table: no heading, no ruler, and no bar on it."""
    return not (
        _BAR_BEHIND.search(text)
        or _RULER.match(text)
        or _VALIDATION.match(text)
        or "best.pt" in text
        or "last.pt" in text
        or text.lstrip().startswith("all ")
        or _heading(text)
    )


class ColumnReader:
    """Reads headings and their rows."""

    def __init__(self) -> None:
        self._columns: list[_Column] = []
        self._is_validation = False

    def read(self, text: str) -> Record | None:
        """Return what a row tells; an empty record for a heading; None if it is another's line."""
        plain = _BAR_BEHIND.sub("", text)
        if _RULER.match(plain):
            self._align(plain)
            return None
        if _VALIDATION.match(text):
            self._is_validation = True
            return Record({})
        if "best.pt" in text or "last.pt" in text:
            self._is_validation = False
            return None
        if self._is_validation and text.lstrip().startswith("all "):
            return self._validation(text)
        columns = _heading(plain)
        if columns:
            self._columns = columns
            return Record({})
        if "%" in text and plain != text and not re.search(r"100%", text):
            return Record({}) if self.row(plain) else None  # the means of half an epoch
        return self.row(plain)

    def _align(self, ruler: str) -> None:
        """Take the columns' edges from the line below their heading."""
        spans = [found.span() for found in re.finditer(r"-{2,}", ruler)]
        if len(spans) == len(self._columns):
            self._columns = [
                column._replace(start=start, end=end)
                for column, (start, end) in zip(self._columns, spans, strict=True)
            ]

    def row(self, text: str) -> Record | None:
        """Return what a line tells of which ``may_be_row`` is true; None if it is no row."""
        if not self._columns:
            return None
        cells = self._cells(text)
        if cells is None:
            return None
        places: dict[str, Position] = {}
        values: list[tuple[str, float]] = []
        for column, cell in zip(self._columns, cells, strict=True):
            if column.unit:
                place = _OF.match(cell)
                if place is None:
                    return None
                total = counted(place["total"].replace(",", "")) if place["total"] else None
                places.setdefault(column.unit, Position(as_float(place["done"]) or 0.0, total))
            elif (found := _CELL.match(cell)) and not is_unrecorded(column.name):
                number = as_float(found["number"])
                if number is not None:
                    values.append((column.name, number))
        return Record(places, values) if values else None

    def _cells(self, text: str) -> list[str] | None:
        if self._columns[0].is_comma:
            cells = [cell.strip() for cell in text.split(",")]
        else:
            cells = VERTICAL.sub(" ", text.replace("|", " ")).split()
        if len(cells) == len(self._columns):
            return cells
        if self._columns[0].is_comma or not self._columns[0].end:
            return None
        return _by_edges(text, self._columns)

    def _validation(self, text: str) -> Record | None:
        self._is_validation = False
        numbers = [as_float(cell) for cell in text.split()[3:]]
        if len(numbers) < 4 or any(number is None for number in numbers):
            return None
        names = ("precision", "recall", "mAP50", "mAP50-95")
        return Record(
            {}, [(name, n) for name, n in zip(names, numbers, strict=False) if n is not None]
        )


class _Column(NamedTuple):
    name: str
    unit: str
    is_comma: bool
    start: int = 0
    end: int = 0


def _heading(text: str) -> list[_Column]:
    """Return the columns that a heading names; none if it is no heading."""
    stripped = text.strip()
    if not stripped or len(stripped) > 600 or stripped[0].isdigit():
        return []
    plain = VERTICAL.sub("|", stripped)
    is_comma = False
    if "|" in plain:
        cells = [cell.strip() for cell in plain.strip("|").split("|")]
    elif "," in plain and "  " not in plain:
        cells, is_comma = [cell.strip() for cell in plain.split(",")], True
    else:
        cells = _GAP.split(plain)
    if len(cells) < 2 or not all(_HEADING_CELL.match(cell) for cell in cells):
        return []
    if any("trial" in cell.lower() for cell in cells):
        return []  # a row for each of many runs
    columns = [_Column(cell.replace(" ", "_"), _unit(cell), is_comma) for cell in cells]
    has_metric = any(is_measure(column.name) or column.name.islower() for column in columns)
    if not any(column.unit for column in columns) or not has_metric:
        return []
    return columns


def _unit(cell: str) -> str:
    position = position_of(cell)
    return position[0] if position else _SHORT_POSITIONS.get(cell.lower(), "")


def _by_edges(text: str, columns: list[_Column]) -> list[str] | None:
    """Return the cells by where they stand: some of the row's are empty."""
    if len(text.split()) > len(columns):
        return None
    cells = ["" for _ in columns]
    for word in re.finditer(r"\S+", text):
        hits = [n for n, c in enumerate(columns) if word.start() < c.end and c.start < word.end()]
        if len(hits) != 1 or cells[hits[0]]:
            return None
        cells[hits[0]] = word[0]
    return cells

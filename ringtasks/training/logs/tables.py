"""Tables of metrics, with columns under a heading.

scikit-learn, skorch, fastai, spaCy, ultralytics, NequIP, ParlAI, Vowpal Wabbit, CSV on stdout.  A
row belongs to the last heading that names a position in the run (``epoch``, ``iter``) and has as
many cells.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .numbers import NUMBER, WHOLE, as_float
from .parsed import Parsed, ParsedPosition, Span, Value
from .records import Record, record_of
from .sections import in_section
from .template_cache import TemplateCache
from .words import is_metric, is_unrecorded, position_field

__all__ = ["MAX_TABLES", "VERTICAL", "ColumnReader", "Table", "may_be_row"]

_CELL = re.compile(rf"(?P<number>{NUMBER})\s?%?\Z", re.ASCII)
_OF = re.compile(rf"(?P<done>{WHOLE}(?:\.\d+)?)(?:\s?/\s?(?P<total>{WHOLE}))?\Z", re.ASCII)
_HEADING_CELL = re.compile(r"[A-Za-z_#][\w/()@.%# -]{0,40}\Z", re.ASCII)
_MAX_WORDS = 4
#: The name of a column whose values are left out.
_NOT_READ = "_"
_GAP = re.compile(r"\t+|\s{2,}")
VERTICAL = re.compile("\xe2(?:\x94[\x82\x83\x86]|\x95\x91|\x94\x8a)")
_RULER = re.compile(
    r"[\s|+:=-]*-{2,}[\s|+:=-]*\Z|(?:\s|\xe2[\x94-\x95][\x80-\xbf]){4,}\Z", re.ASCII
)
MAX_TABLES = 16
_BAR_BEHIND = re.compile(r":?\s+\d{1,3}%[|\s\xe2].*", re.DOTALL)
_SHORT_POSITIONS = {
    "e": "epoch",
    "#": "step",
    "it": "step",
    "ep": "epoch",
    "n": "step",
    "counter": "sample",
}
# ultralytics/utils/metrics: the table of a validation, which follows the epoch's row.
_VALIDATION = re.compile(
    r"\s*Class\s+Images\s+(?:Instances|Labels|Targets)\s+"
    r"(?P<names>P\s+R\s+mAP\S*\s+F1|(?:\w+\(P\s+R\s+mAP50\s+mAP50-95\)\s*)+|P\s+R\s+mAP@?\.?50?\s+mAP@?\.?50?[-:]\.?95.*"
    r"|top1_acc.*)|\s*classes\s+top1_acc\s+top5_acc"
)
_OF_YOLOV3 = ("precision", "recall", "mAP", "F1")
_OF_BOXES = ("precision", "recall", "mAP50", "mAP50-95")
# Vowpal Wabbit: the second line of its heading, whose first is "average  since  example ...".
_OF_VOWPAL_WABBIT = re.compile(r"loss\s+last\s+counter\s+weight\s+label\s+predict\s+features")
# NequIP, of which the rows are "! Train  1  0.5 ...", "! Validation  1  0.6 ...".
_OF_NEQUIP = re.compile(r"(?:Train|Initialization)\s+#\s+(?P<names>Epoch\s.*)")
# pandas: the means of a cross-validation, under the index of the rounds (XGBoost, LightGBM).
_CV_CELL = re.compile(r"(?:[\w@:.-]+ )?[\w@:.-]+-(?:mean|std|stdv)|iterations", re.ASCII)


def may_be_row(text: str) -> bool:
    """Return whether a line of a table is a row: no heading, no ruler, and no bar on it."""
    return not (
        ("%" in text and _BAR_BEHIND.search(text))
        or _RULER.match(text)
        or _VALIDATION.match(text)
        or "best.pt" in text
        or "last.pt" in text
        or text.lstrip().startswith("all ")
        or _heading(text)
    )


class Table:
    """The columns of a heading, and the parser of its rows; tables of equal columns are equal."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        self.rows = TemplateCache(functools.partial(_parse_row, columns), Parsed.moved)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.columns == other.columns

    def __hash__(self) -> int:
        return hash(self.columns)

    def has_place_for(self, text: str) -> bool:
        """Return whether a line of the form of a text may be a row."""
        return self.counts_offsets(text) or _cells(self.columns, text) is not None

    def counts_offsets(self, text: str) -> bool:
        """Return whether the offsets of a line's words may tell their columns."""
        first = self.columns[0] if self.columns else None
        is_short = first is not None and first.at >= 0 and len(text.split()) < len(self.columns)
        if is_short and first and first.unit:
            is_short = text.lstrip()[:1].isdigit()
        return is_short or any(column.end for column in self.columns)


class ColumnReader:
    """Reads headings and their rows."""

    def __init__(self) -> None:
        self.table = Table(())
        #: The open table of a validation: the suffix that ultralytics gives to its second group of
        #: columns, of masks or poses.
        self.validation = ""
        self._known: dict[tuple[Column, ...], Table] = {}

    def read(self, text: str) -> Record | None:
        """Return what a row tells; an empty record for a heading; None if it is another's line."""
        plain = _BAR_BEHIND.sub("", text)
        if _RULER.match(plain):
            self._align(plain)
            return None
        if found := _VALIDATION.match(text):
            names = found["names"] or ""
            self.validation = "F1" if names.endswith("F1") else "P" if "Pose(P" in names else "M"
            return Record({})
        if "best.pt" in text or "last.pt" in text:
            self.validation = ""
            return None
        if self.validation and text.lstrip().startswith("all "):
            return self._validation(text)
        columns = _heading(plain)
        if columns:
            self._begin(columns)
            return Record({})
        if "%" in text and plain != text and not re.search(r"\d{3}%", text):  # not 100 %
            return Record({}) if self.row(plain) else None  # the means of half an epoch
        return self.row(plain)

    def _begin(self, columns: Iterable[Column]) -> None:
        own = tuple(columns)
        if len(self._known) >= MAX_TABLES:
            self._known.clear()
        self.table = self._known.setdefault(own, Table(own))

    def _align(self, ruler: str) -> None:
        """Take the columns' edges from the line below their heading."""
        spans = [found.span() for found in re.finditer(r"-{2,}", ruler)]
        if len(spans) == len(self.table.columns):
            self._begin(
                column._replace(start=start, end=end)
                for column, (start, end) in zip(self.table.columns, spans, strict=True)
            )

    def row(self, text: str) -> Record | None:
        """Return what a line tells of which ``may_be_row`` is true; None if it is no row."""
        if not self.table.columns:
            return None
        parsed = self.table.rows(text)
        return record_of(parsed, text) if parsed else None

    def _validation(self, text: str) -> Record | None:
        group, self.validation = self.validation, ""
        cells = text.split()[1:]
        names: tuple[str, ...] = ("top1_acc", "top5_acc")
        if len(cells) > 2:
            names, cells = (_OF_BOXES if group != "F1" else _OF_YOLOV3), cells[2:]
        if len(cells) == 2 * len(_OF_BOXES):
            names = (*_OF_BOXES, *(f"{name}({group})" for name in _OF_BOXES))
        numbers = [as_float(cell) for cell in cells]
        if len(numbers) < len(names) or any(number is None for number in numbers):
            return None
        return Record(
            {}, [(name, n) for name, n in zip(names, numbers, strict=False) if n is not None]
        )


class Column(NamedTuple):
    """A column. ``start``, ``end``: its edges, if a ruler shows them; ``at``: its name's offset.

    ``separator``: of the cells of its table; empty if those are spaces or bars.
    """

    name: str
    unit: str
    separator: str
    start: int = 0
    end: int = 0
    at: int = -1


def _parse_row(columns: Sequence[Column], text: str) -> Parsed:
    """Return the positions and metrics of a row; none if the text is no row of these columns."""
    cells = _cells(columns, text)
    if cells is None:
        return Parsed()
    positions: dict[str, ParsedPosition] = {}
    values: list[Value] = []
    part = ""
    for column, span in zip(columns, cells, strict=True):
        if column.unit:
            found = _OF.match(text, *span)
            if found is None or (column.unit != "epoch" and "." in found["done"]):
                return Parsed()
            total = found.span("total") if found["total"] else None
            positions.setdefault(
                column.unit, ParsedPosition(column.unit, found.span("done"), total)
            )
        elif column.name == _NOT_READ:
            continue
        elif column.name == "set":
            part = text[slice(*span)].lower()
        elif column.separator == ";" and "," in text[slice(*span)]:
            continue  # a decimal comma, or one of thousands
        elif (found := _CELL.match(text, *span)) and not is_unrecorded(column.name):
            values.append(Value(column.name, found.span("number")))
    parsed = Parsed(tuple(positions.values()), tuple(values)) if values else Parsed()
    return in_section(parsed, part)


def _cells(columns: Sequence[Column], text: str) -> list[Span] | None:
    separator = columns[0].separator
    if separator:
        cells = list(_between(separator, text))
    else:
        plain = VERTICAL.sub("   ", text.replace("|", " ").replace("No log", "No_log"))
        cells = [found.span() for found in re.finditer(r"\S+", plain)]
    if len(cells) == len(columns):
        return cells
    if len(cells) < len(columns) and (found := _below_names(cells, columns)):
        return found
    if separator or not columns[0].end:
        return None
    return _by_edges(text, columns)


def _heading(text: str) -> list[Column]:
    """Return the columns that a heading names; none if it is no heading."""
    stripped = text.strip().removesuffix("\\").rstrip()
    if not stripped or len(stripped) > 600 or stripped[0].isdigit():
        return []
    plain = VERTICAL.sub("|", stripped)
    separator = next((each for each in ";," if each in plain and "  " not in plain), "")
    if "|" in plain:
        separator, cells = "", [cell.strip() for cell in plain.strip("|").split("|")]
    elif separator:
        cells = [cell.strip() for cell in plain.split(separator)]
    else:
        cells = _cells_of(plain)
    if len(cells) < 2 or not all(map(_is_name, cells)):
        return []
    if any("trial" in cell.lower() or cell.lower() == "fold" for cell in cells):
        return []  # a row for each of many runs
    if all(map(_CV_CELL.fullmatch, cells)):
        unit = "" if "iterations" in cells else "round"
        names = [cell.replace(" ", "_") for cell in cells]
        own = [Column(n, "round" if n == "iterations" else "", "") for n in names]
        return [Column(_NOT_READ, unit, ""), *own]
    columns = [Column(cell.replace(" ", "_"), _unit(cell), separator) for cell in cells]
    if not separator and "|" not in plain:
        columns = _placed(columns, cells, text)
    has_metric = any(is_metric(column.name) or column.name.islower() for column in columns)
    if not any(column.unit for column in columns) or not has_metric:
        return []
    return columns


def _placed(columns: Sequence[Column], cells: Sequence[str], text: str) -> list[Column]:
    at, placed = 0, []
    for column, cell in zip(columns, cells, strict=True):
        found = text.find(cell, at)
        placed.append(column._replace(at=found))
        at = max(at, found + len(cell))
    return placed


def _below_names(cells: Sequence[Span], columns: Sequence[Column]) -> list[Span] | None:
    """Return the cells of a row of which some are empty, if each begins below a name (Chainer)."""
    by_start = {cell[0]: cell for cell in cells}
    if not by_start.keys() <= {column.at for column in columns}:
        return None
    return [by_start.get(column.at, (0, 0)) for column in columns]


def _is_name(cell: str) -> bool:
    """Return whether a cell may name a column; the parts of a sentence have more words."""
    return _HEADING_CELL.match(cell) is not None and cell.count(" ") < _MAX_WORDS


def _cells_of(heading: str) -> list[str]:
    """Return the names of the columns of a heading without separators."""
    if _OF_VOWPAL_WABBIT.match(heading):
        return ["average_loss", "since_last_loss", "counter", *[_NOT_READ] * 4]
    if found := _OF_NEQUIP.match(heading):
        return [_NOT_READ, "set", *found["names"].split()]
    return heading[1:].split() if heading.startswith("# ") else _GAP.split(heading)


def _unit(cell: str) -> str:
    named_unit = position_field(cell)
    return named_unit[0] if named_unit else _SHORT_POSITIONS.get(cell.lower(), "")


def _between(separator: str, text: str) -> Iterator[Span]:
    at = 0
    for cell in text.split(separator):
        start = at + len(cell) - len(cell.lstrip())
        yield start, start + len(cell.strip())
        at += len(cell) + 1


def _by_edges(text: str, columns: Sequence[Column]) -> list[Span] | None:
    """Return the cells by where they stand: some of the row's are empty."""
    if len(text.split()) > len(columns):
        return None
    cells = [(0, 0) for _ in columns]
    for word in re.finditer(r"\S+", text):
        hits = [n for n, c in enumerate(columns) if word.start() < c.end and c.start < word.end()]
        if len(hits) != 1 or cells[hits[0]] != (0, 0):
            return None
        cells[hits[0]] = word.span()
    return cells

"""Read the output of a training program into its history.

Each layout has a reader, which recognises its own lines; a line that no reader recognises goes to
the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, repeat
from operator import attrgetter
from typing import NamedTuple

from .bars import BarReader, parse_bar
from .blocks import BlockReader, SettingsDump, opens_block, opens_dump
from .boxes import BoxReader, begins_box
from .grammar import MAX_TEXT_CHARS, parse
from .history import History
from .keras import KerasReader, find_bar, is_of_keras
from .lines import LineSplitter
from .parsed import Parsed
from .plans import (
    BAR,
    MIN_LINES,
    NEW,
    NO_PLAN,
    NOTHING,
    SEEN_ONCE,
    Plan,
    plan_of,
    plan_of_bar,
    read_columns,
)
from .records import Position, record_of
from .segments import Columns
from .shapes import MAX_CHARS, MAX_SHAPES, ByShape, coarse
from .tables import MAX_TABLES, ColumnReader, may_be_row

__all__ = ["LogReader"]

#: Fits the processor's cache, so that work on whole blocks is fast.
_BLOCK_BYTES = 1 << 18
#: Lines for which plans are looked up at once; the plans made of them are used for the next ones.
_FIRST_AT_ONCE, _MAX_AT_ONCE = 32, 1024
#: A warning quotes a line of source; LightGBM prints its best iteration again.
_NEXT_IS_NO_METRIC = re.compile(r"\w+\.py:\d+: \w*Warning\b|[Bb]est iteration is:$", re.ASCII)
_RESUMES = re.compile(
    r"\W*(?:\S+ ){0,4}(?:resum|restart|continu)(?:ing|ed)\b.{0,40}\bfrom\b.{0,80}"
    r"(?:checkpoint|ckpt|step|epoch|iter)",
    re.ASCII | re.IGNORECASE,
)
_LIGHTNING_BEGINS = ("GPU available: ", "Sanity Checking", "`Trainer.fit`")

_HAS_LAYOUT = attrgetter("has_layout")


class _Line(NamedTuple):
    """A line's shape. ``is_common``: a layout that is open may have it, but none begins here."""

    is_common: bool
    skips_next: bool
    is_of_lightning: bool
    resumes: bool
    parsed: Parsed


def _look_at(text: str) -> _Line:
    if len(text) > MAX_TEXT_CHARS:
        return _Line(True, False, False, False, parse(text))
    is_common = may_be_row(text) and not begins_box(text) and not is_of_keras(text)
    parsed = parse(text)
    values = tuple(
        value._replace(name=value.name.encode("latin-1").decode("utf-8", "replace"))
        for value in parsed.values
    )
    skips_next = _NEXT_IS_NO_METRIC.search(text) is not None
    resumes = _RESUMES.match(text) is not None
    parsed = parsed._replace(values=values)
    return _Line(is_common, skips_next, _is_of_lightning(text), resumes, parsed)


_line_of = ByShape(_look_at)


class LogReader:
    """Reads one stream of output into a history; several may share it, one for each host.

    :param one_by_one: read no lines together.  The result is the same.
    """

    def __init__(self, history: History, *, one_by_one: bool = False) -> None:
        self._history = history
        self._one_by_one = one_by_one
        self._lines = LineSplitter()
        self._bars = BarReader()
        self._keras = KerasReader()
        self._columns = ColumnReader()
        self._boxes = BoxReader()
        self._blocks = BlockReader()
        self._dump = SettingsDump()
        self._skips_next = False
        self._at_once = _FIRST_AT_ONCE
        self._plans_of: dict[ByShape[Parsed], dict[bytes, Plan]] = {}  # by the rows of a table

    def feed(self, chunk: bytes) -> None:
        """Read the program's next output."""
        for start in range(0, len(chunk), _BLOCK_BYTES):
            lines = [*filter(None, self._lines.feed(chunk[start : start + _BLOCK_BYTES]))]
            if self._one_by_one or len(lines) < MIN_LINES:
                for line in lines:
                    self._read(line.decode("latin-1"))
            else:
                self._read_lines(lines)

    def end(self) -> None:
        """Read the text after the last line's end, and the records that were held back."""
        for line in self._lines.rest():
            self._read(line.decode("latin-1"))
        self._history.merge(self._bars.end())
        self._history.merge(self._keras.end())
        self._history.merge(self._boxes.end())

    # --- many lines at once ------------------------------------------------------------------

    def _read_lines(self, lines: Sequence[bytes]) -> None:
        """Read lines: together those of which there are plans, the others one by one."""
        keys = coarse(b"\n".join(lines)).split(b"\n")
        at = 0
        while at < len(lines):
            end = at + self._at_once
            self._read_some(lines[at:end], keys[at:end])
            self._at_once = min(2 * self._at_once, _MAX_AT_ONCE)
            at = end

    def _read_some(self, lines: Sequence[bytes], keys: Sequence[bytes]) -> None:
        known = self._plans
        plans = list(map(known.get, keys, repeat(NEW)))
        at = 0
        for has_layout, run in groupby(plans, key=_HAS_LAYOUT):
            end = at + len(list(run))
            if has_layout and self._skips_next:
                self._read(lines[at].decode("latin-1"))
                at += 1
            if has_layout and self._may_use(known):
                self._read_planned(plans[at:end], lines[at:end])
            else:
                for n in range(at, end):
                    self._read(lines[n].decode("latin-1"))
                    self._learn(lines[n], keys[n])
            at = end

    @property
    def _plans(self) -> dict[bytes, Plan]:
        if len(self._plans_of) > MAX_TABLES:
            self._plans_of.clear()
        plans = self._plans_of.setdefault(self._columns.rows, {})
        if len(plans) >= MAX_SHAPES:
            plans.clear()
        return plans

    def _may_use(self, plans: dict[bytes, Plan]) -> bool:
        """Tell whether plans hold: no layout of several lines is open, and no other table."""
        is_open = self._blocks.is_open or self._boxes.is_open or self._dump.is_open
        return plans is self._plans and not is_open

    def _read_planned(self, plans: Sequence[Plan], lines: Sequence[bytes]) -> None:
        columns = read_columns(plans, lines) if len(lines) >= MIN_LINES else None
        if columns is None or not self._add(columns, lines):
            for line in lines:
                self._read(line.decode("latin-1"))

    def _add(self, columns: Sequence[Columns], lines: Sequence[bytes]) -> bool:
        bars = next((own for own in columns if own.kind == BAR), None)
        full: list[int] | None = []
        if bars is not None:
            full = self._keras.skip(bars.places[""], bars.totals[""])
            columns = [own for own in columns if own is not bars]
        if full is None or (columns and not self._history.add_columns(columns)):
            return False
        for n in full:
            assert bars is not None  # noqa: S101  # for the type checker
            self._read(lines[bars.lines[n]].decode("latin-1"))
        return True

    def _learn(self, line: bytes, key: bytes) -> None:
        """Make a plan for a line's shape once it was read twice."""
        plan = self._plans.get(key, NEW)
        if plan is NEW:
            self._plans[key] = SEEN_ONCE if len(line) <= MAX_CHARS else NO_PLAN
        elif plan is SEEN_ONCE:
            self._plans[key] = self._plan(line)

    def _plan(self, line: bytes) -> Plan:
        text = line.decode("latin-1")
        if text.isspace():
            return NOTHING
        begins = opens_block(text) or opens_dump(text)
        if begins or _may_hold_bar(text) or not _line_of.is_known(text):
            return NO_PLAN
        if bar := find_bar(text):
            return plan_of_bar(line, *bar)
        shape = _line_of(text)
        if not shape.is_common or shape.skips_next or shape.is_of_lightning or shape.resumes:
            return NO_PLAN
        if not self._columns.columns:
            return plan_of(line, shape.parsed)
        if not self._columns.rows.is_known(text):
            return NO_PLAN
        return plan_of(line, self._columns.rows(text) or shape.parsed)

    # --- one line ----------------------------------------------------------------------------

    def _read(self, text: str) -> None:
        skips, self._skips_next = self._skips_next, False
        if skips and (text[:1].isspace() or text.startswith("[")):
            return
        if self._blocks.is_open or opens_block(text):
            block = self._blocks.read(text)
            if block is not None:
                text = block
        if self._dump.holds(text):
            return
        if _may_hold_bar(text):
            record = self._columns.read(text) if self._columns.columns else None
            if record is not None:  # ultralytics draws a bar behind the row of a table
                self._history.add(record)
                return
            text = self._read_bar(text)
        if not text or text.isspace():
            return
        line = _line_of(text)
        self._bars.is_lightning = self._bars.is_lightning or line.is_of_lightning
        if line.is_common:
            record = self._columns.row(text)
            if record is None and self._boxes.is_open:
                record = self._boxes.read(text)
        else:
            records = self._keras.read(text)
            if records is not None:
                self._history.merge(records)
                return
            record = self._columns.read(text) or self._boxes.read(text)
        if line.resumes:
            self._history.new_attempt()
        if record is None:
            self._skips_next = line.skips_next
            record = record_of(line.parsed, text)
        self._history.add(record)

    def _read_bar(self, text: str) -> str:
        """Read the bar that a line begins with; return the rest of the line."""
        bar = parse_bar(text)
        if bar is None:
            return text
        self._bars.is_lightning |= _is_of_lightning(text)
        self._history.merge(self._bars.read(bar))
        if not bar.head and bar.unit in ("", "step"):
            self._history.show_bar(Position(bar.done, bar.total))
        return text[bar.end :]


def _may_hold_bar(text: str) -> bool:
    if len(text) > MAX_TEXT_CHARS:
        return False
    return "it/s" in text or "%|" in text or "s/it" in text or "| 0/? [" in text


def _is_of_lightning(text: str) -> bool:
    return text.startswith(_LIGHTNING_BEGINS) or "DataLoader 0:" in text or "v_num=" in text

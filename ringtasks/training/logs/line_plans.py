"""Plans: how to read the lines of one template without looking at their text again.

A plan is made for a template, in one mode of the reader, from a line that was read alone.  Its
numbers are at fixed offsets.  A line without a plan is read alone each time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

from . import bar_rows
from .bar_columns import BEHIND, BarBuffer
from .bar_lines import BarFormat, BarTemplate, find_bar
from .bar_rows import BarLines
from .columns import ColumnBuffer, LineNumbers, Schema
from .keras import KerasLine, find_line, is_of_keras
from .key_value_tables import begins_table, find_row, is_edge, is_inside
from .line_reader import LineReader, Mode, line_of, may_hold_bar
from .multiline import opens_multiline
from .parsed import Parsed, Span
from .records import Record
from .sections import in_section, section_after
from .template_cache import (
    IN_NAME,
    MAX_CHARS,
    MAX_TEMPLATES,
    PLAIN_COUNT,
    PLAIN_NUMBER,
    leading_digits,
    masked,
)
from .trials import in_trial, named_in_trial, trial_after

__all__ = ["LinePlan", "Planner", "is_empty"]

_ZERO = ord("0")

#: Takes a line and its serial number; False: the mode may be another than planned.
_Take = Callable[[bytes, int], bool]


class LinePlan:
    """The content of the lines of one template.

    ``lines``: of those that give a record of their own; ``take``: reads the others, unless they
    give nothing; ``next``: the mode after the line, if it is another.
    """

    __slots__ = ("fixed", "is_checked", "leading", "lines", "next", "take")

    def __init__(self, lines: LineNumbers | None = None, take: _Take | None = None) -> None:
        self.lines, self.take = lines, take
        self.next: Mode | None = None
        self.fixed: tuple[tuple[int, int, bytes], ...] = ()  # digits of names
        self.leading: tuple[int, ...] = ()  # digits that must not be 0
        self.is_checked = False

    def check(self, fixed: Sequence[tuple[int, int, bytes]], leading: Sequence[int]) -> None:
        """Demand digits of the lines."""
        self.fixed, self.leading = tuple(fixed), tuple(leading)
        self.is_checked = bool(fixed or leading)

    def add(self, line: bytes, n: int) -> None:
        """Add the record of a line."""
        if self.lines is not None:
            self.lines.lines.append(n)
            self.lines.texts.append(line)

    def fits(self, line: bytes) -> bool:
        """Return whether the digits of a line fit the plan."""
        return all(line[start:end] == text for start, end, text in self.fixed) and all(
            line[at] != _ZERO for at in self.leading
        )


class Planner:
    """Makes plans.

    :param add: takes the records of lines whose layout has a reader.
    """

    def __init__(
        self,
        reader: LineReader,
        buffer: ColumnBuffer,
        bars: BarBuffer,
        add: Callable[[Sequence[Record], int], None],
    ) -> None:
        self._reader, self._buffer, self._bars, self._take = reader, buffer, bars, add
        self._behind_bars: dict[bytes, LinePlan | None] = {}

    def _add(self, records: Sequence[Record], n: int) -> None:
        trial = self._reader.trial
        self._take([in_trial(each, trial) for each in records] if trial else records, n)

    def forget(self) -> None:
        """Forget what was made of templates."""
        self._behind_bars.clear()

    def plan(
        self, line: bytes, before: Mode, after: Mode, records: Sequence[Record]
    ) -> LinePlan | None:
        """Return the plan of a line that was just read; None if lines like it are read alone.

        :param records: what the line gave.
        """
        if len(line) > MAX_CHARS:
            return None
        text = line.decode("latin-1")
        plan = self._plan(line, text, before, after, records)
        if plan is None:
            return None
        plan.next = after if after != before else None
        return _checked(plan, line, text)

    def _plan(
        self, line: bytes, text: str, before: Mode, after: Mode, records: Sequence[Record]
    ) -> LinePlan | None:
        if trial_after(text) is not None:
            return None
        if text.isspace() or (before.skips_next and (text[:1].isspace() or text.startswith("["))):
            return LinePlan()
        if opens_multiline(text):
            return None
        if after.is_in_dump and text[:1].isspace():
            return LinePlan()
        if may_hold_bar(text) and (template := find_bar(text)):
            if before.table.columns or not find_bar.is_known(text):
                return None
            return LinePlan(take=self._taker_of_bars(line, template))
        line_shape = line_of(text)
        if not line_of.is_known(text) or line_shape.resumes:
            return None
        if is_of_keras(text):
            found = find_line(text)
            return (
                LinePlan(take=functools.partial(self._keras, found))
                if find_line.is_known(text)
                else None
            )
        if begins_table(text):
            return LinePlan(take=self._edge) if is_edge(text) else None
        if before.key_values[0] and is_inside(text):
            return self._plan_of_row(text, before) if line_shape.is_common else None
        if before.key_values[0] == "result":
            return None
        if not line_shape.is_common:
            has_digit = any(char.isdigit() for char in text)
            return None if has_digit or not all(map(is_empty, records)) else LinePlan()
        split, _ = section_after(before.section, text, line_shape.heading, line_shape.parsed)
        return self._plan_of_record(line, text, in_section(line_shape.parsed, split), before)

    def _plan_of_record(
        self, line: bytes, text: str, parsed: Parsed, before: Mode
    ) -> LinePlan | None:
        if before.table.columns:
            if not before.table.rows.is_known(text):
                return None
            parsed = before.table.rows(text) or parsed
        return self._plan_of_parsed(line, parsed, before.trial)

    def _plan_of_parsed(self, line: bytes, parsed: Parsed, trial: str) -> LinePlan | None:
        """Return the plan of numbers that follow each other in plain digits."""
        if not parsed:
            return LinePlan()
        spans = sorted(_spans(parsed))
        template = masked(line)
        for (start, end), (kind, _) in spans:
            plain = PLAIN_NUMBER if kind in ("value", "run") else PLAIN_COUNT
            if not plain.match(template[start:end]):
                return None
        fields = tuple(
            (kind, named_in_trial(name, trial) if kind == "value" else name)
            for _, (kind, name) in spans
        )
        if any(a[0][1] > b[0][0] for a, b in itertools.pairwise(spans)):
            return None
        if len(set(fields)) < len(fields):
            return None
        schema = Schema("dict" if parsed.is_dict else "line", fields)
        return LinePlan(self._buffer.lines(schema, template, [span for span, _ in spans]))

    # --- lines of a layout -------------------------------------------------------------------

    def _keras(self, found: KerasLine, line: bytes, n: int) -> bool:
        records = self._reader.keras.take(line, found)
        if records:
            self._add(records, n)
        return True

    def _plan_of_row(self, text: str, before: Mode) -> LinePlan | None:
        if before.key_values[0] != "box" or not find_row.is_known(text) or not find_row(text):
            return None
        if before.table.columns and (
            not before.table.rows.is_known(text) or before.table.rows(text)
        ):
            return None
        row = find_row(text)
        name = before.key_values[1] + row.name if row.is_in_group else row.name
        return LinePlan(take=functools.partial(self._row, name, *row.value))

    def _row(self, name: str, start: int, end: int, line: bytes, n: int) -> bool:
        if self._reader.key_values.take(name, line[start:end] if end else None):
            return True
        self._take(self._reader.read(line), n)  # the table is too long for one
        return False

    def _edge(self, line: bytes, n: int) -> bool:
        record = self._reader.key_values.edge()
        if record is not None:
            self._add([record], n)
        return True

    def _taker_of_bars(self, line: bytes, template: BarTemplate) -> _Take | None:
        form, is_alone = self._reader.bars.format(template), template.end == len(line)
        if template.kind == "other" and is_alone:
            return None
        if not bar_rows.fits(form, masked(line)):
            return functools.partial(self._bar, form)
        lines = self._bars.lines(form, masked(line))
        return lines.add if is_alone else functools.partial(self._bar_and_text, lines)

    def _bar_and_text(self, lines: BarLines, line: bytes, n: int) -> bool:
        lines.add(line, n)
        return self._behind_bar(line[lines.form.template.end :], n + BEHIND)

    def _bar(self, form: BarFormat, line: bytes, n: int) -> bool:
        records = self._reader.bars.read(line, form)
        if records:
            self._add(records, n)
        end = form.template.end
        if end == len(line):
            return True
        return self._behind_bar(line[end:], n + len(records))

    def _behind_bar(self, line: bytes, n: int) -> bool:
        """Read the text that another stream wrote behind a bar."""
        if line.isspace():
            return True
        key = masked(line)
        plan = self._behind_bars.get(key)
        may_use = not (
            self._reader.key_values.is_open or self._reader.trial or self._reader.section.split
        )
        if plan is not None and may_use and not (plan.is_checked and not plan.fits(line)):
            plan.add(line, n)
            return True
        text = line.decode("latin-1")
        self._add(self._reader.read_text(text), n)
        if key not in self._behind_bars and line_of.is_known(text):
            if len(self._behind_bars) >= MAX_TEMPLATES:
                self._behind_bars.clear()
            self._behind_bars[key] = self._plan_behind_bar(line, text)
        return False

    def _plan_behind_bar(self, line: bytes, text: str) -> LinePlan | None:
        found = line_of(text)
        if not found.is_common or found.resumes or found.skips_next or found.heading:
            return None
        if len(line) > MAX_CHARS:
            return None
        plan = self._plan_of_parsed(line, found.parsed, "")
        return _checked(plan, line, text) if plan else None


def _checked(plan: LinePlan, line: bytes, text: str) -> LinePlan:
    """Return a plan with the digits that belong to its template."""
    digits = ((found.start() + 1, found.end()) for found in IN_NAME.finditer(text))
    rank = line_of(text).parsed.rank
    fixed = [(start, end, line[start:end]) for start, end in digits if (start, end) != rank]
    plan.check(fixed, leading_digits(masked(line)))
    return plan


def is_empty(record: Record) -> bool:
    """Return whether a record is empty."""
    return not (record.positions or record.values or record.totals or record.kind == "attempt")


def _spans(parsed: Parsed) -> Iterator[tuple[Span, tuple[str, str]]]:
    for position in parsed.positions:
        yield position.done, ("done", position.unit)
        if position.total:
            yield position.total, ("total", position.unit)
    names: set[str] = set()
    for value in parsed.values:
        if value.name not in names:  # of two numbers of one name, only the first is certain
            yield value.span, ("value", value.name)
        names.add(value.name)
    for unit, span in parsed.totals:
        yield span, ("run", unit)
    if parsed.rank:
        yield parsed.rank, ("rank", "")

"""Numbers for the templates of lines, many lines at a time.

Lines share a number if they have the same template and the same digits in names.  A line with a
leading zero before a separator of thousands shares none.  All plain lines of a kind share one, but
for those that may be rows of a known table; if many tables are known, for all with two numbers.  If
a form has several templates, the lines of all others share its number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .forms import DIGITS, NO_FORMS, Forms, LineSlots, as_text, forms_of
from .number_columns import Ints, TextBlock
from .plain_lines import MAYBE_ROWS, NOT_PLAIN, PLAIN_KINDS, plain_kind
from .tables import MAX_TABLES, Table
from .template_cache import IN_NAME, MAX_CHARS, MAX_TEMPLATES, leading_digits, masked

__all__ = ["IRREGULAR", "SlotEdges", "TemplateIds"]

_Text = TypeVar("_Text", bytes, "tuple[bytes, ...]")
#: The number of lines that share none.
IRREGULAR = 0
_MAX_VARIANTS = 256
#: A template of so many lines of a block is worth a number of its own; that of plain lines has one.
_OFTEN, _MAX_OFTEN = 400, 100
_MAX_FORMS = 4 * MAX_TEMPLATES


#: After so many templates of a form, all others share its number.
_MIN_TEMPLATES = 4
#: So many digits, or those behind an underscore, make no name that a reader knows.
_MIN_FREE_DIGITS = 3


class _InName(NamedTuple):
    """The offsets of digits in names, and of those that must not be 0."""

    digits: list[int]
    leading: list[int]
    variants: dict[bytes, int]


class _Form:
    """A form: the kind of its lines if they are plain, and the slots that are part of names.

    ``templates``: the number of those that have a number each.
    """

    __slots__ = ("is_exact", "literal", "numbers", "plain", "templates")

    def __init__(self, plain: int, literal: frozenset[int], *, is_exact: bool) -> None:
        self.plain, self.literal, self.is_exact = plain, literal, is_exact
        self.templates = 0
        self.numbers: dict[tuple[bytes, ...], int] = {}


class SlotEdges(NamedTuple):
    """The slots of lines of one form. ``firsts``: the index of each line's first one."""

    lines: Forms
    firsts: Ints

    def start(self, n: int) -> Ints:
        """Return the offsets at which a slot begins."""
        return self.lines.starts[self.firsts + n]

    def end(self, n: int) -> Ints:
        """Return the offsets at which a slot ends."""
        return self.lines.ends[self.firsts + n]


def _in_names(template: bytes, slots: LineSlots) -> frozenset[int]:
    """Return the digits in names of which a reader may know some: ``f1``, ``mAP50``."""
    names = [found.span() for found in IN_NAME.finditer(template.decode("latin-1"))]
    return frozenset(
        n
        for n, (kind, start, end) in enumerate(
            zip(slots.kinds, slots.shape.starts, slots.shape.ends, strict=True)
        )
        if kind == DIGITS
        and any(a < end and start < b for a, b in names)
        and (end - start < _MIN_FREE_DIGITS and template[start - 1 : start] != b"_")
    )


class TemplateIds(dict[bytes, int]):
    """The numbers of templates, and those of the lines of one block after another."""

    def __init__(self) -> None:
        super().__init__()
        self._last = max(PLAIN_KINDS)
        self._has_results = False
        self._tables: set[Table] = set()
        self._in_names: dict[int, _InName] = {}
        self._forms: dict[bytes, _Form] = {}
        self._with_form: dict[int, _Form] = {}
        self._block = TextBlock(b"")
        self._rows: Ints = np.zeros(0, np.int64)
        self._lines = NO_FORMS

    @property
    def are_too_many(self) -> bool:
        return self._last > MAX_TEMPLATES

    def __missing__(self, template: bytes) -> int:
        number = self[template] = self._next() if len(template) <= MAX_CHARS else IRREGULAR
        names = IN_NAME.finditer(template.decode("latin-1"))
        digits = [n for found in names for n in range(*found.span()) if template[n] == ord("0")]
        leading = leading_digits(template)
        if number != IRREGULAR and (digits or leading):
            self._in_names[number] = _InName(digits, leading, {})
        return number

    def _may_be_row(self, template: bytes, number: int, tables: Iterable[Table]) -> bool:
        if number not in MAYBE_ROWS or self._has_many_tables:
            return number in MAYBE_ROWS
        text = template.decode("latin-1")
        return any(table.has_place_for(text) for table in tables)

    @property
    def _has_many_tables(self) -> bool:
        """Return whether the tables are too many to look at each."""
        return len(self._tables) >= MAX_TABLES

    def tell_rows_apart(self, table: Table) -> bool:
        """Share no number among lines that may be rows of a table; return whether they did."""
        if table in self._tables or self._has_many_tables:
            return False
        self._tables.add(table)
        for template, number in [*self.items()]:
            if self._may_be_row(template, number, [table]):
                del self[template]
        for key, form in [*self._forms.items()]:
            if self._may_be_row(as_text(key), form.plain, [table]):
                del self._forms[key]
        return True

    def of(self, block: TextBlock) -> Ints:
        """Return the numbers of a block's lines."""
        if not self._has_results and b"Result for " in block.text:
            self._has_results = True
            self.clear()
            self._forms.clear()
        if block is not self._block:
            self._block, self._rows = block, np.full(len(block), -1, np.int64)
            self._lines = NO_FORMS
        templates = masked(block.text).split(b"\n")
        numbers = [*map(self.get, templates)]
        if None in numbers:
            self._add_new(templates, numbers)
        return self._told_apart(np.array(numbers, dtype=np.int64), block.starts)

    def _told_apart(self, found: Ints, starts: Ints) -> Ints:
        """Return the numbers of lines whose templates have these, by the digits of names."""
        count = np.bincount(found)
        for number, in_name in [*self._in_names.items()]:
            if number < len(count) and count[number]:
                rows = np.flatnonzero(found == number)
                found[rows] = self._of_variants(in_name, starts[rows])
        return found

    def _add_new(self, templates: Sequence[bytes], numbers: list[int | None]) -> None:
        """Number the lines whose template is not known."""
        new = [n for n, number in enumerate(numbers) if number is None]
        unseen = [n for n in new if self._rows[n] < 0]
        if unseen:
            self._rows[unseen] = np.arange(len(unseen)) + len(self._lines.keys)
            own = forms_of([templates[n] for n in unseen])
            self._lines = Forms.joined([self._lines, own])
        keys, rows = self._lines.keys, self._rows[new].tolist()
        for n, row in zip(new, rows, strict=True):
            form = self._forms.get(keys[row])
            if form is None:
                form = self._new_form(keys[row], row, templates[n])
            numbers[n] = form.plain or self._of_form(form, templates[n], n)
            if form.plain and len(self) < 2 * MAX_TEMPLATES:
                self[templates[n]] = form.plain
        for template, count in Counter([templates[n] for n in new]).most_common(_MAX_OFTEN):
            if count > _OFTEN and template not in self:
                self[template]  # numbers it, from the next block on

    def _new_form(self, key: bytes, row: int, template: bytes) -> _Form:
        text = as_text(key)
        plain = plain_kind(text, has_results=self._has_results)
        if plain and self._may_be_row(text, plain, self._tables):
            plain = NOT_PLAIN
        is_exact = len(template) > MAX_CHARS
        form = _Form(plain, frozenset(), is_exact=is_exact)
        if not (plain or is_exact):
            form.literal = _in_names(template, self._lines.slots(row))
        if len(self._forms) < _MAX_FORMS or not plain:
            self._forms[key] = form
        return form

    def _of_form(self, form: _Form, template: bytes, line: int) -> int:
        """Return the number of a line that is not plain."""
        if form.is_exact or template in self:
            return self[template]
        if any(self._block.line(line)[n] == ord("0") for n in leading_digits(template)):
            return IRREGULAR
        if form.templates < _MIN_TEMPLATES:
            form.templates += 1
            return self[template]
        texts: tuple[bytes, ...] = ()
        if form.literal:
            text, (shape, *_) = self._block.line(line), self._lines.slots(int(self._rows[line]))
            texts = tuple(text[shape.starts[n] : shape.ends[n]] for n in sorted(form.literal))
        number = self._variant(form.numbers, texts)
        self._with_form[number] = form
        return number

    def slots(self, line: int, number: int) -> LineSlots | None:
        """Return the slots of a line whose number is that of a form."""
        form = self._with_form.get(number)
        if form is None:
            return None
        return self._lines.slots(int(self._rows[line]))._replace(literal=form.literal)

    def edges(self, lines: Ints) -> SlotEdges:
        """Return the slots of several lines of one form."""
        return SlotEdges(self._lines, self._lines.firsts[self._rows[lines]])

    def is_whole(self, number: int) -> bool:
        """Return whether the number is still that of a form."""
        return number in self._with_form[number].numbers.values()

    def divide(self, number: int, literal: frozenset[int], numbers: list[int], start: int) -> None:
        """Tell lines of a form apart by some slots, too; if there are none, by their templates.

        :param numbers: those of all lines; from ``start`` on, those of the form's lines change.
        """
        form = self._with_form[number]
        form.literal |= literal
        form.is_exact |= not literal
        before = {each for each in form.numbers.values() if each != IRREGULAR}
        form.numbers.clear()
        lines = [n for n in range(start, len(numbers)) if numbers[n] in before]
        own = [self._of_form(form, masked(self._block.line(n)), n) for n in lines]
        found = self._told_apart(np.array(own, dtype=np.int64), self._block.starts[lines])
        for n, each in zip(lines, found.tolist(), strict=True):
            numbers[n] = each

    def _of_variants(self, in_name: _InName, starts: Ints) -> Ints:
        block = self._block
        digits = block.bytes[starts[:, None] + np.array(in_name.digits, dtype=np.int64)]
        texts = np.ascontiguousarray(digits).view(f"S{max(1, len(in_name.digits))}").ravel()
        if not in_name.digits:
            texts = np.full(len(starts), b"-")
        numbers = np.array([self._variant(in_name.variants, text) for text in texts.tolist()])
        for at in in_name.leading:
            numbers[block.bytes[starts + at] == ord("0")] = IRREGULAR
        return numbers

    def _variant(self, known: dict[_Text, int], text: _Text) -> int:
        number = known.get(text)
        if number is None:
            number = known[text] = self._next() if len(known) < _MAX_VARIANTS else IRREGULAR
        return number

    def _next(self) -> int:
        self._last += 1
        return self._last

"""Numbers for the templates of lines, many lines at a time.

Lines share a number if they have the same template and the same digits in names.  A line with a
leading zero before a separator of thousands shares none.  All plain lines of a kind share one, but
for those that may be rows of a known table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .number_columns import Ints, TextBlock
from .plain_lines import MAYBE_ROWS, PLAIN_KINDS, plain_kind
from .tables import MAX_TABLES, Table
from .template_cache import IN_NAME, MAX_CHARS, MAX_TEMPLATES, leading_digits, masked

__all__ = ["IRREGULAR", "TemplateIds"]

#: The number of lines that share none.
IRREGULAR = 0
_MAX_VARIANTS = 256


class _InName(NamedTuple):
    """The offsets of digits in names, and of those that must not be 0."""

    digits: list[int]
    leading: list[int]
    variants: dict[bytes, int]


class TemplateIds(dict[bytes, int]):
    """The numbers of templates."""

    def __init__(self) -> None:
        super().__init__()
        self._last = max(PLAIN_KINDS)
        self._has_results = False
        self._tables: set[Table] = set()
        self._in_names: dict[int, _InName] = {}

    @property
    def are_too_many(self) -> bool:
        return self._last > MAX_TEMPLATES or len(self._tables) > MAX_TABLES

    def __missing__(self, template: bytes) -> int:
        number = plain_kind(template, has_results=self._has_results)
        if number and not self._may_be_row(template, number, self._tables):
            if len(self) < 2 * MAX_TEMPLATES:
                self[template] = number
            return number
        number = self[template] = self._next() if len(template) <= MAX_CHARS else IRREGULAR
        names = IN_NAME.finditer(template.decode("latin-1"))
        digits = [n for found in names for n in range(*found.span()) if template[n] == ord("0")]
        leading = leading_digits(template)
        if number != IRREGULAR and (digits or leading):
            self._in_names[number] = _InName(digits, leading, {})
        return number

    @staticmethod
    def _may_be_row(template: bytes, number: int, tables: Iterable[Table]) -> bool:
        text = template.decode("latin-1")
        return number in MAYBE_ROWS and any(table.has_place_for(text) for table in tables)

    def tell_rows_apart(self, table: Table) -> bool:
        """Share no number among lines that may be rows of a table; return whether they did."""
        if table in self._tables:
            return False
        self._tables.add(table)
        for template, number in [*self.items()]:
            if self._may_be_row(template, number, [table]):
                del self[template]
        return True

    def of(self, block: TextBlock) -> Ints:
        """Return the numbers of a block's lines."""
        if not self._has_results and b"Result for " in block.text:
            self._has_results = True
            self.clear()
        found = np.array([*map(self.__getitem__, masked(block.text).split(b"\n"))], dtype=np.int64)
        count = np.bincount(found)
        for number, in_name in [*self._in_names.items()]:
            if number < len(count) and count[number]:
                rows = np.flatnonzero(found == number)
                found[rows] = self._of_variants(in_name, block, block.starts[rows])
        return found

    def _of_variants(self, in_name: _InName, block: TextBlock, starts: Ints) -> Ints:
        digits = block.bytes[starts[:, None] + np.array(in_name.digits, dtype=np.int64)]
        texts = np.ascontiguousarray(digits).view(f"S{max(1, len(in_name.digits))}").ravel()
        if not in_name.digits:
            texts = np.full(len(starts), b"-")
        numbers = np.array([self._variant(in_name, text) for text in texts.tolist()])
        for at in in_name.leading:
            numbers[block.bytes[starts + at] == ord("0")] = IRREGULAR
        return numbers

    def _variant(self, in_name: _InName, digits: bytes) -> int:
        number = in_name.variants.get(digits)
        if number is None:
            number = self._next() if len(in_name.variants) < _MAX_VARIANTS else IRREGULAR
            in_name.variants[digits] = number
        return number

    def _next(self) -> int:
        self._last += 1
        return self._last

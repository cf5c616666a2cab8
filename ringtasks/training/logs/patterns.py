"""Patterns: what lines of known templates give, without looking at their text again.

A pattern is found by trial.  The reader reads lines several times, each time with other digits; a
number of a record comes from the place in the text that has its value each time.  If anything
else depends on the digits, the lines have no pattern and are read one by one.  So a pattern holds
nothing that the reader itself did not say.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .bar_lines import BarFormat, BarTemplate
from .forms import FREE, GAP, LineSlots
from .keras import KerasLine, find_line
from .line_reader import LineReader, Mode
from .numbers import NUMBER, as_float
from .parsed import Move, Span
from .records import Record, fields_of
from .template_cache import IN_NAME, MAX_CHARS, leading_digits, masked

__all__ = ["Field", "FoundRecord", "Pattern", "find_pattern", "slots_that_count"]

_TRIALS = 3
#: The widths of numbers and words of a form in the trials; those between are not tried, since what
#: readers count is at most, or at least, so long.
_WIDTHS = (0, 1, 99)
_ALL_DIGITS = re.compile(rf"{IN_NAME.pattern}|(?P<free>\d+)", re.ASCII)
_CANDIDATES = tuple(
    re.compile(pattern, re.ASCII) for pattern in (NUMBER, NUMBER.removeprefix("[-+]?"), r"\d+")
)


class Field(NamedTuple):
    """A number of a record: that at ``start:end`` of a line, or the same each time.

    ``kind`` and ``name``: see ``columns.Schema``.
    """

    kind: str
    name: str
    line: int
    start: int
    end: int
    constant: float | None = None


class FoundRecord(NamedTuple):
    """A record; ``line``: the line that completes it."""

    kind: str
    line: int
    fields: tuple[Field, ...]


class Pattern(NamedTuple):
    """The content of a few lines, and the mode of the reader after them.

    ``bar``, ``keras``: a line of a reader that knows more than the mode.
    """

    after: Mode
    records: tuple[FoundRecord, ...]
    bar: BarTemplate | None = None
    keras: KerasLine | None = None


class _Bars:
    """Takes the place of the reader of bars and notes the bar."""

    def __init__(self) -> None:
        self.template: BarTemplate | None = None
        self.has_ended = False

    def read(self, line: bytes, form: BarFormat) -> list[Record]:
        self.template = form.template if form.template.kind != "other" else None
        return []

    def note_lightning(self) -> None:
        """Do nothing: the reader itself has noted it."""

    def end(self) -> list[Record]:
        self.has_ended = True
        return []


class _Keras:
    """Takes the place of the reader of Keras' lines and notes the line."""

    def __init__(self) -> None:
        self.line: KerasLine | None = None
        self.has_ended = False

    def read(self, text: str) -> list[Record] | None:
        found = find_line(text)
        if found:
            self.line = found
        return [] if found else None

    def end(self) -> list[Record]:
        self.has_ended = True
        return []


#: Each number of a record by its kind and name.
_Numbers = dict[tuple[str, str], float]


class _Trial(NamedTuple):
    """The result of the reader for lines.

    ``records``: for each its kind, its line and the names of its numbers.
    """

    after: Mode | None
    bar: BarTemplate | None
    keras: KerasLine | None
    records: tuple[tuple[str, int, tuple[tuple[str, str], ...]], ...]
    numbers: tuple[_Numbers, ...]

    def is_like(self, other: _Trial) -> bool:
        """Return whether all but the numbers is the same."""
        return self[:-1] == other[:-1]

    def without_totals(self) -> _Trial:
        """Return the content without records of totals alone, which are none if they are 0."""
        kept = [n for n, (kind, _, names) in enumerate(self.records) if names or kind == "attempt"]
        records = tuple(self.records[n] for n in kept)
        return self._replace(records=records, numbers=())


def find_pattern(
    before: Mode, lines: Sequence[bytes], slots: Sequence[LineSlots | None] = ()
) -> Pattern | None:
    """Return the pattern of lines; None if lines of their templates are read one by one.

    :param slots: of lines that stand for all lines of a form; None: for those of a template.
    """
    texts = [line.decode("latin-1") for line in lines]
    if any(len(text) > MAX_CHARS for text in texts):
        return None
    others = [_TrialLines.of(texts, slots, trial) for trial in range(_TRIALS)]
    others.append(_TrialLines(texts, [_same] * len(texts)))
    tried = [_tried(before, other.texts) for other in others]
    zeros = _tried(before, [*_with_digits(texts, None)]).without_totals()
    if not all(each.is_like(tried[0]) for each in tried):
        return None
    if not zeros.is_like(tried[0].without_totals()):
        return None
    after, bar, keras, outlines, _ = tried[0]
    if after is None or (len(lines) > 1 and (bar or keras)):
        return None
    if any(slots) and (bar or keras or any(map(before.table.counts_offsets, texts))):
        return None
    found = [
        FoundRecord(kind, line, fields)
        for n, (kind, line, _) in enumerate(outlines)
        if (fields := _fields(others, [each.numbers[n] for each in tried]))
    ]
    return Pattern(after, tuple(found), bar, keras) if len(found) == len(outlines) else None


def slots_that_count(
    before: Mode, lines: Sequence[bytes], n: int, slots: LineSlots
) -> frozenset[int]:
    """Return the slots of one of some lines on whose text more depends than numbers."""
    texts = [line.decode("latin-1") for line in lines]
    plain = _tried(before, texts)
    found = set()
    for slot in slots.free():
        own, kind = slots.text(texts[n], slot), slots.kinds[slot]
        for width in _WIDTHS[1:] if kind == GAP else [len(own)] if kind != FREE else []:
            changed, _ = slots.with_texts(texts[n], {slot: slots.other(texts[n], slot, width, 0)})
            if not _tried(before, [*texts[:n], changed, *texts[n + 1 :]]).is_like(plain):
                found.add(slot)
    return frozenset(found)


class _TrialLines(NamedTuple):
    """Lines with other digits; ``moves``: from the first trial's lines to these."""

    texts: list[str]
    moves: Sequence[Move]

    @classmethod
    def of(cls, texts: Sequence[str], slots: Sequence[LineSlots | None], trial: int) -> _TrialLines:
        varied: list[str] = []
        moves: list[Move] = []
        for text, own in itertools.zip_longest(texts, slots):
            move: Move = _same
            if own is not None and trial > 0:
                text, shape = own.varied(text, _WIDTHS[trial], trial)
                move = own.shape.to(shape)
            varied.append(text)
            moves.append(move)
        return cls([*_with_digits(varied, trial)], moves)


def _same(span: Span) -> Span:
    return span


def _tried(before: Mode, texts: Sequence[str]) -> _Trial:
    reader, bars, keras = LineReader(), _Bars(), _Keras()
    reader.bars, reader.keras = bars, keras  # type: ignore[assignment]  # they note what is read
    reader.go_to(before)
    records = [
        (record, n)
        for n, text in enumerate(texts)
        for record in reader.read(text.encode("latin-1"))
        if record.kind == "attempt" or not _is_empty(record)
    ]
    numbers = tuple(_numbers(record) for record, _ in records)
    outline = tuple(
        (record.kind, n, tuple(name for name in own if name[0] in ("done", "value")))
        for (record, n), own in zip(records, numbers, strict=True)
    )
    after = reader.mode if not (bars.has_ended or keras.has_ended) else None
    return _Trial(after, bars.template, keras.line, outline, numbers)


def _numbers(record: Record) -> _Numbers:
    fields, numbers = fields_of(record)
    return dict(zip(zip(fields[::2], fields[1::2], strict=True), numbers, strict=True))


def _fields(lines: Sequence[_TrialLines], numbers: Sequence[_Numbers]) -> tuple[Field, ...]:
    """Return the places of a record's numbers; none if one of them is not found."""
    found = []
    for kind, name in numbers[0]:
        values = [own.get((kind, name)) for own in numbers]
        field = _place_of(lines, values)
        if field is None:
            return ()
        found.append(Field(kind, name, *field))
    return tuple(found)


def _place_of(
    lines: Sequence[_TrialLines], values: Sequence[float | None]
) -> tuple[int, int, int, float | None] | None:
    first = values[0]
    for line, own_text in enumerate(lines[0].texts):
        for span in _candidates(own_text):
            with contextlib.suppress(LookupError):  # it is not in all lines
                texts = [own.texts[line][slice(*own.moves[line](span))] for own in lines]
                pairs = zip(texts, values, strict=True)
                if all(value is None or as_float(text) == value for text, value in pairs):
                    return line, *span, None
    is_constant = all(value == first or value != value for value in values)
    return (0, 0, 0, first) if is_constant and first is not None else None


@functools.lru_cache(maxsize=64)
def _candidates(text: str) -> tuple[Span, ...]:
    """Return the parts of a text that may be numbers, the longest first."""
    spans = (found.span() for pattern in _CANDIDATES for found in pattern.finditer(text))
    return tuple(dict.fromkeys(spans))


def _with_digits(texts: Sequence[str], trial: int | None) -> Iterator[str]:
    """Yield lines with other digits, unless those belong to a name; zeros if there is no trial."""
    numbers = itertools.count()
    for text in texts:
        leading = leading_digits(masked(text.encode("latin-1")))
        changed = list(text)
        for found in _ALL_DIGITS.finditer(text):
            if found["free"] is None:
                continue
            number = next(numbers)
            for n, at in enumerate(range(*found.span())):
                changed[at] = _digit(number, n, trial) if trial is not None else "0"
        for at in leading if trial is None else ():
            changed[at] = "1"
        yield "".join(changed)


def _digit(number: int, n: int, trial: int) -> str:
    """Return a digit from 1 to 9; the first one tells 729 numbers apart in three trials."""
    return str(1 + (number // 9**trial + 4 * trial + 5 * n) % 9)


def _is_empty(record: Record) -> bool:
    """Return whether a record is empty."""
    return not (record.positions or record.values or record.totals)

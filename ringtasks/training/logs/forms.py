"""Forms of lines: templates that differ only in the widths of numbers and gaps, and in own words.

``step 0 loss 0.00 sample 3f2b-a1`` and ``step 000   loss 0.0 sample 77ad-0e`` have the same form.
A word of its own holds no text of four letters or more that a reader looks for (and is or begins or
ends with none that is shorter), so no reader can tell it from another one of its kind, unless as
part of a name.  Each is replaced by a mark, as several in a row are, each number that is part of
nothing else by one digit, and each long gap by a short one, in many lines at a time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .known_words import word_table, word_tables
from .number_columns import Bytes, Flags, Ints
from .shapes import Shape

__all__ = ["DIGITS", "FREE", "GAP", "NO_FORMS", "Forms", "LineSlots", "as_text", "forms_of"]

#: The widths of longer numbers and words belong to the form.
MAX_WIDTH = 18
_MAX_WORD, _MAX_TEXT = 24, 240
#: The least widths of gaps: in the text, and in front of it, where 2 spaces may have a meaning.
_GAP, _INDENT = 2, 3
#: The arrays for so many lines fit in a processor's cache.
_LINES = 4000
#: The digits between separators of thousands.
_GROUP = 3
#: The kinds of slots.
WORD, FREE, DIGITS, GAP = 0, 1, 2, 3
_ZERO, _UNDERSCORE = ord("0"), ord("_")
_LETTERS = bytes(range(ord("a"), ord("z") + 1))
#: The marks of words, by their first and last characters: letters alone; with digits; joined; and
#: those of several words, by their first character.
_MARKS = bytes([1, 2, *range(3, 9), *range(14, 20), *range(20, 23)])
_SEVERAL = 20
_TO_TEXT = bytes.maketrans(_MARKS, b"qQ" + b"qQ0" * 5)
_NO_MARKS = bytes.maketrans(_MARKS, b"\x1f" * len(_MARKS))
#: Behind a number without a space these are units: 5s, 10k, 3e-5; before one, names: f1, ap50.
_UNITS = "k m g t s x h e it kb mb gb tb ib ms db " + " ".join(
    first + last for first in "snrt" for last in "tdh"
)
_BEFORE_DIGITS = "f r ap ar kl it ep up lr"
_CODE = np.zeros(256, np.uint8)
for _n, _letter in enumerate(_LETTERS, 1):
    _CODE[[_letter, _letter - 32]] = _n
_IS_UPPER = np.zeros(256, bool)
_IS_UPPER[65:91] = True


def _set_of(characters: bytes) -> Flags:
    found = np.zeros(256, bool)
    found[list(characters)] = True
    return found


_IS_WORD = (_CODE > 0) | _set_of(b"0_")
_NOT_BEFORE = _IS_WORD | _set_of(b".,/@")
_NOT_BEHIND = _IS_WORD | _set_of(b":/@")
_SIGN, _SIGN_OR_COLON, _POINT_OR_COMMA = _set_of(b"+-"), _set_of(b":+-"), _set_of(b".,")


class Forms(NamedTuple):
    """The forms of lines, and their slots: words, and all runs of digits.

    ``starts``, ``ends``: offsets of the slots in their lines; ``kinds``: ``FREE`` digits, whose
    width the form leaves out, others (``DIGITS``), a word (``WORD``) or a ``GAP``; ``firsts``: the
    index of the first slot of each line, and that behind the last line.
    """

    keys: list[bytes]
    starts: Ints
    ends: Ints
    kinds: npt.NDArray[np.int8]
    firsts: Ints

    @classmethod
    def joined(cls, parts: Sequence[Forms]) -> Forms:
        """Return the lines of several parts."""
        sizes = np.cumsum([0, *(len(part.starts) for part in parts)])
        firsts = [part.firsts[:-1] + n for part, n in zip(parts, sizes[:-1], strict=True)]
        return cls(
            [key for part in parts for key in part.keys],
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.kinds for part in parts]),
            np.concatenate([*firsts, sizes[-1:]]),
        )

    def slots(self, n: int) -> LineSlots:
        """Return the slots of a line."""
        own = slice(self.firsts[n], self.firsts[n + 1])
        starts, ends = self.starts[own].tolist(), self.ends[own].tolist()
        return LineSlots(Shape(self.keys[n], tuple(starts), tuple(ends)), self.kinds[own].tolist())


_NONE = np.zeros(0, np.int64)
NO_FORMS = Forms([], _NONE, _NONE, np.zeros(0, np.int8), np.zeros(1, np.int64))


class LineSlots(NamedTuple):
    """The slots of a line; ``literal``: those whose text belongs to the form."""

    shape: Shape
    kinds: Sequence[int]
    literal: frozenset[int] = frozenset()

    def free(self) -> list[int]:
        """Return the slots whose text may change."""
        return [n for n in range(len(self.kinds)) if n not in self.literal]

    def text(self, line: str, n: int) -> str:
        """Return the text of a slot."""
        return line[self.shape.starts[n] : self.shape.ends[n]]

    def with_texts(self, line: str, texts: Mapping[int, str]) -> tuple[str, Shape]:
        """Return a line with other texts in some slots, and its shape."""
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = size = 0
        for n, (start, end) in enumerate(zip(self.shape.starts, self.shape.ends, strict=True)):
            own = texts.get(n, line[start:end])
            starts.append(size + start - at)
            size = starts[-1] + len(own)
            ends.append(size)
            parts += line[at:start], own
            at = end
        text = "".join([*parts, line[at:]])
        return text, Shape(self.shape.text, tuple(starts), tuple(ends))

    def varied(self, line: str, width: int, seed: int) -> tuple[str, Shape]:
        """Return a line of the same form whose slots have another text, and that width if free."""
        texts = {n: self.other(line, n, width, seed) for n in self.free()}
        return self.with_texts(line, texts)

    def other(self, line: str, n: int, width: int, seed: int) -> str:
        """Return another text for a slot."""
        own = self.text(line, n)
        if self.kinds[n] == WORD:
            return own_word(own, width, seed + n)
        if self.kinds[n] == GAP:
            least = _GAP if self.shape.starts[n] else _INDENT
            return " " * max(least, min(width, 96))
        size = min(width, MAX_WIDTH) if self.kinds[n] == FREE else len(own)
        return "".join(str(1 + (seed + 3 * n + k) % 9) for k in range(size))


def as_text(key: bytes) -> bytes:
    """Return a form as the template of a line."""
    for mark in range(_SEVERAL, _SEVERAL + 3):
        if mark in key:
            key = key.replace(bytes([mark]), bytes([mark]) + b" q")
    return key.translate(_TO_TEXT)


def forms_of(templates: Sequence[bytes]) -> Forms:
    """Return the forms of lines, given their templates."""
    starts = range(0, len(templates), _LINES)
    parts = [_of_text(b"\n".join(templates[n : n + _LINES])) for n in starts]
    return Forms.joined(parts)


def _of_text(text: bytes) -> Forms:
    raw = np.frombuffer(b"\n\n" + text.translate(_NO_MARKS) + b"\n\n\n\n", np.uint8).copy()
    code = np.frombuffer(raw.tobytes().translate(_CODE.tobytes()), np.uint8)
    is_digit = raw == _ZERO
    is_word = is_digit | (code > 0)
    edges = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    gap_starts, gap_ends, least = _gaps(raw)
    starts, ends, marks = _own_words(raw, code, is_digit, starts, ends)
    is_in_own = _covered(len(raw), starts, ends)
    is_digit &= ~is_in_own
    edges = np.flatnonzero(is_digit[1:] != is_digit[:-1]) + 1
    number_starts, number_ends = edges[::2], edges[1::2]
    is_free = _is_free(raw, number_starts, number_ends)
    key = raw.copy()
    is_long = ends - starts > np.where(marks < _SEVERAL, _MAX_WORD, _MAX_TEXT)
    key[is_in_own] = np.repeat(marks, ends - starts)
    is_short = ~is_long
    left_out = _covered(
        len(raw),
        np.concatenate([starts[is_short] + 1, number_starts[is_free] + 1, gap_starts + least]),
        np.concatenate([ends[is_short], number_ends[is_free], gap_ends]),
    )
    keys = key[~left_out].tobytes()[2:-4].split(b"\n")
    lines = np.flatnonzero(raw == ord("\n"))[1:-3] + 1
    slots = _in_order(len(raw), starts, number_starts, gap_starts)
    firsts = np.searchsorted(slots, lines)
    shift = np.repeat(lines[:-1], np.diff(firsts))
    slot_ends = _in_order(len(raw), ends, number_ends, gap_ends)
    kinds = np.zeros(len(raw), np.int8)
    kinds[gap_starts] = GAP
    kinds[number_starts] = np.where(is_free, FREE, DIGITS)
    return Forms(keys, slots - shift, slot_ends - shift, kinds[slots], firsts)


def _gaps(raw: Bytes) -> tuple[Ints, Ints, Ints]:
    """Return the edges of the runs of spaces whose width the form leaves out, and their least."""
    is_space = raw == ord(" ")
    edges = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    least = np.where(raw[starts - 1] == ord("\n"), _INDENT, _GAP)
    is_wide = ends - starts >= least
    return starts[is_wide], ends[is_wide], least[is_wide]


def _covered(size: int, starts: Ints, ends: Ints) -> Flags:
    """Return which bytes lie in one of some spans that share none."""
    edges = np.zeros(size, np.int8)
    edges[starts] += 1
    edges[ends] -= 1
    return np.cumsum(edges, dtype=np.int8).view(bool)


def _in_order(size: int, *places: Ints) -> Ints:
    """Return different places in their order."""
    found = np.zeros(size, bool)
    for each in places:
        found[each] = True
    return np.flatnonzero(found)


def _counts(flags: Flags) -> npt.NDArray[np.int32]:
    """Return the number of flags before each byte."""
    found = np.zeros(len(flags) + 1, np.int32)
    np.cumsum(flags, out=found[1:])
    return found


def _own_words(
    raw: Bytes, code: Bytes, is_digit: Flags, starts: Ints, ends: Ints
) -> tuple[Ints, Ints, Bytes]:
    """Return the edges of words of their own and their marks, given runs of letters and digits.

    Words joined by hyphens are one, ``3f2b-77-a1``, and so are those behind one in small letters.
    """
    is_own, is_known, is_mixed = _is_own(raw, code, is_digit, starts, ends)
    is_joined, is_next = np.zeros(len(starts), bool), np.zeros(len(starts), bool)
    is_close = starts[1:] - ends[:-1] == 1
    is_joined[1:] = is_close & (raw[ends[:-1]] == ord("-"))
    is_joined[1:] &= ~(is_known[1:] | is_known[:-1])
    is_member = is_own.copy()
    is_member[1:] |= is_joined[1:] & is_mixed[1:] & is_own[:-1]  # "3f2b-1e05"
    is_plain = is_own & ~is_mixed & ~is_joined
    is_next[1:] = is_close & (raw[ends[:-1]] == ord(" ")) & is_plain[1:] & is_plain[:-1]
    is_next &= ~_IS_UPPER[raw[starts]]
    is_joined |= is_next
    chains = np.cumsum(~is_joined)[is_member]
    is_edge = np.ones(len(chains) + 1, bool)
    is_edge[1:-1] = chains[1:] != chains[:-1]
    firsts, lasts = is_edge[:-1], is_edge[1:]
    is_single = lasts[firsts]
    is_plain = is_single & ~is_mixed[is_member][firsts]
    starts, ends = starts[is_member][firsts], ends[is_member][lasts]
    kind = np.where(is_digit[starts], 2, _IS_UPPER[raw[starts]])
    mixed = np.where(is_single, 3, 14) + kind + 3 * is_digit[ends - 1]
    marks = np.where(is_plain, 1 + kind, mixed)
    are_several = is_next[is_member][lasts]
    return starts, ends, np.where(are_several, _SEVERAL + kind, marks).astype(np.uint8)


def _is_own(
    raw: Bytes, code: Bytes, is_digit: Flags, starts: Ints, ends: Ints
) -> tuple[Flags, Flags, Flags]:
    """Return which runs of letters and digits are words of their own, are known, and are both."""
    digits = _counts(is_digit)
    letters = ends - starts - (digits[ends] - digits[starts])
    changes = _counts(is_digit[1:] != is_digit[:-1])
    parts = 1 + changes[ends - 1] - changes[starts]
    is_in_many = _covered(len(raw), starts[parts > 3], ends[parts > 3])
    known = _counts(_begins_known(raw, code, is_digit, is_in_many))
    known_in = known[ends] > known[starts]
    begins_with_digit = is_digit[starts]
    last, first = code[ends - 1], code[starts]
    before_last = np.where(letters == 1, 0, code[ends - 2]).astype(np.int32)
    is_unit = (letters < 3) & word_table(_UNITS)[before_last << 5 | last]
    second = np.where(letters == 1, 0, code[starts + 1]).astype(np.int32)
    is_short = (letters < 3) & word_table(_BEFORE_DIGITS)[
        np.where(letters == 1, first, first.astype(np.int32) << 5 | second)
    ]
    is_short |= (letters == 1) & _IS_UPPER[raw[starts]]  # E12, W1126
    exponents = _counts(code == 5)
    has_exponent = (letters == 1) & (exponents[ends] > exponents[starts])
    other = np.where(begins_with_digit, has_exponent, last == 11)  # 1e5, fid50k
    is_special = np.where(parts == 2, np.where(begins_with_digit, is_unit, is_short), other)
    is_number = letters == 0
    is_special = np.where(parts == 1, is_number | (letters < 2) | is_unit, (parts < 4) & is_special)
    # 5e10dB: the only unit that may follow a value without a space.
    is_special |= begins_with_digit & (letters == 3) & (before_last == 4) & (last == 2)
    return ~known_in & ~is_special, known_in, parts > 1


def _begins_known(raw: Bytes, code: Bytes, is_digit: Flags, is_in_many: Flags) -> Flags:
    """Return the bytes at which a part of a word begins that a reader may look for.

    :param is_in_many: in a word of so many parts that only its last one may be a word.
    """
    threes, longer = word_tables()
    is_letter = code > 0
    pairs = (code[:-1].astype(np.int32) << 5) | code[1:]
    found = longer.begin_at(pairs)
    is_hump = is_letter[:-1] & ~_IS_UPPER[raw[:-1]] & _IS_UPPER[raw[1:]]
    starts = np.flatnonzero(is_letter[1:] & (~is_letter[:-1] | is_hump)) + 1
    ends = np.flatnonzero(is_letter[:-1] & (~is_letter[1:] | is_hump)) + 1
    sizes = ends - starts
    third = np.where(sizes > 2, code[starts + 2], 0)
    second = np.where(sizes > 1, code[starts + 1], 0)
    first = (code[starts].astype(np.int32) << 10) | (second.astype(np.int32) << 5) | third
    last = pairs[ends - 3] << 5 | code[ends - 1]
    is_short = (sizes < 3) & (is_digit[starts - 1] | is_digit[ends])
    is_inside = is_in_many[starts] & is_digit[ends]
    found[starts] |= ~(is_short | is_inside) & (threes[first] | ((sizes > 2) & threes[last]))
    return found


def _is_free(raw: Bytes, starts: Ints, ends: Ints) -> Flags:
    """Return which runs of digits are, or are in, numbers that are part of nothing else."""
    if not len(starts):
        return np.zeros(0, bool)
    before, behind = raw[starts - 1], raw[ends]
    second_before, second_behind = raw[starts - 2], raw[ends + 1]
    gap = np.concatenate([[9], starts[1:] - ends[:-1]])
    is_part = (gap == 1) & (before == ord("."))
    is_exponent = (gap == 2) & _SIGN[before] & (_CODE[second_before] == 5)
    is_start = ~(is_part | is_exponent)
    # "12,345" may be one number, "12,34" is two.
    is_cell = (gap == 1) & (before == ord(","))
    is_cell[1:] &= (ends - starts != _GROUP)[1:] | is_part[:-1]
    begins = ~_NOT_BEFORE[before] & ~(_SIGN_OR_COLON[before] & (second_before == _ZERO))
    begins |= is_cell
    precedes_cell = np.concatenate([is_cell[1:], [False]])
    is_at_end = precedes_cell | ~(
        _NOT_BEHIND[behind]
        | (_POINT_OR_COMMA[behind] & _IS_WORD[second_behind])
        | (_SIGN[behind] & (second_behind == _ZERO))
    )
    follows_start = np.concatenate([[False], is_start[:-1]])
    follows_part = np.concatenate([[False], is_part[:-1]])
    fits = np.where(is_start, begins, follows_start | (is_exponent & follows_part))
    fits &= ends - starts <= MAX_WIDTH
    is_last = np.concatenate([is_start[1:], [True]])
    fits &= ~is_last | is_at_end
    chains = np.flatnonzero(is_start)
    whole: Flags = np.logical_and.reduceat(fits, chains)
    free: Flags = np.repeat(whole, np.diff(np.concatenate([chains, [len(starts)]])))
    free &= ~is_exponent
    return free


def own_word(like: str, width: int, seed: int) -> str:
    """Return another word of its own of the same kind as one."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    if " " in like:
        words = (own_word("q", width, seed + n) for n in range(max(1, min(width, _MAX_TEXT) // 9)))
        return " ".join([own_word(like.split(" ")[0], width, seed), *words])
    is_mixed = not like.isalpha()
    size = len(like) if len(like) > _MAX_WORD else max(7 if is_mixed else 2, min(width, _MAX_WORD))
    kinds = [
        like[0].isdigit(),
        *(is_mixed and n % 2 == 1 for n in range(size - 2)),
        like[-1].isdigit(),
    ]
    word = [chance.choice("123456789" if kind else "jkqvxz") for kind in kinds]
    word[1] = word[1] if is_mixed else "x"
    if "-" in like:
        word[3] = "-"
    word[0] = word[0].upper() if like[0].isupper() else word[0]
    return "".join(word)

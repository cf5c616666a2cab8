"""Convert the numbers of many lines at once, those of one shape together.

The shape of a number is its text with zeros for its digits, so every digit has a fixed offset, and
the number is a weighted sum of bytes.  An integer of 15 digits times a power of ten up to 22 is
exact in a float, so these are the values that ``float`` gives.  Longer ones are converted with a
wider float; those that it cannot decide are converted one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from .numbers import counted

__all__ = [
    "MAX_CODE_DIGITS",
    "Bytes",
    "Flags",
    "Floats",
    "Ints",
    "NumberColumns",
    "NumberPlace",
    "TextBlock",
    "in_order",
]

Floats: TypeAlias = "npt.NDArray[np.float64]"
Ints: TypeAlias = "npt.NDArray[np.int64]"
Flags: TypeAlias = "npt.NDArray[np.bool_]"
Bytes: TypeAlias = "npt.NDArray[np.uint8]"

_MAX_DIGITS = 15
#: An integer of 64 bits holds any number of so many digits.
MAX_CODE_DIGITS = 18
_MAX_POWER = 22
_MAX_WIDE_POWER = 27
#: x87's extended precision, or more; elsewhere a "long double" may be a double.
_HAS_WIDE = np.finfo(np.longdouble).nmant >= 63
_NUMBER = re.compile(
    rb"(?P<sign>[-+]?)(?P<whole>[0,_]*)(?:\.(?P<part>0*))?(?:[eE](?P<esign>[-+]?)(?P<exp>0+))?\Z"
)
_ZERO = ord("0")


def in_order(lines: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return the numbers of lines from several sources in order, and their indices before."""
    joined = np.concatenate(lines)
    order = np.argsort(joined, kind="stable")
    return joined[order], order


class TextBlock:
    """Lines of a log, as text and as bytes."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.bytes = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(self.bytes == ord("\n"))
        self.starts: Ints = np.concatenate([[0], ends + 1])
        self._ends: Ints = np.concatenate([ends, [len(text)]])

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, n: int) -> bytes:
        """Return the text of a line."""
        return self.text[self.starts[n] : self._ends[n]]

    def pieces(self, starts: Ints, width: int) -> Bytes:
        """Return the bytes at several offsets, one row for each."""
        return sliding_window_view(self.bytes, width)[starts]


class NumberPlace(NamedTuple):
    """The place of numbers among those of their shape."""

    shape: bytes
    start: int
    end: int


class NumberColumns:
    """Collects the offsets of numbers in a block, then converts them."""

    def __init__(self, block: TextBlock) -> None:
        self.block = block
        self._starts: dict[bytes, list[Ints]] = {}
        self._sizes: dict[bytes, int] = {}
        self._values: dict[bytes, Floats] = {}
        self._rows: dict[bytes, Bytes] = {}
        self._codes: dict[bytes, Ints] = {}

    def add(self, shape: bytes, starts: Ints) -> NumberPlace:
        """Add the numbers of one shape at these offsets."""
        size = self._sizes.get(shape, 0)
        end = self._sizes[shape] = size + len(starts)
        self._starts.setdefault(shape, []).append(starts)
        return NumberPlace(shape, size, end)

    def values(self, column: NumberPlace) -> Floats:
        """Return numbers, after all were added."""
        found = self._values.get(column.shape)
        if found is None:
            found = _values(column.shape, self._of_shape(column.shape))
            self._values[column.shape] = found
        return found[column.start : column.end]

    def codes(self, column: NumberPlace) -> Ints:
        """Return integers that only numbers of the same digits share."""
        found = self._codes.get(column.shape)
        if found is None:
            found = _whole(self._of_shape(column.shape), _offsets(column.shape, 0))
            self._codes[column.shape] = found
        return found[column.start : column.end]

    def _of_shape(self, shape: bytes) -> Bytes:
        rows = self._rows.get(shape)
        if rows is None:
            rows = self.block.pieces(np.concatenate(self._starts[shape]), len(shape))
            self._rows[shape] = rows
        return rows


def _offsets(shape: bytes, start: int, end: int | None = None) -> list[int]:
    end = len(shape) if end is None else end
    return [n for n in range(start, end) if shape[n : n + 1] == b"0"]


def _whole(rows: Bytes, digits: list[int]) -> Ints:
    """Return the integers that at most 18 digits make."""
    start, end = (digits[0], digits[-1] + 1) if digits else (0, 0)
    weights = np.zeros(end - start, dtype=np.int64)
    for n, at in enumerate(reversed(digits)):
        weights[at - start] = 10**n
    sums: Ints = rows[:, start:end].astype(np.int64) @ weights  # no BLAS: it would use threads
    return sums - _ZERO * int(weights.sum())


def _values(shape: bytes, rows: Bytes) -> Floats:
    found = _NUMBER.match(shape)
    if found is None:
        return _one_by_one(rows)  # nan, inf, 1.00k
    last = found.end("part") if found["part"] else found.end("whole")
    digits = _offsets(shape, 0, last)
    exponent = _offsets(shape, last) if found["exp"] else []
    if not digits or len(digits) > MAX_CODE_DIGITS or len(exponent) > 2:
        return _one_by_one(rows)
    power = np.full(len(rows), -len(found["part"] or b""), dtype=np.int64)
    if exponent:
        power += _whole(rows, exponent) * (-1 if found["esign"] == b"-" else 1)
    scaled = _scaled if len(digits) <= _MAX_DIGITS else _scaled_wide
    numbers, is_sure = scaled(_whole(rows, digits), power)
    if found["sign"] == b"-":
        numbers = -numbers
    if not is_sure.all():
        odd = ~is_sure
        numbers[odd] = _one_by_one(rows[odd])
    return numbers


def _scaled(whole: Ints, power: Ints) -> tuple[Floats, Flags]:
    """Return integers times a power of ten, and which of them are certain."""
    scale = _POWERS[np.minimum(np.abs(power), _MAX_POWER)]
    return np.where(power < 0, whole / scale, whole * scale), np.abs(power) <= _MAX_POWER


def _scaled_wide(whole: Ints, power: Ints) -> tuple[Floats, Flags]:
    """Return the same for integers of more digits.

    The wider float is rounded correctly.  Rounding it again is right, too, unless it lies between
    two floats, just in the middle.
    """
    if not _HAS_WIDE:
        return np.zeros(len(whole)), np.zeros(len(whole), dtype=bool)
    scale = _WIDE_POWERS[np.minimum(np.abs(power), _MAX_WIDE_POWER)]
    number = whole.astype(np.longdouble)
    wide = np.where(power < 0, number / scale, number * scale)
    numbers = wide.astype(np.float64)
    rest = np.abs(wide - numbers)
    is_sure = (rest * 2 != np.spacing(numbers)) & (rest * 4 != np.spacing(numbers))
    return numbers, is_sure & (np.abs(power) <= _MAX_WIDE_POWER)


def _one_by_one(rows: Bytes) -> Floats:
    texts: Iterable[bytes] = np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel().tolist()
    return np.array([np.inf if (n := counted(text)) is None else n for text in texts])


_POWERS = np.array([float(f"1e{n}") for n in range(_MAX_POWER + 1)])
_WIDE_POWERS = np.cumprod(
    np.array([1, *[10] * _MAX_WIDE_POWER], dtype=np.longdouble), dtype=np.longdouble
)

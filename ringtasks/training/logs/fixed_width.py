"""Convert the numbers of many lines of one template at once.

In lines of one template every digit has a fixed offset, so a number is a sum of columns of
digits.  A number of at most 15 digits times a power of ten up to 22 is exact in a float, so these
are the values that ``float`` gives; others are converted one by one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .numbers import as_float
from .parsed import Span

__all__ = ["MAX_CODE_DIGITS", "Floats", "code_of", "column_of"]

Floats: TypeAlias = "npt.NDArray[np.float64]"
_Matrix: TypeAlias = "npt.NDArray[np.uint8]"
_MAX_DIGITS = 15
#: An integer of 64 bits holds any number of so many digits.
MAX_CODE_DIGITS = 18
_MAX_POWER = 22
_NUMBER = re.compile(
    rb"(?P<sign>[-+]?)(?P<whole>[\d,_]*)(?:\.(?P<part>\d*))?(?:[eE](?P<esign>[-+]?)(?P<exp>\d+))?\Z"
)


def column_of(template: bytes, span: Span) -> Callable[[_Matrix], Floats]:
    """Return the function that converts one number of each line: a row of bytes."""
    start, end = span
    found = _NUMBER.match(template[start:end])
    if found is None:
        return _OneByOne(span)  # nan, inf
    last = start + (found.end("part") if found["part"] else found.end("whole"))
    digits = [n for n in range(start, last) if template[n : n + 1].isdigit()]
    exponent = [n + start for n in range(*found.span("exp"))] if found["exp"] else []
    if not digits or len(digits) > _MAX_DIGITS or len(exponent) > 2:
        return _OneByOne(span)
    return _Digits(
        span,
        _powers(digits),
        _powers(exponent),
        decimals=len(found["part"] or b""),
        sign=-1.0 if found["sign"] == b"-" else 1.0,
        exponent_sign=-1 if found["esign"] == b"-" else 1,
    )


def code_of(template: bytes, span: Span) -> Callable[[_Matrix], npt.NDArray[np.int64]]:
    """Return the function that makes a number of the digits between two offsets."""
    digits = [n for n in range(*span) if template[n : n + 1].isdigit()]
    return functools.partial(_sum, digits=_powers(digits))


def _powers(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Return the offsets of digits, each with its power of ten."""
    return [(at, 10 ** (len(offsets) - n)) for n, at in enumerate(offsets, 1)]


class _OneByOne:
    def __init__(self, span: Span) -> None:
        self._start, self._end = span

    def __call__(self, lines: _Matrix) -> Floats:
        width = self._end - self._start
        field = np.ascontiguousarray(lines[:, self._start : self._end])
        texts: list[bytes] = field.view(f"S{width}").ravel().tolist()
        try:
            return np.array(list(map(float, texts)))
        except ValueError:  # thousands separators
            return np.array([np.inf if (n := as_float(text)) is None else n for text in texts])


class _Digits:
    def __init__(
        self,
        span: Span,
        digits: Sequence[tuple[int, int]],
        exponent: Sequence[tuple[int, int]],
        *,
        decimals: int,
        sign: float,
        exponent_sign: int,
    ) -> None:
        self._digits, self._exponent = digits, exponent
        self._decimals, self._sign, self._exponent_sign = decimals, sign, exponent_sign
        self._one_by_one = _OneByOne(span)

    def __call__(self, lines: _Matrix) -> Floats:
        number = _sum(lines, self._digits).astype(np.float64)
        number *= self._sign
        if not self._exponent:
            return number / 10.0**self._decimals if self._decimals else number
        power = self._exponent_sign * _sum(lines, self._exponent) - self._decimals
        if (np.abs(power) > _MAX_POWER).any():
            return self._one_by_one(lines)
        scale = _POWERS[np.abs(power)]
        scaled: Floats = np.where(power < 0, number / scale, number * scale)
        return scaled


_POWERS = np.array([float(f"1e{n}") for n in range(_MAX_POWER + 1)])


def _sum(lines: _Matrix, digits: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    total = np.zeros(len(lines), dtype=np.int64)
    for at, power in digits:
        total += (lines[:, at] - np.uint8(48)).astype(np.int64) * power
    return total

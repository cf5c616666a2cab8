"""Numbers as programs print them, and the offset at which one ends for certain.  Pure.

Text is matched as Latin-1, so that an offset in it is one in the line's bytes.
"""

from __future__ import annotations

import math

__all__ = ["END", "NUMBER", "WHOLE", "as_float", "counted"]

_THOUSANDS = r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?|[1-9]\d{0,2}(?:_\d{3})+(?!\d)(?:\.\d+)?"

#: A decimal number: signed, with thousands separators or an exponent, or IEEE 754's inf and nan.
NUMBER = (
    rf"[-+]?(?:(?:{_THOUSANDS}|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
    r"|(?i:inf(?:inity)?|nan)\b)"
)
#: A count: 7, 1,000 or 1_000.
WHOLE = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:_\d{3})+|\d+)(?!\d)"
#: Must not follow a number: the rest of a time, a version, a date, a fraction, a list or a unit. A
#: decimal comma ("0,5") ends here as well: it may be a separator. Decibels are the unit of PSNR.
#: "1.#QNAN" is a NaN as older C libraries of Windows print it.
END = r"(?!(?!dB\b)\w|[.]?[#]|[.]\w|:\d|/|-\d|,\d)"

# tqdm.std.tqdm.format_sizeof
_SUFFIXES = {b"k": 1e3, b"K": 1e3, b"M": 1e6, b"G": 1e9, b"T": 1e12}


def as_float(text: str | bytes) -> float | None:
    """Return the number that ``text`` prints; None if it is not a number or too large."""
    try:
        number = float(text)
    except ValueError:
        return _with_thousands(text)
    # "1e999" is not a measurement; "inf" is the program's own value.
    if math.isinf(number) and not text.strip()[-1:].isalpha():
        return None
    return number


def _with_thousands(text: str | bytes) -> float | None:
    plain = text.decode("latin-1") if isinstance(text, bytes) else text
    try:
        return float(plain.replace(",", ""))
    except ValueError:
        return None


def counted(text: bytes) -> float | None:
    """Return a bar's count, which may be scaled: ``1.00k`` is 1000."""
    scale = _SUFFIXES.get(text[-1:])
    if scale is None:
        return as_float(text)
    number = as_float(text[:-1])
    return None if number is None else round(number * scale, 6)

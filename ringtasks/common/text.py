"""Text from outside, made safe for a terminal; near names of mistyped ones."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from itertools import islice

__all__ = [
    "TextEnum",
    "bounded",
    "counted",
    "first_names",
    "joined_lines",
    "names_and_more",
    "near_names",
    "printable",
    "size",
    "visible",
    "visible_lines",
]


class TextEnum(str, enum.Enum):
    """Values that are texts, and are shown as those: `enum.StrEnum` of Python 3.11."""

    def __str__(self) -> str:
        return str(self.value)


def printable(text: str) -> str:
    """Return foreign text as one line, without control characters that a terminal would obey."""
    folded = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in folded)


def joined_lines(text: str) -> str:
    """Return foreign text of several lines as `printable` does, with a mark between the lines."""
    told = ""
    for line in filter(None, map(printable, text.splitlines())):
        told += ("" if not told else " " if told.endswith((":", ";")) else "; ") + line
    return told


def visible(text: str) -> str:
    """Replace all characters that a terminal would obey; tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def visible_lines(text: str) -> str:
    """Replace characters as `visible` does, but keep the line ends."""
    if text.replace("\n", "").isprintable():
        return text
    return "\n".join(visible(line.rstrip("\r")) for line in text.split("\n"))


def counted(number: int, noun: str) -> str:
    """Return ``1 host`` or ``3 hosts``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_names(names: Iterable[str]) -> str:
    """Return the first eight names as a list for a message."""
    shown = list(islice(names, 9))
    return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")


def names_and_more(names: Sequence[str], most: int = 3) -> str:
    """Return the first names for a message, and the number of the others: ``a, b and 2 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def bounded(text: str, limit: int = 200) -> str:
    """Return `printable` text of ``limit`` characters at most."""
    shown = printable(text[: 4 * limit])
    return shown if len(shown) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def near_names(name: str, known: Iterable[str], similarity: float = 0.5) -> tuple[str, ...]:
    """Return up to three of ``known`` that ``name`` may stand for, the most similar first.

    Small and capital letters count as equal.

    :param similarity: from 0 to 1, as of `difflib.SequenceMatcher.ratio`.
    """
    import difflib  # only an error needs it

    by_folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=similarity)
    return tuple(by_folded[folded] for folded in near)


def size(count: float) -> str:
    """Format a number of bytes for people, in powers of 1024 (IEC 80000-13): ``1.5 GiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    unit = 0
    while count >= 1000 and unit < len(units) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.{int(count < 10 and unit > 0)}f} {units[unit]}"

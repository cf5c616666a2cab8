"""Words that a reader may know, in tables for many words at a time.

These are all words in the texts and the patterns that the code of the readers holds: too many
rather than too few.  A letter is a number of five bits.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .number_columns import Flags

__all__ = ["LongWords", "word_table", "word_tables"]

_Codes: TypeAlias = "npt.NDArray[np.int32]"

#: Escapes and sets of characters in patterns.
_WORD = re.compile("[A-Za-z]{2,}")
#: "losses?", whose last letter may be missing.
_WORD_WITH_OPTION = re.compile("[a-z]{3,}(?=[?*{])")
_NO_WORDS = re.compile(r"\\x[\da-f]{2}|\\.|\[\^?[A-Za-z]{2,4}\]")


@functools.cache
def word_table(words: str) -> Flags:
    """Return a table of words of one or two letters."""
    table = np.zeros(1 << 10, bool)
    table[[_number_of(word) for word in words.split()]] = True
    return table


class LongWords(NamedTuple):
    """Words of four letters or more. ``fours``: all beginnings; ``ends``: six letters, or all."""

    fours: Flags
    ends: Sequence[_Codes]

    @classmethod
    def of(cls, words: Iterable[str]) -> LongWords:
        """Return the table of some words."""
        fours = np.zeros(1 << 20, bool)
        ends: tuple[set[int], ...] = (set(), set(), set())
        for word in words:
            fours[_number_of(word[:4])] = True
            ends[min(len(word), 6) - 4].add(_number_of(word[:6]))
        return cls(fours, [np.array(sorted(own), np.int32) for own in ends])

    def begin_at(self, pairs: _Codes) -> Flags:
        """Return the letters at which a word begins, given the code of each with the next one."""
        found = np.zeros(len(pairs) + 1, bool)
        at = np.flatnonzero(self.fours[pairs[:-2] << 10 | pairs[2:]])
        code = pairs[at] << 10 | pairs[at + 2]
        behind = pairs[np.minimum(at + 4, len(pairs) - 1)]
        for own, codes in zip(
            self.ends, (code, code << 5 | behind >> 5, code << 10 | behind), strict=True
        ):
            found[at] |= own[np.minimum(np.searchsorted(own, codes), len(own) - 1)] == codes
        return found


@functools.cache
def word_tables() -> tuple[Flags, LongWords]:
    """Return the known words of up to three letters, and the longer ones."""
    threes = np.zeros(1 << 15, bool)
    words = {word.lower() for text in _texts() for word in _WORD.findall(text)}
    words |= {word[:-1] for text in _texts() for word in _WORD_WITH_OPTION.findall(text.lower())}
    for word in words:
        if len(word) < 4:
            threes[_number_of(word.ljust(3, "\0"))] = True
    return threes, LongWords.of(word for word in words if len(word) > 3)


def _number_of(word: str) -> int:
    return functools.reduce(lambda number, letter: number << 5 | ord(letter) & 31, word, 0)


def _texts() -> Iterator[str]:
    """Yield all texts that the code of the readers holds, without the escapes of patterns."""
    package = __name__.rpartition(".")[0]
    for name, module in [*sys.modules.items()]:
        if name.startswith(f"{package}."):
            for text in _texts_in(_own(module), name):
                yield _NO_WORDS.sub(" ", text)


def _own(holder: object) -> list[object]:
    return [value for name, value in vars(holder).items() if not name.startswith("__")]


def _texts_in(value: object, module: str) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, re.Pattern):
        yield from _texts_in(value.pattern, module)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _texts_in(pair, module)
    elif isinstance(value, (tuple, list, set, frozenset)):
        for each in value:
            yield from _texts_in(each, module)
    elif isinstance(value, CodeType):
        yield from _texts_in(value.co_consts, module)
    elif isinstance(value := getattr(value, "__wrapped__", value), FunctionType):
        yield from _texts_in([c for c in value.__code__.co_consts if c != value.__doc__], module)
    elif isinstance(value, type) and value.__module__ == module:
        yield from _texts_in(_own(value), module)

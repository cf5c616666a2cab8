"""Ranks in front of all lines.

    [0] step 1 loss 0.5        Hydra's and MPICH's "mpiexec -prepend-rank"
    0: step 1 loss 0.5         "srun --label"
    trainer-1  | step 1        docker compose
    [rank0]: step 1            torchrun --tee

A number in brackets is a step or an epoch elsewhere, so it is a rank only if it comes again after
lines in a row that had different ones at the same position of the run; these are held back till
then.  The labels of the others are ranks from the first one on that stands before a position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .logger_prefix import SERVICE

__all__ = ["RankPrefixes"]

_RANK = re.compile(r"\[(?:rank|default)\s?:?\s?(?P<rank>\d{1,4})\]:\s*(?=[^\s\[])", re.ASCII | re.I)
_LABEL = re.compile(rf"(?:(?P<rank>\d{{1,3}}): |{SERVICE})(?=\s*\S)", re.ASCII | re.I)
_BRACKET = re.compile(r"\[(?P<rank>\d{1,4})\](?::\s*|\s+)(?=\S)", re.ASCII)
_NAMES_POSITION = re.compile(r"\b(?:epoch|step|iter)", re.I | re.ASCII)
_POSITION = re.compile(r"(?:global[ _])?(?:epoch|step|iter|iteration)\W{0,3}\d+", re.I | re.ASCII)
#: After so many such lines without ranks the numbers are no ranks; so many ranks are told apart.
_MAX_LINES, _MAX_HELD = 8, 64
_NONE, _BRACKETS, _LABELS = 0, -1, -2


class _Held(NamedTuple):
    text: str
    rank: int
    position: str


class RankPrefixes:
    """Takes the ranks off lines. ``kind``: that of the prefixes, or the lines left to find out."""

    def __init__(self) -> None:
        self.kind = _MAX_LINES
        self._held: list[_Held] = []

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def concerns(self, text: str) -> bool:
        """Return whether a line may have a rank, or completes some that are held back."""
        return bool(self._held) or text.startswith("[") or text[:1].isdigit() or " | " in text[:80]

    def read(self, text: str) -> Iterator[tuple[int | None, str]]:
        """Yield lines that are complete, with their ranks."""
        is_bar = "%|" in text or "it/s" in text  # bars are told apart by their text
        if not is_bar and (found := _RANK.match(text) or self._label(text)):
            yield from self._undecided()
            yield int(found[found.lastindex or 1]), text[found.end() :]
            return
        found = None if is_bar or self.kind == _NONE else _BRACKET.match(text)
        if self.kind > 0:
            yield from self._decide(text, found)
        elif self.kind == _BRACKETS and found:
            yield int(found["rank"]), text[found.end() :]
        else:
            yield None, text

    def _label(self, text: str) -> re.Match[str] | None:
        found = _LABEL.match(text)
        if found and self.kind != _LABELS and _NAMES_POSITION.search(text, found.end()):
            self.kind = _LABELS
        return found if self.kind == _LABELS else None

    def _decide(self, text: str, found: re.Match[str] | None) -> Iterator[tuple[int | None, str]]:
        position = _POSITION.match(text, found.end()) if found else None
        if found is None or position is None:
            yield from self._undecided()
            yield None, text
            return
        line = _Held(text, int(found["rank"]), position[0])
        ranks = {held.rank for held in self._held}
        if line.rank in ranks and len(ranks) > 1:
            self.kind = _BRACKETS
            for held in [*self._held, line]:
                yield held.rank, _BRACKET.sub("", held.text, count=1)
            self._held = []
            return
        if self._held and (line.rank in ranks or line.position != self._held[0].position):
            yield from self._undecided()
        if len(self._held) >= _MAX_HELD:
            yield from self._undecided()
            self.kind = _NONE
        if self.kind == _NONE:
            yield None, text
        else:
            self._held.append(line)

    def _undecided(self) -> Iterator[tuple[None, str]]:
        """Yield the lines that are held back; they have no ranks."""
        if self._held:
            self.kind -= self.kind > 0
        yield from ((None, text) for text in self.release())

    def release(self) -> Iterator[str]:
        """Yield the lines that are held back."""
        held, self._held = self._held, []
        yield from (each.text for each in held)

"""Ranks in front of all lines, as Hydra's and MPICH's ``mpiexec -prepend-rank`` prints them.

    [0] step 1 loss 0.5
    [1] step 1 loss 0.6

A number in brackets is a step or an epoch elsewhere, so it is a rank only after two lines in a row
had different ones at the same position of the run.  The first such line is held back till then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["RankPrefixes"]

_PREFIX = re.compile(r"\[(?P<rank>\d{1,4})\](?::\s*|\s+)(?=\S)", re.ASCII)
_POSITION = re.compile(r"(?:global[ _])?(?:epoch|step|iter|iteration)\W{0,3}\d+", re.I | re.ASCII)
#: After so many such lines without ranks the numbers are no ranks.
_MAX_LINES = 8


class _Held(NamedTuple):
    text: str
    rank: int
    position: str


class RankPrefixes:
    """Takes the ranks off lines. ``lines_left``: 0 if there are none, -1 if there are."""

    def __init__(self) -> None:
        self.lines_left = _MAX_LINES
        self._held: _Held | None = None

    @property
    def is_holding(self) -> bool:
        return self._held is not None

    def concerns(self, text: str) -> bool:
        """Return whether a line may have a rank, or completes one that is held back."""
        return self._held is not None or (self.lines_left != 0 and text.startswith("["))

    def read(self, text: str) -> Iterator[tuple[int | None, str]]:
        """Yield lines that are complete, with their ranks."""
        is_bar = "%|" in text or "it/s" in text  # bars are told apart by their text
        found = None if is_bar else _PREFIX.match(text)
        if self.lines_left >= 0:
            position = _POSITION.match(text, found.end()) if found else None
            held, self._held = self._held, None
            if held and found and position and self._tells_ranks(held, found, position[0]):
                self.lines_left = -1
                yield held.rank, _without_prefix(held.text)
            elif held:
                yield None, held.text
            if self.lines_left > 0 and found and position:
                self.lines_left -= 1
                self._held = _Held(text, int(found["rank"]), position[0])
                return
        if self.lines_left < 0 and found:
            yield int(found["rank"]), text[found.end() :]
        else:
            yield None, text

    @staticmethod
    def _tells_ranks(held: _Held, found: re.Match[str], position: str) -> bool:
        return held.rank != int(found["rank"]) and held.position == position

    def release(self) -> Iterator[str]:
        """Yield the line that is held back."""
        held, self._held = self._held, None
        if held:
            yield held.text


def _without_prefix(text: str) -> str:
    return _PREFIX.sub("", text, count=1)

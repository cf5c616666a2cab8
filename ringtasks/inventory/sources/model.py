"""The values that pass between the parts of inventory sources."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import UsageError

__all__ = [
    "Deadline",
    "Freshness",
    "Listing",
    "PrintedHost",
    "Source",
    "SourceAnswer",
    "SourceError",
]

REFRESH = 300.0  # seconds that an answer is used


class SourceError(UsageError):
    """A source cannot be read; the text holds no credential, and control characters are out."""


@dataclass(frozen=True)
class Source:
    """One entry of a ``sources:`` section, or one program in the folder of hosts files."""

    kind: str
    command: tuple[str, ...] = ()
    """The program and its arguments, for the kind ``command``."""
    url: str | None = None
    """The address of the provider's API in place of the usual one."""
    refresh: float = REFRESH
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings and facts for those of its hosts that lack them."""
    file: str = ""
    line: int = 0
    lines: Mapping[str, int] = field(default_factory=dict)
    """The lines of those settings."""

    @property
    def label(self) -> str:
        """Its name in messages."""
        return Path(self.command[0]).name if self.command else self.kind

    @property
    def place(self) -> str:
        """Its name with its place in the hosts file."""
        line = f":{self.line}" if self.line else ""
        return f"{self.file}{line}: source {self.label}"


class PrintedHost(NamedTuple):
    """A host as a source describes it; ``values`` are named as in a hosts file."""

    name: str
    values: Mapping[str, Any]
    absence: str = ""
    """The reason if it cannot be reached now, such as ``EXITED``."""


class Listing(NamedTuple):
    """The answer of a source."""

    hosts: tuple[PrintedHost, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = {}
    warnings: tuple[str, ...] = ()
    gone: Mapping[str, float] = {}
    """The hosts of earlier answers that are not in this one, each with the time (Unix seconds) of
    the first answer without it."""
    moved: Mapping[str, float] = {}
    """The hosts whose place has changed, each with the time of the answer with the present one."""


class SourceAnswer(NamedTuple):
    """The hosts of a source as far as they are known now."""

    source: Source
    listing: Listing
    fetched_at: float
    """Unix seconds; 0: it has never answered."""
    warning: str = ""
    """The reason if it could not be asked, and the age of the listing."""


class Freshness(NamedTuple):
    """The time in which no answer is fetched again: Unix seconds, the end excluded."""

    since: float = 0.0
    until: float = math.inf
    files: tuple[str, ...] = ()
    """The cache files; each changes when its answer does."""


class Deadline:
    """A moment on the monotonic clock.

    :param seconds: the time from now.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left.

        :raises SourceError: there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> SourceError:
        """Return the error for a source that has not answered by then."""
        return SourceError(f"no answer within {self._seconds:g} s")

"""Parse the output of rsync (pure).

Source: rsync(1), "--itemize-changes", "--info=progress2", "--stats"; log.c, `filtered_fwrite`, for
``\\#012``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .rsync_flags import LINE_MARK

__all__ = ["Change", "Meter", "parse_change", "parse_meter", "parse_stat"]

_CHANGE = re.compile(rf"{LINE_MARK} (\S+)\s+(\d[\d,]*) (.*)\Z", re.DOTALL)
_METER = re.compile(r"\s*([\d,]+)\s+(\d+)%\s+([\d.,]+)([kMGT]?)B/s")
_STAT = re.compile(r"(Total [a-z ]+|Literal data): ([\d,]+)")
_ESCAPED = re.compile(rb"\\#([0-7]{3})")
_UNITS = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


class Change(NamedTuple):
    """One change that rsync made, or would make.

    ``kind``: ``sent`` (its content, in either direction), ``deleted``, or ``made`` (folders, links,
    renamed files, modes and times).
    """

    kind: str
    name: str
    size_bytes: int


class Meter(NamedTuple):
    """The progress: bytes and percent of the known total, and the rate in bytes a second."""

    done_bytes: int
    percent: int
    rate: float


def parse_change(line: str) -> Change | None:
    """Return the change that a line describes; None if it describes none."""
    found = _CHANGE.match(line)
    if found is None:
        return None
    item, size, name = found.groups()
    kind = "deleted" if item.startswith("*deleting") else "made"
    if item[0] in "<>" and item[1:2] == "f":
        kind = "sent"
    return Change(kind, _unescaped(name), _whole(size))


def parse_meter(line: str) -> Meter | None:
    """Parse a line of ``--info=progress2``."""
    found = _METER.match(line)
    if found is None:
        return None
    done, percent, rate, unit = found.groups()
    in_bytes = float(rate.replace(",", "")) * _UNITS[unit]
    return Meter(_whole(done), int(percent), in_bytes)


def parse_stat(line: str) -> tuple[str, int] | None:
    """Parse a line of ``--stats``: such as ("Total bytes sent", 1234)."""
    found = _STAT.match(line)
    return (found[1], _whole(found[2])) if found else None


def _whole(digits: str) -> int:
    return int(digits.replace(",", ""))


def _unescaped(name: str) -> str:
    """Return the name; rsync prints control characters as ``\\#`` and three octal digits."""
    if "\\#" not in name:  # as with nearly all names
        return name
    raw = name.encode("utf-8", "surrogateescape")
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 255]), raw)
    return plain.decode("utf-8", "surrogateescape")

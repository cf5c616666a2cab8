"""Typed values in the text that a host answers.  Pure.

A host may answer anything: numbers of thousands of digits, digits of other scripts, ``nan``, JSON
that is nested a million times, a field that comes twice.  Each function here returns a value of its
type within its bounds, or raises `AnswerError` and nothing else, in time linear in the text.

Python's own ``int`` accepts ``²``-like digits of other scripts, ``_`` and white space, and takes
quadratic time; ``float`` accepts ``inf`` and ``nan``, which later overflow; ``json.loads`` raises
RecursionError and keeps the last of equal keys.

Source: RFC 8259 sections 4 and 9 (equal names, limits on numbers and depth).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ringtasks.common.text import bounded
from ringtasks.errors import AnswerError

__all__ = [
    "MAX_COUNT",
    "AnswerError",
    "Fields",
    "decimal",
    "disk_space",
    "exit_status",
    "json_fields",
    "lines_by_name",
    "or_none",
    "process_id",
    "unix_time",
    "whole",
]

#: The largest number that is taken from a host, such as a size in bytes.
MAX_COUNT = 2**63 - 1
#: Linux allows 2**22 process ids (proc_sys_kernel(5), pid_max), no system more than an int holds.
_MAX_PROCESS_ID = 2**31 - 1
#: The last second of the year 9999, beyond which `datetime` has no times.
_MAX_TIME = 253402300799
_MAX_TEXT = 64 * 1024
_MAX_JSON = 4 * 1024 * 1024
_MAX_DEPTH = 32
#: Characters of an unexpected value that the error shows.
_EVIDENCE = 80

_WHOLE = r"-?[0-9]{1,19}"
_DECIMAL = r"-?[0-9]{1,19}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,3})?"
#: Of a line of df -Pk (XCU, df): the total, the used and the available KiB, and the capacity. The
#: names before and behind them may have spaces; less than nothing may be available to a user.
_DISK = r"\s([0-9]{1,15})\s+-?[0-9]+\s+(-?[0-9]{1,15})\s+[0-9]+%\s"

Value = TypeVar("Value")


def whole(text: str, name: str, *, at_least: int = 0, at_most: int = MAX_COUNT) -> int:
    """Return a whole number in ASCII digits; white space around it is allowed.

    :raises AnswerError: it is none, or outside of the bounds.
    """
    plain = text.strip()
    if not re.fullmatch(_WHOLE, plain) or not at_least <= int(plain) <= at_most:
        raise _unexpected(name, text)
    return int(plain)


def decimal(text: str, name: str, *, at_least: float = 0.0, at_most: float = 1e15) -> float:
    """Return a finite number; white space around it is allowed.

    :raises AnswerError: it is none, or outside of the bounds.
    """
    plain = text.strip()
    if not re.fullmatch(_DECIMAL, plain) or not at_least <= float(plain) <= at_most:
        raise _unexpected(name, text)
    return float(plain)


def disk_space(line: str) -> tuple[int | None, int | None]:
    """Return the bytes of a file system and those that are available, from a line of ``df -Pk``.

    None: the line does not tell.
    """
    found = re.search(_DISK, f"{line} ")
    if found is None:
        return None, None
    return int(found[1]) * 1024, max(0, int(found[2])) * 1024


def process_id(text: str, name: str = "process id") -> int:
    """Return a process id: 1 or more.  :raises AnswerError: it is none."""
    return whole(text, name, at_least=1, at_most=_MAX_PROCESS_ID)


def exit_status(text: str, name: str = "exit status") -> int:
    """Return an exit status: 0 to 255.  :raises AnswerError: it is none."""
    return whole(text, name, at_most=255)


def unix_time(text: str, name: str = "time") -> float:
    """Return Unix seconds up to the year 9999.  :raises AnswerError: it is none."""
    return decimal(text, name, at_most=_MAX_TIME)


def lines_by_name(text: str) -> defaultdict[str, list[str]]:
    """Return the values of ``NAME VALUE`` lines; the name is the text before the first space."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in text.split("\n"):
        name, _, value = line.partition(" ")
        found[name].append(value)
    return found


def or_none(read: Callable[..., Value], text: str | None, **bounds: Any) -> Value | None:
    """Return the value, or None if the text is None or not such a value.

    For a fact that may be unknown, such as a figure of a driver; not for a fact whose absence
    means something else.
    """
    try:
        return None if text is None else read(text, "", **bounds)
    except AnswerError:
        return None


class Fields(dict[str, object]):
    """Named values of an answer, read with their types.

    Each method that reads a field raises `AnswerError` if the field is missing, of another type or
    out of its bounds.
    """

    def text(self, name: str, *, at_most: int = _MAX_TEXT) -> str:
        """Return a text of ``at_most`` characters, all of which UTF-8 can encode."""
        value = self._value(name)
        if not isinstance(value, str) or len(value) > at_most:
            raise _unexpected(name, value)
        return value.encode("utf-8", "replace").decode()

    def whole(self, name: str, **bounds: int) -> int:
        """Return a whole number, with the bounds of `whole`."""
        return whole(self._digits(name, int), name, **bounds)

    def decimal(self, name: str, **bounds: float) -> float:
        """Return a finite number, with the bounds of `decimal`."""
        return decimal(self._digits(name, (int, float)), name, **bounds)

    def fields(self, name: str) -> Fields:
        """Return the fields of a nested object."""
        value = self._value(name)
        if not isinstance(value, dict):
            raise _unexpected(name, value)
        return Fields(value)

    def optional(self, read: Callable[[str], Value], name: str) -> Value | None:
        """Return ``read(name)``; None if the field is missing or null."""
        return None if self.get(name) is None else read(name)

    def _value(self, name: str) -> object:
        value = self.get(name)
        if value is None:
            raise AnswerError(name, "it is missing")
        return value

    def _digits(self, name: str, kinds: type | tuple[type, ...]) -> str:
        """Return the digits of a number; a line's fields hold them as text."""
        value = self._value(name)
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise _unexpected(name, value)
        return repr(value)


def json_fields(text: str | bytes) -> Fields:
    """Return the fields of a JSON object of 4 MiB and 32 levels at most.

    :raises AnswerError: it is no such object, a name in it comes twice, or a number is not finite.
    """
    import json  # most answers hold none

    if len(text) > _MAX_JSON:
        raise AnswerError("JSON", f"it is longer than {_MAX_JSON} bytes")
    try:
        found = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_json_int,
            parse_float=_json_float,
            parse_constant=_json_float,
        )
    except AnswerError:
        raise
    except (ValueError, RecursionError) as error:
        raise _unexpected("JSON", text) from error
    if not isinstance(found, dict):
        raise _unexpected("JSON", text)
    if _is_deep(found):
        raise AnswerError("JSON", f"it has more than {_MAX_DEPTH} levels")
    return Fields(found)


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in pairs:
        if name in values:
            raise AnswerError(name, "it comes twice")
        values[name] = value
    return values


def _json_int(text: str) -> int:
    return whole(text, "a number", at_least=-MAX_COUNT)


def _json_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _unexpected("a number", text)
    return number


def _is_deep(value: object) -> bool:
    """Return whether the value has more levels than are allowed, without recursion."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        inside: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inside += item.values()
            elif isinstance(item, list):
                inside += item
        level = inside
    return bool(level)


def _unexpected(name: str, value: object) -> AnswerError:
    if isinstance(value, bytes):
        value = value[:_EVIDENCE].decode("utf-8", "replace")
    is_plain = isinstance(value, (str, int, float))
    shown = str(value) if is_plain else f"a {type(value).__name__}"
    return AnswerError(name, repr(bounded(shown, _EVIDENCE)))

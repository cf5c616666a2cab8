"""Checks of settings, one for each kind of value; every error names its field.

A check takes the field's place (``train: preflight: imports``) and the value from YAML, and returns
the value for the program.

:raises UsageError: (every check) the value is not of the expected kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ringtasks.errors import UsageError

from .text import near_names

__all__ = [
    "Check",
    "SettingError",
    "UnexpectedValueError",
    "checked",
    "count",
    "environment",
    "expected",
    "flag",
    "number",
    "seconds",
    "selector",
    "share",
    "text",
    "texts",
    "word",
]

#: The check of one kind of value.
Check = Callable[[str, Any], Any]


class SettingError(UsageError):
    """A setting is unknown, missing or invalid.

    :ivar place: the setting: ``deploy: hooks: before``, ``deploy: build[0]``.
    :ivar problem: the rest of the message.
    """

    def __init__(self, place: str, problem: str, origin: str = "") -> None:
        super().__init__(": ".join(part for part in (origin, place, problem) if part))
        self.place, self.problem = place, problem

    @property
    def names(self) -> tuple[str, ...]:
        """The names that lead to the setting, from the section on, without positions in lists."""
        return tuple(re.sub(r"(\[\d+\])+\Z", "", name) for name in self.place.split(": "))

    def at(self, origin: str) -> SettingError:
        """Return the same error with the file and line of the setting in front."""
        return SettingError(self.place, self.problem, origin)


class UnexpectedValueError(SettingError):
    """A setting has a value of another kind than expected.

    :param found: the value to show; without it the value may be secret.
    """

    def __init__(self, place: str, what: str, found: str = "") -> None:
        self.what, self.found = what, found
        super().__init__(place, f"expected {what}" + (f", found {found}" if found else ""))


def checked(place: str, given: Mapping[Any, Any], known: Mapping[str, Check]) -> dict[str, Any]:
    """Return the settings of a mapping, each through its own check; None values are left out."""
    found = {}
    for name, value in given.items():
        if name not in known:
            near = near_names(str(name), known)
            meant = f"; did you mean {', '.join(near)}?" if near else ""
            raise SettingError(f"{place}: {name}", f"is not a setting{meant}")
        if value is not None:
            found[str(name)] = known[name](f"{place}: {name}", value)
    return found


def expected(place: str, what: str, value: object) -> UnexpectedValueError:
    """Return the error for a setting that must be ``what``."""
    return UnexpectedValueError(place, what, repr(value))


def text(place: str, value: Any) -> str:
    """Return a text that is not blank."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise expected(place, "text (in quotes, if it looks like a number)", value)
    return value


def word(place: str, value: Any) -> str:
    """Return a word that may be part of a file's name."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", value):
        raise expected(place, "a word of letters, digits, '_', '.' and '-'", value)
    return value


def flag(place: str, value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise expected(place, "true or false", value)
    return value


#: The largest count that every use of one can take.
_MOST = 2**31 - 1


def count(at_least: int) -> Check:
    """Return the check for a whole number of ``at_least`` or more."""

    def check(place: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= _MOST:
            raise expected(place, f"a whole number, at least {at_least}", value)
        return value

    return check


def number(what: str, *, above_zero: bool = False, most: float | None = None) -> Check:
    """Return the check for a number, finite and not below 0 (``above_zero``: above 0).

    :param most: the largest number; None: any.
    """

    def check(place: str, value: Any) -> float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        is_large_enough = is_number and (value > 0 if above_zero else value >= 0)
        if not is_large_enough or value == float("inf") or (most is not None and value > most):
            limit = "above 0" if above_zero else "not below 0"
            limit += "" if most is None else f", at most {most:.0f}"
            raise expected(place, f"{what}, {limit}", value)
        return float(value)

    return check


#: 23 days: poll(2) takes milliseconds as an int, and the other waits no more than a time_t.
_MOST_SECONDS = 2_000_000


def seconds(*, above_zero: bool = False) -> Check:
    """Return the check for a number of seconds that every wait can take."""
    return number("seconds", above_zero=above_zero, most=_MOST_SECONDS)


def texts(place: str, value: Any) -> tuple[str, ...]:
    """Return several texts, given as a list or as one text."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise expected(place, "a list", value)
    return tuple(text(f"{place}[{n}]", item) for n, item in enumerate(items))


def selector(place: str, value: Any) -> str:
    """Return a selector of hosts, given as one text or as the list of its parts."""
    if not value:
        raise expected(place, "a selector of hosts", value)
    return ",".join(texts(place, value))


def environment(place: str, value: Any) -> dict[str, str]:
    """Return environment variables by their names."""
    if not isinstance(value, Mapping):
        raise SettingError(place, "expected a mapping of names and values")
    for name, setting in value.items():
        # The value is not shown: it may be a secret.
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise expected(place, "a variable's name (letters, digits, _)", name)
        if isinstance(setting, (bool, dict, list)) or setting is None:
            raise SettingError(f"{place}: {name}", "expected text or a number")
    return {name: str(setting) for name, setting in value.items()}


def share(name: str, text: int | str, whole: int) -> int:
    """Return the number that ``text`` gives: ``5``, or ``"25%"`` of ``whole``, at least 1.

    :raises UsageError: ``text`` is neither a whole number from 1, nor a share above 0 and up to
        100 per cent.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)%", str(text).strip())
    if found and 0 < float(found[1]) <= 100:
        return max(1, int(whole * float(found[1]) / 100))
    is_number = not isinstance(text, bool) and re.fullmatch(r"\d+", str(text).strip())
    if is_number and int(text) >= 1:
        return int(text)
    raise expected(name, "a whole number from 1, or 1% to 100%", text)

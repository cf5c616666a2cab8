"""Settings as dataclass fields: each is declared once, with its check, and read by one parser.

::

    @dataclass(frozen=True)
    class Limits:
        hosts: str = setting(text, flag="--host")
        keep: int = setting(count(1), 5)

    limits = read(Limits, "deploy", {"hosts": "@web", "keep": 3})

An error names the file and line (of a `Section`), the section, the field and what was expected;
an unknown field is an error that lists near names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

from .light_typing import NamedTuple
from .setting_checks import Check, SettingError, UnexpectedValueError, checked, expected

__all__ = ["Place", "Section", "check_value", "flag_of", "nested", "read", "setting", "settings_of"]

T = TypeVar("T")

#: A number as YAML 1.2 writes it: 1.1 reads 010 as octal, 0x1F as hexadecimal, 1:30 in base 60.
_WHOLE_NUMBER = r"-?(0|[1-9][0-9]*)"


def setting(
    check: Check,
    default: Any = MISSING,
    *,
    default_factory: Any = MISSING,
    is_secret: bool = False,
    repr: bool = True,
    **metadata: Any,
) -> Any:
    """Return a dataclass field for a setting.

    :param default: without it and ``default_factory`` the setting is required.
    :param is_secret: neither ``repr`` nor an error shows its value.
    :param repr: False if ``repr`` leaves it out.
    :param metadata: more facts about the setting.  ``flag``: the task's flag that overrides it,
        None for none; without it the flag is the setting's name.
    """
    return field(
        default=default,
        default_factory=default_factory,
        repr=repr and not is_secret,
        metadata={"check": check, "is_secret": is_secret, **metadata},
    )


def settings_of(owner: type) -> dict[str, Field[Any]]:
    """Return the settings that a dataclass declares, by name."""
    return {f.name: f for f in fields(owner) if "check" in f.metadata}


def flag_of(declared: Field[Any]) -> str | None:
    """Return the flag that overrides a setting; None: there is none."""
    found: str | None = declared.metadata.get("flag", "--" + declared.name.replace("_", "-"))
    return found


class Place(NamedTuple):
    """The origin of a setting: a file and its line, or a variable; and the value as written."""

    shown: str
    written: tuple[str, ...] = ()


class Section(dict[str, Any]):
    """The settings of a section, with the origin of each.

    :param place_of: returns the origin of the setting below these names; None: it is not known.
    """

    def __init__(
        self, values: Mapping[str, Any], place_of: Callable[[tuple[str, ...]], Place | None]
    ) -> None:
        super().__init__(values)
        self.place_of = place_of


def check_value(declared: Field[Any], place: str, value: Any, written: tuple[str, ...] = ()) -> Any:
    """Return the value for the program.

    :param written: the value's text in the file.
    :raises UnexpectedValueError: it is not of the expected kind; a secret is not shown.
    """
    try:
        found = declared.metadata["check"](place, value)
    except UnexpectedValueError as error:
        if declared.metadata["is_secret"]:
            raise UnexpectedValueError(error.place, error.what) from None
        raise
    if type(value) is int and written and not re.fullmatch(_WHOLE_NUMBER, written[0]):
        what = "a number in plain digits, without a leading zero"
        raise UnexpectedValueError(place, what, found=written[0])
    return found


def read(owner: type[T], place: str, given: object, **flags: Any) -> T:
    """Return the dataclass ``owner`` with the settings of ``given``, a mapping from YAML.

    :param place: the section's name, for errors.
    :param flags: values that override those of the mapping if they are not None.
    :raises UsageError: a setting is unknown, missing or invalid.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise expected(place, "a mapping of settings", given)
    own = {name: value for name, value in flags.items() if value is not None}
    try:
        return owner(**_checked(owner, place, given, own))
    except SettingError as error:
        names = error.names[1:]
        if names and names[0] in own:
            flag = flag_of(settings_of(owner)[names[0]])
            raise SettingError(": ".join(filter(None, (flag, *names[1:]))), error.problem) from None
        origin = given.place_of(names) if isinstance(given, Section) else None
        raise error.at(origin.shown) if origin else error from None


def nested(owner: type[T]) -> Check:
    """Return the check of a setting that is a mapping of settings itself."""

    def check(place: str, value: Any) -> T:
        if isinstance(value, owner):
            return value
        if not isinstance(value, Mapping):
            names = ", ".join(settings_of(owner))
            raise expected(place, f"a mapping of {names}", value)
        return owner(**_checked(owner, place, value, {}))

    return check


def _checked(
    owner: type, place: str, given: Mapping[Any, Any], flags: Mapping[str, Any]
) -> dict[str, Any]:
    known = settings_of(owner)
    place_of = given.place_of if isinstance(given, Section) else lambda names: None

    def check(declared: Field[Any], at: str, value: Any) -> Any:
        # Only a number's text can mean another value than YAML reads from it.
        is_read = type(value) is int and declared.name not in flags
        origin = place_of((declared.name,)) if is_read else None
        return check_value(declared, at, value, origin.written if origin else ())

    checks = {name: functools.partial(check, declared) for name, declared in known.items()}
    found = checked(place, {**given, **flags}, checks)
    for name, declared in known.items():
        is_required = declared.default is MISSING and declared.default_factory is MISSING
        if is_required and name not in found:
            flag = flag_of(declared)
            way = f"give {flag}, or set it" if flag else "set it"
            section = place.partition(":")[0]
            where = f"under '{section}:' in invoke.yaml"
            raise SettingError(f"{place}: {name}", f"is not set: {way} {where}")
    return found

"""Check one field of a hosts file; an error names its file, line, host and field."""

from __future__ import annotations

import functools
from typing import Any

from ringtasks.common.setting_checks import UnexpectedValueError
from ringtasks.common.settings import check_value
from ringtasks.errors import InventoryError

from .model import SETTINGS
from .yaml_lines import LinedMapping

__all__ = ["checked_field", "checked_values", "setting_lines"]


def checked_field(key: str, value: Any, origin: Any, file: str, host: str) -> Any:
    """Return a setting's value for the program.

    :param origin: the mapping of the hosts file in which it stands.
    :raises InventoryError: it is not of the expected kind.
    """
    written = origin.texts.get(key, ())
    # A list or a mapping has no hash.
    check = _checked if isinstance(value, (str, int, float)) else _checked.__wrapped__
    try:
        return check(key, value, written)
    except UnexpectedValueError as error:
        problem = error.problem + _quotes_hint(key, value, written)
        line = origin.lines.get(key)
        raise InventoryError(problem, file=file, line=line, host=host, field_name=key) from error


def checked_values(given: LinedMapping, file: str, host: str) -> dict[str, Any]:
    """Return the values that a mapping of a hosts file gives: the settings for the program."""
    return {
        key: checked_field(key, value, given, file, host) if key in SETTINGS else value
        for key, value in given.items()
        if value is not None
    }


@functools.lru_cache(1024)  # the hosts of a file share most values; 1 and true differ as written
def _checked(key: str, value: Any, written: tuple[str, ...]) -> Any:
    return check_value(SETTINGS[key], key, value, written)


def setting_lines(given: Any) -> dict[str, int]:
    """Return the lines of the settings in a mapping of a hosts file; anything else has none."""
    if not isinstance(given, LinedMapping):
        return {}
    return {key: line for key, line in given.lines.items() if key in SETTINGS}


def _quotes_hint(key: str, value: Any, written: tuple[str, ...]) -> str:
    """Return the advice for text that YAML reads as something else, such as ``no``."""
    if isinstance(value, str) or len(written) != 1:
        return ""
    try:
        check_value(SETTINGS[key], key, written[0])
    except UnexpectedValueError:
        return ""
    is_secret = SETTINGS[key].metadata["is_secret"]
    return ": put it in quotes" if is_secret else f": put it in quotes: {written[0]!r}"

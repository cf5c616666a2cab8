"""Check one field of a hosts file; an error names its file, line, host and field."""

from __future__ import annotations

from typing import Any

from ringtasks.common.setting_checks import UnexpectedValueError
from ringtasks.common.settings import check_value
from ringtasks.errors import InventoryError

from .model import SETTINGS
from .yaml_lines import LinedMapping

__all__ = ["checked_field", "setting_lines"]


def checked_field(key: str, value: Any, origin: Any, file: str, host: str) -> Any:
    """Return a setting's value for the program.

    :param origin: the mapping of the hosts file in which it stands.
    :raises InventoryError: it is not of the expected kind.
    """
    place: Any = {"file": file, "line": origin.lines.get(key), "host": host, "field_name": key}
    try:
        return check_value(SETTINGS[key], key, value, origin.texts.get(key, ()))
    except UnexpectedValueError as error:
        hint = _quotes_hint(key, value, origin.texts.get(key, ()))
        raise InventoryError(error.problem + hint, **place) from error


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

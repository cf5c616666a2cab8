"""The health file as JSON: read and written as a document, with the check of each field.  Pure.

`ringtasks.client.quick_connect` loads this module with each ``ssh``, so it has none of the types of
`model`, which take longer to load.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing is slow to load, too
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["IS_VALID", "DamagedError", "decode", "empty", "encode"]

VERSION = 1


class DamagedError(ValueError):
    """The file exists but does not have this format."""


def empty() -> dict[str, Any]:
    """Return a document without hosts."""
    return {"version": VERSION, "hosts": {}}


def decode(text: bytes) -> dict[str, Any]:
    """Return the document in a file's text; its entries are not validated yet.

    :raises DamagedError: the text is not JSON, has another version, or has no mapping of hosts.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("hosts"), dict):
        raise DamagedError("there is no mapping of hosts")
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise DamagedError(f"version {version!r}, expected {VERSION}")
    return document


def encode(document: dict[str, Any]) -> bytes:
    """Return the file's text in UTF-8, with a line for each host and each of its routes.

    :raises DamagedError: a value that was read is nested too deeply to be written again.
    """
    others = {name: value for name, value in document.items() if name != "hosts"}
    try:
        text = _dumps({**others, "hosts": document["hosts"]})
    except RecursionError as error:  # Python 3.12 reads deeper nesting than it writes
        raise DamagedError("nested too deeply") from error
    for between, shown in _LAYOUT.items():
        text = text.replace(between, shown)
    # Undecodable bytes in a name or reason are lone surrogates here; Python's escape for them is
    # also JSON's.
    return text.encode("utf-8", "backslashreplace")


# json's own indentation is done in Python, ten times slower than its C code, and one number per
# line is no easier to read. So the separator of items is a control character, which no JSON string
# holds as it is, and becomes what is shown in its place.
_dumps = json.JSONEncoder(ensure_ascii=False, separators=("\x1f", ": ")).encode
_LAYOUT = {
    '\x1f"hosts": {"': ',\n "hosts": {\n  "',
    '\x1f"transports": {"': ',\n   "transports": {\n    "',
    "}}\x1f": "}},\n  ",  # between hosts
    "}\x1f": "},\n    ",  # between routes
    "\x1f": ", ",
}


# By type(), since JSON makes no values of subclasses, and True is no number.
def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_time(value: Any) -> bool:
    # A clock set to before 1970 gives negative times.  NaN and numbers too large for a float would
    # break the sums of times.
    return value is None or (type(value) in (int, float) and abs(value) < 1e12)


#: The fields that are read, each with the check of its value.
IS_VALID: dict[str, Callable[[Any], bool]] = {
    "last_success": _is_time,
    "last_failure": _is_time,
    "consecutive_failures": _is_count,
    "consecutive_successes": _is_count,
    "total_successes": _is_count,
    "total_failures": _is_count,
    "last_reason": lambda value: isinstance(value, str),
    "probing_since": _is_time,
}

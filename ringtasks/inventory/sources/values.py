"""Read the values of a provider's JSON, whose types are not trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ringtasks.common.light_typing import NamedTuple
from ringtasks.inventory.yaml_lines import kind_of

from .model import SourceError

__all__ = ["ListedItems", "json_of", "known_values", "mappings", "money", "part", "port", "text"]


class ListedItems(NamedTuple):
    """The mappings in a list, and a warning for each other item."""

    found: list[Mapping[str, Any]]
    warnings: list[str]


def json_of(printed: bytes) -> Any:
    """Return the value of a JSON text.

    :raises SourceError: it is none.
    """
    try:
        return json.loads(printed)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SourceError(f"not JSON: {reason}") from None


def mappings(value: Any, name: str) -> ListedItems:
    """Return the mappings in a list; another item is left out with a warning.

    :param name: names the list in an error.
    :raises SourceError: it is not a list, or none of its items is a mapping.
    """
    if not isinstance(value, list):
        raise SourceError(f"expected a list of {name}, found {kind_of(value)}")
    found = [item for item in value if isinstance(item, Mapping)]
    warnings = [
        f"expected a mapping for each of the {name}, found {kind_of(item)}"
        for item in value
        if not isinstance(item, Mapping)
    ]
    if warnings and not found:
        raise SourceError(warnings[0])
    return ListedItems(found, [f"left out: {text}" for text in warnings])


def text(value: Any) -> str | None:
    """Return a text without spaces around it; a number as text; None: there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def port(value: Any) -> Any:
    """Return a port as a number; a value that is none is returned as it is, for the check."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value.strip()[:9])
    return value


def money(value: Any) -> float | None:
    """Return a price; None: it is not known."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return round(found, 4) if 0 <= found < 1e6 else None


def known_values(**values: Any) -> dict[str, Any]:
    """Return the values that are known."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def part(value: Any, name: str) -> Mapping[str, Any]:
    """Return the mapping below a name; empty: there is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}

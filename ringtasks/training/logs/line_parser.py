"""The content of one line of a log, of any trainer.  Pure."""

from __future__ import annotations

from .dict_lines import parse_dicts
from .parsed import Parsed
from .text_lines import has_number, is_warning, parse_text
from .whole_lines import parse_whole_line

__all__ = ["MAX_TEXT_CHARS", "parse_line"]

#: Longer lines are not metrics: a base64 image, for example. A dict may be longer.
MAX_TEXT_CHARS = 4000
_MAX_DICT_CHARS = 60_000


def parse_line(text: str) -> Parsed:
    """Return the positions and metrics of a line. ``text``: its bytes, decoded as Latin-1."""
    if not has_number(text) or len(text) > _MAX_DICT_CHARS:
        return Parsed()
    brace = text.find("{")
    if brace >= 0:
        found = parse_dicts(text, brace)
        if found is not None:
            return found
        if text.lstrip().startswith("{"):
            return Parsed()  # cut off, or not a dict
    if len(text) > MAX_TEXT_CHARS or is_warning(text):
        return Parsed()
    found = parse_whole_line(text)
    return parse_text(text) if found is None else found

"""JSON and dicts that a program prints over several lines."""

from __future__ import annotations

import re

from .logger_prefix import skip_prefixes
from .words import is_metric, names_part, position_field, split_name

__all__ = ["MultilineReader", "SettingsDump", "opens_multiline"]

_MAX_LINES = 1000
_OPENS = re.compile(r"""\s*(?:\{|\[)\s*\Z|\s*[{\[]\s*["'{\[]""", re.ASCII)
_GOES_ON = re.compile(r"""\s*(?:["'{\[\]}\d.,-]|\Z|[A-Za-z_]\w*\s*[:(,])""", re.ASCII)
_STRINGS = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")


def opens_multiline(text: str) -> bool:
    """Return whether a dict or a list goes on in the lines below."""
    return _start_of(text) is not None and _depth(text) > 0


def _start_of(text: str) -> int | None:
    """Return the offset of a dict or a list, perhaps behind a logger's prefix; None if none."""
    if _OPENS.match(text):
        return 0
    if "{" not in text or text[-1:] not in (",", "{"):
        return None
    start = skip_prefixes(text)
    return start if start and _OPENS.match(text, start) else None


def _depth(text: str) -> int:
    plain = _STRINGS.sub("", text)
    return plain.count("{") + plain.count("[") - plain.count("}") - plain.count("]")


class MultilineReader:
    """Joins the lines of one dict; a list of several is a summary, which gives nothing."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    @property
    def is_open(self) -> bool:
        return bool(self._lines)

    def read(self, text: str) -> str | None:
        """Return the whole dict on its last line, an empty text inside of one; None outside."""
        if not self._lines and not opens_multiline(text):
            return None
        depth = _depth(text)
        if self._lines and not self._goes_on(text, depth):
            self._lines, self._depth = [], 0  # it was cut
        if not self._lines and not opens_multiline(text):  # it may have been cut
            return None
        self._lines.append(text if self._lines else text[_start_of(text) :])
        self._depth += depth
        if self._depth <= 0:
            joined = " ".join(self._lines)
            self._lines, self._depth = [], 0
            return joined if joined.lstrip().startswith("{") else ""
        return ""

    def _goes_on(self, text: str, depth: int) -> bool:
        if len(self._lines) >= _MAX_LINES or not _GOES_ON.match(text):
            return False
        is_whole = depth == 0 and text.startswith("{")
        return not (is_whole and self._lines[0].startswith("{"))


_SECTION = re.compile(r"(?P<name>[a-z_]\w*|[A-Z][A-Z\d_]+):\s*\Z", re.ASCII)
#: "TrainConfig(", "model = dict(": the repr of settings, or of a model, over several lines.
_CALL = re.compile(r"(?=\S)(?:.*\W)?(?P<name>[A-Za-z_]\w*)(?:\s?=\s?\w+)?\(\s*\Z", re.ASCII)
_OF_DUMP = re.compile(r"\s+\S|-\s|[A-Za-z_]\w*:(?:\s|\Z)", re.ASCII)
_RESULTS = frozenset("metrics results result scores summary losses performance stats".split())


def opens_dump(text: str) -> bool:
    """Return whether a line may begin a dump of settings: ``model:`` in YAML, ``Config(``."""
    if text.rstrip()[-1:] not in (":", "("):
        return False
    section = _SECTION.match(text)
    found = section or _CALL.match(text)
    if found is None or is_metric(found["name"]) or position_field(found["name"]):
        return False
    is_result = not _RESULTS.isdisjoint(split_name(found["name"]))
    return not is_result and not (section and names_part(found["name"]))


class SettingsDump:
    """Finds the lines of settings that a program prints as YAML, or as a call over several lines.

    They hold no metrics.
    """

    def __init__(self) -> None:
        self.is_open = False

    def holds(self, text: str) -> bool:
        """Return whether an indented line is in a section of settings."""
        if opens_dump(text):
            self.is_open = True
        elif not _OF_DUMP.match(text) or (_SECTION.match(text) and not text.strip(":").isupper()):
            self.is_open = False  # but not by yacs' "TRAIN:"
        return self.is_open and text[:1].isspace()

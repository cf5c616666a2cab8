"""The one way for text of hosts, repositories and file names to terminals, CI logs and JSON.

What comes out of here holds no character that a terminal obeys (control characters of C0 and C1,
marks that change the direction of writing), no line that a CI runner obeys, and no line that looks
like a message of ringtasks.  Only the output of a single host and the log of a single job pass
through unchanged, as with ssh.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from ringtasks.common.text import visible, visible_lines

__all__ = ["json_text", "message", "shown", "shown_lines", "stdout_is_unicode"]

#: Set where a runner obeys lines of the log: GitHub Actions, Azure Pipelines, TeamCity.
_RUNNERS = ("GITHUB_ACTIONS", "TF_BUILD", "TEAMCITY_VERSION")
#: Characters of JSON text that are no ASCII and may not be printable.
_BEYOND_ASCII = r"[^ -~]"


def shown(text: str) -> str:
    """Return one line of foreign text as it may be printed."""
    return _obeyed_by_none(visible(text))


def shown_lines(text: str) -> str:
    """Return foreign text as it may be printed, with its line ends."""
    return _obeyed_by_none(visible_lines(text))


def _obeyed_by_none(text: str) -> str:
    """Return the text without commands for a CI runner, which all have a ``#`` or a ``:``."""
    if ("#" in text or ":" in text) and _has_runner():
        from . import github  # with its patterns, for runners alone

        return github.harmless(text)
    return text


def message(text: str) -> str:
    """Return a message that may quote foreign text; lines after the first are indented."""
    first, *rest = shown_lines(text).split("\n")
    return "\n".join([first, *(line if line[:1] in ("", " ") else f"  {line}" for line in rest)])


def stdout_is_unicode() -> bool:
    """Return whether stdout can encode all characters."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")


def json_text(fields: Mapping[str, Any], *, allow_nan: bool = False) -> str:
    """Return a JSON object on one line: characters that are not printable are escaped.

    All beyond ASCII are escaped if stdout cannot encode them; ``#`` is escaped for CI runners.

    :param allow_nan: write numbers that are not finite as JavaScript does; else they become text.
    """
    is_ascii = not stdout_is_unicode()
    try:
        text = json.dumps(fields, ensure_ascii=is_ascii, allow_nan=allow_nan)
    except (TypeError, ValueError):
        text = json.dumps(_plain(fields), ensure_ascii=is_ascii)
    if not text.isprintable():
        text = re.sub(_BEYOND_ASCII, _escaped, text)
    return text.replace("#", "\\u0023") if "#" in text and _has_runner() else text


def _plain(value: object) -> Any:
    """Return a value of JSON for any of YAML: a date, an infinite number … becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    is_known = isinstance(value, str | int | None) or (
        isinstance(value, float) and math.isfinite(value)
    )
    return value if is_known else str(value)


def _has_runner() -> bool:
    return any(os.environ.get(name) for name in _RUNNERS)


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    return char if char.isprintable() else json.dumps(char)[1:-1]

"""The ``Include`` lines of ssh's settings files (ssh_config(5)).  Pure."""

from __future__ import annotations

import re

__all__ = ["patterns_of", "with_home"]

_INCLUDE = r"(?im)^(\s*include[\s=]+)(.+)$"
_WORD = r'"([^"]*)"|(\S+)'


def patterns_of(text: str) -> list[str]:
    """Return the patterns of all ``Include`` lines, as they are written."""
    if "include" not in text.lower():  # the pattern takes longer to compile than to apply
        return []
    return [word for _, line in re.findall(_INCLUDE, text) for word in _words(line)]


def with_home(text: str, home: str) -> str:
    """Return the text of a user's file, its patterns below the home folder made absolute."""

    def absolute(line: re.Match[str]) -> str:
        return line[1] + " ".join(f'"{_absolute(word, home)}"' for word in _words(line[2]))

    return re.sub(_INCLUDE, absolute, text)


def _words(line: str) -> list[str]:
    return [quoted or plain for quoted, plain in re.findall(_WORD, line)]


def _absolute(word: str, home: str) -> str:
    if word.startswith("~/"):
        return f"{home}/{word[2:]}"
    # "~user", and what only newer releases of ssh expand, is left to it.
    return word if word.startswith(("/", "~", "%", "$")) else f"{home}/.ssh/{word}"

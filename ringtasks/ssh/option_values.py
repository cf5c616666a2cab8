"""Values of OpenSSH options, quoted for the parsers that they pass through.  Pure.

A value passes through up to three parsers, each with its own quoting: ssh's tokenizer
(``misc.c``, ``argv_split``), its percent expansion (ssh_config(5), TOKENS), and for ProxyCommand a
shell.
"""

from __future__ import annotations

import re
from pathlib import Path

from ringtasks.errors import UsageError

__all__ = ["path_value", "percent", "token"]

_PLAIN_VALUE = r"[A-Za-z0-9_./:,@%+=^\[\]-]+\Z"


def token(value: str) -> str:
    """Return ``value`` quoted as one token for ``argv_split``."""
    if re.match(_PLAIN_VALUE, value):
        return value
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def path_value(path: Path) -> str:
    """Return a path, escaped for an option with percent expansion.

    :raises UsageError: ssh cannot be given it.
    """
    text = str(path)
    if "${" in text or "\n" in text:  # ssh would expand "${" and has no escape for it
        raise UsageError(f"{text!r}: ssh cannot use a path with '${{' or a newline in it")
    return percent(text)


def percent(text: str) -> str:
    """Return ``text`` escaped for percent expansion."""
    return text.replace("%", "%%")

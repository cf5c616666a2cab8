"""Paths on the host, as text for its shell.  Pure."""

from __future__ import annotations

import posixpath
import re

from ringtasks.errors import UsageError
from ringtasks.inventory.config import SSHConfig

from .script import path, quote

__all__ = ["above", "is_glob", "joined", "matches", "name_of", "on_host", "word", "words"]

# A bracket expression may begin with "]" and may hold classes (POSIX.1-2017 XCU 2.13.1).
_GLOB = re.compile(
    r"([*?]|\[[!^]?(?:\[:[a-z]+:\]|[^/])(?:\[:[a-z]+:\]|[^]/])*\])",
)
_OTHERS = "\x80-\U0010ffff"  # their class depends on the host's locale
_CLASSES = {
    "alnum": "A-Za-z0-9" + _OTHERS,
    "alpha": "A-Za-z" + _OTHERS,
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z" + _OTHERS,
    "punct": "!-/:-@\\[-`{-~" + _OTHERS,
    "space": "\\s",
    "upper": "A-Z" + _OTHERS,
    "xdigit": "0-9A-Fa-f",
}


def on_host(config: SSHConfig, remote: str) -> str:
    """Return ``remote`` from the root or the home; a relative path is below ``work_dir``.

    :raises UsageError: ``remote`` is empty, or holds a NUL.
    """
    if not remote or "\0" in remote:
        raise UsageError(f"expected a path on the host, got {remote!r}")
    if remote.startswith(("/", "~/")) or remote == "~":
        return remote
    base = config.work_dir or "~"
    if not base.startswith(("/", "~")):
        base = f"~/{base}"
    return f"{base.rstrip('/')}/{remote}"


def word(place: str) -> str:
    """Return ``place`` as one literal word."""
    return path(place)


def words(place: str) -> str:
    """Return ``place`` as a word whose wildcards the shell expands."""
    head, rest = ("~/", place[2:]) if place.startswith("~/") else ("", place)
    parts = _GLOB.split(rest)
    # The parts at odd indexes are matches of the expression.
    text = "".join(
        _unquoted(part) if number % 2 else quote(part) for number, part in enumerate(parts) if part
    )
    return '"$HOME"/' + text if head else text


def _unquoted(glob: str) -> str:
    """Return a wildcard for the shell; in a bracket expression, literal characters are quoted."""
    if glob in ("*", "?"):
        return glob
    negation, pieces = _set_of(glob)
    plain = (
        piece if piece[1:] or piece.isalnum() or piece == "-" else quote(piece) for piece in pieces
    )
    return f"[{'!' if negation else ''}{''.join(plain)}]"  # dash does not know "^"


def is_glob(place: str) -> bool:
    """Return True if ``place`` has a wildcard."""
    return bool(_GLOB.search(place))


def matches(place: str, path: str) -> bool:
    """Return True if the pattern ``place`` may expand to ``path``, as a host's shell printed it.

    A shell may take ``?`` for a character or, in the C locale, for a byte.
    """
    is_below_home = place.startswith("~/")
    parts = place[2:].split("/") if is_below_home else place.split("/")
    names = path.split("/")
    if len(names) < len(parts) or (len(names) > len(parts) and not is_below_home):
        return False
    pairs = zip(parts, names[len(names) - len(parts) :], strict=True)
    return all(_matches_name(part, name) for part, name in pairs)


def _matches_name(pattern: str, name: str) -> bool:
    if name in ("", ".", "..") or (name.startswith(".") and not pattern.startswith(".")):
        return name == pattern
    as_bytes = [
        text.encode("utf-8", "surrogateescape").decode("latin-1") for text in (pattern, name)
    ]
    try:
        return any(
            re.fullmatch(_expression(glob), text, re.DOTALL) is not None
            for glob, text in ((pattern, name), (as_bytes[0], as_bytes[1]))
        )
    except re.error:  # such as [z-a], which matches nothing in a shell
        return False


def _expression(pattern: str) -> str:
    parts = _GLOB.split(pattern)
    # The parts at odd indexes are matches of the expression.
    return "".join(
        _wildcard(part) if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )


def _wildcard(glob: str) -> str:
    if glob in ("*", "?"):
        return {"*": ".*", "?": "."}[glob]
    negation, pieces = _set_of(glob)
    last = len(pieces) - 1
    text = ""
    for number, piece in enumerate(pieces):
        is_range = piece == "-" and 0 < number < last and pieces[number - 1] != "-"
        text += piece if is_range else _CLASSES.get(piece[2:-2], re.escape(piece))
    return f"[{'^' if negation else ''}{text}]"


def _set_of(glob: str) -> tuple[str, list[str]]:
    """Return a bracket expression's negation, and its characters and classes."""
    negation = glob[1] if glob[1] in "!^" else ""
    inside = glob[1 + len(negation) : -1]
    return negation, re.findall(r"\[:[a-z]+:\]|.", inside, re.DOTALL)


def joined(folder: str, name: str) -> str:
    """Return the path of ``name`` in ``folder``."""
    return f"{folder.rstrip('/')}/{name}" if folder != "/" else f"/{name}"


def above(place: str) -> str:
    """Return the folder that holds ``place``."""
    return posixpath.dirname(place.rstrip("/")) or "/"


def name_of(place: str) -> str:
    """Return the last name of ``place``; empty if it has none of its own (``/``, ``~``, ``..``)."""
    name = posixpath.basename(place.rstrip("/"))
    return "" if name in (".", "..", "~") else name

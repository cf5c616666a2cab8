"""Patterns of the shell: as text for it, and compared with a host's expansion of them (pure)."""

from __future__ import annotations

import re

from .script import quote

__all__ = ["BRACKET", "GLOB", "bracket_expression", "matches", "unquoted"]

# A bracket expression may begin with "]" and may hold classes (POSIX.1-2017 XCU 2.13.1).
BRACKET = r"\[(?:[!^]|(?![!^]))(?:\[:[a-z]+:\]|[^/])(?:\[:[a-z]+:\]|[^]/])*\]"
GLOB = re.compile(rf"([*?]|{BRACKET})")
# In brackets: the name of a class, or a character and the end of its range.
_ITEM = re.compile(r"\[:([a-z]+):\]|(.)(?:-(?!\[:[a-z]+:\])(.))?", re.DOTALL)
_RSYNC_ITEM = re.compile(r"\[:([^]]*):\]|\\?(.)(?:-\\?(.))?", re.DOTALL)
_WILDCARDS = {"*": ".*", "?": "."}
#: Their class depends on the host's locale.
_OTHERS = "\x80-\U0010ffff"
_CLASSES = {
    "alnum": "A-Za-z0-9",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def unquoted(glob: str) -> str:
    """Return a wildcard for the shell; in a bracket expression, literal characters are quoted."""
    if glob in ("*", "?"):
        return glob
    negation, inside = _set_of(glob)
    pieces = re.findall(r"\[:[a-z]+:\]|.", inside, re.DOTALL)
    plain = (
        piece if piece[1:] or piece.isalnum() or piece == "-" else quote(piece) for piece in pieces
    )
    return f"[{'!' if negation else ''}{''.join(plain)}]"  # dash does not know "^"


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
    return any(
        re.fullmatch(_expression(glob), text, re.DOTALL) is not None
        for glob, text in ((pattern, name), as_bytes)
    )


def _expression(pattern: str) -> str:
    parts = GLOB.split(pattern)
    # The parts at odd indexes are matches of the expression.
    return "".join(
        _WILDCARDS.get(part) or bracket_expression(part) if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )


def bracket_expression(glob: str, *, is_rsync: bool = False) -> str:
    """Return a bracket expression as a regular expression.

    :param is_rsync: as in rsync's patterns, which have escapes, and ASCII letters only.
    """
    negation, inside = _set_of(glob)
    text = ""
    for name, first, last in (_RSYNC_ITEM if is_rsync else _ITEM).findall(inside):
        if first:
            text += _range(first, last or first)
        elif name in _CLASSES:
            text += _CLASSES[name] + ("" if is_rsync else _OTHERS)
        elif is_rsync:
            return "(?!)"  # wildmatch.c: an unknown class matches nothing
        else:
            text += r"\]"
    return f"[{'^' if negation else ''}{text}]"


def _range(first: str, last: str) -> str:
    return f"{re.escape(first)}-{re.escape(last)}" if first <= last else re.escape(first)


def _set_of(glob: str) -> tuple[str, str]:
    """Return a bracket expression's negation, and what is in it."""
    negation = glob[1] if glob[1] in "!^" else ""
    return negation, glob[1 + len(negation) : -1]

"""Names to leave out: patterns and paths, as rsync's filter rules (pure).

Source: rsync(1), FILTER RULES; gitignore(5) for the order: the last pattern that matches decides;
with rsync the first one does.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Set

from ringtasks.common.light_typing import NamedTuple
from ringtasks.remote.globs import bracket_expression

from .rsync_flags import INCOMING, PARTIAL_FOLDER, Rules

__all__ = ["Filter", "doomed", "encoded", "filter_rules", "literal"]


def filter_rules(rules: Rules) -> Iterator[str]:
    """Yield the rules for rsync's ``--exclude-from``; the first that matches decides."""
    yield f"- {PARTIAL_FOLDER}/"
    yield f"- /{INCOMING}*/"
    for pattern in reversed(rules.exclude):
        if pattern.startswith("!"):
            yield f"+ {pattern[1:]}"
        else:
            yield f"- {pattern}"
    for path in rules.ignored:
        yield f"- /{literal(path)}"


def literal(path: str) -> str:
    """Return a pattern that matches ``path`` alone: without wildcards, a backslash is literal."""
    if not any(char in path for char in "*?["):
        return path
    return "".join(f"\\{char}" if char in "*?[\\" else char for char in path)


def encoded(rules: Iterable[str]) -> bytes:
    """Return the rules as ``--from0`` reads them."""
    return b"".join(rule.encode("utf-8", "surrogateescape") + b"\0" for rule in rules)


class Filter:
    """Rules of `filter_rules`, applied without rsync."""

    def __init__(self, rules: Rules) -> None:
        self._rules = [_FilterRule.parse(rule) for rule in filter_rules(rules)]

    def excludes(self, path: str, *, is_folder: bool) -> bool:
        """Return whether ``path``, relative to the top, is left out; its content is then, too."""
        for rule in self._rules:
            if rule.matches(path, is_folder=is_folder):
                return rule.excludes
        return False


class _FilterRule(NamedTuple):
    excludes: bool
    for_folders: bool
    expression: re.Pattern[str]
    is_with_content: bool
    """True for ``x/***``: the folder x, and all that is in it."""

    @classmethod
    def parse(cls, rule: str) -> _FilterRule:
        """Parse a rule of rsync(1), INCLUDE/EXCLUDE PATTERN RULES."""
        pattern = rule[2:]
        for_folders = pattern.endswith("/")
        pattern = pattern.removesuffix("/") if for_folders else pattern
        anchored = pattern.startswith("/")
        pattern = pattern.removeprefix("/")
        # Without a slash the pattern matches the last name alone, else the end of the path: as many
        # names as it has slashes, those in brackets counted too.
        text = "" if anchored else "(?:.*/)?"
        if not anchored and "**" not in pattern:
            text += rf"(?=(?:[^/]*/){{{pattern.count('/')}}}[^/]*\Z)"
        if not anchored and pattern.startswith("**/"):
            pattern = pattern[3:]  # which is also for a name at the top
        expression = re.compile(text + _expression(pattern), re.DOTALL)
        return cls(rule[0] == "-", for_folders, expression, pattern.endswith("/***"))

    def matches(self, path: str, *, is_folder: bool) -> bool:
        if self.for_folders and not is_folder:
            return False
        text = _bytewise(path)
        if self.is_with_content and is_folder:
            text += "/"
        return self.expression.fullmatch(text) is not None


# rsync's lib/wildmatch.c: in brackets a backslash escapes, "]" is a member where it is first, and
# what looks like a class is one, but not as the end of a range.
_CLASS = r"\[:[^]]*:\]"
_MEMBER = rf"{_CLASS}|(?:\\.|(?!{_CLASS})"
_RANGE = r"(?:-(?:\\.|[^]\\]))?"
_BRACKET = rf"\[(?:[!^]|(?![!^]))(?:{_MEMBER}[^\\]){_RANGE})(?:{_MEMBER}[^]\\]){_RANGE})*\]"
_TOKEN = re.compile(rf"/\*\*\*\Z|\*\*|\*|\?|{_BRACKET}|\\.|.", re.DOTALL)
_MEANINGS = {"/***": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _expression(pattern: str) -> str:
    has_wildcard = any(char in pattern for char in "*?[")
    parts = []
    for token in _TOKEN.findall(_bytewise(pattern)):
        if token in _MEANINGS:
            parts.append(_MEANINGS[token])
        elif len(token) > 2 and token[0] == "[":
            parts.append(f"(?!/){bracket_expression(token, is_rsync=True)}")
        elif token == "[" or (token == "\\" and has_wildcard):  # noqa: S105  # of a pattern
            parts.append("(?!)")  # wildmatch.c: without an end it matches nothing
        elif len(token) == 2 and has_wildcard:
            parts.append(re.escape(token[1]))
        else:
            parts.append(re.escape(token))
    return "".join(parts)


def _bytewise(text: str) -> str:
    """rsync compares bytes: each as a character of its own."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def doomed(
    listed: Callable[[str], Iterable[tuple[str, bool]]],
    folder: str,
    items: Set[str],
    filter_: Filter,
) -> list[tuple[str, bool]]:
    """Return the names to delete, each with True for a folder; the content of a folder first.

    Excluded names stay, and so do the folders above them.

    :param listed: the names in a folder of the target, with whether each is a folder.
    :param items: the names in ``folder`` that the source has not.
    """
    found: dict[str, bool] = {}
    kept: set[str] = set()
    todo = [folder]
    while todo:
        above = todo.pop()
        for item, is_folder in listed(above):
            name = posixpath.join(above, item)
            if above == folder and item not in items:
                continue
            if filter_.excludes(name, is_folder=is_folder):
                kept.update(_folders_above(name))
                continue
            found[name] = is_folder
            if is_folder:
                todo.append(name)
    return [(name, found[name]) for name in sorted(found.keys() - kept, reverse=True)]


def _folders_above(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name

"""Names to leave out: patterns and paths, as rsync's filter rules (pure).

Source: rsync(1), FILTER RULES; gitignore(5) for the order: the last pattern that matches decides,
where rsync's first one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .rsync_flags import PARTIAL_FOLDER, Rules

__all__ = ["encoded", "filter_rules", "literal"]


def filter_rules(rules: Rules) -> Iterator[str]:
    """The rules for rsync's ``--exclude-from``, the first that matches decides."""
    yield f"- {PARTIAL_FOLDER}/"
    for pattern in reversed(rules.exclude):
        if pattern.startswith("!"):
            yield f"+ {pattern[1:]}"
        else:
            yield f"- {pattern}"
    for path in rules.ignored:
        yield f"- /{literal(path)}"


def literal(path: str) -> str:
    """A pattern that matches ``path`` alone: a backslash means itself where nothing is special."""
    if not any(char in path for char in "*?["):
        return path
    return "".join(f"\\{char}" if char in "*?[\\" else char for char in path)


def encoded(rules: Iterable[str]) -> bytes:
    """The rules as ``--from0`` reads them."""
    return b"".join(rule.encode("utf-8", "surrogateescape") + b"\0" for rule in rules)

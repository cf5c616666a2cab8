"""The lines of an OpenSSH configuration, and the names that they give to hosts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.local_user import expanded_home

__all__ = ["directive", "directives", "ssh_aliases"]

_MAX_INCLUDES = 16  # ssh_config(5): levels of nested Include
#: Services that run git alone for a key.
_GIT_SERVERS = {
    "github.com", "ssh.github.com", "gitlab.com", "altssh.gitlab.com", "bitbucket.org",
    "altssh.bitbucket.org", "codeberg.org", "ssh.dev.azure.com", "hf.co",
}  # fmt: skip
_DIRECTIVE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)")
_SPECIAL = re.compile(r"""["'\\#]""")
_QUOTED = r"""\"((?:\\.|[^"\\])*)\"|'((?:\\.|[^'\\])*)'"""
_PART = re.compile(rf"""\\([\\'" ])|{_QUOTED}""")
_WORD = re.compile(rf"""(?:{_PART.pattern}|[^\s"'])+""")
_ESCAPED = re.compile(r"""\\([\\'"])""")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")


def ssh_aliases(file: Path, level: int = 0) -> list[str]:
    """Return the names of the ``Host`` lines of an OpenSSH configuration; patterns are left out.

    Files that it includes are read too; a file that cannot be read has none.  Names that lead to
    ``ringtasks connect`` are left out: they are those of an inventory, written by ``ssh-config``.
    So are git servers (by their ``HostName``, or ``User git``), which run no commands.
    """
    found: dict[str, None] = {}
    block: list[str] = []
    for keyword, values in directives(file):
        if keyword in ("host", "match"):
            found.update(dict.fromkeys(block))
            block = _names(values) if keyword == "host" else []
        elif _is_ours(keyword, values) or _is_git(keyword, values):
            block = []
        elif keyword == "include" and level < _MAX_INCLUDES:
            for pattern in values:
                for included in _matches(pattern, file.parent):
                    found.update(dict.fromkeys(ssh_aliases(included, level + 1)))
    return list(found | dict.fromkeys(block))


def _names(values: list[str]) -> list[str]:
    return [name for name in values if _NAME.match(name) and name not in _GIT_SERVERS]


def _is_ours(keyword: str, command: list[str]) -> bool:
    """Return whether a ProxyCommand runs ``ringtasks connect``."""
    programs = (Path(word).name for word in command)
    is_connect = ("ringtasks", "connect") in zip(programs, command[1:], strict=False)
    return keyword == "proxycommand" and is_connect


def _is_git(keyword: str, values: list[str]) -> bool:
    return (keyword == "user" and values == ["git"]) or (
        keyword == "hostname" and not _GIT_SERVERS.isdisjoint(values)
    )


def directives(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each line of a file of ssh's settings; a file that cannot be read has none."""
    with contextlib.suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")
        yield from map(directive, text.splitlines())


def directive(line: str) -> tuple[str, list[str]]:
    """Return a line's keyword in lower case, and its arguments; empty for one that ssh refuses.

    They are apart by white space or one "=" (ssh_config(5)).
    """
    found = _DIRECTIVE.fullmatch(line)
    words = None if found is None else _words(found[2])
    return ("", []) if found is None or words is None else (found[1].lower(), words)


def _words(text: str) -> list[str] | None:
    """Return the words of a line (``argv_split`` of OpenSSH's misc.c); None: a quote is open.

    They differ from a shell's: a backslash before another character stays, and so does a "#"
    within a word.
    """
    if _SPECIAL.search(text) is None:
        return text.split()
    words, rest = [], text.strip()
    while rest and not rest.startswith("#"):
        found = _WORD.match(rest)
        if found is None:
            return None
        words.append(_PART.sub(_plain, found[0]))
        rest = rest[found.end() :].lstrip()
    return words


def _plain(part: re.Match[str]) -> str:
    escaped, *quoted = part.groups()
    return escaped or _ESCAPED.sub(r"\1", quoted[0] or quoted[1] or "")


def _matches(pattern: str, folder: Path) -> list[Path]:
    path = expanded_home(pattern)
    root = Path(path.anchor) if path.is_absolute() else folder
    relative = str(path.relative_to(root)) if path.is_absolute() else str(path)
    return sorted(root.glob(relative)) if relative != "." else []

"""The names that an OpenSSH configuration gives to hosts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ringtasks.common.local_user import expanded_home

__all__ = ["ssh_aliases"]

_MAX_INCLUDES = 16  # ssh_config(5): levels of nested Include
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")


def ssh_aliases(file: Path, level: int = 0) -> list[str]:
    """Return the names of the ``Host`` lines of an OpenSSH configuration; patterns are left out.

    Files that it includes are read too; a file that cannot be read has none.  Names that lead to
    ``ringtasks connect`` are left out: they are those of an inventory, written by ``ssh-config``.
    """
    found: dict[str, None] = {}
    block: list[str] = []
    for keyword, values in _directives(file):
        if keyword in ("host", "match"):
            found.update(dict.fromkeys(block))
            block = [name for name in values if _NAME.match(name)] if keyword == "host" else []
        elif keyword == "proxycommand" and _is_ours(values):
            block = []
        elif keyword == "include" and level < _MAX_INCLUDES:
            for pattern in values:
                for included in _matches(pattern, file.parent):
                    found.update(dict.fromkeys(ssh_aliases(included, level + 1)))
    return list(found | dict.fromkeys(block))


def _is_ours(command: list[str]) -> bool:
    """Return whether a ProxyCommand runs ``ringtasks connect``."""
    programs = (Path(word).name for word in command)
    return ("ringtasks", "connect") in zip(programs, command[1:], strict=False)


def _directives(file: Path) -> Iterator[tuple[str, list[str]]]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        # ssh_config(5): keyword and arguments, apart by white space or one "=".
        directive = re.fullmatch(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)", line)
        if directive is None:
            continue
        try:
            yield directive[1].lower(), shlex.split(directive[2], comments=True)
        except ValueError:  # an open quote: ssh refuses the line
            continue


def _matches(pattern: str, folder: Path) -> list[Path]:
    path = expanded_home(pattern)
    root = Path(path.anchor) if path.is_absolute() else folder
    relative = str(path.relative_to(root)) if path.is_absolute() else str(path)
    return sorted(root.glob(relative)) if relative != "." else []

"""The file of `generated_config` beside ``~/.ssh/config``, and the ``Include`` line that names it.

Each file is replaced atomically, and keeps its mode; a symbolic link stays one.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

from ringtasks.common.atomic_file import replace_file
from ringtasks.common.light_typing import NamedTuple
from ringtasks.errors import StateFileError
from ringtasks.inventory.ssh_aliases import directive

from .option_values import quoted

__all__ = ["FileChange", "changes_to_install", "changes_to_remove", "write"]

_OWN_NAME = "ringtasks_config"
_SECTION = re.compile(rb"(host|match)[\s=]", re.IGNORECASE)


class FileChange(NamedTuple):
    """A file and its new content; None: the file is removed."""

    file: Path
    content: bytes | None
    summary: str


def changes_to_install(text: str, home: Path) -> list[FileChange]:
    """Return the files that differ from an installation of ``text``.

    :raises StateFileError: a file cannot be read.
    """
    own, config = _files(home)
    changes = []
    if _read(own) != text.encode():
        changes.append(FileChange(own, text.encode(), "hosts"))
    line, present = _include(own), _read(config)
    if not any(_includes(each, own) for each in _lines_for_all_hosts(present)):
        # In front: the first value that ssh obtains is used, and below a Host line it would be
        # read for that host only.
        present = _without(own, present)
        content = line + b"\n" + (b"\n" + present if present else b"")
        changes.append(FileChange(config, content, f"adds the line: {line.decode()}"))
    return changes


def changes_to_remove(home: Path) -> list[FileChange]:
    """Return the files that an installation has left, without it.

    :raises StateFileError: a file cannot be read.
    """
    own, config = _files(home)
    changes = []
    line, present = _include(own), _read(config)
    kept = _without(own, present)
    if kept != present:
        summary = f"removes the line: {line.decode()}"
        changes.append(FileChange(config, kept or None, summary))
    if own.exists():
        changes.append(FileChange(own, None, "removed"))
    return changes


def write(change: FileChange) -> None:
    """Make one change.

    :raises StateFileError: the file cannot be written.
    """
    target = Path(os.path.realpath(change.file))
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    if not mode & 0o200:  # also if we are root
        raise StateFileError(str(target), f"is read-only; {change.summary}: do that by hand")
    try:
        if change.content is None:
            target.unlink(missing_ok=True)
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(target, change.content, mode=mode, is_synced=True)
    except OSError as error:
        raise StateFileError(str(target), f"cannot be written: {error.strerror}") from error


def _lines_for_all_hosts(content: bytes) -> list[bytes]:
    """Return the lines above the first ``Host`` or ``Match``."""
    lines = [each.strip() for each in content.splitlines()]
    starts = (n for n, each in enumerate(lines) if _SECTION.match(each))
    return lines[: next(starts, len(lines))]


def _without(own: Path, content: bytes) -> bytes:
    """Return the content without the lines that name our file, and an empty one after the first."""
    lines = content.splitlines(keepends=True)
    if len(lines) > 1 and _names_only(lines[0], own) and not lines[1].strip():
        del lines[1]
    return b"".join(line for line in lines if not _names_only(line, own))


def _names_only(line: bytes, own: Path) -> bool:
    """Return whether a line includes our file by its name, and no other one."""
    return _included(line, own) == [str(own)]


def _includes(line: bytes, own: Path) -> bool:
    """Return whether a line includes our file: by its name, or by a pattern."""
    return any(fnmatchcase(str(own), pattern) for pattern in _included(line, own))


def _included(line: bytes, own: Path) -> list[str]:
    """Return the absolute paths or patterns of an ``Include`` line; none for another line.

    A relative path is one below ``~/.ssh`` (ssh_config(5)).
    """
    keyword, words = directive(line.rstrip().decode(errors="surrogateescape"))
    if keyword != "include":
        return []
    home = own.parent.parent
    expanded = (re.sub(r"~(?=/)|%d(?=/)|\$\{HOME\}(?=/)", str(home), w, count=1) for w in words)
    return [str(own.parent / path) for path in expanded]


def _files(home: Path) -> tuple[Path, Path]:
    return home / ".ssh" / _OWN_NAME, home / ".ssh" / "config"


def _include(own: Path) -> bytes:
    return f"Include {quoted(str(own))}".encode()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StateFileError(str(file), f"cannot be read: {error.strerror}") from error

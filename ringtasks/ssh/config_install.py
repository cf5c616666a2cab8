"""The file of `generated_config` beside ``~/.ssh/config``, and the ``Include`` line that names it.

Each file is replaced atomically, and keeps its mode; a symbolic link stays one.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from ringtasks.errors import StateFileError

from .option_values import token

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
    if line not in _lines_for_all_hosts(present):
        # In front: the first value that ssh obtains is used, and below a Host line it would be
        # read for that host only.
        present = _without(line, present)
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
    kept = _without(line, present)
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
    if target.exists() and not target.stat().st_mode & 0o200:  # also if we are root
        raise StateFileError(str(target), f"is read-only; {change.summary}: do that by hand")
    try:
        if change.content is None:
            target.unlink(missing_ok=True)
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(target, change.content)
    except OSError as error:
        raise StateFileError(str(target), f"cannot be written: {error.strerror}") from error


def _lines_for_all_hosts(content: bytes) -> list[bytes]:
    """Return the lines above the first ``Host`` or ``Match``."""
    lines = [each.strip() for each in content.splitlines()]
    starts = (n for n, each in enumerate(lines) if _SECTION.match(each))
    return lines[: next(starts, len(lines))]


def _without(line: bytes, content: bytes) -> bytes:
    """Return the content without a line, and without an empty line after it at the top."""
    rest = content
    for end in (b"\n\n", b"\r\n\r\n"):
        rest = rest.removeprefix(line + end)
    return b"".join(each for each in rest.splitlines(keepends=True) if each.strip() != line)


def _files(home: Path) -> tuple[Path, Path]:
    return home / ".ssh" / _OWN_NAME, home / ".ssh" / "config"


def _include(own: Path) -> bytes:
    return f"Include {token(str(own))}".encode()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StateFileError(str(file), f"cannot be read: {error.strerror}") from error


def _replace(target: Path, content: bytes) -> None:
    descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise

"""The file of `client_config` beside ``~/.ssh/config``, and the ``Include`` line that names it.

Each file is replaced atomically, and keeps its mode; a symbolic link stays one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from ringtasks.errors import StateFileError

from .option_values import token

__all__ = ["Change", "changes_to_install", "changes_to_remove", "write"]

_OWN_NAME = "ringtasks_config"


class Change(NamedTuple):
    """A file and its new content; None: the file is removed."""

    file: Path
    content: bytes | None
    summary: str


def changes_to_install(text: str, home: Path) -> list[Change]:
    """Return the files that differ from an installation of ``text``.

    :raises StateFileError: a file cannot be read.
    """
    own, config = _files(home)
    changes = []
    if _read(own) != text.encode():
        changes.append(Change(own, text.encode(), "hosts"))
    line, present = _include(own), _read(config)
    if line not in present.splitlines():
        # In front: the first value that ssh obtains is used, and below a Host line it would be
        # read for that host only.
        content = line + b"\n" + (b"\n" + present if present else b"")
        changes.append(Change(config, content, f"adds the line: {line.decode()}"))
    return changes


def changes_to_remove(home: Path) -> list[Change]:
    """Return the files that an installation has left, without it.

    :raises StateFileError: a file cannot be read.
    """
    own, config = _files(home)
    changes = []
    line, present = _include(own), _read(config)
    if line in present.splitlines():
        rest = present.replace(line + b"\n\n", b"", 1) if present.startswith(line) else present
        kept = b"".join(each for each in rest.splitlines(keepends=True) if each.strip() != line)
        summary = f"removes the line: {line.decode()}"
        changes.append(Change(config, kept or None, summary))
    if own.exists():
        changes.append(Change(own, None, "removed"))
    return changes


def write(change: Change) -> None:
    """Make one change.

    :raises StateFileError: the file cannot be written.
    """
    target = Path(os.path.realpath(change.file))
    try:
        if change.content is None:
            target.unlink(missing_ok=True)
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(target, change.content)
    except OSError as error:
        raise StateFileError(str(target), f"cannot be written: {error.strerror}") from error


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

"""Files and folders over SFTP, to and from one host.

A file is written beside its final name and renamed when it is whole, so that a partial file never
stands under the final name.  Modes are kept; a symbolic link is followed, as scp(1) does.  A name
that the host sends cannot lead out of the folder that is written to.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .errors import RingtasksError

__all__ = ["CopyError", "deadline_check", "get", "put"]

_CHUNK_BYTES = 1024 * 1024


class CopyError(RingtasksError, OSError):
    """A file could not be copied: which one, and why."""

    def __init__(self, name: str, evidence: str) -> None:
        self.name, self.evidence = name, evidence

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}"


def put(sftp: Any, local: Path, remote: str, check: Callable[[], None]) -> None:
    """Copy ``local``, a file or a folder, to ``remote``; into it where that is a folder.

    :param check: called between pieces; may raise to stop.
    :raises CopyError: a file or folder cannot be read or written.
    """
    target = _home(remote)
    if not local.exists():
        raise CopyError(str(local), "no such file or folder")
    if _is_folder(sftp, target) and not (local.is_dir() and remote.endswith("/.")):
        target = posixpath.join(target, local.resolve().name)
    for source, below in _local_tree(local):
        there = posixpath.join(target, *below)
        with _told(there):
            if source.is_dir():
                _make_folder(sftp, there, source.stat().st_mode)
            else:
                _put_file(sftp, source, there, check)


def get(sftp: Any, remote: str, local: Path, check: Callable[[], None]) -> None:
    """Copy ``remote``, a file or a folder, to ``local``; into it where that is a folder.

    :raises CopyError: a file or folder cannot be read or written.
    """
    source = _home(remote)
    target = local / posixpath.basename(source.rstrip("/")) if local.is_dir() else local
    with _told(remote):
        mode = sftp.stat(source).st_mode
    if stat.S_ISDIR(mode):
        _get_folder(sftp, source, target, mode, check)
    else:
        with _told(remote):
            _get_file(sftp, source, target, check)


def _get_folder(
    sftp: Any, source: str, target: Path, mode: int, check: Callable[[], None]
) -> None:
    with _told(str(target)):
        target.mkdir(parents=True, exist_ok=True)
    with _told(source):
        entries = sftp.listdir_attr(source)
    for entry in entries:
        if entry.filename in ("", ".", "..") or "/" in entry.filename or "\0" in entry.filename:
            raise CopyError(source, f"the host names a file {entry.filename!r}: refused")
        there, here = posixpath.join(source, entry.filename), target / entry.filename
        with _told(there):
            entry_mode = sftp.stat(there).st_mode
        if stat.S_ISDIR(entry_mode):
            _get_folder(sftp, there, here, entry_mode, check)
        else:
            with _told(there):
                _get_file(sftp, there, here, check)
    target.chmod(stat.S_IMODE(mode))


def _put_file(sftp: Any, source: Path, target: str, check: Callable[[], None]) -> None:
    partial = f"{target}.{os.urandom(4).hex()}.part"
    size = source.stat().st_size
    try:
        with source.open("rb") as reading, sftp.open(partial, "wb") as writing:
            writing.set_pipelined(True)
            while chunk := reading.read(_CHUNK_BYTES):
                check()
                writing.write(chunk)
        sent = sftp.stat(partial).st_size
        if sent != size:  # a full disk answers some writes of a pipeline too late to be heard
            raise CopyError(target, f"{sent} of {size} bytes arrived: is there space?")
        sftp.chmod(partial, stat.S_IMODE(source.stat().st_mode))
        sftp.posix_rename(partial, target)
    except BaseException:
        with contextlib.suppress(OSError, EOFError):
            sftp.remove(partial)
        raise


def _get_file(sftp: Any, source: str, target: Path, check: Callable[[], None]) -> None:
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    attributes = sftp.stat(source)
    try:
        with sftp.open(source, "rb") as reading, partial.open("wb") as writing:
            reading.prefetch(attributes.st_size)
            while chunk := reading.read(_CHUNK_BYTES):
                check()
                writing.write(chunk)
        partial.chmod(stat.S_IMODE(attributes.st_mode))
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _local_tree(top: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every folder before what is in it: the path, and the names below the top."""
    yield top, ()
    if top.is_dir():
        for path in sorted(top.rglob("*")):
            yield path, path.relative_to(top).parts


def _make_folder(sftp: Any, path: str, mode: int) -> None:
    if not _is_folder(sftp, path):
        sftp.mkdir(path)
    sftp.chmod(path, stat.S_IMODE(mode))


def _is_folder(sftp: Any, path: str) -> bool:
    try:
        return stat.S_ISDIR(sftp.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _home(remote: str) -> str:
    """SFTP starts in the home: ``~/x`` is ``x`` there."""
    if remote in ("~", "~/"):
        return "."
    return remote[2:] if remote.startswith("~/") else remote


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except CopyError:
        raise
    except TimeoutError:
        raise
    except OSError as error:
        raise CopyError(name, error.strerror or str(error)) from error


def deadline_check(limit: float | None) -> Callable[[], None]:
    """Raises TimeoutError once ``limit`` seconds have passed."""
    ends_at = None if limit is None else time.monotonic() + limit

    def check() -> None:
        if ends_at is not None and time.monotonic() > ends_at:
            raise TimeoutError

    return check

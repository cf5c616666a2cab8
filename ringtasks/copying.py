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
from .execution import Ending
from .keeper import Report
from .link import Link
from .result import TIMED_OUT, SSHResult

__all__ = ["Copy", "CopyError", "get", "put"]

_CHUNK_BYTES = 1024 * 1024


class CopyError(RingtasksError, OSError):
    """A file could not be copied: which one, and why."""

    def __init__(self, name: str, evidence: str) -> None:
        self.name, self.evidence = name, evidence

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}"


class Copy:
    """One copy under way: ``put`` or ``get``, as a call of `SSHClient`.

    :raises ValueError: a NUL in a path, or an empty one.
    """

    def __init__(self, way: str, local: Path, remote: str, limit: float | None) -> None:
        for name, path in (("local", str(local)), ("remote", remote)):
            if not path or "\0" in path:
                raise ValueError(f"{name}: expected a path, got {path!r}")
        self.way, self.local, self.remote, self.limit = way, local, remote, limit
        self.report = Report()
        self.is_interrupted = False
        self._started = time.monotonic()
        self._is_cancelled = False
        self._error: CopyError | None = None

    def run_over(self, link: Link) -> Ending:
        """:raises LinkLostError: nothing was copied."""
        sftp = link.open_sftp()
        check = self._check_by(None if self.limit is None else time.monotonic() + self.limit)
        try:
            if self.way == "put":
                put(sftp, self.local, self.remote, check)
            else:
                get(sftp, self.remote, self.local, check)
        except CopyError as error:
            if not link.is_alive():
                return Ending(lost=str(error))
            self._error = error
            return Ending(status=1)
        except TimeoutError:
            return Ending(timed_out=True)
        except _CancelledError:
            return Ending(interrupted=True)
        except Exception as error:  # noqa: BLE001  # Paramiko's SFTP raises what it likes
            return Ending(lost=str(error) or type(error).__name__)
        finally:
            with contextlib.suppress(Exception):
                sftp.close()
        return Ending(status=0)

    def cancel(self) -> None:
        """End it, from another thread; what was not whole yet is removed."""
        self._is_cancelled = True

    def result(
        self, host: str, returncode: int, link: Link | None, error: str | None = None
    ) -> SSHResult:
        if self._error is not None:
            error = f"{host}: {self._error}"
        elif returncode == TIMED_OUT:
            error = f"{host}: the copy's time limit of {self.limit:g} s passed"
        return SSHResult(
            success=returncode == 0 and error is None,
            returncode=returncode,
            stdout="",
            stderr="",
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 3),
            command=f"{self.way} {self.local if self.way == 'put' else self.remote}",
            host=host,
            transport_used=link.route if link else None,
            timed_out=returncode == TIMED_OUT,
            error=error,
        )

    def _check_by(self, deadline: float | None) -> Callable[[], None]:
        def check() -> None:
            if self._is_cancelled:
                raise _CancelledError
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError

        return check


class _CancelledError(Exception):
    """Somebody has called `Copy.cancel`."""


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


def _get_folder(sftp: Any, source: str, target: Path, mode: int, check: Callable[[], None]) -> None:
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
            sftp.chmod(partial, stat.S_IMODE(source.stat().st_mode))  # before anything is in it
            writing.set_pipelined(True)
            while chunk := reading.read(_CHUNK_BYTES):
                check()
                writing.write(chunk)
        sent = sftp.stat(partial).st_size
        if sent != size:  # a full disk answers some writes of a pipeline too late to be heard
            raise CopyError(target, f"{sent} of {size} bytes arrived: is there space?")
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
    except (CopyError, TimeoutError):
        raise
    except OSError as error:
        raise CopyError(name, error.strerror or str(error)) from error

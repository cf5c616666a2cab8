"""One copy over a link, as a call of `SSHClient`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ringtasks.common.text import bounded
from ringtasks.exit_status import TIMED_OUT, UNREACHABLE
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import Link, LinkLostError, NoSFTPError, SessionRefusedError
from ringtasks.ssh.link_pool import RouteReport
from ringtasks.ssh.room import when_there_is_room
from ringtasks.ssh.sftp import CopyError, get, put

from .result import SSHResult

__all__ = ["Copy"]

#: Seconds for the clean-up of a cancelled or late copy, before its session is closed.
_CLEANUP_TIMEOUT = 3.0


class Copy:
    """A copy of one file or folder to a host (``put``) or from it (``get``).

    :raises ValueError: a path is empty or holds a NUL.
    :raises TypeError: a path is neither text nor (``local`` only) a Path.
    """

    def __init__(self, way: str, local: str | Path, remote: str, limit: float | None) -> None:
        for name, path, kinds in (("local", local, (str, Path)), ("remote", remote, (str,))):
            if not isinstance(path, kinds):
                raise TypeError(f"{name}: expected a path, got {type(path).__name__}")
            if not str(path) or "\0" in str(path):
                raise ValueError(f"{name}: expected a path, got {str(path)!r}")
        self.way, self.local, self.remote, self.limit = way, Path(local), remote, limit
        self.report = RouteReport()
        self.is_interrupted = False
        self._started = time.monotonic()
        self._is_cancelled = False
        self._error: CopyError | None = None
        self._sftp: Any = None

    def run_over(self, link: Link) -> Ending:
        """Copy over ``link``.

        :raises LinkLostError: the link failed before anything was copied.
        """
        deadline = None if self.limit is None else self._started + self.limit
        try:
            self._sftp = when_there_is_room(
                link, link.open_sftp, deadline=deadline, is_cancelled=lambda: self._is_cancelled
            )
        except SessionRefusedError:
            if self._is_cancelled:
                return Ending(interrupted=True)
            if deadline is not None and time.monotonic() > deadline:
                return Ending(timed_out=True)
            raise
        except NoSFTPError as error:
            return self._no_server(error)
        try:
            with self._closed_when_stuck(deadline):
                self._copy(deadline)
        except _CancelledError:
            return Ending(interrupted=True)
        except TimeoutError:
            return Ending(timed_out=True)
        except CopyError as error:
            self._error = error
            return Ending(status=1)
        except Exception as error:  # noqa: BLE001  # Paramiko's SFTP raises exceptions of any type
            return self._broken(link, error, deadline)
        finally:
            self._close()
        return Ending(status=0)

    def cancel(self) -> None:
        """End the copy, from another thread; incomplete files are removed."""
        self._is_cancelled = True
        _later(_CLEANUP_TIMEOUT, self._close)

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

    def _copy(self, deadline: float | None) -> None:
        check = self._checking(deadline)
        check()
        if self.way == "put":
            put(self._sftp, self.local, self.remote, check)
        else:
            get(self._sftp, self.remote, self.local, check)

    def _checking(self, deadline: float | None) -> Callable[[], None]:
        """Return a function to call between pieces, which raises if the copy must end."""

        def check() -> None:
            if self._is_cancelled:
                raise _CancelledError
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError

        return check

    def _no_server(self, error: NoSFTPError) -> Ending:
        said = bounded(error.said.decode("utf-8", "replace"))
        why = f"it printed {said!r}: check ssh_user, and that login files" if said else error.reason
        advice = " print in terminals only" if said else "; check Subsystem sftp in its sshd_config"
        self._error = CopyError("the host starts no SFTP server", why + advice)
        return Ending(status=UNREACHABLE if said else 1)

    def _broken(self, link: Link, error: Exception, deadline: float | None) -> Ending:
        """Return the ending of a copy whose session was closed, by us or by the host."""
        if self._is_cancelled:
            return Ending(interrupted=True)
        if deadline is not None and time.monotonic() > deadline:
            return Ending(timed_out=True)
        evidence = str(error) or type(error).__name__
        if link.is_alive() and not isinstance(error, LinkLostError):
            self._error = CopyError(self.remote, f"the host ended the SFTP session: {evidence}")
            return Ending(status=1)
        return Ending(lost=evidence)

    @contextlib.contextmanager
    def _closed_when_stuck(self, deadline: float | None) -> Iterator[None]:
        """Close the session shortly after the deadline, in case the host no longer answers."""
        if deadline is None:
            yield
            return
        timer = _later(deadline - time.monotonic() + _CLEANUP_TIMEOUT, self._close)
        try:
            yield
        finally:
            timer.cancel()

    def _close(self) -> None:
        if self._sftp is not None:
            with contextlib.suppress(Exception):  # a broken session may raise anything
                self._sftp.close()


class _CancelledError(Exception):
    """`Copy.cancel` was called."""


def _later(delay: float, action: Any) -> threading.Timer:
    timer = threading.Timer(max(0.0, delay), action)
    timer.daemon = True
    timer.name = "ringtasks-copy-limit"
    timer.start()
    return timer

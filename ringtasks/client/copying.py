"""One copy over a link, as the work of an `Operation`."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

from ringtasks.common.text import bounded
from ringtasks.common.threads import start_timer
from ringtasks.exit_status import UNREACHABLE
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import Link, LinkLostError, NoSFTPError
from ringtasks.ssh.session_limit import when_there_is_room
from ringtasks.ssh.sftp import CopyError
from ringtasks.ssh.sftp_walk import get, put

from .operation import LimitedWork

__all__ = ["Copy"]

#: Seconds for the clean-up of a cancelled or late copy, before its session is closed.
_CLEANUP_TIMEOUT = 3.0


class Copy(LimitedWork):
    """A copy of one file or folder to a host (``put``) or from it (``get``).

    If it is ended, incomplete files are removed.

    :raises ValueError: a path is empty or holds a NUL.
    :raises TypeError: a path is neither text nor (``local`` only) a Path.
    """

    def __init__(self, way: str, local: str | Path, remote: str) -> None:
        super().__init__()
        for name, path, kinds in (("local", local, (str, Path)), ("remote", remote, (str,))):
            if not isinstance(path, kinds):
                raise TypeError(f"{name}: expected a path, got {type(path).__name__}")
            if not str(path) or "\0" in str(path):
                raise ValueError(f"{name}: expected a path, got {str(path)!r}")
        self.way, self.local, self.remote = way, Path(local), remote
        self._sftp: Any = None

    def __str__(self) -> str:
        return f"{self.way} {self.local if self.way == 'put' else self.remote}"

    def _run_over(self, link: Link) -> Ending | None:
        try:
            self._sftp = when_there_is_room(
                link,
                link.open_sftp,
                deadline=self._deadline,
                is_cancelled=lambda: self._is_stopped,
            )
        except NoSFTPError as error:
            return None if self._is_stopped else _no_server(error)
        try:
            self._check()
            self._copy()
        except _StoppedError:
            return None
        except CopyError as error:
            return Ending(status=1, error=str(error))
        except Exception as error:  # noqa: BLE001  # Paramiko's SFTP raises exceptions of any type
            return self._broken(link, error)
        finally:
            _close(self._sftp)
        return Ending(status=0)

    def _interrupt(self) -> None:
        """Close the session soon, in case the host no longer answers."""
        close = functools.partial(_close, self._sftp)
        start_timer(_CLEANUP_TIMEOUT, close, name="ringtasks-copy-end")

    def _copy(self) -> None:
        if self.way == "put":
            put(self._sftp, self.local, self.remote, self._check)
        else:
            get(self._sftp, self.remote, self.local, self._check)

    def _check(self) -> None:
        """Raise an error if the copy must end; to be called between pieces."""
        if self._is_stopped:
            raise _StoppedError

    def _broken(self, link: Link, error: Exception) -> Ending | None:
        """Return the ending of a copy whose session was closed, by us or by the host."""
        if self._is_stopped:
            return None
        evidence = str(error) or type(error).__name__
        if link.is_alive() and not isinstance(error, LinkLostError):
            ended = CopyError(self.remote, f"the host ended the SFTP session: {evidence}")
            return Ending(status=1, error=str(ended))
        return Ending(lost=evidence)


class _StoppedError(Exception):
    """The copy was cancelled, or its time limit has passed."""


def _no_server(error: NoSFTPError) -> Ending:
    said = bounded(error.said.decode("utf-8", "replace"))
    why = f"it printed {said!r}: check ssh_user, and that login files" if said else error.reason
    advice = " print in terminals only" if said else "; check Subsystem sftp in its sshd_config"
    missing = CopyError("the host starts no SFTP server", why + advice)
    return Ending(status=UNREACHABLE if said else 1, error=str(missing))


def _close(sftp: Any) -> None:
    if sftp is not None:
        with contextlib.suppress(Exception):  # a broken session raises errors of many types
            sftp.close()

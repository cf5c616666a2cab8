"""The interface of a connection for a client, of either kind.

A Link opens Sessions; a Session is one program on the host with its three streams.  The in-process
kind is `inprocess`, the other `master`; callers cannot tell the kinds apart.
"""

from __future__ import annotations

import signal
from typing import Any, TypeGuard

from ringtasks.common.light_typing import NamedTuple, Protocol

__all__ = [
    "KILLED_STATUS",
    "STDERR",
    "STDOUT",
    "Exited",
    "Link",
    "LinkLostError",
    "NoSFTPError",
    "NotStartedError",
    "Output",
    "PipingLink",
    "Session",
    "SessionRefusedError",
    "Terminal",
    "Tunnel",
    "TunnelRefusedError",
    "takes_descriptors",
]

STDOUT, STDERR = 1, 2
#: The status of a session that has ended without one: a signal that is not named has killed the
#: program, or the host has closed the session.
KILLED_STATUS = 128 + signal.SIGKILL


class LinkLostError(ConnectionError):
    """The connection under a session is gone."""


class NotStartedError(LinkLostError):
    """The host refused to start the command, and said so: another link may be tried.

    :ivar request: the channel request that it refuses (RFC 4254 section 6): ``exec``, ``pty-req``
        or another; "": none, and the refusal may not last.
    """

    def __init__(self, said: str = "", request: str = "") -> None:
        super().__init__(said)
        self.request = request


class SessionRefusedError(NotStartedError):
    """The host opens no more sessions over this link for now (sshd_config(5), MaxSessions)."""


class NoSFTPError(OSError):
    """The link works, but no SFTP server answers; ``said``: the bytes that came instead."""

    def __init__(self, said: bytes = b"", reason: str = "no SFTP server answers") -> None:
        super().__init__(reason)
        self.said, self.reason = said, reason


class TunnelRefusedError(ConnectionError):
    """The link works, but the host makes no connection to the requested port."""


class Terminal(NamedTuple):
    """A pseudo-terminal to request: its kind (``TERM``) and its size in characters."""

    kind: str
    columns: int
    rows: int


class Output(NamedTuple):
    """Bytes that the program wrote, to `STDOUT` or `STDERR`; none: no more comes to `STDOUT`."""

    stream: int
    chunk: bytes


class Exited(NamedTuple):
    """The program has ended and all its output was received. 128 + n: killed by signal n."""

    status: int


class Session(Protocol):
    """One program on the host. `receive` is for one thread, the other methods for any."""

    def send(self, data: bytes) -> None:
        """Send all of ``data`` to its stdin; waits while the program does not read.

        :raises LinkLostError: the link is gone, or the program has closed its stdin.
        """

    def send_eof(self) -> None:
        """End its stdin. Safe to repeat."""

    def receive(self, timeout: float | None) -> Output | Exited | None:
        """Return the next event, or None after ``timeout`` seconds (None: no limit).

        :raises NotStartedError: the host refused to start the program.
        :raises LinkLostError: the link is gone: it is not known whether the program goes on.
        """

    def wake(self) -> None:
        """Make a waiting `receive` return None at once; from any thread."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell the pseudo-terminal its new size."""

    def close(self) -> None:
        """Close the channel. This does not end a program without a terminal."""


class Tunnel(Protocol):
    """A TCP connection that the host has made, with a socket's methods. Errors are OSError.

    One thread may send while another receives.
    """

    def sendall(self, data: bytes) -> None:
        """Send all of ``data``."""

    def recv(self, size: int) -> bytes:
        """Receive up to ``size`` bytes; ``b""`` at the end, also if the link was lost."""

    def shutdown(self, how: int) -> None:
        """End one direction; with ``socket.SHUT_WR`` nothing more is sent. Safe to repeat."""

    def close(self) -> None:
        """End it, and wake the threads that wait in it. Safe to repeat."""


class Link(Protocol):
    """An open, authenticated connection to one host."""

    @property
    def route(self) -> str:
        """The name of its route."""

    def is_alive(self) -> bool:
        """Return True if it is believed to be up; never waits."""

    def open_session(
        self,
        command: str | None,
        terminal: Terminal | None = None,
        *,
        timeout: float | None = None,
    ) -> Session:
        """Request the start of ``command`` (None: the login shell); `receive` reports a refusal.

        :param timeout: seconds for the host to open it, if less than ``connect_timeout``.
        :raises SessionRefusedError: there are too many sessions; see `await_session_end`.
        :raises LinkLostError: the link is gone, or the host opens no session in time; the command
            has not been started.
        """

    def await_session_end(self, timeout: float) -> bool:
        """Wait until one of this link's sessions has ended, or for ``timeout`` seconds.

        False: none is open, so that waiting is of no use.
        """

    def open_sftp(self, *, timeout: float | None = None) -> Any:
        """Return a new SFTP client with Paramiko's methods (``paramiko.SFTPClient``).

        :param timeout: seconds for the host's answer, if less than ``connect_timeout``.
        :raises SessionRefusedError: there are too many sessions; see `await_session_end`.
        :raises NoSFTPError: the host starts no SFTP server.
        :raises LinkLostError: the link is gone.
        """

    def open_tunnel(self, host: str, port: int) -> Tunnel:
        """Open a TCP connection from the host to ``host``, a name that the host resolves.

        :raises TunnelRefusedError: nothing listens there, or the host forwards nothing.
        :raises LinkLostError: the link is gone, or the host does not answer in time.
        """

    def close(self) -> None:
        """Close the connection and every session over it. Safe to repeat."""


class PipingLink(Protocol):
    """A link that lets a program on the host read and write descriptors of this machine."""

    login_is_silent: bool | None
    """True if login files print nothing to stdout before a script begins; None: not known yet."""

    def open_piped(
        self, command: str, stdin: int, stdout: int, *, timeout: float | None = None
    ) -> Session:
        """Open a session as `Link.open_session` does, with these descriptors as stdin and stdout.

        The caller keeps them, and may close them at once.  The Session gives stderr and the end,
        and takes no input.
        """


def takes_descriptors(link: object) -> TypeGuard[PipingLink]:
    """Return True if the link is a `PipingLink`."""
    return hasattr(link, "open_piped")

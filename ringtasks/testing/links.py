"""A link without a network: sessions in which a fake host's programs run.

Invariant: output that a program printed before its link was lost, or before it ended, is received
first.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ringtasks.ssh.link import (
    STDERR,
    STDOUT,
    Exited,
    LinkLostError,
    Output,
    Terminal,
    Tunnel,
    TunnelRefusedError,
)

from .files import Files
from .sftp import FakeSFTP

__all__ = ["FakeLink", "FakeProgram", "FakeSession", "ProgramStep"]

_CHUNK_BYTES = 32 * 1024  # an SSH packet: longer output arrives in pieces, cut anywhere


class ProgramStep(NamedTuple):
    """The next action of a program: it prints, and then ends (``status``) or waits."""

    stdout: bytes = b""
    stderr: bytes = b""
    status: int | None = None


class FakeProgram(Protocol):
    """A program that runs in a session."""

    def step(self, stdin: bytearray, *, is_at_eof: bool) -> ProgramStep | None:
        """Return the next step; None if there is none yet. Called without locks, from one thread.

        :param stdin: all input so far.
        """

    def due_in(self) -> float | None:
        """Return the seconds until `step` may return a step without more stdin; None: never."""


class LinkedHost(Protocol):
    """The part of a fake host that a link needs."""

    files: Files

    def loses_link(self, *, after: str) -> bool:
        """Return True if a link must break now, and count that."""

    def program(self, command: str | None, link: FakeLink) -> FakeProgram:
        """Return the program that the exec request ``command`` starts (None: the login shell)."""


class FakeLink:
    """A `ringtasks.ssh.link.Link` to a fake host."""

    def __init__(self, host: LinkedHost, route: str) -> None:
        self.host, self.route = host, route
        self.lost: str | None = None
        """The reason why the link is gone; None while it is up."""
        self.changed = threading.Condition()
        self._open_sessions = 0

    def is_alive(self) -> bool:
        return self.lost is None

    def open_session(
        self,
        command: str | None,
        terminal: Terminal | None = None,
        *,
        timeout: float | None = None,
    ) -> FakeSession:
        self.check_start()
        with self.changed:
            self._open_sessions += 1
        return FakeSession(self, self.host.program(command, self), terminal)

    def await_session_end(self, timeout: float) -> bool:
        with self.changed:
            before = self._open_sessions
            self.changed.wait_for(lambda: self._open_sessions < before, timeout if before else 0)
            return before > 0

    def open_sftp(self, *, timeout: float | None = None) -> FakeSFTP:
        self.check_start()
        return FakeSFTP(self.host.files, self.check_sftp)

    def open_tunnel(self, host: str, port: int) -> Tunnel:
        self.check_start()
        raise TunnelRefusedError("a fake host listens on no port")

    def close(self) -> None:
        self.lose("it was closed")

    def lose(self, evidence: str) -> None:
        """Break the link, unless it is broken, and wake all threads that wait for it."""
        with self.changed:
            self.lost = self.lost or evidence
            self.changed.notify_all()

    def check_start(self) -> None:
        """Check that the link can start a program.

        :raises LinkLostError: the link is gone.
        """
        if self.lost is None and self.host.loses_link(after="login"):
            self.lose("it broke after the log-in, as the test said")
        if self.lost is not None:
            raise LinkLostError(self.lost)

    def check_sftp(self, *, is_start: bool) -> None:
        """Check that the link can carry an SFTP request.

        :raises OSError: the link is gone; the text is Paramiko's.
        """
        if is_start and self.host.loses_link(after="start"):
            self.lose("it broke after the start, as the test said")
        if self.lost is not None:
            raise OSError("Socket is closed")

    def session_ended(self) -> None:
        with self.changed:
            self._open_sessions -= 1
            self.changed.notify_all()


class FakeSession:
    """A `ringtasks.ssh.link.Session` with a fake host's program."""

    def __init__(self, link: FakeLink, program: FakeProgram, terminal: Terminal | None) -> None:
        self._link, self._program, self._terminal = link, program, terminal
        self._stdin = bytearray()
        self._seen = (-1, False)
        self._is_at_eof = self._is_woken = self._is_closed = False
        self._pending: deque[Output] = deque()
        self._status: int | None = None

    def send(self, data: bytes) -> None:
        with self._changing():
            if self._status is not None or self._is_at_eof:
                raise LinkLostError("the channel is closed")
            self._stdin += data

    def send_eof(self) -> None:
        with self._changing():
            self._is_at_eof = True

    def receive(self, timeout: float | None) -> Output | Exited | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._advance()
            with self._link.changed:
                if self._is_woken:
                    self._is_woken = False
                    return None
                if self._pending:
                    return self._pending.popleft()
                if self._status is not None:
                    return Exited(self._status)
                if self._link.lost is not None:
                    raise LinkLostError(self._link.lost)
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return None
                self._wait(remaining)

    def wake(self) -> None:
        with self._link.changed:
            self._is_woken = True
            self._link.changed.notify_all()

    def resize(self, columns: int, rows: int) -> None:
        pass  # fake programs do not read the size

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._link.session_ended()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._link.changed:
            if self._link.lost is not None:
                raise LinkLostError(self._link.lost)
            yield
            self._link.changed.notify_all()

    def _advance(self) -> None:
        """Let the program run as far as it can."""
        while self._status is None and self._link.lost is None:
            self._seen = self._input
            step = self._program.step(self._stdin, is_at_eof=self._is_at_eof)
            if step is None:
                return
            with self._link.changed:
                self._print(step)
                self._status = step.status

    @property
    def _input(self) -> tuple[int, bool]:
        return len(self._stdin), self._is_at_eof

    def _wait(self, remaining: float | None) -> None:
        """Wait until something has changed, or the program may continue by itself."""
        if self._seen != self._input:  # more input since the program's last step
            return
        due = self._program.due_in()
        limits = [limit for limit in (due, remaining) if limit is not None]
        self._link.changed.wait(min(limits) if limits else None)

    def _print(self, step: ProgramStep) -> None:
        for stream, printed in ((STDOUT, step.stdout), (STDERR, step.stderr)):
            if self._terminal is not None:  # it has one stream, with CR LF (termios, ONLCR)
                stream, printed = STDOUT, printed.replace(b"\n", b"\r\n")
            for start in range(0, len(printed), _CHUNK_BYTES):
                self._pending.append(Output(stream, printed[start : start + _CHUNK_BYTES]))

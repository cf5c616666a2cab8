"""A program on the host with descriptors of this machine as its stdin and stdout.

If the link can do so (`PipingLink`), the connection's holder reads and writes the descriptors by
itself, and the mark that identifies the program (`marks`) comes on stderr.  If login files print to
stdout, or may do so, the output goes to a pipe of ours, and the kernel passes on the bytes after
the mark (splice(2)).  Over other links, threads of ours carry both.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator

from ringtasks.common.descriptors import CHUNK_BYTES, enlarge, move_all, write_all
from ringtasks.common.threads import start_thread
from ringtasks.remote.marks import Mark, MarkedOutput, NoMarkError
from ringtasks.remote.script import one_line
from ringtasks.ssh.link import (
    STDERR,
    Exited,
    Link,
    LinkLostError,
    PipingLink,
    Session,
    takes_descriptors,
)
from ringtasks.ssh.session_limit import when_there_is_room

__all__ = ["FdSession"]

_MARK_TIMEOUT = 60.0  # seconds for the host's login files, which run before the program
_DRAIN_TIMEOUT = 10.0  # seconds for the last output to reach the descriptor
_END_TIMEOUT = 1.0  # the same after a lost link, whose holder may not close its end
_EVIDENCE_BYTES = 4096


class FdSession:
    """One such program, over one link.

    :param on_stderr: receives the program's stderr, from the thread that runs it.
    """

    def __init__(
        self, link: Link, on_stderr: Callable[[bytes], None], deadline: float | None = None
    ) -> None:
        self._link, self._on_stderr, self._deadline = link, on_stderr, deadline
        self._session: Session | None = None
        self._is_cancelled = False
        self._early_stderr = b""
        self._mark = Mark.new()
        self._answer = MarkedOutput(self._mark)
        self._is_direct = False
        """True if the mark comes on stderr."""
        self._is_late = False
        """True if the mark has not come in time."""

    @property
    def has_begun(self) -> bool:
        """True if the program may have been started."""
        return self._session is not None

    def run(self, script: str, shell: str, stdin: int, stdout: int) -> int | None:
        """Run ``script`` and close the descriptors; return its exit status, None if cancelled.

        :raises LinkLostError: the link failed; if nothing has begun, another link may be used.
        :raises NoMarkError: the host ran something else.
        :raises OSError: the output cannot be written.
        """
        link = self._link
        self._is_direct = takes_descriptors(link) and link.login_is_silent is True
        script = f"{self._mark.hello}{' >&2' * self._is_direct}\n{script}"
        command = one_line(script, shell)
        with _closed(stdin, stdout):
            if not takes_descriptors(link):
                status = self._run_carried(command, stdin, stdout)
            elif self._is_direct:
                status = self._run_direct(link, command, stdin, stdout)
            else:
                status = self._run_piped(link, command, stdin, stdout)
        if self._answer.pid is None and not self._is_cancelled:
            said = self._answer.preface + b"\n" + self._early_stderr
            if self._is_late:
                from ringtasks.client.refused_channel import LATE_START  # for this failure alone

                said += f"\n(no start in {_MARK_TIMEOUT:g} s: {LATE_START})".encode()
            raise NoMarkError(said.decode("utf-8", "replace"), status)
        return status

    def cancel(self) -> None:
        """Let `run` return, from another thread."""
        self._is_cancelled = True
        session = self._session
        if session is not None:
            session.wake()

    def _run_direct(self, link: PipingLink, command: str, stdin: int, stdout: int) -> int | None:
        session = self._opened(functools.partial(link.open_piped, command, stdin, stdout))
        with contextlib.closing(session):
            return self._await_end(session, None, None)

    def _run_piped(self, link: PipingLink, command: str, stdin: int, stdout: int) -> int | None:
        reader, writer = os.pipe()
        enlarge(writer)
        with _closed(writer):
            # Started first: it ends with the writer, also if no session can be opened, and closes
            # its copy of rsync's pipe then.  rsync would wait for the end of that.
            passing = _Passing(reader, stdout, self._answer, self._wake)
            session = self._opened(functools.partial(link.open_piped, command, stdin, writer))
        status = None
        try:
            with contextlib.closing(session):
                status = self._await_end(session, None, passing)
        finally:
            passing.join(_END_TIMEOUT if status is None else _DRAIN_TIMEOUT)
        if isinstance(passing.error, BrokenPipeError):
            return None
        if passing.error is not None:
            raise passing.error
        return status

    def _run_carried(self, command: str, stdin: int, stdout: int) -> int | None:
        os.set_blocking(stdin, True)  # rsync had made its own non-blocking
        session = self._opened(functools.partial(self._link.open_session, command))
        with contextlib.closing(session):
            start_thread(_send, os.dup(stdin), session, name="ringtasks-stdin")
            return self._await_end(session, stdout, None)

    def _opened(self, open_session: Callable[..., Session]) -> Session:
        """Return a session, as soon as the host has room for one."""
        self._session = when_there_is_room(
            self._link,
            open_session,
            deadline=self._deadline,
            is_cancelled=lambda: self._is_cancelled,
        )
        return self._session

    def _wake(self) -> None:
        if self._session is not None:
            self._session.wake()

    def _await_end(
        self, session: Session, stdout: int | None, passing: _Passing | None
    ) -> int | None:
        until = time.monotonic() + _MARK_TIMEOUT
        while True:
            is_marked = self._answer.pid is not None
            happened = session.receive(None if is_marked else max(0.0, until - time.monotonic()))
            if isinstance(happened, Exited):
                return happened.status
            if self._is_cancelled or self._answer.is_hopeless:
                return None
            if passing is not None and passing.error is not None:
                return None
            if happened is None:
                self._is_late = self._answer.pid is None and time.monotonic() >= until
                if self._is_late:
                    return None
                continue
            if happened.stream == STDERR:
                self._take_stderr(happened.chunk)
            elif stdout is not None and (chunk := self._answer.take(happened.chunk)):
                try:
                    write_all(stdout, chunk)
                except BrokenPipeError:  # its reader has ended
                    return None

    def _take_stderr(self, chunk: bytes) -> None:
        if self._is_direct:
            chunk = self._answer.take(chunk)
        elif self._answer.pid is None:
            self._early_stderr = (self._early_stderr + chunk)[:_EVIDENCE_BYTES]
        self._on_stderr(chunk)


class _Passing(threading.Thread):
    """Passes a pipe's bytes on to a descriptor, from the mark on; started at once.

    ``reader`` is closed in the end.  An error ends the thread: the program gets SIGPIPE, and
    ``wake`` is called.
    """

    def __init__(
        self, reader: int, target: int, answer: MarkedOutput, wake: Callable[[], None]
    ) -> None:
        super().__init__(name="ringtasks-stdout", daemon=True)
        self._reader, self._target = reader, os.dup(target)
        self._answer, self._wake = answer, wake
        self.error: OSError | None = None
        try:
            self.start()
        except RuntimeError:  # this machine allows no more threads
            os.close(reader)
            os.close(self._target)
            raise

    def run(self) -> None:
        try:
            with _closed(self._reader, self._target):
                self._pass()
        except OSError as error:
            self.error = error
        if self.error is not None or self._answer.is_hopeless:
            self._wake()

    def _pass(self) -> None:
        os.set_blocking(self._target, False)  # `move_all` needs it; so do the writes of rsync
        while self._answer.pid is None:
            received = os.read(self._reader, CHUNK_BYTES)
            if not received or self._answer.is_hopeless:
                return
            write_all(self._target, self._answer.take(received))
        move_all(self._reader, self._target)


def _send(stdin: int, session: Session) -> None:
    """Send all of the input to the host."""
    with contextlib.suppress(LinkLostError, OSError), _closed(stdin):
        while chunk := os.read(stdin, CHUNK_BYTES):
            session.send(chunk)
        session.send_eof()


@contextlib.contextmanager
def _closed(*descriptors: int) -> Iterator[None]:
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)

"""Running one script over a link: stream its output, keep its time limit, end what it started.

The command may have started once the session was asked for, or, where the script travels on stdin,
once the payload was handed over; not before (`script`).  From then on a lost link means "outcome
unknown", and nobody runs the script again by himself.  When a limit passes or the caller
interrupts, the processes on the host are ended through a second session, which then looks whether
they are gone: closing the channel would leave them running.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from ringtasks.errors import RingtasksError
from ringtasks.remote.script import READY_MARK, Script, exec_line, parse_hello, stop_script

from .link import (
    STDERR,
    STDOUT,
    Exited,
    Link,
    LinkLostError,
    NotStartedError,
    Session,
    SessionRefusedError,
    Terminal,
)

__all__ = ["MAX_HELLO_BYTES", "Ending", "Execution", "Stopped", "pump", "stop"]

#: Seconds between asking a process to end and killing it.
STOP_GRACE = 2.0
#: Seconds for the whole of stopping and looking.
_STOP_TIMEOUT = STOP_GRACE + 5.0
#: Seconds to wait for the process id of what is to be stopped.
_HELLO_TIMEOUT = 3.0
#: Seconds to wait for the last output of what was stopped.
_DRAIN_TIMEOUT = 1.0
#: Seconds between looks at whether the host opens another session.
_ROOM_INTERVAL = 0.2
_STDIN_CHUNK_BYTES = 32 * 1024
#: Login files that print more than this before the shell starts are not waited for.
MAX_HELLO_BYTES = 1024 * 1024

OnOutput = Callable[[int, bytes], None]


class Stopped(NamedTuple):
    """What became of the processes that were told to end.

    ``is_gone`` None: it could not be found out.  ``left`` are the process ids still there.
    """

    is_gone: bool | None
    left: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.is_gone is None:
            return "the remote processes were not seen to end: they may still be running"
        if self.is_gone:
            return "the remote processes were ended and seen to be gone"
        pids = ", ".join(map(str, self.left))
        return f"remote processes are STILL RUNNING: {pids}"


class Ending(NamedTuple):
    """How an execution ended: an exit status, or one of the reasons why there is none."""

    status: int | None = None
    timed_out: bool = False
    interrupted: bool = False
    lost: str | None = None
    """The link broke, and what is known of why; whether the command ran is not known."""
    stopped: Stopped | None = None


class Execution:
    """One run of one script over one link.

    :param on_output: gets `STDOUT` or `STDERR` and the bytes, as they come, in this thread.
    :param stdin: passed on until its end; None: the command's stdin is empty.
    :param spare_link: makes a link of its own, for ending processes when ``link`` has no room.
    :param is_stop: it ends another's processes: it neither waits until the host has room for
        another session, nor is it ended like a command of the caller's.
    :param meanwhile: called once the command is under way, before its output is waited for.
    """

    def __init__(
        self,
        link: Link,
        script: Script,
        on_output: OnOutput,
        *,
        shell: str = "/bin/sh",
        stdin: BinaryIO | None = None,
        terminal: Terminal | None = None,
        spare_link: Callable[[], Link] | None = None,
        is_stop: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._link = link
        self._meanwhile = meanwhile
        self._is_stop = is_stop
        self._spare_link = spare_link
        self._script = script
        self._on_output = on_output
        self._shell = shell
        self._line = script.line(shell)
        self._stdin = stdin
        self._terminal = terminal
        self._pid: int | None = None
        self._early = b""
        self._is_cancelled = False
        self.session: Session | None = None

    def cancel(self) -> None:
        """End it as an interrupt would, from another thread; `run` returns soon after."""
        self._is_cancelled = True
        if self.session is not None:
            self.session.wake()

    def run(self, timeout: float | None) -> Ending:
        """Run to the end, or for ``timeout`` seconds (None: no limit).

        :raises LinkLostError: the link failed before the command can have started.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self.session = session = self._open_session(deadline)
        except _CancelledError:
            return Ending(interrupted=True)
        except TimeoutError:
            return Ending(timed_out=True)
        try:
            if self._terminal is not None and self._line is None:
                self._await_ready(session, deadline)
            return self._follow(session, deadline)
        finally:
            session.close()

    def _open_session(self, deadline: float | None) -> Session:
        """A session, as soon as the host has room for one."""
        command = self._line or exec_line(self._shell, pty=self._terminal is not None)
        while not self._is_cancelled:
            try:
                return self._link.open_session(command, self._terminal)
            except SessionRefusedError:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError from None
                if self._is_stop or not self._link.await_session_end(_ROOM_INTERVAL):
                    raise
        raise _CancelledError

    def _follow(self, session: Session, deadline: float | None) -> Ending:
        try:
            self._send_input(session)
            self._meanwhile()
            status = self._receive_until(session, deadline)
        except NotStartedError:
            raise
        except LinkLostError as error:
            return Ending(lost=str(error))
        except (KeyboardInterrupt, _CancelledError):
            return Ending(interrupted=True, stopped=self._stop(session))
        except BaseException:  # the caller's on_output failed: a reader that went away, say
            self._stop(session)
            raise
        if status is None:
            return Ending(timed_out=True, stopped=self._stop(session))
        self._flush_early()
        return Ending(status=status)

    def _await_ready(self, session: Session, deadline: float | None) -> None:
        """Wait until the terminal takes the payload as it is; login files may print before."""
        received = b""
        while READY_MARK not in received:
            happened = session.receive(_remaining(deadline))
            if happened is None or isinstance(happened, Exited):
                raise LinkLostError("the host did not start a shell in the terminal")
            received += happened.chunk

    def _send_input(self, session: Session) -> None:
        # Where it cannot be sent, `receive` tells why: the host refused, ended, or is gone.
        with contextlib.suppress(LinkLostError):
            if self._line is None:
                session.send(self._script.payload())
            if self._stdin is None:
                session.send_eof()
        if self._stdin is not None:
            threading.Thread(
                target=pump, args=(self._stdin, session), name="ringtasks-stdin", daemon=True
            ).start()

    def _receive_until(
        self, session: Session, deadline: float | None, *, is_draining: bool = False
    ) -> int | None:
        """The exit status; None when the deadline passed."""
        while True:
            if self._is_cancelled and not is_draining:
                raise _CancelledError
            happened = session.receive(_remaining(deadline))
            if isinstance(happened, Exited):
                return happened.status
            if happened is not None:
                self._take(happened.stream, happened.chunk)
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _take(self, stream: int, chunk: bytes) -> None:
        if self._pid is not None or stream == STDERR:
            self._on_output(stream, chunk)
            return
        self._early += chunk
        hello = parse_hello(self._early, self._script.run_id)
        if hello is not None:
            noise, self._pid, chunk = hello
            self._early = b""
            if noise:
                self._on_output(STDERR, noise)  # of login files: not the command's output
            if chunk:
                self._on_output(STDOUT, chunk)
        elif len(self._early) > MAX_HELLO_BYTES:
            self._flush_early()

    def _flush_early(self) -> None:
        """No hello came: the host runs something else than a shell. Show what it said."""
        if self._early:
            self._on_output(STDERR, self._early)
            self._early = b""

    def _stop(self, session: Session) -> Stopped:
        """End the processes on the host, look whether they are gone, take their last output."""
        if self._is_stop:
            return Stopped(is_gone=None)
        with contextlib.suppress(LinkLostError):
            self._await_hello(session)
        if self._pid is None:
            return Stopped(is_gone=None)
        stopped = stop(self._link, self._pid, self._script.run_id, spare_link=self._spare_link)
        with contextlib.suppress(LinkLostError, BrokenPipeError):
            drained_by = time.monotonic() + _DRAIN_TIMEOUT
            self._receive_until(session, drained_by, is_draining=True)
        return stopped

    def _await_hello(self, session: Session) -> None:
        """Learn whom to stop: it may run already though its first words have not come yet."""
        deadline = time.monotonic() + _HELLO_TIMEOUT
        while self._pid is None and time.monotonic() < deadline:
            happened = session.receive(_remaining(deadline))
            if isinstance(happened, Exited):
                return
            if happened is not None:
                self._take(happened.stream, happened.chunk)


class _CancelledError(Exception):
    """Somebody has called `Execution.cancel`."""


def stop(
    link: Link,
    pid: int,
    run_id: str,
    grace: float = STOP_GRACE,
    *,
    spare_link: Callable[[], Link] | None = None,
    with_sudo: bool = False,
) -> Stopped:
    """End a run by its process id and mark, through a session of its own.

    :param spare_link: makes another link, where the host opens no more sessions over this one.
    :param with_sudo: use sudo where a process may not be signalled otherwise.
    """
    text = stop_script(pid, run_id, grace, with_sudo=with_sudo)
    script = Script(text, run_id=f"stop-{run_id}")
    try:
        return _stop_over(link, script)
    except SessionRefusedError:
        return _stop_over_spare(spare_link, script)
    except LinkLostError:
        return Stopped(is_gone=None)


def _stop_over_spare(spare_link: Callable[[], Link] | None, script: Script) -> Stopped:
    if spare_link is None:
        return Stopped(is_gone=None)
    try:
        link = spare_link()
    except RingtasksError:
        return Stopped(is_gone=None)
    try:
        return _stop_over(link, script)
    except LinkLostError:
        return Stopped(is_gone=None)
    finally:
        link.close()


def _stop_over(link: Link, script: Script) -> Stopped:
    listed: list[bytes] = []
    looking = Execution(
        link,
        script,
        lambda stream, chunk: listed.append(chunk) if stream == STDOUT else None,
        is_stop=True,
    )
    ending = looking.run(_STOP_TIMEOUT)
    if ending.status is None:
        return Stopped(is_gone=None)
    left = tuple(int(pid) for pid in b"".join(listed).split() if pid.isdigit())
    return Stopped(is_gone=not left, left=left)


def pump(source: BinaryIO, session: Session) -> None:
    """Pass ``source`` on as it comes. A program may end without having read all of it."""
    read = getattr(source, "read1", source.read)
    with contextlib.suppress(LinkLostError, ValueError, OSError):
        while chunk := read(_STDIN_CHUNK_BYTES):
            session.send(chunk)
        session.send_eof()


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())

"""Run one script over a link: stream its output, keep its time limit, end its processes.

The command may have started once the session was requested or, if the script travels on stdin,
once the payload was handed over; not before (`script`).  From then on a lost link means "outcome
unknown", and the script is not run again.  Until the script's mark has come (`marks`), no output
of the host is taken for the command's, and no input is sent.  If a limit passes or the caller
interrupts, a second session ends the processes on the host and checks that they are gone: closing
the channel would leave them running.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import BinaryIO

from ringtasks.common import interruption
from ringtasks.common.threads import start_thread
from ringtasks.errors import RingtasksError
from ringtasks.remote.marks import NO_STDIN, MarkedOutput
from ringtasks.remote.script import GIVE_UP, Script

from .execution_types import Ending, ExecutionOptions, RunShell, StopOutcome
from .link import (
    STDERR,
    STDOUT,
    Exited,
    Link,
    LinkLostError,
    NotStartedError,
    Session,
    SessionRefusedError,
    takes_descriptors,
)
from .session_limit import awaiting_over, remaining, when_there_is_room

__all__ = ["Ending", "Execution", "ExecutionOptions", "RunShell", "StopOutcome", "pass_on", "stop"]

#: Seconds between requesting a process to end and killing it.
STOP_GRACE = 2.0
#: Seconds for stopping and checking together.
_STOP_TIMEOUT = STOP_GRACE + 10.0
#: Seconds to wait for the process id of the command to stop.
_HELLO_TIMEOUT = 3.0
#: Seconds to wait for the last output of a stopped command.
_DRAIN_TIMEOUT = 1.0
_STDIN_CHUNK_BYTES = 32 * 1024
#: Seconds for the host to start the script's shell: a login file may wait for a network.
_MARK_TIMEOUT = 60.0
_LEAST_READY_TIMEOUT = 15.0
#: Seconds after which a program that may wait for commands instead of the shell is told to end.
_GIVE_UP_DELAY = 2.0
#: Seconds after that for the mark, if a terminal shows text instead: nothing has been started.
_PROMPT_TIMEOUT = 8.0
#: Seconds for the exit status of a program that has closed its stdout without the mark.
_EXIT_TIMEOUT = 2.0
_EVIDENCE_BYTES = 4096
_MAX_EARLY_BYTES = 1024 * 1024
#: The process ids that a host names as still running.
_MAX_STOP_ANSWER_BYTES = 1024 * 1024

OnOutput = Callable[[int, bytes], None]


class Execution:
    """The execution of one script, over one link.

    If the link fails before the command can have started, it may `run` over another one.

    :param on_output: receives `STDOUT` or `STDERR` and the bytes as they arrive, in this thread.
    """

    def __init__(
        self,
        script: Script,
        on_output: OnOutput,
        options: ExecutionOptions | None = None,
    ) -> None:
        self._script, self._on_output = script, on_output
        self._options = options = options or ExecutionOptions()
        # With a terminal the script follows the mark: if the host refuses the terminal, and starts
        # the shell all the same, nothing has run.
        self._line = script.line(options.shell) if options.terminal is None else None
        self._is_cancelled = False
        self.session: Session | None = None
        self._began = 0.0

    @property
    def has_terminal(self) -> bool:
        """True if it requests a terminal from the host."""
        return self._options.terminal is not None

    def cancel(self) -> None:
        """End it from another thread, like an interrupt; `run` returns soon after."""
        self._is_cancelled = True
        if self.session is not None:
            self.session.wake()

    def run(self, link: Link, timeout: float | None) -> Ending:
        """Run to the end, or for ``timeout`` seconds (None: no limit).

        :raises LinkLostError: the link failed before the command can have started.
        """
        self._begin(link)
        terminal = self._options.terminal
        command = self._line or self._script.start_line(self._options.shell, pty=self.has_terminal)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self.session = session = when_there_is_room(
                link,
                functools.partial(link.open_session, command, terminal),
                deadline=deadline,
                is_cancelled=lambda: self._options.is_stop or self._is_cancelled,
                host=self._options.host,
            )
        except LinkLostError as error:
            if self._is_cancelled and isinstance(error, SessionRefusedError):
                return Ending(interrupted=True)
            if _is_over(deadline):
                return Ending(timed_out=True)
            raise
        except KeyboardInterrupt as error:
            # The command travels in the request for the session, which may have been sent; not
            # while room is awaited after a refusal.
            is_refused = isinstance(error.__context__, SessionRefusedError)
            is_known = self._line is None or is_refused
            return Ending(interrupted=True, stopped=None if is_known else StopOutcome(is_gone=None))
        try:
            return self._follow(session, deadline)
        finally:
            session.close()

    def _begin(self, link: Link) -> None:
        self._link = link
        self._answer = MarkedOutput(
            self._script.mark,
            has_end=self._script.is_own,
            is_sent_later=self._line is None and not self.has_terminal,
        )
        self._early_stderr: list[bytes] = []
        self._early_bytes = self._output_bytes = 0
        self._is_payload_sent = self._has_given_up = self._has_closed_stdout = False

    def _follow(self, session: Session, deadline: float | None) -> Ending:
        try:
            if self._line is not None and self._options.stdin is None:
                _end_input(session)
            if self._options.meanwhile is not None:
                self._options.meanwhile()
            with awaiting_over(self._link, self._options.host):
                status = self._await_mark(session, deadline)
            if status is None and self._answer.pid is not None:
                status = self._receive_until(session, deadline)
        except LinkLostError as error:
            is_refused = isinstance(error, NotStartedError) and error.request != "pty-req"
            if is_refused or not self._may_have_started:
                raise
            if _is_over(deadline):  # the host opened no session in this time
                return Ending(timed_out=True, stopped=StopOutcome(is_gone=None))
            return Ending(lost=str(error))
        except KeyboardInterrupt:
            with self._ending_announced():
                return self._interrupted(session)
        except _CancelledError as error:
            ending = self._interrupted(session)
            return Ending(unknown=str(error)) if isinstance(error, _ExcessError) else ending
        except BaseException:  # the caller's on_output failed, for example since its reader is gone
            self._stop(session)
            raise
        return self._ended(session, status, deadline)

    def _interrupted(self, session: Session) -> Ending:
        stopped = self._stop(session) if self._may_have_started else None
        return Ending(interrupted=True, stopped=stopped)

    def _ending_announced(self) -> contextlib.AbstractContextManager[None]:
        """Announce that ending a command of the user takes time; a question is just left."""
        if self._script.is_own:
            return contextlib.nullcontext()
        return interruption.ending(
            _HELLO_TIMEOUT + _STOP_TIMEOUT + _DRAIN_TIMEOUT,
            "interrupted: ending the remote processes; Ctrl-C again exits at once",
            remains="exited at once: the remote processes may still be running",
        )

    @property
    def _may_have_started(self) -> bool:
        return self._line is not None or self._is_payload_sent

    def _ended(self, session: Session, status: int | None, deadline: float | None) -> Ending:
        if status is None and (self._answer.pid is not None or _is_over(deadline)):
            stopped = self._stop(session) if self._may_have_started else None
            return Ending(timed_out=True, stopped=stopped, unproven=self._evidence())
        if self._answer.pid is None:
            is_hopeless = self._answer.is_hopeless or self._has_closed_stdout
            is_slow = status is None and not is_hopeless and self._may_have_started
            late = f"the command's shell has not started within {self._mark_timeout:g} s"
            unknown = late if is_slow else None
            return Ending(status=status, unknown=unknown, unproven=self._evidence())
        if self._answer.is_unread:
            return Ending(status=status, unproven=NO_STDIN)
        if rest := self._answer.rest():
            self._on_output(STDOUT, rest)
        if not self._script.is_own:
            return Ending(status=status)
        if self._answer.status is None:
            return Ending(unknown=f"the answer was cut short (exit status {status})")
        return Ending(status=self._answer.status)

    def _evidence(self) -> str | None:
        """Return the text that came instead of the mark; None if the mark has come."""
        if self._answer.pid is not None:
            return None
        said = self._answer.preface + b"\n" + b"".join(self._early_stderr)
        return said[:_EVIDENCE_BYTES].decode("utf-8", "replace")

    def _await_mark(self, session: Session, deadline: float | None) -> int | None:
        """Wait until the script's shell runs, and send its payload and input.

        :returns: the exit status of a program that ended before; None: the mark has come, or is no
            longer awaited.
        """
        started = time.monotonic()
        limit, last = self._limits(started, deadline)
        give_up_at = started + _GIVE_UP_DELAY if self._line is None else None
        while self._answer.pid is None and not self._is_hopeless:
            until = limit if give_up_at is None else min(limit, give_up_at)
            status = self._receive_until(session, until, is_until_mark=True)
            if self._answer.pid is not None:
                self._begin_input(session)
            if status is not None:
                return status
            if self._has_closed_stdout:  # no mark will come; the exit status follows at once
                limit = last = min(limit, time.monotonic() + _EXIT_TIMEOUT)
            if time.monotonic() >= limit:
                if not self._answer.is_arriving or limit >= last:
                    break
                limit = last  # the host runs the script, and answers slowly
            if give_up_at is not None and time.monotonic() >= give_up_at:
                give_up_at = None
                with contextlib.suppress(LinkLostError):
                    session.send(GIVE_UP)
                self._has_given_up = True
                if self._options.terminal is not None and self._answer.preface:
                    # It may be the prompt of a shell that takes no command.
                    limit = min(limit, time.monotonic() + _PROMPT_TIMEOUT)
        return None

    def _limits(self, started: float, deadline: float | None) -> tuple[float, float]:
        """Return the times until which the mark is awaited: at first, and once it has begun."""
        ready_timeout = max(_LEAST_READY_TIMEOUT, self._options.ready_timeout)
        # A script that waits for its input, because its mark is not one, does not end by itself.
        awaits_input = self._script.is_own and self._options.stdin is not None
        is_patient = self._line is not None and not awaits_input
        self._mark_timeout = _MARK_TIMEOUT if is_patient else ready_timeout
        limit = started + self._mark_timeout
        last = started + min(2 * ready_timeout, _MARK_TIMEOUT)
        return (limit, last) if deadline is None else (min(limit, deadline), min(last, deadline))

    @property
    def _is_hopeless(self) -> bool:
        """True if the mark will not come; a program that repeats its input got no script."""
        if not self._has_given_up or self._options.terminal is not None:  # a terminal repeats, too
            return self._answer.is_hopeless
        said = self._answer.preface
        is_repeated = self._script.mark.hello.encode() in said or said.endswith(GIVE_UP)
        return is_repeated or self._answer.is_hopeless

    def _begin_input(self, session: Session) -> None:
        # If it cannot be sent, `receive` gives the reason: the host refused, ended, or is gone.
        with contextlib.suppress(LinkLostError):
            if self._line is None:
                self._is_payload_sent = True
                session.send(self._script.payload())
                if self._options.stdin is None:
                    session.send_eof()
        if self._options.stdin is not None:
            pass_on(self._options.stdin, session)

    def _receive_until(
        self,
        session: Session,
        deadline: float | None,
        *,
        is_draining: bool = False,
        is_until_mark: bool = False,
    ) -> int | None:
        """Return the exit status; None once the deadline passed or the awaited mark came."""
        while True:
            if self._is_cancelled and not is_draining:
                raise _CancelledError
            happened = session.receive(remaining(deadline))
            if isinstance(happened, Exited):
                return happened.status
            if happened is not None:
                self._take(happened.stream, happened.chunk)
                is_known = self._answer.pid is not None or self._is_hopeless
                if is_until_mark and (is_known or not happened.chunk):
                    return None
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def _take(self, stream: int, chunk: bytes) -> None:
        has_begun = self._answer.pid is not None
        if stream == STDOUT:
            self._has_closed_stdout = not chunk
            chunk = self._answer.take(chunk)
            if not has_begun and self._answer.pid is not None:
                self._began = time.monotonic()
                self._note_login()
                for early in self._early_stderr:  # it may be the command's
                    self._on_output(STDERR, early)
        elif not has_begun:
            self._early_bytes += len(chunk)
            if self._early_bytes <= _MAX_EARLY_BYTES:
                self._early_stderr.append(chunk)
            return
        if chunk and not self._is_excess(chunk):
            self._on_output(stream, chunk)

    def _is_excess(self, chunk: bytes) -> bool:
        """Return True if no more output is taken.

        :raises _ExcessError: the first time.
        """
        most = self._options.max_output_bytes
        if most is None:
            return False
        was_excess = self._output_bytes > most
        self._output_bytes += len(chunk)
        if self._output_bytes > most and not was_excess:
            raise _ExcessError(f"its answer is longer than {most} bytes")
        return was_excess

    def _note_login(self) -> None:
        link = self._link
        if takes_descriptors(link) and link.login_is_silent is not False:
            link.login_is_silent = not self._answer.preface

    def _stop(self, session: Session) -> StopOutcome:
        """End the processes on the host, verify that they are gone, take their last output."""
        if self._options.is_stop:
            return StopOutcome(is_gone=None)
        if self._answer.pid is None:  # the command may run before its first bytes arrive
            limit = time.monotonic() + _HELLO_TIMEOUT
            with contextlib.suppress(LinkLostError, _ExcessError):
                self._receive_until(session, limit, is_draining=True, is_until_mark=True)
        if self._answer.pid is None:
            return StopOutcome(is_gone=None)
        shell = RunShell(self._answer.pid, self._script.run_id, self._began)
        stopped = stop(self._link, shell, spare_link=self._options.spare_link)
        with contextlib.suppress(LinkLostError, BrokenPipeError, _ExcessError):
            drained_by = time.monotonic() + _DRAIN_TIMEOUT
            self._receive_until(session, drained_by, is_draining=True)
        return stopped


class _CancelledError(Exception):
    """`Execution.cancel` was called."""


class _ExcessError(_CancelledError):
    """The output is longer than it may be."""


def stop(
    link: Link,
    shell: RunShell,
    *,
    spare_link: Callable[[], Link] | None = None,
    with_sudo: bool = False,
) -> StopOutcome:
    """End a run by its shell and mark, through a session of its own.

    :param spare_link: makes another link, if the host opens no more sessions over this one.
    :param with_sudo: use sudo for a process that may not be signalled otherwise.
    """
    from ringtasks.remote.stop_run import stop_run_script

    age = time.monotonic() - shell.began
    text = stop_run_script(shell.pid, shell.run_id, STOP_GRACE, age=age, with_sudo=with_sudo)
    script = Script(text, run_id=f"stop-{shell.run_id}", is_own=True)
    with contextlib.suppress(LinkLostError, RingtasksError):
        try:
            return _stop_over(link, script)
        except SessionRefusedError:
            if spare_link is not None:
                with contextlib.closing(spare_link()) as spare:
                    return _stop_over(spare, script)
    return StopOutcome(is_gone=None)


def _stop_over(link: Link, script: Script) -> StopOutcome:
    listed: list[bytes] = []
    looking = Execution(
        script,
        lambda stream, chunk: listed.append(chunk) if stream == STDOUT else None,
        ExecutionOptions(is_stop=True, max_output_bytes=_MAX_STOP_ANSWER_BYTES),
    )
    ending = looking.run(link, _STOP_TIMEOUT)
    if ending.status != 0 or ending.unproven is not None:
        return StopOutcome(is_gone=None)
    from ringtasks.remote.answers import AnswerError, process_id

    try:
        left = tuple(map(process_id, b"".join(listed).decode("utf-8", "replace").split()))
    except AnswerError:
        return StopOutcome(is_gone=None)
    return StopOutcome(is_gone=not left, left=left)


def pass_on(source: BinaryIO, session: Session) -> None:
    """Send ``source`` to the program's stdin as it arrives, in a thread."""
    start_thread(_pump, source, session, name="ringtasks-stdin")


def _pump(source: BinaryIO, session: Session) -> None:
    """Pass ``source`` on until its end. A program may end before it has read all of it."""
    read = getattr(source, "read1", source.read)
    with contextlib.suppress(LinkLostError, ValueError, OSError):
        while chunk := read(_STDIN_CHUNK_BYTES):
            session.send(chunk)
        session.send_eof()


def _end_input(session: Session) -> None:
    with contextlib.suppress(LinkLostError):  # `receive` gives the reason
        session.send_eof()


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline

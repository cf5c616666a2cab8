"""Fabric's remote runner: the environment is hidden, and a time limit ends the processes.

Fabric puts ``export NAME=value &&`` in front of the command: unquoted, and in the host's process
list.  Here the values travel on stdin, as everywhere in ringtasks (`script`), once the host has
shown that it runs our shell (`marks`); the command still runs in the user's login shell.

Fabric ends a command by closing its channel, which leaves the processes running (sshd signals no
process unless there is a terminal).  Here a command that may be ended first prints its process id,
and a second session ends its processes.  A command that has neither an environment nor a time
limit, and is not asynchronous, is sent unchanged, as with Fabric: also to hosts without a POSIX
shell.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
import threading
import time
from typing import Any

from ringtasks.common.text import bounded
from ringtasks.errors import OtherProgramError, OutcomeUnknownError
from ringtasks.remote.marks import NO_STDIN, MarkedOutput
from ringtasks.remote.programs import Program
from ringtasks.remote.script import Script, is_variable_name
from ringtasks.ssh.execution import Execution, stop
from ringtasks.ssh.execution_types import RunShell
from ringtasks.ssh.link import Link, LinkLostError

from .fabric_private import PublicRemote

__all__ = ["Remote"]

_log = logging.getLogger("ringtasks")

#: Seconds to wait for the process id of a command to be ended, or for a terminal to be ready.
_HELLO_TIMEOUT = 3.0
_CHUNK_BYTES = 32 * 1024
_EVIDENCE_BYTES = 4096
#: Seconds for all of `execution.stop`, with a margin.
_KILL_TIMEOUT = 20.0
_SIBLING_TIMEOUT = 8.0  # seconds to end a command whose process id is not known
_END_SIBLING = Program(__file__, "end_sibling.sh")


class Remote(PublicRemote):
    """A runner of commands on a Connection's host."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._script: Script | None = None
        self._answer: MarkedOutput | None = None
        """The output of a script; None: the command is sent unchanged."""
        self._early = b""
        """The output that came before the script was sent."""
        self._has_begun = threading.Event()
        """Set once the mark has come, or is no longer awaited."""
        self._began_at = 0.0
        """The time of that, by the monotonic clock."""
        self._is_killed = False
        self._is_over_time = False
        self._is_interrupted = False
        self._has_stopped = threading.Event()

    def run(self, command: str, **kwargs: Any) -> Any:
        is_stdin_free = kwargs.get("in_stream") is None and not self.context.config.run.in_stream
        if self.context._has_fake_link and is_stdin_free:
            kwargs["in_stream"] = False  # pytest's stdin cannot be read
        try:
            return super().run(command, **kwargs)
        except KeyboardInterrupt:  # it may come before the runner waits for the command
            self._end_interrupted()
            raise

    def start(
        self, command: str, shell: str, env: dict[str, Any], timeout: float | None = None
    ) -> None:
        self._start(command, shell, env, timeout)
        if self.context._has_fake_link and self.streams["in"] is False:
            self.channel.shutdown_write()  # a fake host answers once it has all input

    def _start(self, command: str, shell: str, env: dict[str, Any], timeout: float | None) -> None:
        may_be_ended = self.opts["timeout"] is not None or self.is_asynchronous
        if not env and not may_be_ended:
            super().start(command, shell, {}, timeout)
            return
        script = Script(
            command, env=self._sendable(env), run_id=secrets.token_hex(8), in_login_shell=True
        )
        line = script.line()
        request = line or script.start_line(pty=self.using_pty)
        super().start(request, shell, {}, timeout)
        self._answer = answer = MarkedOutput(
            script.mark, is_sent_later=line is None, most_kept=sys.maxsize
        )
        if line is None:
            self._await_mark(answer)
            try:
                self.channel.sendall(script.payload())
            except OSError:  # the shell has ended
                answer.is_unread = True
        self._script = script

    def read_proc_stdout(self, num_bytes: int) -> bytes:
        early, self._early = self._early, b""
        if early:
            return early
        while True:
            chunk: bytes = super().read_proc_stdout(num_bytes)
            received = chunk if self._answer is None else self._taken(self._answer, chunk)
            if received or not chunk:
                return received

    @property
    def timed_out(self) -> bool:
        """True if the time limit has passed, also while the processes are still being ended."""
        return self._is_over_time or bool(super().timed_out)

    def kill(self) -> None:
        """End the command's processes on the host, then close the channel."""
        self._is_over_time = threading.current_thread() is self.timer
        self._is_killed = True
        try:
            self._end_processes()
        finally:
            self._has_stopped.set()
            super().kill()

    def send_interrupt(self, interrupt: KeyboardInterrupt) -> None:
        """Pass Ctrl-C on to a terminal; without one, end the command's processes and raise it."""
        if self.using_pty:
            super().send_interrupt(interrupt)
            return
        self._end_interrupted()
        raise interrupt

    def _end_interrupted(self) -> None:
        """End the command's processes, once.

        A command that was sent unchanged has told no process id. It is found as the only other
        child of the sshd process of this connection; if there are several, none is ended.
        """
        channel = getattr(self, "channel", None)
        if self._is_interrupted or channel is None:  # nothing was sent yet
            return
        self._is_interrupted = True
        try:
            if self._script is not None:
                self._end_processes()
            elif self.context.is_connected:
                _end_only_sibling(self.context._as_link())
        finally:
            channel.close()  # the threads that read from it end

    def returncode(self) -> int:
        """Return the exit status; -1 if the command was ended before it had one, as in Fabric.

        :raises OutcomeUnknownError: the link was lost; the command may go on.
        :raises OtherProgramError: the shell could not read the script.
        """
        if self._is_killed:
            self._has_stopped.wait(_KILL_TIMEOUT)
        status: int = super().returncode()
        if status == -1 and not self._is_killed:
            raise OutcomeUnknownError(self.context.ssh.id, self.context.transport_used or "")
        if self._answer is not None and self._answer.is_unread:
            raise OtherProgramError(self.context.ssh.id, NO_STDIN, status)
        return status

    def _sendable(self, env: dict[str, Any]) -> dict[str, str]:
        """Return ``env`` as text, without inherited variables that a shell cannot name."""
        wanted = self.opts["env"]
        return {
            name: str(value)
            for name, value in env.items()
            if name in wanted or is_variable_name(name)
        }

    def _await_mark(self, answer: MarkedOutput) -> None:
        """Wait until the shell is ready for the payload.

        :raises OtherProgramError: the host runs another program; no environment was sent to it.
        :raises OutcomeUnknownError: the link was lost.
        """
        channel = self.channel
        channel.settimeout(self.context.ssh.connect_timeout)
        try:
            while not self._has_begun.is_set():
                if not (chunk := channel.recv(_CHUNK_BYTES)):
                    self.returncode()
                    break
                self._early += self._taken(answer, chunk)
        except TimeoutError:
            pass  # a program that waits for input
        if answer.pid is None:
            said = answer.preface[:_EVIDENCE_BYTES] + b"\n"
            if channel.recv_stderr_ready():
                said += channel.recv_stderr(_EVIDENCE_BYTES)
            channel.close()
            raise OtherProgramError(self.context.ssh.id, bounded(said.decode("utf-8", "replace")))
        channel.settimeout(None)

    def _taken(self, answer: MarkedOutput, chunk: bytes) -> bytes:
        """Return the output in ``chunk``; that of login files comes first, as in Fabric."""
        is_first = not self._has_begun.is_set()
        if not is_first and answer.pid is None:  # the mark is no longer awaited
            return chunk
        received = answer.take(chunk) if chunk else answer.rest()
        if not is_first:
            return received
        if chunk and answer.pid is None and not answer.is_hopeless:
            return b""
        self._began_at = time.monotonic()
        self._has_begun.set()
        return answer.preface + received

    def _end_processes(self) -> None:
        if self._script is None or self._answer is None or not self.context.is_connected:
            return
        self._has_begun.wait(_HELLO_TIMEOUT)
        if self._answer.pid is None:
            _log.warning("%s: the command could not be ended: unknown process", self.context.ssh.id)
            return
        link = self.context._as_link()
        uses_sudo = self._script.command.startswith("sudo ")
        stopped = stop(
            link,
            RunShell(self._answer.pid, self._script.run_id, self._began_at),
            spare_link=self.context._spare_link,
            with_sudo=uses_sudo,
        )
        if not stopped.is_gone:
            _log.warning("%s: %s", self.context.ssh.id, stopped)


def _end_only_sibling(link: Link) -> None:
    """End the one other command of a connection, with its process group.

    All sessions of a connection are children of one sshd process, each in a process group of its
    own (session.c, do_exec_no_pty).  It is found in /proc; on other systems nothing is ended.
    """
    script = Script(_END_SIBLING.text, run_id=secrets.token_hex(8), is_own=True)
    with contextlib.suppress(LinkLostError):
        Execution(script, lambda *_: None).run(link, _SIBLING_TIMEOUT)

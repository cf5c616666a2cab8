"""One operation of a client under way: what needs a link, and a command as such."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ringtasks.common.capture import Capture
from ringtasks.exit_status import TIMED_OUT
from ringtasks.remote.script import Script
from ringtasks.ssh.execution import Ending, Execution
from ringtasks.ssh.link import STDOUT, Link, Terminal
from ringtasks.ssh.link_pool import RouteReport, prepare

if TYPE_CHECKING:
    from .result import SSHResult

__all__ = ["Call", "OnOutput", "Work"]

#: Called with 1 (stdout) or 2 (stderr) and the bytes as they arrive.
OnOutput = Callable[[int, bytes], None]


class Work(Protocol):
    """An operation that needs a link: a command, a copy, an rsync."""

    report: RouteReport
    limit: float | None
    is_interrupted: bool

    def run_over(self, link: Link) -> Ending: ...

    def cancel(self) -> None: ...

    def result(
        self, host: str, returncode: int, link: Link | None, error: str | None = None
    ) -> SSHResult: ...


class Call:
    """One command under way: its script, its output so far, and its report on routes."""

    def __init__(self, script: Script, limit: float | None, max_output_bytes: int) -> None:
        self.script, self.limit = script, limit
        self.stdin: BinaryIO | None = None
        self.terminal: Terminal | None = None
        self.shell = "/bin/sh"
        self.spare_link: Callable[[], Link] | None = None
        self.on_output: OnOutput = self._keep
        self.report = RouteReport()
        self.is_interrupted = False
        self.before_start: Callable[[], None] = lambda: None
        self.max_answer_bytes: int | None = None
        """Output beyond this ends the command: ringtasks' own scripts answer in few bytes."""
        self._answer_bytes = 0
        self._stdout, self._stderr = Capture(max_output_bytes), Capture(max_output_bytes)
        self._started = time.monotonic()
        self._execution: Execution | None = None
        self._is_cancelled = False

    def run_over(self, link: Link) -> Ending:
        """Run the command over ``link``.

        :raises LinkLostError: the link failed before the command can have started.
        """
        self._execution = Execution(
            link,
            self.script,
            self.on_output,
            shell=self.shell,
            stdin=self.stdin,
            terminal=self.terminal,
            spare_link=self.spare_link,
            meanwhile=_load_the_rest,
        )
        self.before_start()
        if self._is_cancelled:
            return Ending(interrupted=True)
        ending = self._execution.run(self.limit)
        if self._is_too_long:
            why = f"it answered more than the {self.max_answer_bytes} bytes that an answer may have"
            return Ending(unknown=why)
        return ending

    def cancel(self) -> None:
        """End the command, from another thread."""
        self._is_cancelled = True
        if self._execution is not None:
            self._execution.cancel()

    def result(
        self, host: str, returncode: int, link: Link | None, error: str | None = None
    ) -> SSHResult:
        from .result import SSHResult

        stdout, stderr = self._stdout.getvalue(), self._stderr.getvalue()
        return SSHResult(
            success=returncode == 0 and error is None,
            returncode=returncode,
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 3),
            command=self.script.command,
            host=host,
            transport_used=link.route if link else None,
            timed_out=returncode == TIMED_OUT and error is not None,
            error=error,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
        )

    @property
    def _is_too_long(self) -> bool:
        return self.max_answer_bytes is not None and self._answer_bytes > self.max_answer_bytes

    def _keep(self, stream: int, chunk: bytes) -> None:
        self._answer_bytes += len(chunk)
        if self._is_too_long:
            if self._execution is not None:
                self._execution.cancel()
            return
        (self._stdout if stream == STDOUT else self._stderr).add(chunk)


def _load_the_rest() -> None:
    """Import the modules for the end of a call: 3 ms, spent while the remote command runs."""
    from . import result  # noqa: F401

    prepare()

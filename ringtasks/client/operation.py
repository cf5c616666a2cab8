"""One operation over the link to a host: a command, a copy, a stream, an rsync.

An operation gets a link and does its work over it; the outcome becomes an `SSHResult` and one
record of the host's health.  If the link fails before anything can have started, the work is done
over another link.  Once it may have started it is never done again: its outcome is unknown.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ringtasks.common.capture import CapturedOutput
from ringtasks.common.light_typing import Protocol
from ringtasks.common.text import bounded, printable
from ringtasks.common.threads import NO_MEMORY, start_timer, translated
from ringtasks.errors import (
    LimitError,
    OtherProgramError,
    OutcomeUnknownError,
    RouteError,
    UnreachableError,
)
from ringtasks.exit_status import INTERRUPTED, TIMED_OUT, UNREACHABLE
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import Link, LinkLostError, NotStartedError, SessionRefusedError
from ringtasks.ssh.link_pool import LinkPool, RouteReport

if TYPE_CHECKING:  # imported while the remote command runs
    from .result import SSHResult

__all__ = ["LimitedWork", "Operation", "Work"]

#: Attempts, each over another link, if the link fails before the work can have started.
_LINK_ATTEMPTS = 3
#: A shell's exit statuses for a program that cannot be executed or is not found (XCU 2.8.2).
_NOT_STARTED = (126, 127)


class Work(Protocol):
    """The part of an operation that uses the link."""

    @property
    def has_terminal(self) -> bool:
        """True if it requests a terminal from the host."""

    def run(self, link: Link, limit: float | None) -> Ending:
        """Do it within ``limit`` seconds (None: no limit).

        :raises LinkLostError: the link failed before anything can have started.
        """

    def cancel(self) -> None:
        """Make `run` end soon; from any thread, also before it is called."""


class LimitedWork(ABC):
    """Work that a timer ends when its time limit has passed."""

    has_terminal = False

    def __init__(self) -> None:
        self._is_cancelled = False
        self._deadline: float | None = None
        """By `time.monotonic`; None: no limit."""

    @abstractmethod
    def _run_over(self, link: Link) -> Ending | None:
        """Do it; None: it was ended by `_interrupt`."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Make `_run_over` end soon; from any thread."""

    @property
    def _is_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    @property
    def _is_stopped(self) -> bool:
        return self._is_cancelled or self._is_late

    def run(self, link: Link, limit: float | None) -> Ending:
        """See `Work`."""
        self._deadline = None if limit is None else time.monotonic() + limit
        timer = limit and start_timer(limit, self._interrupt, name="ringtasks-limit")
        try:
            ending = self._run_over(link)
        except LinkLostError:  # the wait for a session was ended
            if not self._is_stopped:
                raise
            ending = None
        finally:
            if timer:
                timer.cancel()
        if ending is None:
            return Ending(timed_out=self._is_late, interrupted=not self._is_late)
        return ending

    def cancel(self) -> None:
        """End it, from another thread."""
        self._is_cancelled = True
        self._interrupt()


class Operation:
    """One piece of work for one host.

    :param command: the command as the result shows it.
    :param limit: seconds that the work may take once a link is open; None: no limit.
    :param kind: the noun for it in error messages.
    :param output: its output, as far as it is kept for the result.
    :param before_start: called when a link is open, before the work can start.
    """

    def __init__(
        self,
        work: Work,
        command: str,
        limit: float | None,
        *,
        kind: str = "transfer",
        output: CapturedOutput | None = None,
        before_start: Callable[[], None] | None = None,
    ) -> None:
        self.work, self._command, self.limit = work, command, limit
        self._kind, self._output, self._before_start = kind, output, before_start
        self.report = RouteReport()
        """The outcomes of routes that its record in the health file will have."""
        self._started = time.monotonic()
        self._is_cancelled = False
        self.is_interrupted = False

    def cancel(self) -> None:
        """End it, from another thread."""
        self._is_cancelled = True
        self.work.cancel()

    def perform(self, pool: LinkPool) -> SSHResult:
        """Do the work over the host's link, and record the outcome.

        :raises UsageError: this machine allows no more threads or processes.
        """
        failures: dict[str, RouteError] = {}
        refused: LinkLostError | None = None
        try:
            for _ in range(_LINK_ATTEMPTS):
                try:
                    with translated(pool.config.id):
                        link = pool.link(self.report)
                except UnreachableError as error:
                    return self._unreachable(pool, error)
                if self._before_start is not None:
                    self._before_start()
                try:
                    with translated(pool.config.id):
                        ending = _UNBEGUN if self._is_cancelled else self.work.run(link, self.limit)
                except LinkLostError as error:  # nothing can have started: another link may work
                    if isinstance(error, NotStartedError) and _is_lasting(error, refused):
                        return self._no_channel(pool, link, error)
                    refused = error
                    failures[link.route] = pool.lost_before_start(link, self.report, error)
                    continue
                return self.ended(pool, link, ending)
        except MemoryError:
            return self._out_of_memory(pool)
        return self._unreachable(pool, UnreachableError(pool.config.id, tuple(failures.values())))

    def _out_of_memory(self, pool: LinkPool) -> SSHResult:
        if self._output is not None:
            self._output.clear()  # frees memory, also for the other hosts
        error = _unknown(pool.config.id, Ending(unknown=NO_MEMORY))
        return replace(self._result(pool.config.id, UNREACHABLE, None, error), is_unknown=True)

    def prepare_end(self, pool: LinkPool) -> None:
        """Do what can be done while the remote command runs: imports, and the likely record."""
        from . import result  # noqa: F401

        pool.prepare(self.report)

    def ended(self, pool: LinkPool, link: Link, ending: Ending) -> SSHResult:
        """Record that the work has ended over ``link``, and return its result."""
        if ending.lost is not None:
            return self._lost(pool, link, ending.lost)
        self.report.served(link.route)
        pool.record(self.report, success=True)
        self.is_interrupted = ending.interrupted
        host, route = pool.config.id, link.route
        if ending.interrupted:
            told = "; ".join(["interrupted", *self._fate(ending)])
            result = self._result(host, INTERRUPTED, route, told)
            may_go_on = ending.stopped is not None and not ending.stopped.is_gone
            return replace(result, may_go_on=may_go_on)
        if ending.unknown is not None:
            result = self._result(host, UNREACHABLE, route, _unknown(host, ending))
            return replace(result, is_unknown=True)
        if ending.unproven is not None and not ending.timed_out:
            result = self._result(host, UNREACHABLE, route, self._other_program(pool, ending))
            return replace(result, is_other_program=True)
        if ending.status is None:
            result = self._result(host, TIMED_OUT, route, self._passed(pool, ending))
            return replace(result, has_silent_shell=ending.unproven is not None)
        error = None if ending.error is None else f"{host}: {ending.error}"
        return self._result(host, ending.status, route, error)

    def _no_channel(self, pool: LinkPool, link: Link, refused: NotStartedError) -> SSHResult:
        """Return the result if the host has no channel for the work, but was reached."""
        from .refused_channel import NoChannelError

        self.report.served(link.route)
        pool.record(self.report, success=True)
        request = refused.request or "session"
        error = NoChannelError(pool.config.id, request, printable(str(refused)))
        result = self._result(pool.config.id, UNREACHABLE, link.route, str(error))
        return replace(result, is_other_program=True)

    def _lost(self, pool: LinkPool, link: Link, evidence: str) -> SSHResult:
        from ringtasks.ssh.rehearsal import mark_of_loss

        pool.drop(link)
        self.report.lost(link.route)
        pool.record(self.report, success=False, reason="link lost")
        marked = printable(evidence) + mark_of_loss(pool.config.id, link.route)
        unknown = OutcomeUnknownError(pool.config.id, link.route, marked)
        result = self._result(pool.config.id, UNREACHABLE, link.route, str(unknown))
        return replace(result, is_unknown=True)

    def _unreachable(self, pool: LinkPool, error: UnreachableError) -> SSHResult:
        pool.record_unreachable(self.report, error)
        return self._result(pool.config.id, UNREACHABLE, None, str(error))

    def _passed(self, pool: LinkPool, ending: Ending) -> str:
        """Return the error of an operation whose time limit has passed."""
        limit = self.limit or 0
        said = [str(LimitError(pool.config.id, f"the {self._kind}'s time limit", limit))]
        said += self._fate(ending)
        if ending.unproven is not None:
            said.append(_shell_silent(bounded(ending.unproven)))
        return "; ".join(said)

    def _other_program(self, pool: LinkPool, ending: Ending) -> str:
        error = OtherProgramError(pool.config.id, bounded(ending.unproven or ""), ending.status)
        if ending.status in _NOT_STARTED and pool.config.shell != "/bin/sh":
            error.advice = f"check shell ({pool.config.shell})"
        else:
            from .refused_channel import advise_on_gateway

            advise_on_gateway(error, has_terminal=self.work.has_terminal)
        return str(error)

    def _fate(self, ending: Ending) -> list[str]:
        """Return the fate of a command's processes; only a command leaves any."""
        if self._kind != "command":
            return []
        return [str(ending.stopped or "the command had not been started")]

    def _result(
        self, host: str, returncode: int, route: str | None, error: str | None = None
    ) -> SSHResult:
        from .result import SSHResult

        output = self._output
        stdout, stderr = (b"", b"") if output is None else output.getvalues()
        return SSHResult(
            success=returncode == 0 and error is None,
            returncode=returncode,
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            elapsed_ms=round((time.monotonic() - self._started) * 1000, 3),
            command=self._command,
            host=host,
            transport_used=route,
            timed_out=returncode == TIMED_OUT and error is not None,
            error=error,
            stdout_bytes=stdout,
            stderr_bytes=stderr,
        )


#: The end of work that was cancelled before it began.
_UNBEGUN = Ending(interrupted=True)


def _is_lasting(error: NotStartedError, before: LinkLostError | None) -> bool:
    """Return True if another link would be refused too: a new one has no other sessions."""
    is_refused_again = isinstance(error, SessionRefusedError) and isinstance(before, type(error))
    return bool(error.request) or is_refused_again


def _shell_silent(evidence: str) -> str:
    printed = f"the host printed: {evidence}" if evidence else "the host printed nothing"
    return (
        f"the command's shell has not answered; {printed}; if the login files take longer, "
        "raise command_timeout, else check ssh_user"
    )


def _unknown(host: str, ending: Ending) -> str:
    said = [f"{host}: outcome unknown: {ending.unknown}"]
    if ending.unproven and (evidence := bounded(ending.unproven)):
        said.append(f"the host printed: {evidence}")
    return "; ".join([*said, "look before you repeat it"])

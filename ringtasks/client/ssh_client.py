"""`SSHClient`: run commands on one host; every outcome there is returned as an SSHResult.

A client keeps one link open between calls, and opens it again if it was lost.  It is safe to use
from several threads and event loops.  Each call is recorded once in the health file.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from ringtasks.common.cancellation import Cancellation
from ringtasks.common.capture import MAX_OUTPUT_BYTES
from ringtasks.common.text import bounded, printable
from ringtasks.errors import (
    LimitError,
    OtherProgramError,
    OutcomeUnknownError,
    RouteError,
    UnreachableError,
)
from ringtasks.exit_status import INTERRUPTED, TIMED_OUT, UNREACHABLE
from ringtasks.inventory.config import SSHConfig
from ringtasks.remote.script import Script
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import Link, LinkLostError, NotStartedError, Terminal
from ringtasks.ssh.link_pool import LinkPool, RouteReport

from .arguments import as_text, check_at_least, check_whole, ends, limit_of
from .call import Call, OnOutput, Work
from .gateways import NoChannelError, advise_on_gateway

if TYPE_CHECKING:
    from ringtasks.health.model import HostOutcome, SSHHealth
    from ringtasks.health.notes import HealthRecorder

    from .dialogue import Ask
    from .result import SSHResult

__all__ = ["SSHClient", "Work", "last_words"]

#: Attempts, each over another link, if the link fails before the command can have started.
_LINK_ATTEMPTS = 3

#: Bytes of each stream that the answer to one of ringtasks' own scripts may have.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024

#: Seconds for the command that tests whether a host works.
_CHECK_TIMEOUT = 10.0

#: A shell's exit statuses for a program that cannot be executed or is not found (XCU 2.8.2).
_NOT_STARTED = (126, 127)

T = TypeVar("T")


class SSHClient:
    """A client for the host that ``config`` describes.

    Failures on the remote host raise nothing: they are in the `SSHResult`.  Mistakes of the caller
    raise before anything is sent: ValueError and TypeError for an argument, UsageError for a
    configuration that cannot be used (a missing key file, an unset ``${VAR}``).

    :param transport: use this route only (a name of `ringtasks.ssh.routes.ROUTE_NAMES`).
    :param max_output_bytes: limit for each stream of a command; beyond it, only the head and the
        tail are kept.
    :param on_open: called each time a link is opened, with the routes that failed and the one that
        works.
    :param recorder: receives the outcomes for the host's health; None: the health file.
    """

    def __init__(
        self,
        config: SSHConfig,
        *,
        transport: str | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        on_open: Callable[[HostOutcome], None] | None = None,
        recorder: HealthRecorder | None = None,
    ) -> None:
        if not isinstance(config, SSHConfig):
            raise TypeError(f"config: expected an SSHConfig, got {type(config).__name__}")
        check_whole("max_output_bytes", max_output_bytes, 0)
        self._pool = LinkPool(config, transport, on_open, recorder)
        self._max_output_bytes = max_output_bytes

    @property
    def config(self) -> SSHConfig:
        """The settings to reach the host with; its fields may be set at any time."""
        return self._pool.config

    @property
    def health(self) -> SSHHealth:
        """The stored health of the host, as recorded by all processes."""
        from ringtasks.health.model import with_reset

        store, name = self._pool.store, self.config.id
        return with_reset(store.get(name), functools.partial(store.close_circuits, name))

    def run(
        self,
        command: str,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        *,
        stdin: BinaryIO | None = None,
        on_output: OnOutput | None = None,
        keeps_output: bool = False,
        terminal: Terminal | None = None,
        cancellation: Cancellation | None = None,
        before_start: Callable[[], None] | None = None,
    ) -> SSHResult:
        """Run ``command`` and wait for it.

        :param timeout: seconds; None: the host's ``command_timeout``; 0: no limit. If it passes,
            the remote processes are ended, and ``error`` says whether their end was verified.
        :param cwd: the folder; None: the host's ``work_dir``, else the remote home.
        :param env: variables for the command alone; no process list shows them.
        :param stdin: passed on as it arrives; None: empty.
        :param on_output: called with 1 or 2 (stdout, stderr) and the bytes, as they arrive; the
            result holds them only if ``keeps_output`` is set.
        :param cancellation: ends the command from another thread, as Ctrl-C would, but raises
            nothing.
        :param before_start: called when the host is reached, before the command can start; called
            again if another link is needed.
        :raises KeyboardInterrupt: Ctrl-C was pressed, and the remote processes were told to end.
            Its argument is the SSHResult.
        """
        call = self._call(command, timeout, cwd, env)
        call.stdin, call.terminal = stdin, terminal
        if on_output is not None:
            call.on_output = _both(on_output, call.on_output) if keeps_output else on_output
        call.before_start = before_start or call.before_start
        if cancellation is not None:
            cancellation.when_cancelled(call.cancel)
        result = self._perform(call)
        if cancellation is not None:
            cancellation.when_cancelled(None)
        elif call.is_interrupted:
            raise KeyboardInterrupt(result)
        return result

    async def run_async(
        self,
        command: str,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        bypass_circuit_breaker: bool = False,
    ) -> SSHResult:
        """Call `run` from asyncio; the call waits in a thread of a bounded pool (`thread_pool`).

        Cancelling the awaiting task ends the remote processes.

        :param bypass_circuit_breaker: has no effect: an open circuit never prevents an attempt.
        """
        call = self._call(command, timeout, cwd, env)
        return await _in_pool(functools.partial(self._perform, call), call.cancel)

    def ask(self, ask: Ask) -> SSHResult:
        """Run a command of ringtasks' own on the host, as `run` does (see `dialogue`)."""
        call = self._asking(ask)
        if ask.cancellation is not None:
            ask.cancellation.when_cancelled(call.cancel)
        result = self._perform(call)
        if ask.cancellation is not None:
            ask.cancellation.when_cancelled(None)
        elif call.is_interrupted:
            raise KeyboardInterrupt(result)
        return result

    async def ask_async(self, ask: Ask) -> SSHResult:
        """Call `ask` from asyncio; cancelling ends the remote command."""
        call = self._asking(ask)
        return await _in_pool(functools.partial(self._perform, call), call.cancel)

    async def run_async_with_retry(
        self,
        command: str,
        timeout: float | None = None,
        max_retries: int = 3,
        retry_delay: float = 2.0,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> SSHResult:
        """Call `run_async` until it succeeds, up to ``max_retries`` attempts in all.

        Use it only for a command that may run twice: an attempt whose outcome is unknown is
        repeated too, and ``error`` then says so, also if the last attempt succeeds.

        :param retry_delay: seconds between attempts.
        """
        check_whole("max_retries", max_retries, 1)
        check_at_least("retry_delay", retry_delay, 0)
        unknown: list[str] = []
        for attempt in range(1, max_retries + 1):
            result = await self.run_async(command, timeout, cwd, env)
            if result.success or attempt == max_retries:
                break
            if result.is_unknown:
                unknown.append(f"attempt {attempt}: {result.error}")
            await asyncio.sleep(retry_delay)
        return result.with_note("; ".join(unknown)) if unknown else result

    async def run_background(
        self,
        command: str,
        log_file: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> SSHResult:
        """Start ``command`` so that it outlives the connection; ``stdout`` is its process id.

        The process leads a session and group of its own, and is started exactly once: if the
        answer is lost, the start is requested again.  ``stdin`` is /dev/null; the output goes to
        ``log_file`` (its folder is made; None: a file in ``~/.ringtasks/jobs``).
        """
        from ringtasks.remote.launcher import launch_script

        from .dialogue import Ask, ask_until_known, hold_async

        job_id = os.urandom(8).hex()
        Script(command)  # a bad command is refused here, not as a part of the launcher
        launcher = launch_script(job_id, command, log_file, self.config.shell)
        start = Ask(launcher, cwd=cwd, env={} if env is None else env, run_id=job_id, in_venv=True)
        result = await hold_async(self, ask_until_known(start))
        result = result.for_command(command)
        if result.error is None and not result.success:
            return result.with_note(f"{self.config.id}: not started: {last_words(result)}")
        return result

    async def get_process_memory(self, pid: int) -> tuple[float, str] | None:
        """Return (resident megabytes of ``pid`` and its descendants, its command's name).

        None if the process is gone, or if the host cannot be asked.

        :raises ValueError: ``pid`` is not a process id.
        """
        from .process_memory import PS_COMMAND, memory_of

        check_whole("pid", pid, 1)
        # Not in the virtual environment, which may be broken.
        call = self._call(PS_COMMAND, None, "/", None, in_venv=False, is_own=True)
        result = await _in_pool(functools.partial(self._perform, call), call.cancel)
        return memory_of(pid, result.stdout) if result.success else None

    def scp_to(
        self,
        local: str | Path | None = None,
        remote: str | None = None,
        timeout: float | None = 300,
        *,
        local_path: str | Path | None = None,
        remote_path: str | None = None,
    ) -> SSHResult:
        """Copy a file or folder to the host; if ``remote`` is a folder, copy into it.

        Modes are kept, ``~`` is the remote home, and a partial file never has the final name.
        ``timeout`` None or 0: no limit.  ``local_path`` and ``remote_path`` are other names of
        ``local`` and ``remote``.
        """
        return self._copy("put", *ends(local, remote, local_path, remote_path), timeout)

    def scp_from(
        self,
        remote: str | None = None,
        local: str | Path | None = None,
        timeout: float | None = 300,
        *,
        remote_path: str | None = None,
        local_path: str | Path | None = None,
    ) -> SSHResult:
        """Copy a file or folder from the host; if ``local`` is a folder, copy into it."""
        return self._copy("get", *ends(local, remote, local_path, remote_path), timeout)

    async def scp_to_async(
        self,
        local: str | Path | None = None,
        remote: str | None = None,
        timeout: float | None = 300,
        *,
        local_path: str | Path | None = None,
        remote_path: str | None = None,
    ) -> SSHResult:
        """Call `scp_to` from asyncio."""
        paths = ends(local, remote, local_path, remote_path)
        return await self._copy_async("put", *paths, timeout)

    async def scp_from_async(
        self,
        remote: str | None = None,
        local: str | Path | None = None,
        timeout: float | None = 300,
        *,
        remote_path: str | None = None,
        local_path: str | Path | None = None,
    ) -> SSHResult:
        """Call `scp_from` from asyncio."""
        paths = ends(local, remote, local_path, remote_path)
        return await self._copy_async("get", *paths, timeout)

    put_async = scp_to_async
    get_async = scp_from_async

    async def check_connectivity(self, *, fresh: bool = False) -> tuple[bool, str]:
        """Return True if a command runs on the host, else False, and a sentence about it.

        :param fresh: log in anew instead of using the open link. If only an old connection works
            while new log-ins are refused, the host counts as not connected, and the sentence says
            so.
        """
        check = self._check_fresh if fresh else self._check
        return await _in_pool(check, lambda: None)

    def link(self) -> Link:
        """Return the link, opened now if none is open; record it in the health file.

        :raises UnreachableError: no route works.
        """
        report = RouteReport()
        try:
            link = self._pool.link(report)
        except UnreachableError as error:
            self._pool.record_unreachable(report, error)
            raise
        report.served(link.route)
        self._pool.record(report, success=True)
        return link

    def perform(self, work: Work) -> SSHResult:
        """Do ``work`` over the link, opened now if none is open; record it in the health file.

        If the link fails before the work can have started, it is done over another link.
        """
        return self._perform(work)

    def is_alive(self) -> bool:
        """Return True if a command runs on the host within 10 s; the link is opened if needed."""
        return self._check()[0]

    def is_connected(self) -> bool:
        """Return True if a link is open and not known to be lost; never waits, sends nothing."""
        return self._pool.current is not None

    async def close(self) -> None:
        """Close the link. The next call opens a new one. Safe to repeat."""
        await _in_pool(self._pool.close, lambda: None)

    def close_link(self) -> None:
        """Close the link as `close` does, but blocking."""
        self._pool.close()

    def __enter__(self) -> SSHClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_link()

    async def __aenter__(self) -> SSHClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _call(
        self,
        command: str,
        timeout: float | None,
        cwd: str | None,
        env: Mapping[str, str] | None,
        run_id: str | None = None,
        *,
        in_venv: bool = True,
        is_own: bool = False,
    ) -> Call:
        script = Script(
            command,
            cwd=cwd if cwd is not None else self.config.work_dir,
            env=as_text(env),
            venv=self.config.venv_activate if in_venv else None,
            run_id=run_id or os.urandom(8).hex(),
            is_own=is_own,
        )
        limit = limit_of(self.config.command_timeout if timeout is None else timeout)
        call = Call(script, limit, self._max_output_bytes)
        call.shell, call.spare_link = self.config.shell, self._spare_link
        return call

    def _asking(self, ask: Ask) -> Call:
        call = self._call(
            ask.command,
            ask.timeout,
            ask.cwd,
            ask.env,
            ask.run_id,
            in_venv=ask.in_venv,
            is_own=True,
        )
        call.max_answer_bytes = _MAX_ANSWER_BYTES
        call.stdin, call.on_output = ask.stdin, ask.on_output or call.on_output
        return call

    def _spare_link(self) -> Link:
        return self._pool.new_link(RouteReport())

    def _perform(self, call: Work) -> SSHResult:
        failures: list[RouteError] = []
        for _ in range(_LINK_ATTEMPTS):
            try:
                link = self._pool.link(call.report)
            except UnreachableError as error:
                return self._unreachable(call, error)
            try:
                ending = call.run_over(link)
            except LinkLostError as error:  # nothing can have started: another link may work
                if isinstance(error, NotStartedError) and error.request:
                    return self._no_channel(call, link, error)
                failures.append(self._pool.lost_before_start(link, call.report, error))
                continue
            return self._ended(call, link, ending)
        return self._unreachable(call, UnreachableError(self.config.id, tuple(failures)))

    def _ended(self, call: Work, link: Link, ending: Ending) -> SSHResult:
        if ending.lost is not None:
            return self._lost(call, link, ending.lost)
        call.report.served(link.route)
        self._pool.record(call.report, success=True)
        if ending.interrupted:
            call.is_interrupted = True
            what = ending.stopped or "the command had not been started"
            return call.result(self.config.id, INTERRUPTED, link, f"interrupted; {what}")
        if ending.unknown is not None:
            return self._unknown(call, link, ending)
        if ending.unproven is not None and not ending.timed_out:
            return self._other_program(call, link, ending)
        if ending.status is None:
            return call.result(self.config.id, TIMED_OUT, link, self._passed(call, ending))
        return call.result(self.config.id, ending.status, link)

    def _passed(self, call: Work, ending: Ending) -> str:
        """Return the error of a call whose time limit has passed."""
        said = [str(LimitError(self.config.id, "the command's time limit", call.limit or 0))]
        said.append(str(ending.stopped or "the command had not been started"))
        if ending.unproven is not None:
            evidence = bounded(ending.unproven)
            said.append("the host has not started the command's shell; it printed: " + evidence)
        elif call.limit == self.config.command_timeout:
            said.append("for longer commands use --timeout (0: no limit) or 'inv start'")
        return "; ".join(said)

    def _other_program(self, call: Work, link: Link, ending: Ending) -> SSHResult:
        error = OtherProgramError(self.config.id, bounded(ending.unproven or ""), ending.status)
        if ending.status in _NOT_STARTED and self.config.shell != "/bin/sh":
            error.advice = f"check shell ({self.config.shell})"
        else:
            advise_on_gateway(error, has_terminal=isinstance(call, Call) and bool(call.terminal))
        result = call.result(self.config.id, UNREACHABLE, link, str(error))
        return replace(result, is_other_program=True)

    def _no_channel(self, call: Work, link: Link, refused: NotStartedError) -> SSHResult:
        """Return the result of a command that the host has no channel for, but was reached."""
        call.report.served(link.route)
        self._pool.record(call.report, success=True)
        error = NoChannelError(self.config.id, refused.request, printable(str(refused)))
        result = call.result(self.config.id, UNREACHABLE, link, str(error))
        return replace(result, is_other_program=True)

    def _unknown(self, call: Work, link: Link, ending: Ending) -> SSHResult:
        said = [f"{self.config.id}: outcome unknown: {ending.unknown}"]
        if ending.unproven and (evidence := bounded(ending.unproven)):
            said.append(f"the host printed: {evidence}")
        error = "; ".join([*said, "look before you repeat it"])
        return replace(call.result(self.config.id, UNREACHABLE, link, error), is_unknown=True)

    def _lost(self, call: Work, link: Link, evidence: str) -> SSHResult:
        self._pool.drop(link)
        call.report.lost(link.route)
        self._pool.record(call.report, success=False, reason="link lost")
        unknown = OutcomeUnknownError(self.config.id, link.route, printable(evidence))
        result = call.result(self.config.id, UNREACHABLE, link, str(unknown))
        return replace(result, is_unknown=True)

    def _unreachable(self, call: Work, error: UnreachableError) -> SSHResult:
        self._pool.record_unreachable(call.report, error)
        return call.result(self.config.id, UNREACHABLE, None, str(error))

    def _copy(self, way: str, local: str | Path, remote: str, timeout: float | None) -> SSHResult:
        from .copying import Copy

        return self._perform(Copy(way, local, remote, limit_of(timeout or 0)))

    async def _copy_async(
        self, way: str, local: str | Path, remote: str, timeout: float | None
    ) -> SSHResult:
        from .copying import Copy

        copy = Copy(way, local, remote, limit_of(timeout or 0))
        return await _in_pool(functools.partial(self._perform, copy), copy.cancel)

    def _check(self) -> tuple[bool, str]:
        call = self._call("true", _CHECK_TIMEOUT, "/", None, in_venv=False, is_own=True)
        result = self._perform(call)
        if result.success:
            return True, f"{self.config.id}: connected over {result.transport_used}"
        return False, result.error or f"{self.config.id}: 'true' ended with {result.returncode}"

    def _check_fresh(self) -> tuple[bool, str]:
        was_alive = self._pool.has_old_link()
        report = RouteReport()
        try:
            link = self._pool.new_link(report)
        except UnreachableError as error:
            self._pool.record_unreachable(report, error)
            if was_alive:
                return False, f"alive only through an old connection: new log-ins fail: {error}"
            return False, str(error)
        self._pool.record(report, success=True)
        call = self._call("true", None, "/", None, in_venv=False, is_own=True)
        try:
            result = self._ended(call, link, call.run_over(link))
        except LinkLostError as error:
            return False, f"{self.config.id}: a new log-in over {link.route} was lost: {error}"
        finally:
            link.close()
        if not result.success:
            return False, result.error or f"{self.config.id}: 'true' ended with {result.returncode}"
        return True, f"{self.config.id}: a new log-in works over {link.route}"


async def _in_pool(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    from ringtasks.common import thread_pool

    return await thread_pool.call(work, cancel)


def _both(first: OnOutput, second: OnOutput) -> OnOutput:
    def on_output(stream: int, chunk: bytes) -> None:
        first(stream, chunk)
        second(stream, chunk)

    return on_output


def last_words(result: SSHResult) -> str:
    """Return the last stderr line of a failed launcher, else its exit status."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    why = [line for line in lines if line != "ringtasks: the job was not started"]
    return printable(why[-1]) if why else f"exit status {result.returncode}"

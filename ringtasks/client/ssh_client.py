"""`SSHClient`: commands on one host, answered by an SSHResult whatever happens there.

A client keeps one link open between calls and opens it anew when it was lost.  It is safe to use
from several threads and event loops.  Each call is recorded in the health file, once.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

from ringtasks.common.cancellation import Cancellation
from ringtasks.common.capture import MAX_OUTPUT_BYTES, Capture
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
from ringtasks.ssh.execution import Ending, Execution
from ringtasks.ssh.link import STDOUT, Link, LinkLostError, Terminal
from ringtasks.ssh.link_pool import LinkKeeper, Report, prepare

if TYPE_CHECKING:
    from ringtasks.health.model import Outcome, SSHHealth
    from ringtasks.health.notes import Ledger

    from .dialogue import Ask
    from .result import SSHResult

__all__ = ["SSHClient", "Work", "last_words"]

#: A link that fails before the command can have started is replaced this many times.
_LINK_ATTEMPTS = 3

#: Seconds for the command that tells whether a host works.
_CHECK_TIMEOUT = 10.0

#: A shell's statuses for a program that is no program, or is not there (XCU 2.8.2).
_NOT_STARTED = (126, 127)

T = TypeVar("T")

OnOutput = Callable[[int, bytes], None]


class SSHClient:
    """Runs commands on the host that ``config`` describes.

    What happens on the far end raises nothing: it is in the `SSHResult`.  The caller's own
    mistakes raise before anything is sent: ValueError and TypeError for an argument, UsageError
    for a configuration that cannot be used (a missing key file, an unset ``${VAR}``).

    :param transport: use this route only (``tailscale``, ``direct`` or ``cloudflare``).
    :param max_output_bytes: what is kept of each stream of a command: head and tail beyond that.
    :param on_open: told of each opening of a link: the routes that failed, and the one that works.
    :param ledger: takes what was learned of the host's health; None: the health file.
    """

    def __init__(
        self,
        config: SSHConfig,
        *,
        transport: str | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        on_open: Callable[[Outcome], None] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        if not isinstance(config, SSHConfig):
            raise TypeError(f"config: expected an SSHConfig, got {type(config).__name__}")
        _check_whole("max_output_bytes", max_output_bytes, 0)
        self._keeper = LinkKeeper(config, transport, on_open, ledger)
        self._max_output_bytes = max_output_bytes

    @property
    def config(self) -> SSHConfig:
        """How to reach the host; its fields may be set at any time."""
        return self._keeper.config

    @property
    def health(self) -> SSHHealth:
        """The stored health of the host: what every process has recorded."""
        from ringtasks.health.model import with_reset

        store, name = self._keeper.store, self.config.id
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

        :param timeout: seconds; None: the host's ``command_timeout``; 0: no limit. When it passes
            the remote processes are ended, and ``error`` says whether they were seen to be gone.
        :param cwd: the folder; None: the host's ``work_dir``, else the remote home.
        :param env: set for the command alone, and seen in no process list.
        :param stdin: passed on as it comes; None: empty.
        :param on_output: gets 1 or 2 (stdout, stderr) and the bytes, as they come; the result
            holds them only with ``keeps_output``.
        :param cancellation: ends it from another thread, as Ctrl-C would, but raises nothing.
        :param before_start: called when the host is reached, before the command can start; again
            where another link is needed.
        :raises KeyboardInterrupt: Ctrl-C; the remote processes were told to end. Its argument is
            the SSHResult.
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
        """`run`, for asyncio; the waiting is done in a thread of a bounded pool (`pool`).

        Cancelling the awaiting task ends the remote processes.

        :param bypass_circuit_breaker: has no effect: an open circuit never keeps a command from
            being tried.
        """
        call = self._call(command, timeout, cwd, env)
        return await _in_pool(functools.partial(self._perform, call), call.cancel)

    def ask(self, ask: Ask) -> SSHResult:
        """`run`, for what ringtasks asks a host of its own accord (`conversation`)."""
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
        """`ask`, for asyncio; cancelling ends what runs on the host."""
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
        """`run_async` until it succeeds, up to ``max_retries`` attempts in all.

        Only for a command that may run twice: an attempt whose outcome is unknown is repeated
        too, and ``error`` then says so, whatever the last attempt's outcome.

        :param retry_delay: seconds between attempts.
        """
        _check_whole("max_retries", max_retries, 1)
        _check_at_least("retry_delay", retry_delay, 0)
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

        The process leads a session and group of its own, and is started exactly once: where the
        answer is lost it is asked for again.  ``stdin`` is /dev/null, the output goes to
        ``log_file`` (its folder is made; None: a file in ``~/.ringtasks/jobs``).
        """
        from ringtasks.remote.launcher import launch_script

        from .dialogue import Ask, ask_until_known, hold_async

        job_id = os.urandom(8).hex()
        Script(command)  # refused here, with its own name, rather than as part of the launcher
        launcher = launch_script(job_id, command, log_file, self.config.shell)
        start = Ask(launcher, cwd=cwd, env={} if env is None else env, run_id=job_id, in_venv=True)
        result = await hold_async(self, ask_until_known(start))
        result = result.for_command(command)
        if result.error is None and not result.success:
            return result.with_note(f"{self.config.id}: not started: {last_words(result)}")
        return result

    async def get_process_memory(self, pid: int) -> tuple[float, str] | None:
        """(resident megabytes of ``pid`` and its descendants, its command's name).

        None once it is gone, or where the host cannot be asked.

        :raises ValueError: ``pid`` is not a process id.
        """
        from .process_memory import PS_COMMAND, memory_of

        _check_whole("pid", pid, 1)
        # The virtual environment may be broken.
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
        """Copy a file or folder to the host: into ``remote`` where that is a folder.

        Modes are kept, ``~`` is the remote home, and a partial file never stands under the final
        name.  ``timeout`` None or 0: no limit.  ``local_path`` and ``remote_path`` are other names
        of ``local`` and ``remote``.
        """
        return self._copy("put", *_ends(local, remote, local_path, remote_path), timeout)

    def scp_from(
        self,
        remote: str | None = None,
        local: str | Path | None = None,
        timeout: float | None = 300,
        *,
        remote_path: str | None = None,
        local_path: str | Path | None = None,
    ) -> SSHResult:
        """Copy a file or folder from the host: into ``local`` where that is a folder."""
        return self._copy("get", *_ends(local, remote, local_path, remote_path), timeout)

    async def scp_to_async(
        self,
        local: str | Path | None = None,
        remote: str | None = None,
        timeout: float | None = 300,
        *,
        local_path: str | Path | None = None,
        remote_path: str | None = None,
    ) -> SSHResult:
        """`scp_to`, for asyncio."""
        ends = _ends(local, remote, local_path, remote_path)
        return await self._copy_async("put", *ends, timeout)

    async def scp_from_async(
        self,
        remote: str | None = None,
        local: str | Path | None = None,
        timeout: float | None = 300,
        *,
        remote_path: str | None = None,
        local_path: str | Path | None = None,
    ) -> SSHResult:
        """`scp_from`, for asyncio."""
        ends = _ends(local, remote, local_path, remote_path)
        return await self._copy_async("get", *ends, timeout)

    put_async = scp_to_async
    get_async = scp_from_async

    async def check_connectivity(self, *, fresh: bool = False) -> tuple[bool, str]:
        """Whether a command runs, and a sentence about it.

        :param fresh: log in anew rather than use the open link; a host that is alive only through
            an old connection, while new log-ins are refused, is not connected, and told as such.
        """
        check = self._check_fresh if fresh else self._check
        return await _in_pool(check, lambda: None)

    def link(self) -> Link:
        """The open link, opened now if need be; recorded in the health file.

        :raises UnreachableError: no route works.
        """
        report = Report()
        try:
            link = self._keeper.link(report)
        except UnreachableError as error:
            self._keeper.record_unreachable(report, error)
            raise
        report.served(link.route)
        self._keeper.record(report, success=True)
        return link

    def perform(self, work: Work) -> SSHResult:
        """Do ``work`` over the link, which is opened if need be; recorded in the health file.

        Work that did not start is done again over another link.
        """
        return self._perform(work)

    def is_alive(self) -> bool:
        """Whether a command runs on the host within 10 s; opens the link if need be."""
        return self._check()[0]

    def is_connected(self) -> bool:
        """Whether a link is open and believed to be up; never waits, and sends nothing."""
        return self._keeper.current is not None

    async def close(self) -> None:
        """Close the link. The next call opens a new one. Safe to repeat."""
        await _in_pool(self._keeper.close, lambda: None)

    def close_link(self) -> None:
        """`close`, blocking."""
        self._keeper.close()

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
    ) -> _Call:
        script = Script(
            command,
            cwd=cwd if cwd is not None else self.config.work_dir,
            env=_as_text(env),
            venv=self.config.venv_activate if in_venv else None,
            run_id=run_id or os.urandom(8).hex(),
            is_own=is_own,
        )
        limit = _limit(self.config.command_timeout if timeout is None else timeout)
        call = _Call(script, limit, self._max_output_bytes)
        call.shell, call.spare_link = self.config.shell, self._spare_link
        return call

    def _asking(self, ask: Ask) -> _Call:
        call = self._call(
            ask.command,
            ask.timeout,
            ask.cwd,
            ask.env,
            ask.run_id,
            in_venv=ask.in_venv,
            is_own=True,
        )
        call.stdin, call.on_output = ask.stdin, ask.on_output or call.on_output
        return call

    def _spare_link(self) -> Link:
        return self._keeper.new_link(Report())

    def _perform(self, call: Work) -> SSHResult:
        failures: list[RouteError] = []
        for _ in range(_LINK_ATTEMPTS):
            try:
                link = self._keeper.link(call.report)
            except UnreachableError as error:
                return self._unreachable(call, error)
            try:
                ending = call.run_over(link)
            except LinkLostError as error:  # nothing can have started: another link may serve
                failures.append(self._keeper.lost_before_start(link, call.report, error))
                continue
            return self._ended(call, link, ending)
        return self._unreachable(call, UnreachableError(self.config.id, tuple(failures)))

    def _ended(self, call: Work, link: Link, ending: Ending) -> SSHResult:
        if ending.lost is not None:
            return self._lost(call, link, ending.lost)
        call.report.served(link.route)
        self._keeper.record(call.report, success=True)
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
        """The error of a call whose time limit has passed."""
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
        result = call.result(self.config.id, UNREACHABLE, link, str(error))
        return replace(result, is_other_program=True)

    def _unknown(self, call: Work, link: Link, ending: Ending) -> SSHResult:
        said = [f"{self.config.id}: outcome unknown: {ending.unknown}"]
        if ending.unproven and (evidence := bounded(ending.unproven)):
            said.append(f"the host printed: {evidence}")
        error = "; ".join([*said, "look before you repeat it"])
        return replace(call.result(self.config.id, UNREACHABLE, link, error), is_unknown=True)

    def _lost(self, call: Work, link: Link, evidence: str) -> SSHResult:
        self._keeper.drop(link)
        call.report.lost(link.route)
        self._keeper.record(call.report, success=False, reason="link lost")
        unknown = OutcomeUnknownError(self.config.id, link.route, printable(evidence))
        result = call.result(self.config.id, UNREACHABLE, link, str(unknown))
        return replace(result, is_unknown=True)

    def _unreachable(self, call: Work, error: UnreachableError) -> SSHResult:
        self._keeper.record_unreachable(call.report, error)
        return call.result(self.config.id, UNREACHABLE, None, str(error))

    def _copy(self, way: str, local: str | Path, remote: str, timeout: float | None) -> SSHResult:
        from .copying import Copy

        return self._perform(Copy(way, local, remote, _limit(timeout or 0)))

    async def _copy_async(
        self, way: str, local: str | Path, remote: str, timeout: float | None
    ) -> SSHResult:
        from .copying import Copy

        copy = Copy(way, local, remote, _limit(timeout or 0))
        return await _in_pool(functools.partial(self._perform, copy), copy.cancel)

    def _check(self) -> tuple[bool, str]:
        call = self._call("true", _CHECK_TIMEOUT, "/", None, in_venv=False, is_own=True)
        result = self._perform(call)
        if result.success:
            return True, f"{self.config.id}: connected over {result.transport_used}"
        return False, result.error or f"{self.config.id}: 'true' ended with {result.returncode}"

    def _check_fresh(self) -> tuple[bool, str]:
        was_alive = self._keeper.has_old_link()
        report = Report()
        try:
            link = self._keeper.new_link(report)
        except UnreachableError as error:
            self._keeper.record_unreachable(report, error)
            if was_alive:
                return False, f"alive only through an old connection: new log-ins fail: {error}"
            return False, str(error)
        self._keeper.record(report, success=True)
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


class Work(Protocol):
    """What a link is needed for: a command, a copy, an rsync."""

    report: Report
    limit: float | None
    is_interrupted: bool

    def run_over(self, link: Link) -> Ending: ...

    def cancel(self) -> None: ...

    def result(
        self, host: str, returncode: int, link: Link | None, error: str | None = None
    ) -> SSHResult: ...


class _Call:
    """One command under way: what it runs, what it has printed, what it has learned of routes."""

    def __init__(self, script: Script, limit: float | None, max_output_bytes: int) -> None:
        self.script, self.limit = script, limit
        self.stdin: BinaryIO | None = None
        self.terminal: Terminal | None = None
        self.shell = "/bin/sh"
        self.spare_link: Callable[[], Link] | None = None
        self.on_output: OnOutput = self._keep
        self.report = Report()
        self.is_interrupted = False
        self.before_start: Callable[[], None] = lambda: None
        self._stdout, self._stderr = Capture(max_output_bytes), Capture(max_output_bytes)
        self._started = time.monotonic()
        self._execution: Execution | None = None
        self._is_cancelled = False

    def run_over(self, link: Link) -> Ending:
        """:raises LinkLostError: the link failed before the command can have started."""
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
        return self._execution.run(self.limit)

    def cancel(self) -> None:
        """End it, from another thread."""
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

    def _keep(self, stream: int, chunk: bytes) -> None:
        (self._stdout if stream == STDOUT else self._stderr).add(chunk)


async def _in_pool(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    from ringtasks.common import thread_pool

    return await thread_pool.call(work, cancel)


def _both(first: OnOutput, second: OnOutput) -> OnOutput:
    def on_output(stream: int, chunk: bytes) -> None:
        first(stream, chunk)
        second(stream, chunk)

    return on_output


def _load_the_rest() -> None:
    """Load what the end of a call needs: 3 ms in which the host is at work anyway."""
    from . import result  # noqa: F401

    prepare()


def last_words(result: SSHResult) -> str:
    """What a launcher that failed has said of why."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    why = [line for line in lines if line != "ringtasks: the job was not started"]
    return printable(why[-1]) if why else f"exit status {result.returncode}"


def _as_text(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """The environment with numbers as text; `Script` refuses what else is no text."""
    if not isinstance(env, Mapping):
        return {} if env is None else env
    numbers = {name: str(value) for name, value in env.items() if isinstance(value, int | float)}
    return {**env, **numbers} if numbers else env


def _ends(
    local: str | Path | None,
    remote: str | None,
    local_path: str | Path | None,
    remote_path: str | None,
) -> tuple[str | Path, str]:
    """The two places of a copy, each by one of its two names.

    :raises TypeError: one is missing, or given by both names.
    """
    for name, one, other in (("local", local, local_path), ("remote", remote, remote_path)):
        if (one is None) == (other is None):
            problem = "is missing" if one is None else f"is given twice, also as {name}_path"
            raise TypeError(f"{name}: {problem}")
    near = local if local is not None else local_path
    far = remote if remote is not None else remote_path
    assert near is not None and far is not None  # noqa: S101, PT018  # checked above
    return near, far


def _limit(timeout: float) -> float | None:
    """The time limit in seconds, None for none.

    :raises ValueError: it is negative.
    :raises TypeError: it is not a number.
    """
    _check_at_least("timeout", timeout, 0)
    return timeout or None


def _check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    _check_at_least(name, value, least)


def _check_at_least(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not value >= least:  # also refuses NaN
        raise ValueError(f"{name}: expected at least {least:g}, got {value!r}")

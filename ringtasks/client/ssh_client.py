"""`SSHClient`: run commands on one host; every outcome there is returned as an SSHResult.

A client keeps one link open between calls, and opens it again if it was lost.  It is safe to use
from several threads and event loops.  Each call is recorded once in the health file.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from ringtasks.common.capture import MAX_OUTPUT_BYTES, CapturedOutput
from ringtasks.errors import UnreachableError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.remote.script import Script
from ringtasks.ssh.execution import Execution, ExecutionOptions
from ringtasks.ssh.link import Link, LinkLostError, Terminal
from ringtasks.ssh.link_pool import LinkPool, RouteReport

from .ask import Ask, OnOutput, as_text, check_at_least, check_whole, copy_paths, limit_of
from .operation import Operation, Work
from .retries import RETRY_DELAY, Attempts

if TYPE_CHECKING:
    from ringtasks.common.cancellation import Cancellation
    from ringtasks.common.processor import Company
    from ringtasks.health.model import HostOutcome, SSHHealth
    from ringtasks.health.recorder import HealthRecorder

    from .result import SSHResult

__all__ = ["SSHClient"]

#: Bytes of each stream that the answer to one of ringtasks' own scripts may have.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024

#: Seconds for the command that tests whether a host works.
_CHECK_TIMEOUT = 10.0

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
    """

    def __init__(
        self,
        config: SSHConfig,
        *,
        transport: str | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        on_open: Callable[[HostOutcome], None] | None = None,
    ) -> None:
        if not isinstance(config, SSHConfig):
            raise TypeError(f"config: expected an SSHConfig, got {type(config).__name__}")
        check_whole("max_output_bytes", max_output_bytes, 0)
        self._pool = LinkPool(config, transport, on_open)
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
        given = dict(locals())  # a copy: a debugger may add names to the original
        del given["self"]
        return self.ask(Ask(**given, in_venv=True, is_own=False))

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
        return await self.ask_async(Ask(command, timeout, cwd, env, in_venv=True, is_own=False))

    def ask(self, ask: Ask) -> SSHResult:
        """Run a command as `run` does; most are ringtasks' own (see `dialogue`)."""
        operation, cancellation = self._operation(ask), ask.cancellation
        if cancellation is None:
            result = operation.perform(self._pool)
        else:
            with cancellation.calling(operation.cancel):
                result = operation.perform(self._pool)
        if operation.is_interrupted and not (cancellation and cancellation.is_cancelled):
            raise KeyboardInterrupt(result)
        return result

    async def ask_async(self, ask: Ask) -> SSHResult:
        """Call `ask` from asyncio; cancelling ends the remote command."""
        company = self._pool.company if ask.on_output is None and ask.stdin is None else None
        return await self._performed(self._operation(ask), company)

    async def run_async_with_retry(
        self,
        command: str,
        timeout: float | None = None,
        max_retries: int = 3,
        retry_delay: float = RETRY_DELAY,
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
        import asyncio

        attempts = Attempts(max_retries)
        while not attempts.is_last(result := await self.run_async(command, timeout, cwd, env)):
            await asyncio.sleep(retry_delay)
        return attempts.with_notes(result)

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

        from .dialogue import ask_until_known, hold_async

        job_id = os.urandom(8).hex()
        Script(command)  # a bad command is refused here, not as a part of the launcher
        launcher = launch_script(job_id, command, log_file, self.config.shell)
        start = Ask(launcher, cwd=cwd, env=env, run_id=job_id, in_venv=True)
        result = await hold_async(self, ask_until_known(start))
        result = result.for_command(command)
        if result.error is None and not result.success:
            from .result import last_words

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
        result = await self.ask_async(Ask(PS_COMMAND, cwd="/"))
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
        paths = copy_paths(local, remote, local_path, remote_path)
        return self._copy("put", *paths, timeout).perform(self._pool)

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
        paths = copy_paths(local, remote, local_path, remote_path)
        return self._copy("get", *paths, timeout).perform(self._pool)

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
        paths = copy_paths(local, remote, local_path, remote_path)
        return await self._performed(self._copy("put", *paths, timeout))

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
        paths = copy_paths(local, remote, local_path, remote_path)
        return await self._performed(self._copy("get", *paths, timeout))

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

    def perform(
        self, work: Work, command: str, limit: float | None, output: CapturedOutput | None = None
    ) -> SSHResult:
        """Do ``work`` over the link, opened now if none is open (`Operation`).

        :param command: the name of the work in the result.
        :param limit: seconds; None: no limit.
        :param output: what the work has captured for the result.
        """
        return Operation(work, command, limit, output=output).perform(self._pool)

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

    def _record_in(self, recorder: HealthRecorder) -> None:
        """Let ``recorder`` receive the health of the host, in place of the health file."""
        self._pool.recorder = recorder

    def _operation(self, ask: Ask) -> Operation:
        config = self.config
        script = Script(
            ask.command,
            cwd=ask.cwd if ask.cwd is not None else config.work_dir,
            env=as_text(ask.env),
            venv=config.venv_activate if ask.in_venv else None,
            run_id=ask.run_id or os.urandom(8).hex(),
            is_own=ask.is_own,
        )
        output = CapturedOutput(self._max_output_bytes)
        is_answer = ask.is_own and ask.on_output is None
        options = ExecutionOptions(
            config.shell,
            ask.stdin,
            ask.terminal,
            self._spare_link,
            meanwhile=lambda: operation.prepare_end(self._pool),
            ready_timeout=2 * config.connect_timeout,
            max_output_bytes=_MAX_ANSWER_BYTES if is_answer else None,
            host=config.id,
        )
        operation = Operation(
            Execution(script, ask.output_to(output.add), options),
            script.command,
            limit_of(config.command_timeout if ask.timeout is None else ask.timeout),
            kind="command",
            output=output,
            before_start=ask.before_start,
        )
        return operation

    def _spare_link(self) -> Link:
        return self._pool.new_link(RouteReport())

    def _copy(self, way: str, local: str | Path, remote: str, timeout: float | None) -> Operation:
        from .copying import Copy

        copy = Copy(way, local, remote)
        return Operation(copy, str(copy), limit_of(timeout or 0), kind="copy")

    async def _performed(self, operation: Operation, company: Company | None = None) -> SSHResult:
        work = functools.partial(operation.perform, self._pool)
        return await _in_pool(work, operation.cancel, company)

    def _check(self) -> tuple[bool, str]:
        result = self._operation(Ask("true", _CHECK_TIMEOUT, "/")).perform(self._pool)
        if result.success:
            return True, f"{self.config.id}: connected over {result.transport_used}"
        return False, result.error or f"{self.config.id}: 'true' ended with {result.returncode}"

    def _check_fresh(self) -> tuple[bool, str]:
        was_alive = self._pool.has_old_link()
        operation = self._operation(Ask("true", cwd="/"))
        report = operation.report
        try:
            with self._pool.fresh_link(report) as link:
                ending = operation.work.run(link, operation.limit)
                result = operation.ended(self._pool, link, ending)
        except UnreachableError as error:
            self._pool.record_unreachable(report, error)
            if was_alive:
                return False, f"alive only through an old connection: new log-ins fail: {error}"
            return False, str(error)
        except LinkLostError as error:
            failure = self._pool.lost_before_start(link, report, error)
            self._pool.record_unreachable(report, UnreachableError(self.config.id, (failure,)))
            return False, f"{self.config.id}: a new log-in was lost: {failure.evidence}"
        if not result.success:
            return False, result.error or f"{self.config.id}: 'true' ended with {result.returncode}"
        return True, f"{self.config.id}: a new log-in works over {link.route}"


async def _in_pool(
    work: Callable[[], T], cancel: Callable[[], None], company: Company | None = None
) -> T:
    from ringtasks.common import thread_pool

    return await thread_pool.call(work, cancel, company)

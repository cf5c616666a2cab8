"""`Job`: a handle on a command that runs on a host independently of connections.

All facts about a job are kept on its host, so a handle consists of a client and an id alone.  Each
method has an asynchronous twin; both use the same dialogue with the host.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import getpass
import math
import os
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

from ringtasks.client.dialogue import (
    Ask,
    Dialogue,
    Pause,
    answer_to,
    ask_until_known,
    hold,
    hold_async,
)
from ringtasks.client.result import SSHResult, last_words, why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import joined_lines, printable
from ringtasks.common.threads import start_thread
from ringtasks.errors import JobNotStartedError
from ringtasks.exit_status import INTERRUPTED
from ringtasks.remote.answers import AnswerError

from .job_cache import last_seen, remember_started
from .logs import ENDED, FOLLOW_SECONDS, GOES_ON, NO_LOG, LogPlace, follow_script
from .machine import ANOTHER_MACHINE
from .probe import find_script, parse_found, parse_probe, probe_script, wait_script
from .request import JobRequest
from .states import FOLDER_IS_GONE, JobState, JobStatus, unknown
from .stop_job import Stopped, is_elsewhere, parse_stopped, stop_job_script

__all__ = ["PATIENCE", "Job", "launch", "this_user"]

#: Seconds for which a host may be unreachable before a wait or a follow gives up.
PATIENCE = 300.0
#: Seconds between attempts to reach it.
_RETRY_DELAY = 1.0
#: Seconds between requests that are answered at once; they double with each failure.
_LEAST_INTERVAL = 0.2
#: Failures to read a log in a row, after which a follow gives up.
_MAX_FAILURES = 4
#: Seconds for an answer, beyond the time for which the host was asked to wait.
_ANSWER_TIMEOUT = 30.0
#: The same, if the caller has less patience.
_LEAST_ANSWER_TIMEOUT = 5.0


class Job:
    """Handle on a job of one host.

    A failure of the host raises no exception: an unreachable host gives an unknown state.

    ``host`` is its name in the inventory, or its address.
    """

    def __init__(self, client: SSHClient, job_id: str, *, warning: str = "") -> None:
        self.client, self.id = client, job_id
        self.warning = warning
        """The host's message at the start, such as the GPU driver's; empty: none."""
        self.host = client.config.id

    def __repr__(self) -> str:
        return f"Job({self.id!r}, host={self.host!r})"

    def status(self) -> JobStatus:
        """Return the job's state, and its exit status if it has ended."""
        return hold(self.client, self._status())

    async def status_async(self) -> JobStatus:
        """Return the same as `status`, for asyncio."""
        return await hold_async(self.client, self._status())

    def wait(self, timeout: float | None = None, *, patience: float = PATIENCE) -> JobStatus:
        """Wait until the job has ended or ``timeout`` seconds have passed; return its status.

        :param timeout: None: no limit; 0: do not wait.
        :param patience: seconds for which the host may be unreachable without interruption; after
            that, the state in the answer is unknown.
        """
        return hold(self.client, self._wait(timeout, patience))

    async def wait_async(
        self, timeout: float | None = None, *, patience: float = PATIENCE
    ) -> JobStatus:
        """Wait like `wait`, for asyncio."""
        return await hold_async(self.client, self._wait(timeout, patience))

    def stop(self, grace: float = 10.0) -> Stopped:
        """Send TERM to every process of the job, KILL to those that remain, and search again.

        It may be repeated; for a job that has ended, it ends the processes that were left behind.

        :param grace: seconds between TERM and KILL, in which the job can write a checkpoint.
        """
        return hold(self.client, self._stop(grace))

    async def stop_async(self, grace: float = 10.0) -> Stopped:
        """Stop like `stop`, for asyncio."""
        return await hold_async(self.client, self._stop(grace))

    def follow(
        self,
        on_chunk: Callable[[bytes], None],
        *,
        follow: bool = True,
        tail: int | None = None,
        since: float | None = None,
        patience: float = PATIENCE,
    ) -> str | None:
        """Pass the log to ``on_chunk`` as it is written, until the job ends; in this thread.

        Lost connections cause neither a gap nor a repeat.

        :param follow: False: end with the present end of the log.
        :param tail: begin with this many of the last lines; None: with all.
        :param since: begin with the output after this time (Unix seconds of the host's clock, to
            within 5 s, the interval at which the monitor looks).
        :returns: the error that ended it early; None: the log is complete.
        """
        return hold(self.client, self._follow(on_chunk, follow, tail, since, patience))

    async def follow_async(
        self,
        on_chunk: Callable[[bytes], None],
        *,
        follow: bool = True,
        tail: int | None = None,
        since: float | None = None,
        patience: float = PATIENCE,
    ) -> str | None:
        """Follow like `follow`, for asyncio; ``on_chunk`` is called in another thread."""
        talk = self._follow(on_chunk, follow, tail, since, patience)
        return await hold_async(self.client, talk)

    def logs(
        self, follow: bool = False, tail: int | None = None, since: float | None = None
    ) -> Iterator[bytes]:
        """Yield the log piece by piece, as `follow` passes it.

        If the caller leaves the loop, the transfer ends at the host's next output.

        :raises ConnectionError: the host became unreachable; the pieces until then are complete.
        """
        pieces: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=64)
        is_wanted = threading.Event()
        is_wanted.set()

        def take(piece: bytes | Exception | None) -> None:
            while is_wanted.is_set():
                try:
                    return pieces.put(piece, timeout=0.2)
                except queue.Full:
                    continue
            raise _UnwantedError

        def work() -> None:
            try:
                why = self.follow(take, follow=follow, tail=tail, since=since)
                take(ConnectionError(why) if why else None)
            except _UnwantedError:
                return
            except Exception as error:  # noqa: BLE001  # it is raised in the thread that iterates
                with contextlib.suppress(_UnwantedError):  # the caller has left meanwhile
                    take(error)

        start_thread(work, name=f"ringtasks-logs-{self.id}")
        try:
            while (piece := pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            is_wanted.clear()

    async def logs_async(
        self, follow: bool = False, tail: int | None = None, since: float | None = None
    ) -> AsyncIterator[bytes]:
        """Yield like `logs`, for asyncio."""
        import asyncio

        loop = asyncio.get_running_loop()
        # Bounded, so that a slow reader slows the transfer down instead of filling the memory.
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)
        is_wanted = threading.Event()
        is_wanted.set()

        def take(piece: bytes) -> None:
            putting = asyncio.run_coroutine_threadsafe(pieces.put(piece), loop)
            while is_wanted.is_set():
                try:
                    return putting.result(0.2)
                except concurrent.futures.TimeoutError:
                    continue
            putting.cancel()
            raise _UnwantedError

        async def work() -> str | None:
            try:
                return await self.follow_async(take, follow=follow, tail=tail, since=since)
            finally:
                if is_wanted.is_set():
                    await pieces.put(None)

        task = asyncio.create_task(work())
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            why = await task
            if why:
                raise ConnectionError(why)
        finally:
            is_wanted.clear()
            task.cancel()

    def _status(self) -> Dialogue[JobStatus]:
        answer = yield from answer_to(Ask(probe_script([self.id])))
        return (yield from self._status_in(answer))

    def _status_in(self, answer: SSHResult) -> Dialogue[JobStatus]:
        if (why := why_failed(answer)) is not None:
            return self._unknown(why)
        try:
            status = parse_probe(answer.stdout, self.host).get(self.id)
        except AnswerError as error:
            return self._unknown(str(error))
        if status is not None and status.reason != FOLDER_IS_GONE:
            return status
        found = yield from answer_to(Ask(find_script(self.id), timeout=_ANSWER_TIMEOUT))
        if (why := why_failed(found)) is not None:
            return self._unknown(why)
        return parse_found(found.stdout, self.id, self.host)

    def _unknown(self, why: str) -> JobStatus:
        why = joined_lines(why).removeprefix(f"{self.host}: ")  # messages name the host themselves
        seen = [job for job in last_seen(self.host, why) if job.id == self.id]
        return (
            seen[0] if seen else unknown(self.id, self.host, self.client.health.last_success, why)
        )

    def _wait(self, timeout: float | None, patience: float) -> Dialogue[JobStatus]:
        heard = time.monotonic()
        deadline = heard + (math.inf if timeout is None else timeout)
        while True:
            began = time.monotonic()
            seconds = min(_seconds_to_follow(patience), max(0.0, deadline - began))
            limit = seconds + _answer_timeout(patience)
            answer = yield from answer_to(Ask(wait_script(self.id, seconds), timeout=limit))
            status = yield from self._status_in(answer)
            now = time.monotonic()
            if status.state is not JobState.UNKNOWN or status.runs_on is not None:
                heard = now
            is_over = status.is_ended or answer.is_other_program
            if is_over or now >= deadline or now - heard >= patience:
                return status
            if status.state is JobState.UNKNOWN:
                yield Pause(_RETRY_DELAY)
            elif now - began < _LEAST_INTERVAL:
                yield Pause(_LEAST_INTERVAL)

    def _stop(self, grace: float) -> Dialogue[Stopped]:
        script = stop_job_script(self.id, this_user(), grace, self.host)
        answer = yield from answer_to(Ask(script, timeout=grace + _ANSWER_TIMEOUT))
        if is_elsewhere(answer.stdout):
            return Stopped(error=_elsewhere((yield from self._status())))
        try:
            stopped = parse_stopped(answer.stdout)
        except AnswerError as error:
            return Stopped(error=f"{self.host}: {error}")
        return stopped._replace(error=answer.error or stopped.error)

    def _follow(
        self,
        on_chunk: Callable[[bytes], None],
        follow: bool,
        tail: int | None,
        since: float | None,
        patience: float,
    ) -> Dialogue[str | None]:
        place = LogPlace(on_chunk)
        failures = 0
        seconds = _seconds_to_follow(patience)
        limit = seconds + _answer_timeout(patience)
        script = functools.partial(
            follow_script, self.id, tail=tail, since=since, follow=follow, seconds=seconds
        )
        while True:
            began = time.monotonic()
            ask = Ask(script(offset=place.offset), limit, env=place.environment())
            answer = yield from answer_to(ask._replace(on_output=place.take))
            missed = place.restart()
            now = time.monotonic()
            if answer.error is not None:
                is_awaited = follow or place.offset is not None  # else the host was never reached
                if answer.is_other_program or now - place.heard >= (patience if is_awaited else 0):
                    return answer.error
                yield Pause(_RETRY_DELAY)
                continue
            place.heard = now
            if answer.returncode == NO_LOG:
                return f"{self.host}: job {self.id} has no log{f': {missed}' if missed else ''}"
            is_read = answer.returncode in (ENDED, GOES_ON) and missed is None
            if is_read and (answer.returncode == ENDED or not follow):
                return None
            failures = 0 if is_read else failures + 1
            if failures >= _MAX_FAILURES or (failures and not follow):
                why = f"cannot be read: {missed or last_words(answer)}"
                advice = as_typed(f"jobs --host {self.host}")
                return f"{self.host}: the log of job {self.id} {why}; try: {advice}"
            if failures or now - began < _LEAST_INTERVAL:
                yield Pause(_LEAST_INTERVAL * 2**failures)


def _seconds_to_follow(patience: float) -> float:
    """Return the time for which a host is asked to wait: short if silence soon counts as a loss."""
    return min(FOLLOW_SECONDS, max(1.0, patience))


def _answer_timeout(patience: float) -> float:
    return min(_ANSWER_TIMEOUT, max(_LEAST_ANSWER_TIMEOUT, patience))


def _elsewhere(status: JobStatus) -> str:
    text = (
        f"{status.host_id}: job {status.id} runs on {status.runs_on}, which shares this home, and "
        "cannot be stopped from here"
    )
    if status.runs_on == ANOTHER_MACHINE:
        return text
    return f"{text}; try: {as_typed(f'stop {status.id} --host {status.runs_on}')}"


class _UnwantedError(Exception):
    """The caller of `Job.logs` has left its loop."""


def launch(client: SSHClient, request: JobRequest) -> Dialogue[Job]:
    """Start a job exactly once, however often the answer is lost.

    :raises JobNotStartedError: the job did not start, or it is unknown if it started.
    """
    job_id = os.urandom(8).hex()
    request = replace(request, host=client.config.id)
    if request.cwd is None:
        request = replace(request, cwd=client.config.work_dir)
    launcher = request.script(job_id, this_user(), client.config.shell)
    start = Ask(launcher, cwd=request.cwd, env=request.env, run_id=job_id, in_venv=True)
    try:
        answer = yield from ask_until_known(start)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_interrupted(client.config.id, job_id, interrupt)) from interrupt
    if answer.success:
        remember_started(_status_of(request, job_id))
        return Job(client, job_id, warning=_warning(answer.stderr))
    from ringtasks.client.setting_advice import setting_advice

    advice = setting_advice(client.config, request.cwd, answer)
    said = answer.error or last_words(answer)
    raise JobNotStartedError(
        client.config.id,
        job_id,
        f"{said}; {advice}" if advice else said,
        status=answer.returncode,
        is_unknown=answer.is_unknown,
    )


def _status_of(request: JobRequest, job_id: str) -> JobStatus:
    """Return the state of a job right after its start, as far as it is known here."""
    may_wait = request.queue or request.after is not None
    return JobStatus(
        job_id,
        request.host or "",
        JobState.QUEUED if may_wait else JobState.RUNNING,
        name=request.name,
        group=request.group,
        command=request.command,
        started_at=None if may_wait else round(time.time(), 3),
        log_file=request.log_file or "",
        cwd=request.cwd,
        by=this_user(),
        started_on=request.host,
        batch=request.batch,
        batch_size=request.batch_size,
    )


def _warning(stderr: str) -> str:
    """Return the message of the start itself, without the text of login files."""
    mark = "ringtasks-warning: "
    lines = [line.removeprefix(mark) for line in stderr.split("\n") if line.startswith(mark)]
    return printable("; ".join(lines))


def _interrupted(host: str, job_id: str, interrupt: KeyboardInterrupt) -> JobNotStartedError:
    """Return the error for an interrupted start, with the fate of the job."""
    result: SSHResult | None = interrupt.args[0] if interrupt.args else None
    told = (result.error or "") if result is not None else "interrupted before anything was sent"
    if result is None or not result.may_go_on:
        return JobNotStartedError(host, job_id, told, status=INTERRUPTED)
    evidence = f"{host}: {told}"
    return JobNotStartedError(host, job_id, evidence, status=INTERRUPTED, is_unknown=True)


def this_user() -> str:
    """Return ``user@machine`` of this process, to record which user started or stopped a job."""
    return f"{getpass.getuser()}@{socket.gethostname()}"  # `complete_environment` gives a name

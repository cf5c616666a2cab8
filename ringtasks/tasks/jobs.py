"""``inv start``, ``jobs``, ``logs``, ``wait``, ``stop``: commands that outlive the connection."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from invoke import Context

from ringtasks.common import interruption
from ringtasks.common.durations import duration, moment
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import counted
from ringtasks.errors import JobNotStartedError, UsageError
from ringtasks.exit_status import TIMED_OUT, UNREACHABLE, USAGE, combined_status
from ringtasks.output import display
from ringtasks.output.job_table import is_recent, out_of_reach, show_jobs, unreached
from ringtasks.output.lines import LabelledLog, RawLog

from .core_flags import answers_status, command_timeout, echo, ended, is_dry
from .env_files import environment
from .job_selection import ALL, selected_jobs
from .options import clients_of, gpu_options, number, one_or_all, task, whole_number

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.jobs import Job, JobStatus, Pruned, Stopped

__all__ = ["logs", "prune", "show", "start", "stop", "wait"]

JOB_HELP = (
    "id of a job, its beginning, or name of a job or run; several joined by commas; last; all"
)
WHERE_HELP = "hosts to look for the job on (default: all)"
PATIENCE_HELP = "seconds for which the host may be out of reach (default: 300)"

WATCH_INTERVAL = 2.0
#: The number of ids that a message gives instead of a name.
_MOST_IDS = 3
#: Seconds to end a job that was being started, after Ctrl-C.
_START_END_TIME = 5.0
LOST_STATUS = 1


@task(
    iterable=["env", "env_file"],
    help={
        "cmd": "the command, for /bin/sh on the host",
        "name": "name of the job; need not be unique",
        "log-file": "file on the host for its output, appended (default: in the job's folder)",
        "cwd": "folder on the host; ~ is the remote home (default: the host's work_dir)",
        "gpus": "number of GPUs to reserve; 2:any-memory: also GPUs with memory in use",
        "queue": "wait on the host until they are free, instead of failing",
        "after": "start when this job of the same host has ended, however it ends",
    },
)
def start(
    c: Context,
    host: str | None = None,
    cmd: str | None = None,
    name: str | None = None,
    log_file: str | None = None,
    cwd: str | None = None,
    env: Any = None,  # Invoke makes it a list
    gpus: str | int = "0",
    queue: bool = False,
    after: str | None = None,
    inventory: str | None = None,
    env_file: Any = None,  # Invoke makes it a list
) -> Job | list[Job]:
    """Start a command that outlives the connection; print the job's id."""
    if not cmd:
        raise UsageError("--cmd is required: the command to start on the host")
    clients = clients_of(c, host, inventory, may_ask=True)
    options: dict[str, Any] = {
        "name": name,
        "log_file": log_file,
        "cwd": cwd,
        "env": environment(env, env_file),
        **gpu_options(str(gpus)),
        "queue": queue,
    }
    if is_dry(c):
        from . import jobs_plan

        return one_or_all(jobs_plan.start(clients, cmd, after, options))
    echo(c, cmd)
    if len(clients) > 1:
        options["batch"] = (os.urandom(8).hex(), len(clients))
    found = [_started_or_status(client, cmd, after, options) for client in clients]
    started = [job for job in found if not isinstance(job, int)]
    statuses = [status for status in found if isinstance(status, int)]
    if len(started) > 1 and (them := _ids(name, started)):
        display.say(f"follow them all with: {as_typed('logs')} {them} -f")
    return ended(c, one_or_all(started), combined_status(statuses))


def _started_or_status(
    client: SSHClient, command: str, after: str | None, options: Mapping[str, Any]
) -> Job | int:
    """Start the job on one host, and print its id; return the exit status if it did not start."""
    is_alone = "batch" not in options
    try:
        job = _started(client, command, after, options)
    except JobNotStartedError as error:
        display.say(str(error))
        return error.status
    except UsageError as error:
        if is_alone:
            raise
        display.say(str(error))
        return USAGE
    display.out(job.id if is_alone else f"{job.host}\t{job.id}")
    if job.warning:
        display.say(f"{job.host}: {job.warning}")
    display.say(f"{job.host}: started; follow it with: {as_typed('logs')} {job.id} -f")
    return job


def _started(client: SSHClient, command: str, after: str | None, options: Mapping[str, Any]) -> Job:
    """Start the job on one host.

    :param after: the id or the name of the job to wait for.
    """
    from ringtasks import jobs
    from ringtasks.client.result import text_of

    with client, _starting(client.config.id):
        try:
            first = jobs.find(after, [client]).id if after else None
            return jobs.start(client, command, after=first, **options)
        except KeyboardInterrupt as interrupt:
            if text := text_of(interrupt):
                display.say(text)
            raise


@task(
    help={
        "all": "include jobs that ended more than a day ago",
        "mine": "only jobs that you started from this machine",
        "watch": "refresh every 2 s until Ctrl-C",
    },
)
def show(
    c: Context,
    host: str = "@all",
    all: bool = False,
    json: bool = False,
    watch: bool = False,
    inventory: str | None = None,
    mine: bool = False,
) -> list[JobStatus]:
    """Show the jobs of the hosts: the running ones, and how the others ended."""
    from ringtasks import jobs
    from ringtasks.jobs.job import this_user

    clients = clients_of(c, host, inventory, only_looks=True)
    if is_dry(c):
        from . import jobs_plan

        jobs_plan.list_jobs(clients, json=json)
        return []
    shown: list[JobStatus] = []

    def look() -> int:
        found = jobs.list(clients)
        known = jobs.each_once(job for own in found for job in own.jobs)
        shown[:] = [
            job for job in known if (all or is_recent(job)) and (not mine or job.by == this_user())
        ]
        if json:
            display.json_lines(job.to_dict() for job in shown)
        else:
            show_jobs(shown)
        for own in found:
            if own.error is not None and not (json and own.jobs):
                display.say(unreached(own))
        return answers_status(clients, found)

    return ended(c, shown, display.repeated(look, WATCH_INTERVAL) if watch else look())


@task(
    positional=["job"],
    help={
        "job": JOB_HELP,
        "follow": "show new output until the job ends; survives lost connections",
        "number": "show only the last N lines first (default: all)",
        "since": "show only output since 10m (ago), 14:02, or a date",
        "host": WHERE_HELP,
        "patience": PATIENCE_HELP,
    },
)
def logs(
    c: Context,
    job: str | None = None,
    follow: bool = False,
    number: str | int | None = None,
    since: str | None = None,
    host: str | None = None,
    patience: str | float = "300",
    inventory: str | None = None,
) -> Job | list[Job]:
    """Show the logs of jobs: one raw; several with host labels, in whole lines."""
    import asyncio

    tail = whole_number("--number", number)
    if is_dry(c):
        from . import jobs_plan

        at = moment("--since", since, time.time()) if since else None
        clients = clients_of(c, host, inventory, only_looks=True)
        jobs_plan.follow(clients, job, tail=tail, since=at, follow=follow)
        return []
    found, missing, unreached = selected_jobs(c, job, host, inventory, is_shown=host is None)
    if follow:
        _tell_elsewhere(found)
    asked: dict[str, Any] = {"follow": follow, "tail": tail, "patience": _seconds(patience)}

    async def show_one(status: JobStatus, own: Job) -> str | None:
        if own.host in unreached:
            known = out_of_reach(status, unreached[own.host])
            if not follow:
                return known
            display.say(f"{known}\nwaiting for it, up to {patience} s (--patience)")
        start = moment("--since", since, status.asked_at or time.time()) if since else None
        label = f"{status.host_id}/{status.name or status.id[:8]}"
        printer = RawLog() if len(found) == 1 else LabelledLog(label)
        why = await own.follow_async(printer.add, since=start, **asked)
        printer.finish()
        return why

    async def show_all() -> list[str | None]:
        return await asyncio.gather(*(show_one(status, own) for status, own in found))

    with interruption.said_as(_left(f"logs {_ids(job, (own for _, own in found))} -f")):
        problems = [why for why in asyncio.run(show_all()) if why]
    problems += [missing] if missing else []
    for why in problems:
        display.say(why)
    return ended(c, one_or_all([own for _, own in found]), UNREACHABLE if problems else 0)


@task(
    positional=["job"],
    help={
        "job": JOB_HELP,
        "timeout": "exit with 124 after N seconds, 10m or 2h; the job keeps on (default: no limit)",
        "host": WHERE_HELP,
        "patience": PATIENCE_HELP,
    },
)
def wait(
    c: Context,
    job: str | None = None,
    timeout: str | float | None = None,
    host: str | None = None,
    patience: str | float = "300",
    inventory: str | None = None,
) -> JobStatus | list[JobStatus]:
    """Wait until jobs have ended; the exit status is the job's own."""
    limit = command_timeout(c) if timeout is None else number("--timeout", timeout, at_least=0)
    if is_dry(c):
        from ringtasks.jobs.logs import FOLLOW_SECONDS

        from . import jobs_plan

        clients = clients_of(c, host, inventory, only_looks=True)
        jobs_plan.wait(clients, job, FOLLOW_SECONDS if limit is None else limit)
        return []
    found, missing, _ = selected_jobs(c, job, host, inventory)
    _tell_elsewhere(found)
    began = time.monotonic()
    last: list[JobStatus] = []
    for _, own in found:
        left = None if limit is None else max(0.0, began + limit - time.monotonic())
        with interruption.said_as(_left(f"wait {_ids(job, (own for _, own in found))}")):
            status = own.wait(left, patience=_seconds(patience))
        display.say(f"{_label(status)} on {status.host_id}: {status.describe()}")
        last.append(status)
    statuses = [*map(_exit_status, last), *_status_of_missing(missing)]
    are_commands = all(status.exit_status is not None for status in last)
    return ended(c, one_or_all(last), combined_status(statuses), is_commands=are_commands)


@task(
    positional=["job"],
    help={
        "job": JOB_HELP,
        "grace": "seconds between TERM and KILL",
        "host": WHERE_HELP,
    },
)
def stop(
    c: Context,
    job: str | None = None,
    grace: str | float = "10",
    host: str | None = None,
    inventory: str | None = None,
) -> Stopped | list[Stopped]:
    """Terminate jobs with all their processes; print their states before and after."""
    seconds = number("--grace", grace, at_least=0) or 0.0
    if job == ALL and not host:
        every = as_typed("stop all --host @all")
        raise UsageError(f"'{as_typed('stop all')}' needs --host: name the hosts, or '{every}'")
    if is_dry(c):
        from . import jobs_plan

        jobs_plan.stop(clients_of(c, host, inventory, only_looks=True), job, seconds)
        return []
    found: list[Stopped] = []
    statuses = []
    selected, missing, _ = selected_jobs(c, job, host, inventory, prefers_live=True)
    for status, own in selected:
        said = (
            f"interrupted: whether job {status.id} has ended is unknown: "
            f"'{as_typed(f'jobs --host {own.host}')}' shows it"
        )
        with interruption.said_as(said):
            stopped = own.stop(seconds)
        found.append(stopped)
        display.say(f"{_label(status)} on {own.host}: {stopped}")
        failed = UNREACHABLE if stopped.error else 1
        statuses.append(0 if stopped.is_gone else failed)
    return ended(c, one_or_all(found), combined_status([*statuses, *_status_of_missing(missing)]))


@task(help={"older-than": "minimum time since the end: 90s, 10m, 2h, 7d (default: 7d)"})
def prune(
    c: Context, host: str | None = None, older_than: str = "7d", inventory: str | None = None
) -> list[Pruned]:
    """Delete the folders of jobs that have ended, with their logs."""
    from ringtasks import jobs

    age = duration("--older-than", older_than)
    clients = clients_of(c, host, inventory)
    if is_dry(c):
        from . import jobs_plan

        jobs_plan.prune(clients, age)
        return []
    found = jobs.prune(clients, age)
    for pruned in found:
        if pruned.error:
            display.say(pruned.error)
        if pruned.jobs or not pruned.error:
            display.say(f"{pruned.host_id}: {counted(len(pruned.jobs), 'job')} deleted")
    return ended(c, found, answers_status(clients, found))


def _starting(host: str) -> AbstractContextManager[None]:
    """Give Ctrl-C time to end the job that is being started."""
    shows = f"'{as_typed(f'jobs --host {host}')}' shows it"
    return interruption.ending(
        _START_END_TIME,
        f"interrupted: ending the job on {host}; Ctrl-C again exits at once",
        remains=f"{host}: whether the job was started is unknown: {shows}",
    )


def _ids(name: str | None, found: Iterable[Job]) -> str:
    """Return the ids of a few jobs, since a name may come to mean another job."""
    ids = [job.id for job in found]
    return ",".join(ids) if len(ids) <= _MOST_IDS else name or ""


def _left(command: str) -> str:
    """Return the text for Ctrl-C, which does not affect the job."""
    return f"interrupted; the job keeps running; reattach with: {as_typed(command)}"


def _status_of_missing(missing: str) -> list[int]:
    """Print why further jobs may be missing, and return the exit status for them, if so."""
    if missing:
        display.say(missing)
    return [UNREACHABLE] if missing else []


def _label(job: JobStatus) -> str:
    return f"job {job.id[:8]}" + (f" ({job.name})" if job.name else "")


def _tell_elsewhere(found: Iterable[tuple[JobStatus, Job]]) -> None:
    """Name the jobs whose end only another machine can record, which may take for ever."""
    for status, own in found:
        if status.runs_on is not None and not status.is_ended:
            display.say(
                f"{_label(status)} on {own.host}: {status.describe()}, which shares this home and "
                f"alone records its end; if {own.host} had that name before a restart, nothing does"
            )


def _exit_status(status: JobStatus) -> int:
    if status.exit_status is not None:
        return status.exit_status
    if status.state.is_live or status.runs_on is not None:
        return TIMED_OUT
    return LOST_STATUS if status.is_ended else UNREACHABLE


def _seconds(text: str | float) -> float:
    return number("--patience", text, at_least=0) or 0.0

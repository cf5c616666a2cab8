"""Plans of the job tasks (``inv --dry``); see `plan`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ringtasks.client.ssh_client import SSHClient
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.jobs.job import Job, this_user
from ringtasks.jobs.listing import prune_script
from ringtasks.jobs.logs import follow_script
from ringtasks.jobs.probe import probe_script, wait_script
from ringtasks.jobs.request import JobRequest
from ringtasks.jobs.stop_job import stop_job_script

from .plan import HostPlan, PlannedStep, script_of, show, show_same

__all__ = ["SOME_JOB", "follow", "list_jobs", "prune", "start", "start_step", "stop", "wait"]

#: Stands for an id that only the host knows.
SOME_JOB = "JOBID"
_LIST = PlannedStep("list the jobs", probe_script())


def start(
    clients: Iterable[SSHClient], command: str, after: str | None, options: Mapping[str, Any]
) -> list[Job]:
    """Plan the start of a job; the handles have the ids that the scripts give to the jobs."""
    plans, started = [], []
    for client in clients:
        job_id = os.urandom(8).hex()
        first = _id_of(after) if after else None
        request = JobRequest(command, after=first, **options)
        steps = [_look(after)] if after else []
        plans.append(HostPlan(client.config, [*steps, start_step(client.config, request, job_id)]))
        started.append(Job(client, job_id))
    show(plans)
    return started


def start_step(config: SSHConfig, request: JobRequest, job_id: str | None = None) -> PlannedStep:
    """Return the step that starts a job on a host."""
    job_id = job_id or os.urandom(8).hex()
    if request.cwd is None:
        request = replace(request, cwd=config.work_dir)
    script = request.script(job_id, this_user(), config.shell)
    text = script_of(config, script, cwd=request.cwd, env=request.env)
    return PlannedStep(f"start job {job_id}", text)


def list_jobs(clients: Iterable[SSHClient], *, json: bool) -> None:
    """Plan the listing of the jobs."""
    show_same(clients, [_LIST], json=json)


def follow(clients: Iterable[SSHClient], job: str | None, **options: Any) -> None:
    """Plan the following of logs."""
    _show(clients, job, "print the log", follow_script(_id_of(job), **options))


def wait(clients: Iterable[SSHClient], job: str | None, seconds: float) -> None:
    """Plan the wait for the end of jobs."""
    _show(clients, job, "wait for its end", wait_script(_id_of(job), seconds))


def stop(clients: Iterable[SSHClient], job: str | None, grace: float) -> None:
    """Plan the termination of jobs."""
    _show(clients, job, "end its processes", stop_job_script(_id_of(job), this_user(), grace))


def prune(clients: Iterable[SSHClient], older_than: float) -> None:
    """Plan the deletion of the folders of jobs."""
    name = f"delete those that ended more than {older_than:g} s ago, {SOME_JOB} and others"
    show_same(clients, [_LIST, PlannedStep(name, prune_script([SOME_JOB]))])


def _show(clients: Iterable[SSHClient], job: str | None, name: str, script: str) -> None:
    """Show the search for a job on all hosts, and a step on the host that has it."""
    show_same(clients, [_look(job), PlannedStep(f"{name}, on the host of the job", script)])


def _look(job: str | None) -> PlannedStep:
    known = _id_of(job)
    name = f"look for job {job}" + (f", here called {known}" if known != job else "")
    return PlannedStep(name, probe_script())


def _id_of(job: str | None) -> str:
    """Return the id if it is whole: only the host can resolve a name or the beginning of one."""
    return job if job and re.fullmatch(r"[0-9a-f]{16}", job) else SOME_JOB

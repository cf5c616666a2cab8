"""``inv ray.up``, ``.status``, ``.submit``, ``.stop``, ``.down``: a Ray cluster over hosts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.common import interruption
from ringtasks.common.program_name import as_typed, repeat_in_hints
from ringtasks.common.text import counted, names_and_more
from ringtasks.errors import UsageError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.output import display
from ringtasks.output.tables import table

from .core_flags import command_timeout, ended, is_dry
from .options import HOST_HELP, config_of, port_number, selected, task

if TYPE_CHECKING:
    from ringtasks.client.result import SSHResult
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.training.ray import ClusterState, Ended, Member

__all__ = ["down", "status", "stop", "submit", "up"]

_USUAL_NAME = "ray"
#: The names that a message lists.
_MOST_LISTED = 8
NAME_HELP = f"the cluster's name (default: {_USUAL_NAME})"
VENV_HELP = "virtual environment on the hosts (default: each host's venv_activate)"


@task(
    help={
        "host": HOST_HELP + "; the first named is the head",
        "name": NAME_HELP,
        "venv": VENV_HELP,
        "port": "port at which the hosts of the cluster meet (default: a free one)",
        "dashboard-port": "the dashboard's and job API's port on the head's loopback "
        "(default: 8265, or another one if that is in use)",
        "options": "further flags of 'ray start' on each host: '--num-gpus=1'",
    }
)
def up(
    c: Context,
    host: str | None = None,
    name: str = _USUAL_NAME,
    venv: str | None = None,
    port: str | int | None = None,
    dashboard_port: str | int | None = None,
    options: str = "",
    inventory: str | None = None,
) -> list[Member] | None:
    """Start a Ray cluster over hosts, and wait until all have joined."""
    from ringtasks.training import ray

    clients = _clients(c, host, name, inventory, venv)
    head_port = port_number("--port", port)
    own_dashboard_port = port_number("--dashboard-port", dashboard_port)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_up(clients, name, head_port, own_dashboard_port, options)
        return None
    shows = f"'{as_typed('ray.status')}' shows its remaining parts"
    with interruption.ending(
        _UNDO_TIME,
        "interrupted: ending the started parts of the cluster; Ctrl-C again exits at once",
        remains=f"the cluster was not brought up: {shows}",
    ):
        members = ray.up(
            clients,
            name,
            port=head_port or 0,
            dashboard_port=own_dashboard_port,
            options=options,
            tell=display.say,
        )
    head = members[0]
    up = f"cluster is up ({counted(len(members), 'node')})"
    display.say(f"{up}; run a command: {as_typed('ray.submit --cmd …')}")
    if head.start is not None:
        forward = f"forward --host {head.host} --port {head.start.dashboard_port}"
        display.say(f"the dashboard: '{as_typed(forward)}'")
    return members


@task(help={"name": NAME_HELP, "venv": VENV_HELP})
def status(
    c: Context,
    host: str = "@all",
    name: str = _USUAL_NAME,
    venv: str | None = None,
    inventory: str | None = None,
) -> ClusterState | None:
    """Show the nodes of a Ray cluster, and the state that Ray reports."""
    from ringtasks.training import ray

    clients = _clients(c, host, name, inventory, venv)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_status(clients, name)
        return None
    cluster_state = ray.look(clients, name)
    if cluster_state.is_nowhere:
        raise ray.nowhere(cluster_state.name)
    _show(cluster_state)
    head = cluster_state.head
    if head is None or not head.is_live:
        display.say(f"{_state_of_head(cluster_state)}, so Ray was not asked")
        return ended(c, cluster_state, UNREACHABLE if cluster_state.unreachable else 1)
    result = ray.ask(head)
    is_told = result.error is None and result.success
    for line in map(display.shown, result.output.splitlines()):
        print(line) if is_told else display.say(line)
    if not is_told:
        why = result.error or f"exit status {result.returncode}"
        display.say(f"{head.host}: Ray did not tell its state: {why}")
        return ended(c, cluster_state, UNREACHABLE)
    if cluster_state.unreachable:
        return ended(c, cluster_state, UNREACHABLE)
    return ended(c, cluster_state, 0 if cluster_state.is_well else 1)


def _state_of_head(cluster_state: ClusterState) -> str:
    head = cluster_state.head
    if head is not None and head.job is not None and head.job.is_ended:
        return "the head does not run"
    if head is None and not cluster_state.unreachable:
        return "no host that was asked has the head"
    return "it is unknown whether the head runs"


@task(
    help={
        "cmd": "the command, for Ray's job API",
        "working-dir": "local folder that Ray copies to the host on which the command runs",
        "wait": "follow the job to its end (--no-wait: only until Ray has accepted it)",
        "attach": "reattach to a running job by its Ray name; starts nothing",
        "name": NAME_HELP,
        "venv": VENV_HELP,
    }
)
def submit(
    c: Context,
    cmd: str | None = None,
    working_dir: str | None = None,
    wait: bool = True,
    attach: str | None = None,
    host: str = "@all",
    name: str = _USUAL_NAME,
    venv: str | None = None,
    inventory: str | None = None,
) -> SSHResult | str | None:
    """Submit a command to a Ray cluster's job API, and follow it."""
    from ringtasks.training import ray

    if not cmd and attach is None:
        raise UsageError("--cmd is required: the command to submit; or --attach JOB")
    folder = None if working_dir is None else Path(working_dir)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"--working-dir {working_dir}: no such folder here")
    job_id = ray.new_id() if attach is None else _job(attach)
    clients = _clients(c, host, name, inventory, venv)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_submit(clients, name, cmd or "", working_dir, wait=wait)
        return None
    upload = ray.plan_upload(folder) if folder is not None else None
    if upload is not None and upload.left_out:
        left_out = display.shown(names_and_more(upload.left_out, _MOST_LISTED))
        display.say(f"left out of {working_dir}: {left_out}")
    head = ray.look(clients, name).working_head()
    with interruption.said_as(
        "interrupted: if Ray has accepted the job, it continues: "
        f"'{as_typed(f'ray.submit --attach {job_id}')}' follows it, "
        f"'{as_typed(f'ray.stop --job {job_id}')}' stops it"
    ):
        if cmd and attach is None:
            ray.submit(head, job_id, cmd, folder, upload, tell=display.say)
            if not wait:
                print(job_id)
                return job_id
            display.say(f"Ray has accepted job {job_id}")
        result = _followed(c, head, job_id)
    return ended(c, result, result.returncode, is_commands=result.error is None)


def _followed(c: Context, head: Member, job_id: str) -> SSHResult:
    from ringtasks.training import ray

    reporter = display.RawReporter()
    result = ray.follow(head, job_id, reporter.on_output, command_timeout(c) or 0)
    if result.timed_out:
        stopped = ray.stop(head, job_id)
        display.say(stopped.error or stopped.output.strip())
    reporter.finish(result)
    return result


@task(
    help={
        "job": "the job's name with Ray: 'raysubmit_…'",
        "name": NAME_HELP,
        "venv": VENV_HELP,
    }
)
def stop(
    c: Context,
    job: str | None = None,
    host: str = "@all",
    name: str = _USUAL_NAME,
    venv: str | None = None,
    inventory: str | None = None,
) -> SSHResult | None:
    """Stop a job of a Ray cluster, and wait until it has ended."""
    from ringtasks.training import ray

    job_id = _job(job or "")
    clients = _clients(c, host, name, inventory, venv)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_stop(clients, name, job_id)
        return None
    result = ray.stop(ray.look(clients, name).working_head(), job_id)
    for line in result.output.splitlines():
        display.say(display.shown(line))
    if result.error:
        display.say(result.error)
    return ended(c, result, result.returncode)


@task(help={"name": NAME_HELP})
def down(
    c: Context, host: str = "@all", name: str = _USUAL_NAME, inventory: str | None = None
) -> list[Ended]:
    """End a Ray cluster on every host; print its state before and after."""
    from ringtasks.training import ray

    clients = _clients(c, host, name, inventory)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_down(clients, name)
        return []
    cluster_state = ray.look(clients, name)
    if cluster_state.is_nowhere:
        raise ray.nowhere(cluster_state.name)
    found = []
    for each in ray.end(cluster_state):
        display.say(f"{each.host}: {each.text}")
        found.append(each)
    for own in cluster_state.absent:
        display.say(f"{own}: nothing of the cluster is there")
    _tell_unasked(cluster_state)
    return ended(c, found, max((each.status for each in found), default=0))


def _show(cluster_state: ClusterState) -> None:
    """Print a row for each host of the cluster, and for each that could not be asked."""
    known = {member.host for member in cluster_state.members}
    rows = [
        (own.host, own.role, own.describe(), own.job.id if own.job else "", "")
        for own in cluster_state.members
    ]
    rows += [
        (own, "?", "unknown", "", why) for own, why in cluster_state.unreachable if own not in known
    ]
    rows += [(own, "?", "absent", "", "nothing of it is left") for own in cluster_state.absent]
    table(["host", "role", "state", "job", "reason"], rows)
    _tell_unasked(cluster_state)


def _tell_unasked(cluster_state: ClusterState) -> None:
    if cluster_state.unasked:
        listed = ", ".join(cluster_state.unasked)
        display.say(f"not among the hosts given, and so not asked: {display.shown(listed)}")


def _clients(
    c: Context, host: str | None, name: str, inventory: str | None, venv: str | None = None
) -> list[SSHClient]:
    """Return a client for each host, in the order in which ``--host`` names them.

    :raises UsageError: the cluster's name cannot be used, or no host is selected.
    """
    from ringtasks.client.ssh_client import SSHClient

    if not name.isidentifier():
        raise UsageError(f"--name {name!r}: expected a word of letters, digits and _")
    repeat_in_hints("ray.", name=None if name == _USUAL_NAME else name)
    repeat_in_hints("ray.s", "ray.up", venv=venv)
    configs = [config_of(c, own) for own in selected(c, host, inventory, as_named=True)]
    return [
        SSHClient(replace(config, venv_activate=venv) if venv else config) for config in configs
    ]


#: Seconds to end the parts of a cluster that was being brought up, after Ctrl-C.
_UNDO_TIME = 60.0


def _job(job: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", job):
        raise UsageError(f"expected a job's name with Ray, such as raysubmit_0a1b2c, got {job!r}")
    return job

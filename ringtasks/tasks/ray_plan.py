"""Plans of the ``ray`` tasks (``inv --dry``); see `plan`."""

from __future__ import annotations

from collections.abc import Sequence

from ringtasks.client.ssh_client import SSHClient
from ringtasks.jobs.job import this_user
from ringtasks.jobs.probe import probe_script
from ringtasks.jobs.request import JobRequest
from ringtasks.jobs.stop_job import stop_job_script
from ringtasks.training.ray.commands import FOLDER, check_options, group_of, ray, starts
from ringtasks.training.ray.submitting import submit_command
from ringtasks.training.rendezvous import Node, Rendezvous

from .jobs_plan import SOME_JOB, start_step
from .plan import HostPlan, PlannedStep, show, show_same

__all__ = ["plan_down", "plan_status", "plan_stop", "plan_submit", "plan_up"]

#: Ray's defaults (ray start --help), used if no other port is asked for or in use.
_PORTS = {"agent": 52365, "dashboard": 8265, "client": 10001}
_STORE_PORT = 6379
_GRACE = 5.0


def plan_up(
    clients: Sequence[SSHClient],
    name: str,
    port: int | None,
    dashboard_port: int | None,
    options: str,
) -> None:
    """Plan the start of a cluster: the first host is the head."""
    check_options(options)
    nodes = tuple(
        Node(own.config.id, f"ADDRESS-OF-{own.config.id}", "interface") for own in clients
    )
    rendezvous_point = Rendezvous(nodes[0].address, port or _STORE_PORT, nodes)
    ports = {**_PORTS, **({"dashboard": dashboard_port} if dashboard_port else {})}
    commands = starts(_id_of(name), rendezvous_point, [ports] * len(nodes), options)
    plans = []
    for client, command in zip(clients, commands, strict=True):
        request = JobRequest(command, name=f"ray-{name}", group=group_of(name), cwd="~")
        steps = [
            _look(name),
            PlannedStep("find addresses that all hosts reach, and free ports"),
            PlannedStep(f"write a token and a program that ends Ray's processes to ~/{FOLDER}"),
            start_step(client.config, request),
        ]
        plans.append(HostPlan(client.config, steps))
    show(plans)


def plan_status(clients: Sequence[SSHClient], name: str) -> None:
    """Plan the request to Ray for its nodes."""
    command = f"{ray(_id_of(name))} status --address 'HEAD-ADDRESS:{_STORE_PORT}'"
    _show(clients, name, PlannedStep("on the head, as these jobs show", command))


def plan_submit(
    clients: Sequence[SSHClient], name: str, command: str, working_dir: str | None, *, wait: bool
) -> None:
    """Plan the submission of a command to Ray."""
    sent = f"COPY-OF/{working_dir}" if working_dir is not None else None
    told = submit_command(_id_of(name), command, _PORTS["dashboard"], sent)
    then = "; its log is followed then" if wait else ""
    _show(clients, name, PlannedStep(f"on the head, as these jobs show{then}", told))


def plan_stop(clients: Sequence[SSHClient], name: str, job_id: str) -> None:
    """Plan the stop of a Ray job."""
    _show(
        clients,
        name,
        PlannedStep(f"on the head, as these jobs show: ask Ray to stop {job_id}"),
    )


def plan_down(clients: Sequence[SSHClient], name: str) -> None:
    """Plan the end of a cluster."""
    script = stop_job_script(SOME_JOB, this_user(), _GRACE)
    _show(clients, name, PlannedStep(f"end its job there, here called {SOME_JOB}", script))


def _id_of(name: str) -> str:
    """Return the id of a cluster of that name, with zeros in place of its random part."""
    return f"{name}-00000000"


def _show(clients: Sequence[SSHClient], name: str, step: PlannedStep) -> None:
    show_same(clients, [_look(name), step])


def _look(name: str) -> PlannedStep:
    return PlannedStep(f"look for the jobs of cluster {name}", probe_script())

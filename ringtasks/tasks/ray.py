"""``inv ray.up``, ``ray.status``, ``ray.submit``, ``ray.down``: a Ray cluster over hosts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context, Exit

from ringtasks.client.terminal import terminable
from ringtasks.errors import UsageError
from ringtasks.exit_status import INTERRUPTED, UNREACHABLE
from ringtasks.output import display

from .core_flags import command_timeout, ended, is_dry
from .options import HOST_HELP, INVENTORY_HELP, config_of, number, selected, task

if TYPE_CHECKING:
    from ringtasks.client.result import SSHResult
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.training.ray import Ended, Member, Standing

__all__ = ["down", "status", "submit", "up"]

NAME_HELP = "the cluster's name (default: ray)"
_LAST_PORT = 65535
VENV_HELP = "virtual environment on the hosts (default: each host's venv_activate)"


@task(
    help={
        "host": HOST_HELP + "; the first is the head",
        "name": NAME_HELP,
        "venv": VENV_HELP,
        "port": "the port of the head's store (default: a free one)",
        "dashboard-port": "the dashboard's and job API's port on the head's loopback "
        "(default: 8265, or another one if that is in use)",
        "options": "more for 'ray start' on each host: '--num-gpus=1'",
        "inventory": INVENTORY_HELP,
    }
)
def up(
    c: Context,
    host: str | None = None,
    name: str = "ray",
    venv: str | None = None,
    port: str | int | None = None,
    dashboard_port: str | int | None = None,
    options: str = "",
    inventory: str | None = None,
) -> list[Member] | None:
    """Bring up a Ray cluster over hosts, and wait until all have joined."""
    from ringtasks.training import ray

    clients = _clients(c, host, inventory, venv)
    if is_dry(c):
        from . import ray_plan

        ports = _port("--port", port), _port("--dashboard-port", dashboard_port)
        ray_plan.plan_up(clients, _checked(name), *ports, options)
        return None
    with terminable():
        try:
            members = ray.up(
                clients,
                _checked(name),
                port=_port("--port", port) or 0,
                dashboard_port=_port("--dashboard-port", dashboard_port),
                options=options,
                tell=display.say,
            )
        except KeyboardInterrupt:
            display.say("interrupted: the cluster was not brought up")
            raise Exit(code=INTERRUPTED) from None
    head = members[0]
    display.say(f"{len(members)} nodes are up; 'inv ray.submit --cmd …' runs something")
    if head.start is not None:
        port_there = head.start.dashboard_port
        display.say(f"the dashboard: 'inv forward --host {head.host} --port {port_there}'")
    return members


@task(help={"host": HOST_HELP, "name": NAME_HELP, "venv": VENV_HELP, "inventory": INVENTORY_HELP})
def status(
    c: Context,
    host: str = "@all",
    name: str = "ray",
    venv: str | None = None,
    inventory: str | None = None,
) -> Standing | None:
    """Show the nodes of a Ray cluster, and what Ray says of them."""
    from ringtasks.training import ray

    clients = _clients(c, host, inventory, venv)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_status(clients, _checked(name))
        return None
    standing = ray.look(clients, _checked(name))
    if standing.is_nowhere:
        raise ray.nowhere(standing.name)
    _show(standing)
    head = standing.head
    if head is None or not head.is_live:
        display.say("the head is not known to run, so Ray was not asked")
        return ended(c, standing, UNREACHABLE if standing.unreachable else 1)
    result = standing.ask_ray()
    for line in result.output.splitlines():
        print(display.visible(line))
    if result.error:
        display.say(result.error)
    if standing.unreachable:
        return ended(c, standing, UNREACHABLE)
    return ended(c, standing, result.returncode or (0 if standing.is_well else 1))


@task(
    help={
        "cmd": "the command, for Ray's job API",
        "working-dir": "a folder here that Ray brings to where the command runs",
        "wait": "follow it to its end (--no-wait: until Ray has taken it)",
        "host": HOST_HELP,
        "name": NAME_HELP,
        "venv": VENV_HELP,
        "inventory": INVENTORY_HELP,
    }
)
def submit(
    c: Context,
    cmd: str | None = None,
    working_dir: str | None = None,
    wait: bool = True,
    host: str = "@all",
    name: str = "ray",
    venv: str | None = None,
    inventory: str | None = None,
) -> SSHResult | None:
    """Hand a command to a Ray cluster's own job API, and follow it."""
    from ringtasks.training import ray

    if not cmd:
        raise UsageError("--cmd is missing: what shall run?")
    if working_dir is not None and not Path(working_dir).is_dir():
        raise UsageError(f"--working-dir {working_dir}: no such folder here")
    clients = _clients(c, host, inventory, venv)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_submit(clients, _checked(name), cmd, working_dir, wait=wait)
        return None
    standing = ray.look(clients, _checked(name))
    head = standing.working_head()
    there = _sent(head.client, working_dir) if working_dir is not None else None
    reporter = display.RawReporter()
    with terminable():
        result = ray.submit(
            head,
            cmd,
            there,
            wait=wait,
            timeout=command_timeout(c) or 0,
            on_output=reporter.on_output,
        )
    reporter.finish(result)
    return ended(c, result, result.returncode, is_commands=result.error is None)


@task(help={"host": HOST_HELP, "name": NAME_HELP, "inventory": INVENTORY_HELP})
def down(
    c: Context, host: str = "@all", name: str = "ray", inventory: str | None = None
) -> list[Ended]:
    """End what there is of a Ray cluster, on every host; tell what was there before and after."""
    from ringtasks.training import ray

    clients = _clients(c, host, inventory, None)
    if is_dry(c):
        from . import ray_plan

        ray_plan.plan_down(clients, _checked(name))
        return []
    standing = ray.look(clients, _checked(name))
    if standing.is_nowhere:
        raise ray.nowhere(standing.name)
    found = []
    for each in ray.end(standing):
        display.say(f"{each.host}: {each.text}")
        found.append(each)
    for own in standing.absent:
        display.say(f"{own}: there is nothing of it")
    _tell_unasked(standing)
    return ended(c, found, max((each.status for each in found), default=0))


def _show(standing: Standing) -> None:
    """A row for each host that has, or may have, a part in the cluster."""
    known = {member.host for member in standing.members}
    rows = [
        (own.host, own.role, own.describe(), own.job.id if own.job else "")
        for own in standing.members
    ]
    rows += [
        (own, "?", f"unknown: {why}", "") for own, why in standing.unreachable if own not in known
    ]
    rows += [(own, "?", "has nothing of it any more", "") for own in standing.absent]
    display.table(["host", "role", "state", "job"], rows)
    _tell_unasked(standing)


def _tell_unasked(standing: Standing) -> None:
    if standing.unasked:
        listed = ", ".join(standing.unasked)
        display.say(f"not among the hosts given, and so not asked: {display.visible(listed)}")


def _clients(
    c: Context, host: str | None, inventory: str | None, venv: str | None
) -> list[SSHClient]:
    from ringtasks.client.ssh_client import SSHClient

    configs = [config_of(c, found) for found in selected(c, host, inventory)]
    return [
        SSHClient(replace(config, venv_activate=venv) if venv else config) for config in configs
    ]


def _port(flag: str, text: str | int | None) -> int | None:
    port = number(flag, text, at_least=1, whole=True)
    if port is not None and port > _LAST_PORT:
        raise UsageError(f"{flag}: expected a port, at most {_LAST_PORT}, got {text}")
    return None if port is None else int(port)


def _checked(name: str) -> str:
    if not name.isidentifier():
        raise UsageError(f"--name {name!r}: expected a word of letters, digits and _")
    return name


def _sent(client: SSHClient, folder: str) -> str:
    """Where the folder is on the host of ``client`` now."""
    from ringtasks.training.files import send_folder

    target = f".ringtasks/ray-{os.urandom(4).hex()}"
    send_folder(client, Path(folder), f"~/{target}")
    return target

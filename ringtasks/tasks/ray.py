"""``inv ray.up``, ``ray.status``, ``ray.submit``, ``ray.down``: a Ray cluster over hosts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.client.terminal import terminable
from ringtasks.errors import UsageError
from ringtasks.output import display

from .core_flags import ended
from .options import HOST_HELP, INVENTORY_HELP, number, selected, task

if TYPE_CHECKING:
    from ringtasks.client.result import SSHResult
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.jobs import Stopped
    from ringtasks.training.ray.cluster import Cluster

__all__ = ["down", "status", "submit", "up"]

NAME_HELP = "the cluster's name (default: ray)"
VENV_HELP = "virtual environment on the hosts (default: each host's venv_activate)"


@task(
    help={
        "host": HOST_HELP + "; the first is the head",
        "name": NAME_HELP,
        "venv": VENV_HELP,
        "dashboard-port": "the dashboard's and job API's port on the head's loopback",
        "options": "more for 'ray start' on each host: '--num-gpus=1'",
        "inventory": INVENTORY_HELP,
    }
)
def up(
    c: Context,
    host: str | None = None,
    name: str = "ray",
    venv: str | None = None,
    dashboard_port: str | int = "8265",
    options: str = "",
    inventory: str | None = None,
) -> Cluster:
    """Bring up a Ray cluster over hosts, and wait until all have joined."""
    from ringtasks.training.ray import cluster as raycluster

    clients = _clients(c, host, inventory, venv)
    port = int(number("--dashboard-port", dashboard_port, at_least=1, whole=True) or 0)
    with terminable():
        cluster = raycluster.up(
            clients, _checked(name), dashboard_port=port, options=options, tell=display.say
        )
    head = cluster.head.config.id
    display.say(f"{len(cluster.nodes)} nodes are up; 'inv ray.submit --cmd …' runs something")
    display.say(f"the dashboard: 'inv forward --host {head} --port {cluster.dashboard_port}'")
    return cluster


@task(help={"host": HOST_HELP, "name": NAME_HELP, "venv": VENV_HELP, "inventory": INVENTORY_HELP})
def status(
    c: Context,
    host: str = "@all",
    name: str = "ray",
    venv: str | None = None,
    inventory: str | None = None,
) -> Cluster:
    """Show the nodes of a Ray cluster, and what Ray says of them."""
    from ringtasks.training.ray import cluster as raycluster

    cluster = raycluster.find(_clients(c, host, inventory, venv), _checked(name))
    rows = [
        (node.host_id, "head" if n == 0 else "worker", node.describe(), node.id)
        for n, node in enumerate(cluster.nodes)
    ]
    display.table(["host", "role", "state", "job"], rows)
    result = cluster.status()
    for line in result.output.splitlines():
        print(display.visible(line))
    if result.error:
        display.say(result.error)
    return ended(c, cluster, result.returncode)


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
) -> SSHResult:
    """Hand a command to a Ray cluster's own job API, and follow it."""
    from ringtasks.training.ray import cluster as raycluster

    if not cmd:
        raise UsageError("--cmd is missing: what shall run?")
    if working_dir is not None and not Path(working_dir).is_dir():
        raise UsageError(f"--working-dir {working_dir}: no such folder here")
    cluster = raycluster.find(_clients(c, host, inventory, venv), _checked(name))
    there = _sent(cluster.head, working_dir) if working_dir is not None else None
    reporter = display.RawReporter()
    with terminable():
        result = cluster.submit(cmd, there, wait=wait, on_output=reporter.on_output)
    reporter.finish(result)
    return ended(c, result, result.returncode, is_commands=result.error is None)


@task(help={"host": HOST_HELP, "name": NAME_HELP, "inventory": INVENTORY_HELP})
def down(
    c: Context, host: str = "@all", name: str = "ray", inventory: str | None = None
) -> dict[str, Stopped]:
    """Stop a Ray cluster, and tell what was there before and after."""
    from ringtasks.training.ray import cluster as raycluster

    cluster = raycluster.find(_clients(c, host, inventory, None), _checked(name))
    found: dict[str, Stopped] = {}
    statuses = []
    for own, stopped in cluster.down():
        found[own] = stopped
        display.say(f"{own}: {stopped}")
        statuses.append(0 if stopped.is_gone else 255 if stopped.error else 1)
    return ended(c, found, max(statuses))


def _clients(
    c: Context, host: str | None, inventory: str | None, venv: str | None
) -> list[SSHClient]:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.config import SSHConfig

    configs = [SSHConfig.from_host_config(found) for found in selected(c, host, inventory)]
    return [
        SSHClient(replace(config, venv_activate=venv) if venv else config) for config in configs
    ]


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

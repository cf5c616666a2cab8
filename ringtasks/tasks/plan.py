"""The plan of a task (``inv --dry``): the hosts, their routes, and the scripts; sends nothing.

The ``ssh`` command of a route and the script, which is for ``/bin/sh`` on the host, are enough to
run a step by hand.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ringtasks.common.light_typing import NamedTuple
from ringtasks.output import display
from ringtasks.output.tables import table

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.host_settings import SSHConfig

__all__ = [
    "HostPlan",
    "PlannedStep",
    "print_script",
    "print_steps",
    "script_of",
    "show",
    "show_same",
]


class PlannedStep(NamedTuple):
    """One step: a script for the host, or a command on this machine."""

    name: str
    script: str = ""
    is_local: bool = False


@dataclass(frozen=True)
class HostPlan:
    """A host, and its steps in order."""

    config: SSHConfig
    steps: Sequence[PlannedStep] = ()
    transport: str | None = None
    ssh_options: Sequence[str] = ()
    """More options for the ``ssh`` commands."""
    fields: dict[str, Any] = field(default_factory=dict)
    """More fields for JSON."""

    def routes(self) -> list[tuple[str, str]]:
        """Return each route as text, with the ``ssh`` command that uses it.

        :raises UsageError: the host does not have the requested route.
        """
        from ringtasks.ssh.attempts import ordered_routes
        from ringtasks.ssh.ssh_command import ssh_command

        if self.config.embedded or self.config.fault is not None:
            return []
        return [
            (
                f"{route.name} {route.address}",
                shlex.join(ssh_command(self.config, route, *self.ssh_options)),
            )
            for route in ordered_routes(self.config, self.transport)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        routes = self.routes()
        return {
            "host_id": self.config.id,
            "routes": [route for route, _ in routes],
            "ssh": [command for _, command in routes],
            "steps": [{"name": step.name, "script": step.script} for step in self.steps],
            **self.fields,
            **({} if self.config.fault is None else {"error": self.config.fault}),
        }


def show(plans: Iterable[HostPlan], *, json: bool = False) -> list[dict[str, Any]]:
    """Print the plans; hosts with the same steps are grouped."""
    plans = list(plans)
    found = [plan.to_dict() for plan in plans]
    if json:
        display.json_lines(found)
        return found
    rows = [
        (fields["host_id"], route, command)
        for fields in found
        for route, command in zip(fields["routes"], fields["ssh"], strict=True)
    ]
    embedded = [(plan.config.id, "embedded", "") for plan in plans if plan.config.embedded]
    table(["host", "route", "by hand"], rows + embedded)
    for plan in plans:
        if plan.config.fault is not None:
            display.say(plan.config.fault)
    print_steps([plan for plan in plans if plan.config.fault is None])
    return found


def print_steps(plans: Sequence[HostPlan]) -> None:
    """Print the steps of hosts, equal ones once."""
    from ringtasks.fleet.folding import folded, groups_of

    name: Callable[[HostPlan], str] = lambda plan: plan.config.id  # noqa: E731
    for group in groups_of(plans, name, lambda plan: tuple(plan.steps)):
        if steps := plans[group.first].steps:
            print(f"\n{display.shown(folded(group.hosts))}:")
        for step in steps:
            print(f"  # {step.name}{', on this machine' if step.is_local else ''}")
            print_script(step.script)


def print_script(script: str) -> None:
    """Print the lines of a script, indented."""
    for line in script.strip("\n").splitlines():
        print(f"    {display.shown(line)}")


def show_same(
    clients: Iterable[SSHClient], steps: Sequence[PlannedStep], *, json: bool = False
) -> None:
    """Print the plan of steps that are the same for all hosts."""
    show((HostPlan(client.config, steps) for client in clients), json=json)


def script_of(
    config: SSHConfig,
    command: str,
    *,
    cwd: str | None = None,
    env: Iterable[str] = (),
) -> str:
    """Return the text that a host's shell gets for a command.

    :param env: the names of variables; their values may be secret.
    """
    from ringtasks.remote.script import Script

    return Script(
        command,
        cwd=cwd if cwd is not None else config.work_dir,
        env=dict.fromkeys(env, "***"),
        venv=config.venv_activate,
        run_id="RUN-ID",
    ).text()

"""Plans of the ``deploy`` tasks (``inv --dry``); see `plan`.

The steps are those for a host that has no release yet: only the host knows which releases it has.
``inv deploy --dry-run`` reads the hosts, and shows which releases it would remove, too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ringtasks.deploy import steps
from ringtasks.deploy.preparing import going_to, new_plan, secrets_of, targets_of
from ringtasks.deploy.rollout import RolloutObserver
from ringtasks.deploy.settings import DeploySettings
from ringtasks.deploy.source import source_of
from ringtasks.deploy.steps import DeployPlan, HostStep
from ringtasks.deploy.target import Target
from ringtasks.inventory.model import HostConfig
from ringtasks.output import ci
from ringtasks.remote.paths import joined
from ringtasks.remote.script import quoted_path
from ringtasks.transfer import Options

from .files_plan import copies
from .plan import HostPlan, PlannedStep, show

__all__ = ["plan_deploy", "plan_look", "plan_rollback", "plan_unlock"]

#: The JSON fields of each host.
Found = list[dict[str, Any]]

#: Stands for the last good release.
_LAST_GOOD = "LAST-GOOD-RELEASE"


def plan_deploy(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Found:
    """Show the steps of a new release."""
    secrets = secrets_of(settings, os.environ)
    with source_of(settings.source, settings.ref) as source:
        plan = new_plan(settings, source, who=ci.who(os.environ), secrets=secrets)
        return _show(plan, hosts, _rollout, json=json)


def plan_rollback(
    settings: DeploySettings, hosts: Sequence[HostConfig], wanted: str | None, *, json: bool
) -> Found:
    """Show the steps of a return to an earlier release."""
    plan = new_plan(settings, None, who=ci.who(os.environ))
    plan = going_to(plan, wanted or _LAST_GOOD, wanted or "")
    return _show(plan, hosts, _rollout, json=json)


def plan_look(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Found:
    """Show the steps that read a host's releases."""
    plan = new_plan(settings, None, who="")
    return _show(plan, hosts, lambda target: [_precheck(target)], json=json)


def plan_unlock(settings: DeploySettings, hosts: Sequence[HostConfig], reason: str) -> None:
    """Show the steps that remove a lock."""
    plan = new_plan(settings, None, who=ci.who(os.environ))

    _show(plan, hosts, lambda own: [_planned(steps.unlock(plan, own.place, reason))], json=False)


def _show(
    plan: DeployPlan,
    hosts: Sequence[HostConfig],
    steps_of: Callable[[Target], list[PlannedStep]],
    *,
    json: bool,
) -> Found:
    with targets_of(hosts, plan, RolloutObserver()) as targets:
        return show(
            (HostPlan(target.client.config, steps_of(target)) for target in targets), json=json
        )


def _rollout(target: Target) -> list[PlannedStep]:
    """Return the steps of a rollout on one host; the hooks run once, on this machine."""
    hooks = target.plan.settings.hooks
    told = [*_hook(hooks.before, "hook before"), _precheck(target)]
    for step in target.outlook():
        told.append(_planned(step))
        if step.name == "upload":
            told += _upload(target)
    return told + _hook(hooks.after, "hook after")


def _precheck(target: Target) -> PlannedStep:
    return _planned(steps.precheck(target.plan, target.place))


def _planned(step: HostStep) -> PlannedStep:
    return PlannedStep(step.name, step.script)


def _upload(target: Target) -> list[PlannedStep]:
    settings, revision = target.plan.settings, target.plan.release.revision
    config, place = target.client.config, joined(target.place.root, "source")
    if settings.source is not None:
        options = Options(exclude=settings.exclude, delete=True)
        return copies(config, [settings.source.rstrip("/") + "/"], f"{place}/", options=options)
    unpack = shlex.quote(f"tar -xf - -C {quoted_path(place)}")
    return [
        PlannedStep(f"send, via {route}", f"git archive {revision} | {ssh} {unpack}", is_local=True)
        for route, ssh in HostPlan(config).routes()
    ]


def _hook(command: str | None, name: str) -> list[PlannedStep]:
    return [PlannedStep(name, command, is_local=True)] if command else []

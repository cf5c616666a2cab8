"""``inv deploy`` and ``inv deploy.rollback``: prepare, deploy or show the plan, report."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringtasks.common import interruption
from ringtasks.common.program_name import as_typed
from ringtasks.deploy import layout
from ringtasks.deploy.deployment import Deployment, exit_status
from ringtasks.deploy.preparing import (
    chosen_release,
    going_to,
    looked_at,
    new_plan,
    secrets_of,
    targets_of,
)
from ringtasks.deploy.report import DeployReport
from ringtasks.deploy.settings import DeploySettings
from ringtasks.deploy.source import ReleaseSource, source_of
from ringtasks.deploy.steps import DeployPlan
from ringtasks.deploy.target import HELD_STATUS, Target
from ringtasks.errors import UsageError
from ringtasks.exit_status import combined_status
from ringtasks.inventory.model import HostConfig
from ringtasks.output import ci, display
from ringtasks.output.deploy import PLAN_COLUMNS, plan_row, shown
from ringtasks.output.junit import prepare_junit, write_junit
from ringtasks.output.rollout import RolloutView

from .plan import HostPlan, PlannedStep, print_script, print_steps

__all__ = ["Flags", "deploy", "rollback"]


#: The report, or the findings of a dry run for each host; and the exit status.
Answer = tuple["DeployReport | list[dict[str, Any]]", int]


@dataclass(frozen=True)
class Flags:
    """The command line's flags beside the settings; ``wait`` is in seconds."""

    wait: float = 0.0
    junit: str | None = None
    dry_run: bool = False
    verbose: bool = False
    json: bool = False


def deploy(settings: DeploySettings, hosts: Sequence[HostConfig], flags: Flags) -> Answer:
    """Deploy a new release, on all hosts or on none."""
    with source_of(settings.source, settings.ref) as source:
        view = RolloutView(is_verbose=flags.verbose, environ=os.environ)
        plan = _plan(settings, source, flags)
        with targets_of(hosts, plan, view) as targets:
            if flags.dry_run:
                answer = _show(targets, flags)
            else:
                view.before_upload = lambda: _tell_changes(source, view)
                answer = _roll_out(plan, targets, view, flags)
        with suppress(UsageError):  # of git; all hosts had the files, so it was not needed before
            _tell_changes(source, view)
            for remark in source.notes[len(source.change_notes) :]:
                view.say(f"note: {remark}")
        return answer


def _tell_changes(source: ReleaseSource, view: RolloutView) -> None:
    """Tell once of changes that the release has not; a fault of git does not end the deploy."""
    with suppress(UsageError, subprocess.TimeoutExpired):
        for remark in source.change_notes:
            view.say_once(f"note: {remark}")


def rollback(
    settings: DeploySettings, hosts: Sequence[HostConfig], wanted: str | None, flags: Flags
) -> Answer:
    """Deploy an earlier release, on all hosts or on none.

    :param wanted: None: the last good one.
    """
    view = RolloutView(is_verbose=flags.verbose, environ=os.environ)
    plan = _plan(settings, None, flags)
    with targets_of(hosts, plan, view) as targets:
        failed = [(target, outcome) for target, outcome in looked_at(targets) if not outcome]
        for target, outcome in failed:
            display.say(f"{target.place.host}: {outcome.error}")
        if failed:
            return [], combined_status(outcome.returncode for _, outcome in failed)
        states = {target.place.host: target.state for target in targets}
        release = chosen_release(states, wanted)
        plan = going_to(plan, release, states[hosts[0].name].revision_of(release))
        again = [target.again(plan) for target in targets]
        if flags.dry_run:
            return _show(again, flags)
        return _roll_out(plan, again, view, flags)


def _plan(settings: DeploySettings, source: ReleaseSource | None, flags: Flags) -> DeployPlan:
    build = ci.found(os.environ)
    return new_plan(
        settings,
        source,
        who=ci.who(os.environ),
        link=build.link if build else "",
        wait=flags.wait,
        secrets=secrets_of(settings, os.environ),
    )


def _roll_out(
    plan: DeployPlan, targets: Sequence[Target], view: RolloutView, flags: Flags
) -> Answer:
    view.conceal = plan.conceal
    if flags.junit is not None:
        prepare_junit(Path(flags.junit))
    deployment = Deployment(plan, targets, view)
    if not _hook(plan, "before"):
        view.say("hooks: before: failed: nothing was done")
        _report(deployment.report, view, flags)
        return deployment.report, 1
    view.began(deployment.report, tuple(plan.secrets.values()))
    try:
        deployment.run()
    except KeyboardInterrupt:
        view.say(
            "interrupted again: a lock that was not released expires by itself; "
            f"next: '{as_typed('deploy.status')}', then '{as_typed('deploy')}' or "
            f"'{as_typed('deploy.rollback')}'"
        )
    # The hooks have limits of their own.
    with interruption.ending(math.inf, "", remains=deployment.remains):
        return _told(deployment.report, plan, view, flags)


def _told(report: DeployReport, plan: DeployPlan, view: RolloutView, flags: Flags) -> Answer:
    _report(report, view, flags)
    status = exit_status(report)
    if status == HELD_STATUS:
        view.say(f"if that deploy is gone: {as_typed('deploy.unlock')} --reason '…'")
    if not _hook(plan, "failed" if status else "after"):
        view.say(f"hooks: {'failed' if status else 'after'}: failed")
        return report, status or 1
    return report, status


def _report(report: DeployReport, view: RolloutView, flags: Flags) -> None:
    if flags.json:
        display.json_lines(report.to_dicts())
    view.ended(report)
    if flags.junit is not None:
        write_junit(Path(flags.junit), report)


def _hook(plan: DeployPlan, name: str) -> bool:
    """Return whether this machine's hook command succeeded; True if there is none."""
    command = getattr(plan.settings.hooks, name)
    if command is None:
        return True
    about = {"RINGTASKS_RELEASE": plan.release.id, "RINGTASKS_REVISION": plan.release.revision}
    done = subprocess.run(
        ["/bin/sh", "-ec", command],
        stdin=subprocess.DEVNULL,
        stdout=2,  # stdout is for --json
        env={**os.environ, **about},
        check=False,
    )
    return done.returncode == 0


def _show(targets: Sequence[Target], flags: Flags) -> Answer:
    """Show the plan: hosts and routes, the scripts, the releases that would be removed."""
    looked = list(looked_at(targets))
    rows = [plan_row(target, outcome) for target, outcome in looked]
    answer = shown(PLAN_COLUMNS, rows, json=flags.json)
    if not flags.json:
        _print_scripts([target for target, _ in looked], with_functions=flags.verbose)
    return answer


def _print_scripts(targets: Sequence[Target], *, with_functions: bool) -> None:
    """Print the scripts as the hosts would run them, equal ones once."""
    if with_functions:
        print("\nfunctions that all scripts begin with:")
        print_script(layout.functions())
    else:
        print("\nthe scripts begin with shell functions (acquire, record …): --verbose shows them")
    print_steps([HostPlan(own.client.config, _steps(own)) for own in targets])


def _steps(target: Target) -> list[PlannedStep]:
    return [
        PlannedStep(step.name, layout.without_functions(step.script)) for step in target.outlook()
    ]

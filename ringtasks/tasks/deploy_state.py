"""``inv deploy.check``, ``status``, ``releases`` and ``unlock``: the state of each host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from ringtasks.common.fanout import each
from ringtasks.deploy.preparing import looked_at, new_plan, targets_of
from ringtasks.deploy.rollout import RolloutObserver
from ringtasks.deploy.settings import DeploySettings
from ringtasks.deploy.source import source_of
from ringtasks.deploy.target import StepOutcome, Target
from ringtasks.exit_status import combined_status
from ringtasks.inventory.model import HostConfig
from ringtasks.output import ci, display
from ringtasks.output.deploy import (
    CHECK_COLUMNS,
    RELEASE_COLUMNS,
    STATUS_COLUMNS,
    Answer,
    checked_row,
    release_row,
    shown,
    status_row,
)

__all__ = ["check", "releases", "status", "unlock"]


def check(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show for each host whether a deploy would work."""
    with source_of(settings.source, settings.ref) as source:
        plan = new_plan(settings, source, who="")
        with targets_of(hosts, plan, RolloutObserver()) as targets:
            rows = [checked_row(target, outcome) for target, outcome in looked_at(targets)]
        for note in source.notes:
            display.say(f"note: {note}")
    return shown(CHECK_COLUMNS, rows, json=json)


def status(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show the revision of each host, and whether it is the deployed one."""
    found = _found(settings, hosts)
    revisions = [target.state.revision for target, outcome in found if outcome]
    usual = max(revisions, key=revisions.count, default=None)
    rows = [status_row(target, outcome, usual) for target, outcome in found]
    return shown(STATUS_COLUMNS, rows, json=json)


def releases(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show the releases of each host and their outcomes."""
    found = _found(settings, hosts)
    for target, outcome in found:
        if not outcome:
            display.say(f"{target.place.host}: {outcome.error}")
    rows = [
        release_row(target, name)
        for target, outcome in found
        if outcome
        for name in target.state.releases
    ]
    found_releases, _ = shown(RELEASE_COLUMNS, rows, json=json)
    return found_releases, combined_status(outcome.returncode for _, outcome in found)


def unlock(
    settings: DeploySettings, hosts: Sequence[HostConfig], reason: str
) -> tuple[dict[str, str], int]:
    """Remove the locks of any owner; return the outcome of each host and the exit status."""
    statuses = []
    done: dict[str, str] = {}
    plan = new_plan(settings, None, who=ci.who(os.environ))
    with targets_of(hosts, plan, RolloutObserver()) as targets:
        for target, (outcome, held) in each(targets, lambda target: target.unlock(reason)):
            told = f"removed the lock of {held}" if held else "there was no lock"
            done[target.place.host] = outcome.error or told
            display.say(f"{target.place.host}: {outcome.error or told}")
            statuses.append(outcome.returncode)
    return done, combined_status(statuses)


def _found(
    settings: DeploySettings, hosts: Sequence[HostConfig]
) -> Sequence[tuple[Target, StepOutcome]]:
    plan = replace(new_plan(settings, None, who=""), is_reading=True)
    with targets_of(hosts, plan, RolloutObserver()) as targets:
        return looked_at(targets)

"""``inv deploy.check``, ``status``, ``releases`` and ``unlock``: the state of each host."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ringtasks.common.fanout import each
from ringtasks.common.text import size
from ringtasks.deploy.preparing import looked_at, new_plan, targets_of
from ringtasks.deploy.records import EventKind
from ringtasks.deploy.release import short
from ringtasks.deploy.source import source_of
from ringtasks.deploy.target import HELD_STATUS, NoObserver, StepOutcome, Target
from ringtasks.exit_status import combined_status
from ringtasks.output import ci, display
from ringtasks.output.tables import table

if TYPE_CHECKING:
    from ringtasks.deploy.settings import DeploySettings
    from ringtasks.inventory.model import HostConfig

__all__ = ["check", "releases", "status", "unlock"]

_DRIFTED = 1

#: The JSON fields of each host, and the exit status.
Answer = tuple[list[dict[str, Any]], int]

#: A row of the table; its JSON fields; the exit status.
_Row = tuple[Sequence[object], dict[str, Any], int]


def check(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show for each host whether a deploy would work."""
    with source_of(settings.source, settings.ref) as source:
        plan = new_plan(settings, source, who="")
        with targets_of(hosts, plan, NoObserver()) as targets:
            rows = [_checked(target, outcome) for target, outcome in looked_at(targets)]
    return _shown(["host", "route", "path", "free", "deploy"], rows, json=json)


def status(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show the revision of each host, and whether it is the deployed one."""
    found = _found(settings, hosts)
    revisions = [target.state.revision for target, outcome in found if outcome]
    usual = max(revisions, key=revisions.count, default=None)
    rows = [_standing(target, outcome, usual) for target, outcome in found]
    return _shown(["host", "release", "revision", "since", "by", "remarks"], rows, json=json)


def releases(settings: DeploySettings, hosts: Sequence[HostConfig], *, json: bool) -> Answer:
    """Show the releases of each host and their outcomes."""
    found = _found(settings, hosts)
    for target, outcome in found:
        if not outcome:
            display.say(f"{target.place.host}: {outcome.error}")
    rows = [
        _release(target, name)
        for target, outcome in found
        if outcome
        for name in target.state.releases
    ]
    columns = ["host", "release", "revision", "when", "by", "state"]
    found_releases, _ = _shown(columns, rows, json=json)
    return found_releases, combined_status(outcome.returncode for _, outcome in found)


def unlock(
    settings: DeploySettings, hosts: Sequence[HostConfig], reason: str
) -> tuple[dict[str, str], int]:
    """Remove the locks of any owner; return the outcome of each host and the exit status."""
    statuses = []
    done: dict[str, str] = {}
    plan = new_plan(settings, None, who=ci.who(os.environ))
    with targets_of(hosts, plan, NoObserver()) as targets:
        for target, (outcome, held) in each(targets, lambda target: target.unlock(reason)):
            told = f"removed the lock of {held}" if held else "there was no lock"
            done[target.place.host] = outcome.error or told
            display.say(f"{target.place.host}: {outcome.error or told}")
            statuses.append(outcome.returncode)
    return done, combined_status(statuses)


def _found(
    settings: DeploySettings, hosts: Sequence[HostConfig]
) -> Sequence[tuple[Target, StepOutcome]]:
    with targets_of(hosts, new_plan(settings, None, who=""), NoObserver()) as targets:
        return looked_at(targets)


def _checked(target: Target, outcome: StepOutcome) -> _Row:
    held = target.state.held
    busy = f"locked by {held}" if held and not held.is_expired else None
    problem = outcome.error or busy
    host, route, path = target.place.host, target.report.transport_used, target.place.root
    free = target.precheck.free_bytes
    fields = {
        "host_id": host,
        "success": problem is None,
        "error": problem,
        "path": path,
        "free_bytes": free,
        "current": target.state.current,
        "transport_used": route,
    }
    status = outcome.returncode or (HELD_STATUS if busy else 0)
    room = "" if free is None else size(free)
    return (host, route or "", path, room, problem or "would work"), fields, status


def _standing(target: Target, outcome: StepOutcome, usual: str | None) -> _Row:
    state = target.state
    drift = state.drift
    if outcome and drift is None and state.revision != usual:
        drift = f"most hosts are on {short(usual) if usual else 'nothing'}"
    switches = [event for event in state.history if event.kind == EventKind.SWITCHED]
    since, who = (switches[-1].time, switches[-1].who) if switches else (None, None)
    verdict = state.verdict(state.current) if state.current else None
    lock = str(state.held) if state.held else None
    fields = {
        "host_id": target.place.host,
        "release": state.current,
        "revision": state.revision,
        "since": since,
        "who": who,
        "verdict": verdict,
        "drift": drift,
        "locked_by": lock,
        "error": outcome.error,
    }
    remarks = [
        outcome.error,
        drift,
        None if verdict in (None, EventKind.GOOD) else str(verdict),
        "never checked" if state.current and verdict is None else None,
        lock and f"locked by {lock}",
        None if state.current or not outcome else "nothing was deployed",
    ]
    row = (
        target.place.host,
        state.current or "",
        short(state.revision or ""),
        since or "",
        who or "",
        "; ".join(filter(None, remarks)),
    )
    return row, fields, outcome.returncode or (_DRIFTED if drift else 0)


def _release(target: Target, name: str) -> _Row:
    state = target.state
    events = [event for event in state.history if event.release == name]
    verdict = state.verdict(name)
    is_current = name == state.current
    fields = {
        "host_id": target.place.host,
        "release": name,
        "revision": state.revision_of(name),
        "is_current": is_current,
        "verdict": verdict,
        "events": [event._asdict() for event in events],
    }
    said = f"{verdict or 'never checked'}{', current' if is_current else ''}"
    when, who = (events[-1].time, events[-1].who) if events else ("", "")
    row = (target.place.host, name, short(state.revision_of(name)), when, who, said)
    return row, fields, 0


def _shown(columns: Sequence[str], rows: Iterable[_Row], *, json: bool) -> Answer:
    rows = list(rows)
    if json:
        for _, fields, _ in rows:
            display.json_line(fields)
    else:
        table(columns, [row for row, _, _ in rows])
    found = [fields for _, fields, _ in rows]
    return found, combined_status(status for _, _, status in rows)

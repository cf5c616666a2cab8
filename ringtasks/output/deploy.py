"""The tables of ``inv deploy.check``, ``status`` and ``releases``, also as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ringtasks.common.text import size
from ringtasks.deploy.records import EventKind
from ringtasks.deploy.release import short
from ringtasks.deploy.target import HELD_STATUS, StepOutcome, Target
from ringtasks.exit_status import combined_status

from . import display
from .tables import table

__all__ = [
    "CHECK_COLUMNS",
    "PLAN_COLUMNS",
    "RELEASE_COLUMNS",
    "STATUS_COLUMNS",
    "Answer",
    "Row",
    "checked_row",
    "plan_row",
    "release_row",
    "shown",
    "status_row",
]

CHECK_COLUMNS = ["host", "route", "path", "free", "deploy"]
PLAN_COLUMNS = ["host", "route", "from", "to", "would remove", "problem"]
STATUS_COLUMNS = ["host", "release", "revision", "since", "by", "remarks"]
RELEASE_COLUMNS = ["host", "release", "revision", "when", "by", "state"]
#: The exit status if a host is not on the revision of most hosts, or on no release that is good.
_NOT_GOOD = 1

#: The JSON fields of each host, and the exit status.
Answer = tuple[list[dict[str, Any]], int]

#: A row of the table; its JSON fields; the exit status.
Row = tuple[Sequence[object], dict[str, Any], int]


def checked_row(target: Target, outcome: StepOutcome) -> Row:
    """Return the row of a host that was looked at before a deploy."""
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


def plan_row(target: Target, outcome: StepOutcome) -> Row:
    """Return the row of a host in the plan of a deploy (``--dry-run``)."""
    host, route = target.place.host, target.report.transport_used
    current, release = target.state.current, target.plan.release.id
    would_remove = list(target.superfluous())
    fields = {
        "host_id": host,
        "release": release,
        "previous": current,
        "transport_used": route,
        "would_remove": would_remove,
        "steps": [{"name": step.name, "script": step.script} for step in target.outlook()],
        "error": outcome.error,
    }
    problem = outcome.error or ""
    row = (host, route or "", current or "", release, ", ".join(would_remove), problem)
    return row, fields, outcome.returncode


def status_row(target: Target, outcome: StepOutcome, usual: str | None) -> Row:
    """Return the row of a host's current release; ``usual``: the revision of most hosts."""
    state = target.state
    drift = state.drift
    if outcome and drift is None and state.revision != usual:
        drift = f"most hosts are on {short(usual) if usual else 'nothing'}"
    switches = [event for event in state.history if event.kind == EventKind.SWITCHED]
    since, who = (switches[-1].time, switches[-1].who) if switches else (None, None)
    verdict = state.verdict(state.current) if state.current else None
    fields = {
        "host_id": target.place.host,
        "release": state.current,
        "revision": state.revision,
        "since": since,
        "who": who,
        "verdict": verdict,
        "drift": drift,
        "locked_by": str(state.held) if state.held else None,
        "error": outcome.error,
    }
    is_good = drift is None and verdict == EventKind.GOOD
    row = (
        target.place.host,
        state.current or "",
        short(state.revision or ""),
        _time(since or ""),
        who or "",
        "; ".join(_remarks(fields)),
    )
    return row, fields, outcome.returncode or (0 if is_good else _NOT_GOOD)


def _remarks(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the remarks of `status_row`."""
    release, verdict, drift, error = (fields[k] for k in ("release", "verdict", "drift", "error"))
    if error:
        yield error
    if drift:
        yield drift
    if verdict not in (None, EventKind.GOOD):
        yield str(verdict)
    elif release and verdict is None:
        yield "never checked"
    if fields["locked_by"]:
        yield f"locked by {fields['locked_by']}"
    if not (release or drift or error):
        yield "nothing was deployed"


def release_row(target: Target, name: str) -> Row:
    """Return the row of one release of a host."""
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
    # The time of its deploy: what became of it later, by another release, is its state.
    own = [event for event in events if event.kind == EventKind.SWITCHED] or events[:1]
    when, who = (own[-1].time, own[-1].who) if own else ("", "")
    row = (target.place.host, name, short(state.revision_of(name)), _time(when), who, said)
    return row, fields, 0


def shown(columns: Sequence[str], rows: Iterable[Row], *, json: bool) -> Answer:
    """Print the rows as a table or as JSON lines; return their fields and the exit status."""
    rows = list(rows)
    if json:
        display.json_lines(fields for _, fields, _ in rows)
    else:
        table(columns, [row for row, _, _ in rows])
    found = [fields for _, fields, _ in rows]
    return found, combined_status(status for _, _, status in rows)


def _time(recorded: str) -> str:
    """Return a time that a narrow column breaks between the date and the time of day."""
    return recorded.replace("T", " ", 1)

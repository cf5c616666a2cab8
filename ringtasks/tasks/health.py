"""``inv health`` and ``inv health.reset``: show and reset the health file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.common.durations import ago
from ringtasks.common.text import counted
from ringtasks.output import display
from ringtasks.output.tables import table

from .core_flags import is_dry
from .options import selected, task

if TYPE_CHECKING:
    from ringtasks.health.model import SSHHealth

__all__ = ["reset", "show"]


@task(connects=False)
def show(c: Context, json: bool = False) -> Mapping[str, SSHHealth]:
    """Show the recorded health of each host and route."""
    from ringtasks.health.entries import to_json
    from ringtasks.health.store import HealthStore

    known = HealthStore().load()
    now = time.time()
    if json:
        for name, health in known.items():
            display.json_line({"host_id": name, **to_json(health, now)})
        return known
    rows = []
    for name, health in known.items():
        for route, entry in [("", health), *health.transports.items()]:
            rows.append(
                (
                    name if not route else "",
                    route or "(any)",
                    entry.route_state_at(now) if route else entry.circuit_state_at(now),
                    f"{entry.success_rate:.0%}",
                    f"{entry.total_successes}/{entry.total_successes + entry.total_failures}",
                    ago(entry.last_success, now) or "never",
                    ago(entry.last_failure, now) or "never",
                    entry.last_reason,
                )
            )
    columns = ["host", "route", "circuit", "rate", "reached", "last success", "last failure", "why"]
    table(columns, rows, optional=["rate", "reached", "last success"])
    return known


@task(connects=False)
def reset(c: Context, host: str | None = None, inventory: str | None = None) -> int:
    """Delete the recorded health of hosts."""
    from ringtasks.health.store import HealthStore

    names = [found.name for found in selected(c, host, inventory)]
    if is_dry(c):
        display.say(f"would delete the health of {', '.join(names)}")
        return 0
    count = HealthStore().reset(names)
    display.say(f"health of {counted(count, 'host')} deleted")
    return count

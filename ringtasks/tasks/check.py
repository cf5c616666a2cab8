"""``inv check``: try every route of every host now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.common.program_name import as_typed_for
from ringtasks.exit_status import USAGE, combined_status
from ringtasks.output import display
from ringtasks.output.tables import table

from . import plan
from .core_flags import ended, failure_status, is_dry
from .options import configs_of, selected, task

if TYPE_CHECKING:
    from ringtasks.client.connectivity import Probe
    from ringtasks.inventory.host_settings import SSHConfig

__all__ = ["check"]


@task(help={"fresh": "log in again even if a connection is open"})
def check(
    c: Context,
    host: str = "@all",
    fresh: bool = False,
    json: bool = False,
    inventory: str | None = None,
) -> dict[str, list[Probe]]:
    """Try every route of the hosts: show its latency, or why it failed."""
    from ringtasks.client.connectivity import is_alive_by_old_only, is_reached, probe

    configs = configs_of(c, selected(c, host, inventory, only_looks=True), judges_each=True)
    if is_dry(c):
        plan.show([plan.HostPlan(config) for config in configs], json=json)
        return {}
    probes = probe([config for config in configs if config.fault is None], fresh=fresh)
    by_host = {config.id: [p for p in probes if p.host == config.id] for config in configs}
    faults = {config.id: config.fault for config in configs if config.fault is not None}
    if json:
        for name, own in by_host.items():
            fault = {"error": faults[name]} if name in faults else {}
            display.json_line({"host_id": name, "routes": [_fields(p) for p in own], **fault})
    else:
        rows = [(p.host, p.route, p.address, _verdict(p)) for p in probes]
        rows += [(name, "", "", fault) for name, fault in faults.items()]
        table(["host", "route", "address", "answer"], rows)
    for name, own in by_host.items():
        if is_alive_by_old_only(own):
            display.say(f"{name}: ALIVE ONLY THROUGH AN OLD CONNECTION: new log-ins fail")
    for name, own in by_host.items():
        if not is_reached(own) and any(probe.fault is None for probe in own):
            why = as_typed_for(name, "why")
            display.say(f"{name}: '{why}' shows each route by hand")
    statuses = [
        0 if is_reached(by_host[config.id]) else _status_of(config, by_host[config.id])
        for config in configs
    ]
    return ended(c, by_host, combined_status(statuses))


def _status_of(config: SSHConfig, probes: list[Probe]) -> int:
    """Return the exit status for a host that no route reached."""
    if probes and all(probe.fault is not None for probe in probes):
        return USAGE  # nothing was sent
    return failure_status(config)


def _fields(probe: Probe) -> dict[str, object]:
    failure = probe.failure
    return {
        "route": probe.route,
        "address": probe.address,
        "ok": probe.latency_ms is not None,
        "latency_ms": probe.latency_ms,
        "is_old": probe.is_old,
        "reason": str(failure.reason) if failure else None,
        "error": failure.explain() if failure else probe.fault,
    }


def _verdict(probe: Probe) -> str:
    if probe.latency_ms is not None:
        how = ", over the open connection" if probe.is_old else ""
        return f"{probe.latency_ms:.0f} ms{how}"
    if probe.failure is None:
        return probe.fault or "no answer"
    return f"{probe.failure.what}; {probe.failure.advice}"

"""``inv check``: every route of every host, tried now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context, Exit

from .. import display
from .options import HOST_HELP, INVENTORY_HELP, JSON_HELP, combined_status, selected, task

if TYPE_CHECKING:
    from ..probe import Probe

__all__ = ["check"]


@task(help={"host": HOST_HELP, "json": JSON_HELP, "inventory": INVENTORY_HELP})
def check(c: Context, host: str = "@all", json: bool = False, inventory: str | None = None) -> None:
    """Try every route of the hosts: latency, or why not."""
    from ..config import SSHConfig
    from ..probe import probe

    hosts = selected(c, host, inventory)
    probes = probe([SSHConfig.from_host_config(found) for found in hosts])
    by_host = {found.name: [p for p in probes if p.host == found.name] for found in hosts}
    if json:
        for name, own in by_host.items():
            display.json_line({"host_id": name, "routes": [_fields(p) for p in own]})
    else:
        rows = [(p.host, p.route, p.address, _verdict(p)) for p in probes]
        display.table(["host", "route", "address", "answer"], rows)
    reached = [any(p.latency_ms is not None for p in own) for own in by_host.values()]
    raise Exit(code=combined_status(0 if is_reached else 255 for is_reached in reached))


def _fields(probe: Probe) -> dict[str, object]:
    failure = probe.failure
    return {
        "route": probe.route,
        "address": probe.address,
        "ok": probe.latency_ms is not None,
        "latency_ms": probe.latency_ms,
        "reason": str(failure.reason) if failure else None,
        "error": failure.explain() if failure else None,
    }


def _verdict(probe: Probe) -> str:
    if probe.latency_ms is not None:
        return f"{probe.latency_ms:.0f} ms"
    if probe.failure is None:
        return "no answer"
    return f"{probe.failure.what}; {probe.failure.advice}"

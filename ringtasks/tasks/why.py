"""``inv why``: the routes to a host in their present order, and the reasons; sends nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from invoke import Context

from ringtasks.exit_status import USAGE
from ringtasks.output import display
from ringtasks.output.tables import table

from .core_flags import ended
from .options import config_of, one_or_all, selected, task

if TYPE_CHECKING:
    from ringtasks.client.explanation import Explanation
    from ringtasks.ssh.master.records import Master

__all__ = ["why"]


@task()
def why(
    c: Context, host: str | None = None, json: bool = False, inventory: str | None = None
) -> Explanation | list[Explanation]:
    """Show how a host would be reached now and why, with an ssh command for each route."""
    from ringtasks.client.explanation import explain
    from ringtasks.inventory.host_settings import config_or_fault

    entries = selected(c, host, inventory)
    found = []
    for entry in entries:
        config = config_of(c, entry) if len(entries) == 1 else config_or_fault(entry)
        if config.fault is not None:
            display.say(config.fault)
            continue
        found.append(explain(config, entry))
        if json:
            display.json_line(_fields(found[-1]))
        else:
            _show(found[-1])
    return ended(c, one_or_all(found), USAGE if len(found) < len(entries) else 0)


def _fields(found: Explanation) -> dict[str, Any]:
    return {
        "host_id": found.host,
        "circuit_state": found.state,
        "routes": [asdict(route) for route in found.routes],
        "settings": [{"name": s.name, "value": s.value, "from": s.origin} for s in found.settings],
        "master": None if found.master is None else _master(found.master),
        "former_master": None if found.former_master is None else _master(found.former_master),
        "host_keys": list(found.pins),
        "pinned_by": found.pinned_by,
        "absence": found.absence or None,
    }


def _master(master: Master) -> dict[str, object]:
    return {
        "route": master.route,
        "address": master.address,
        "pid": master.pid,
        "socket": str(master.socket),
        "started_at": master.started_at,
    }


def _show(found: Explanation) -> None:
    display.out(f"{found.host}: {_summary(found)}")
    if found.absence:
        display.out(
            f"{found.host}: {found.absence}; its addresses are those of the hosts file or of "
            "another source"
        )
    if (former := found.former_master) is not None:
        display.out(
            f"ssh {found.host}: used an open connection with other routes or keys until now, via "
            f"{former.route} {former.address} (process {former.pid}); its link is removed"
        )
    if found.routes:
        rows = [(n, r.route, r.address, r.reason) for n, r in enumerate(found.routes, 1)]
        table(["", "route", "address", "reason"], rows)
    print(f"host key: {', '.join(found.pins) or 'none'} ({display.shown(found.pinned_by)})")
    table(["setting", "value", "from"], [(s.name, s.value, s.origin) for s in found.settings])
    for route in found.routes:
        print(f"# {route.route}\n{display.shown(route.ssh)}")


def _summary(found: Explanation) -> str:
    if found.master is not None:
        over = f"{found.master.route} {found.master.address}"
        return f"an open connection is used, via {over} (process {found.master.pid})"
    if not found.routes:
        return "embedded: served in this process"
    if found.state == "closed":
        return "the routes are tried in this order"
    return f"its circuit is {found.state}; the routes are tried in this order nevertheless"

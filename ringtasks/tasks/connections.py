"""``inv connections`` and ``inv disconnect``: the control masters of this machine."""

from __future__ import annotations

import shlex
import time

from invoke import Context

from ringtasks.common.durations import lasting
from ringtasks.common.text import counted
from ringtasks.output import display
from ringtasks.output.tables import table

from .core_flags import ended, is_dry
from .options import HOST_HELP, selected, task

__all__ = ["connections", "disconnect"]


@task(connects=False)
def connections(c: Context, json: bool = False) -> list[dict[str, object]]:
    """Show the connections that are kept open between runs."""
    from ringtasks.ssh.master.running_masters import listing

    now = time.time()
    kept = listing()
    found: list[dict[str, object]] = [
        {
            "host_id": master.host,
            "route": master.route,
            "address": master.address,
            "pid": master.pid,
            "sessions": sessions,
            "started_at": master.started_at,
            "last_used": last_used,
        }
        for master, sessions, last_used in kept
    ]
    if json:
        display.json_lines(found)
        return found
    rows = []
    for master, sessions, last_used in kept:
        ages = (lasting(now - master.started_at), lasting(now - last_used))
        rows.append((master.host, master.route, master.address, *ages, sessions, master.pid))
    columns = ["host", "route", "address", "age", "last used", "sessions", "pid"]
    table(columns, rows, optional=["pid", "sessions", "age"])
    return found


@task(connects=False, help={"host": f"{HOST_HELP} (default: every connection)"})
def disconnect(c: Context, host: str | None = None, inventory: str | None = None) -> int:
    """Close connections that are kept open; this ends all sessions over them."""
    from ringtasks.common.fanout import each
    from ringtasks.ssh.master.running_masters import listing, retire

    names = None if host is None else {found.name for found in selected(c, host, inventory)}
    masters = [kept.master for kept in listing() if names is None or kept.master.host in names]
    if is_dry(c):
        for master in masters:
            print(shlex.join(["ssh", "-O", "exit", "-S", str(master.socket), master.host]))
        return 0
    left = [master for master, is_gone in each(masters, retire) if not is_gone]
    listing()  # removes files that ended masters left beside the sockets
    closed = len(masters) - len(left)
    display.say(f"{counted(closed, 'connection')} closed")
    for master in left:
        display.say(f"{master.host}: process {master.pid} did not exit: kill -9 {master.pid}")
    return ended(c, closed, 1 if left else 0)

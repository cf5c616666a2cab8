"""``inv status``: show the state of the hosts."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.common.text import size
from ringtasks.output import display
from ringtasks.output.tables import table

from . import plan
from .core_flags import answers_status, ended, is_dry
from .options import clients_of, task

if TYPE_CHECKING:
    from ringtasks.jobs import Overview

__all__ = ["status"]

WATCH_INTERVAL = 5.0


@task(help={"watch": "refresh every 5 s until Ctrl-C"})
def status(
    c: Context,
    host: str = "@all",
    json: bool = False,
    watch: bool = False,
    inventory: str | None = None,
) -> list[Overview]:
    """Show the state of the hosts: GPUs, memory, disk, load and jobs."""
    from ringtasks import jobs

    clients = clients_of(c, host, inventory, may_ask=True, only_looks=True)

    if is_dry(c):
        from ringtasks.jobs.host_status import overview_script

        steps = [plan.PlannedStep("read the state of the host", overview_script())]
        plan.show_same(clients, steps, json=json)
        return []
    found: list[Overview] = []

    def look() -> int:
        found[:] = jobs.overview(clients)
        if json:
            display.json_lines(own.to_dict() for own in found)
        else:
            columns = ["host", "gpus", "busy", "gpu memory", "memory", "disk", "load", "jobs"]
            table(
                columns, [_row(own) for own in found], optional=["load", "busy", "disk", "memory"]
            )
            for own in found:
                for note in _notes(own):
                    display.say(note)
        return answers_status(clients, found)

    return ended(c, found, display.repeated(look, WATCH_INTERVAL) if watch else look())


def _notes(own: Overview) -> list[str]:
    """Return the errors, and the uses of GPUs that the column of the jobs does not show."""
    if own.error is not None:
        return [f"{own.host_id}: {own.error.removeprefix(f'{own.host_id}: ')}"]
    uses = [f"GPU {gpu.index}: {gpu.in_use}" for gpu in own.gpus if gpu.in_use and not gpu.job]
    notes = [own.gpu_message] if own.gpu_message else []
    if uses:
        notes.append(f"not free: {'; '.join(uses)}")
    return [f"{own.host_id}: {note}" for note in notes]


def _row(own: Overview) -> tuple[str, ...]:
    states = collections.Counter(str(job.state) for job in own.jobs if not job.is_ended)
    jobs = ", ".join(f"{count} {state}" for state, count in states.items())
    if own.error is not None:
        return (own.host_id, "not reached", "", "", "", "", "", jobs)
    return (
        own.host_id,
        _gpus(own),
        _busy(own),
        _memory(own),
        _of(own.memory_available, own.memory_total),
        _of(own.disk_available, own.disk_total),
        "" if own.load is None else f"{own.load:.1f}" + (f" of {own.cpus}" if own.cpus else ""),
        jobs,
    )


def _gpus(own: Overview) -> str:
    kinds = collections.Counter(gpu.name for gpu in own.gpus)
    named = ", ".join(f"{count} {name}" for name, count in kinds.items())
    if not own.gpus:
        return "not readable" if own.gpu_message else ""
    return f"{named}: {own.free_gpus} free"


def _busy(own: Overview) -> str:
    known = [gpu.utilization for gpu in own.gpus if gpu.utilization is not None]
    return f"{sum(known) / len(known):.0f} %" if known else ""


def _memory(own: Overview) -> str:
    known = [
        (gpu.memory_total_mib - gpu.memory_used_mib, gpu.memory_total_mib)
        for gpu in own.gpus
        if gpu.memory_total_mib is not None and gpu.memory_used_mib is not None
    ]
    if not known:
        return ""
    return _of(*(sum(sizes) * 1024**2 for sizes in zip(*known, strict=True)))


def _of(available: int | None, total: int | None) -> str:
    if available is None or total is None:
        return ""
    return f"{size(available)} of {size(total)} free"

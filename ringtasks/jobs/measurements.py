"""The present state of a host as numbers, for the conditions of a selector.  Pure."""

from __future__ import annotations

from .host_status import Overview

__all__ = ["measurements"]

_GB = 10**9
#: A load of at least this share of the CPUs counts as work.
_BUSY = 0.5


def measurements(overview: Overview) -> dict[str, float]:
    """Return the values of `ringtasks.inventory.conditions.LIVE` that are known."""
    found = {
        "free_gpus": sum(gpu.is_free for gpu in overview.gpus),
        "gpus": len(overview.gpus),
        "disk_gb": None if overview.disk_available is None else overview.disk_available / _GB,
        "memory_gb": None if overview.memory_available is None else overview.memory_available / _GB,
        "load": overview.load,
        "jobs": sum(not job.is_ended for job in overview.jobs),
        "idle": _idle(overview),
    }
    if _are_gpus_unread(overview):
        found["free_gpus"] = found["gpus"] = None
    return {key: value for key, value in found.items() if value is not None}


def _are_gpus_unread(overview: Overview) -> bool:
    return bool(overview.gpu_message) and not overview.gpus


def _idle(overview: Overview) -> float | None:
    """Return the seconds since the last sign of work; None: not known."""
    if any(not job.is_ended for job in overview.jobs):
        return 0.0
    if any(not gpu.is_free for gpu in overview.gpus):
        return 0.0
    if overview.load is not None and overview.load >= _BUSY * (overview.cpus or 1):
        return 0.0
    if _are_gpus_unread(overview):  # there may be work on them
        return None
    ends = [job.ended_at for job in overview.jobs if job.ended_at is not None]
    since_end = [overview.clock - max(ends)] if ends and overview.clock is not None else []
    since_start = [] if overview.up is None else [overview.up]
    known = [*since_end, *since_start]
    return max(0.0, min(known)) if known else None

"""Read a host's GPUs, memory, disk, load and jobs with one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringtasks.client.dialogue import Dialogue
from ringtasks.client.ssh_client import SSHClient
from ringtasks.remote.answers import lines_by_name
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program
from ringtasks.remote.resources import Resources, parse_resources

from .job_cache import last_seen, remember
from .listing import asked
from .probe import parse_probe
from .states import JobStatus

__all__ = ["Overview", "measurements", "overview_of", "overview_script", "parse_overview", "unread"]


@dataclass(frozen=True)
class Overview(Resources):
    """State of a host; its disk is that of the remote home."""

    host_id: str
    jobs: tuple[JobStatus, ...] = ()
    error: str | None = None
    """The reason if the host could not be asked."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of ``inv status --json``."""
        gpus = [{**vars(gpu), "pids": list(gpu.pids)} for gpu in self.gpus]
        jobs = [job.to_dict() for job in self.jobs]
        return {"host_id": self.host_id, **vars(self), "gpus": gpus, "jobs": jobs}


_STATUS = Program(__file__, "host_status.sh")
#: Tenths of a second for a tool that reads GPUs.
_TOOL_LIMIT = 200
_GB = 10**9
#: A load of at least this share of the CPUs counts as work.
_BUSY = 0.5


def overview_script() -> str:
    """Return the script that reads the state of a host."""
    return _STATUS.render(rt_limit=_TOOL_LIMIT, rt_folder=JOBS_FOLDER, rt_wanted="*")


def overview_of(client: SSHClient) -> Dialogue[Overview]:
    """Ask one host; save its jobs in the job cache."""

    def parse(printed: str) -> Overview:
        overview = parse_overview(printed, client.config.id)
        remember(overview.host_id, overview.jobs)
        return overview

    return asked(client, overview_script(), parse, unread)


def unread(host_id: str, error: str) -> Overview:
    """Return the overview of a host that could not be asked."""
    return Overview(host_id, last_seen(host_id, error), error)


def parse_overview(printed: str, host_id: str) -> Overview:
    """Parse the output of `overview_script`.

    :raises AnswerError: the part about jobs is not in its format.
    """
    machine, _, probed = printed.partition("ringtasks-jobs:\n")
    jobs = tuple(parse_probe(probed, host_id).values())
    return Overview(host_id, jobs, **vars(parse_resources(lines_by_name(machine))))


def measurements(overview: Overview) -> dict[str, float]:
    """Return the known values of `ringtasks.inventory.conditions.LIVE`, for a selector."""
    found = {
        "free_gpus": overview.free_gpus,
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
    if overview.free_gpus < len(overview.gpus) or (overview.load_per_cpu or 0.0) >= _BUSY:
        return 0.0
    if _are_gpus_unread(overview):  # there may be work on them
        return None
    ends = [job.ended_at for job in overview.jobs if job.ended_at is not None]
    since_end = [overview.clock - max(ends)] if ends and overview.clock is not None else []
    since_start = [] if overview.up is None else [overview.up]
    known = [*since_end, *since_start]
    return max(0.0, min(known)) if known else None

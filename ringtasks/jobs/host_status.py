"""Read a host's GPUs, memory, disk, load and jobs with one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringtasks.client.dialogue import Dialogue
from ringtasks.client.ssh_client import SSHClient
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program
from ringtasks.remote.resources import Resources, lines_by_name, parse_resources

from .job_cache import last_seen, remember
from .listing import asked
from .probe import parse_probe
from .states import JobStatus

__all__ = ["Overview", "overview_of", "overview_script", "parse_overview", "unread"]


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

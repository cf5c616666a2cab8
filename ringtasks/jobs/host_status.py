"""Read a host's GPUs, memory, disk, load and jobs with one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringtasks.client.dialogue import Ask, Dialogue, answer_to
from ringtasks.client.result import last_words
from ringtasks.client.ssh_client import SSHClient
from ringtasks.remote.answers import AnswerError
from ringtasks.remote.gpus import Gpu
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program
from ringtasks.remote.resources import lines_by_name, parse_resources

from .job_cache import last_seen, remember
from .probe import parse_probe
from .states import JobStatus

__all__ = ["Overview", "overview_of", "overview_script", "parse_overview"]


@dataclass(frozen=True)
class Overview:
    """State of a host. Sizes are bytes; None: not known."""

    host_id: str
    gpus: tuple[Gpu, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    memory_total: int | None = None
    memory_available: int | None = None
    disk_total: int | None = None
    disk_available: int | None = None
    """Free bytes of the file system of the remote home."""
    load: float | None = None
    """Processes that ran or were ready to run, averaged over the last minute."""
    cpus: int | None = None
    clock: float | None = None
    """The host's clock, Unix seconds."""
    up: float | None = None
    """Seconds since the start of the machine, or of its container."""
    error: str | None = None
    """The reason if the host could not be asked."""
    gpu_message: str = ""
    """The warning or error of the program that reads the GPUs; empty: there is none."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of ``inv status --json``."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        gpus = [{**vars(gpu), "pids": list(gpu.pids)} for gpu in self.gpus]
        return {**fields, "gpus": gpus, "jobs": [job.to_dict() for job in self.jobs]}


_STATUS = Program(__file__, "host_status.sh")
#: Tenths of a second for a tool that reads GPUs.
_TOOL_LIMIT = 200


def overview_script() -> str:
    """Return the script that reads the state of a host."""
    return _STATUS.render(rt_limit=_TOOL_LIMIT, rt_folder=JOBS_FOLDER, rt_wanted="*")


def overview_of(client: SSHClient) -> Dialogue[Overview]:
    """Ask one host; save its jobs in the job cache."""
    host_id = client.config.id
    answer = yield from answer_to(Ask(overview_script()))
    if answer.error is not None or not answer.success:
        error = answer.error or last_words(answer)
        return Overview(host_id, jobs=last_seen(host_id, error), error=error)
    try:
        overview = parse_overview(answer.stdout, host_id)
    except AnswerError as refused:
        error = f"{host_id}: {refused}"
        return Overview(host_id, jobs=last_seen(host_id, error), error=error)
    remember(host_id, overview.jobs)
    return overview


def parse_overview(printed: str, host_id: str) -> Overview:
    """Parse the output of `overview_script`.

    :raises AnswerError: the part about jobs is not in its format.
    """
    machine, _, probed = printed.partition("ringtasks-jobs:\n")
    jobs = tuple(parse_probe(probed, host_id).values())
    held = {gpu: job.id for job in jobs if job.state.is_live for gpu in job.gpus}
    found = parse_resources(lines_by_name(machine), held)
    return Overview(
        host_id,
        gpus=found.gpus,
        jobs=jobs,
        memory_total=found.memory_total,
        memory_available=found.memory_available,
        disk_total=found.disk_total,
        disk_available=found.disk_available,
        load=found.load,
        cpus=found.cpus,
        clock=found.clock,
        up=found.up,
        gpu_message=found.tool.message,
    )

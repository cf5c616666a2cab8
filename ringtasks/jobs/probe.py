"""The scripts that read the state of jobs (``probe.sh``; ``find_job.sh`` for one without a folder)
and wait for an end (``wait.sh``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ringtasks.remote.answers import AnswerError, or_none, process_id, unix_time, whole
from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program

from .machine import Machine
from .states import FOLDER_IS_GONE, HostSnapshot, JobState, JobStatus, status_of, unknown

__all__ = ["find_script", "parse_found", "parse_probe", "probe_script", "wait_script"]

#: Form of a job's id, which is pasted into further scripts; other folders are ignored.
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+\Z")

_PROBE, _FIND, _WAIT = (Program(__file__, f"{name}.sh") for name in ("probe", "find_job", "wait"))


def probe_script(job_ids: Iterable[str] | None = None) -> str:
    """Return a script that prints the files and processes of all jobs, or of these."""
    wanted = "*" if job_ids is None else " ".join(job_ids)
    return _PROBE.render(rt_folder=JOBS_FOLDER, rt_wanted=wanted)


def wait_script(job_id: str, seconds: float) -> str:
    """Return a script that waits for a job's end, ``seconds`` at most, and reads its state."""
    return _WAIT.render(rt_folder=JOBS_FOLDER, rt_id=job_id, seconds_cs=round(seconds * 100))


def find_script(job_id: str) -> str:
    """Return a script that looks for the processes of a job whose folder is gone."""
    return _FIND.render(rt_id=job_id)


def parse_found(printed: str, job_id: str, host_id: str) -> JobStatus:
    """Parse the output of `find_script`; without a complete look the state is unknown."""
    words = printed.split()
    if "runs" in words:
        return JobStatus(job_id, host_id, JobState.RUNNING, reason=f"although {FOLDER_IS_GONE}")
    if "looked" in words:
        return JobStatus(job_id, host_id, JobState.LOST, reason=FOLDER_IS_GONE)
    return unknown(job_id, host_id, None, f"{FOLDER_IS_GONE}; whether it runs is not known")


def parse_probe(printed: str, host_id: str) -> dict[str, JobStatus]:
    """Parse the output of `probe_script`; return the jobs by their ids, ordered by their start.

    A job with a file of an unexpected format is unknown; the others are not affected.

    :raises AnswerError: the answer lacks the host's clock, which the script always prints.
    """
    facts, starts, files = _sorted_lines(printed)
    boot, ids = (facts.get(f"ringtasks-{name}", "") for name in ("boot", "machine"))
    machine = Machine.parse(boot, ids, host_id)
    host = HostSnapshot(machine, unix_time(facts.get("ringtasks-now", ""), "clock"), starts)
    found = []
    for job_id, own in sorted(files.items(), key=lambda item: _ticks(item[1])):
        try:
            found.append(status_of(job_id, own, host))
        except AnswerError as error:
            found.append(unknown(job_id, host_id, None, str(error)))
    # Stable: jobs of one second of the clock stay in the order of their ticks.
    found.sort(key=lambda job: job.started_at or float("inf"))
    return {job.id: job for job in found}


def _sorted_lines(
    printed: str,
) -> tuple[dict[str, str], dict[int, str], dict[str, dict[str, str]]]:
    """Return the facts about the host, the start times of processes, and the files of each job."""
    facts: dict[str, str] = {}
    starts: dict[int, str] = {}
    files: dict[str, dict[str, str]] = {}
    for line in printed.split("\n"):
        place, colon, text = line.partition(":")
        folder, slash, file = place.rpartition("/")
        if not colon:
            continue
        if not slash:
            facts[place] = text
        elif folder.startswith("/proc/"):
            if (pid := or_none(process_id, folder[6:])) is not None:
                starts[pid] = text if file == "start" else _start(text)
        elif _JOB_ID.match(folder):
            known = files.setdefault(folder, {})
            known[file] = f"{known[file]}\n{text}" if file in known else text
    for word in facts.get("ringtasks-asked", "").split():
        if (pid := or_none(process_id, word)) is not None:
            starts.setdefault(pid, "")
    return facts, starts, files


def _ticks(files: Mapping[str, str]) -> int:
    """Return the start of a job's process in ticks since the boot; 0: it is not known."""
    _, _, start, *_ = [*files.get("process", "").split(), "", "", ""]
    return or_none(whole, start) or 0


def _start(stat: str) -> str:
    """Return the start time in proc_pid_stat(5); "" for a zombie, which only waits to be reaped.

    If a process's first thread has ended, it looks like a zombie while the others run.
    """
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= 19 or (fields[0] in "ZX" and fields[17] in ("0", "1")):
        return ""
    return fields[19]

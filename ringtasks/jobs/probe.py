"""The script that reads the state of all jobs of a host, and its parser.  Pure.

For any number of jobs, two programs run: grep(1) reads the process table and then the jobs' files,
date(1) prints the host's clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ringtasks.remote.answers import AnswerError, or_none, process_id, unix_time
from ringtasks.remote.launcher import IDENTITY, JOBS_FOLDER

from .states import JobStatus, status_of, unknown

__all__ = ["parse_probe", "probe_script"]

# All of a job's files but the log, its limits and its times.
_FILES = "[!lt]*"

#: Form of a job's id, which is pasted into further scripts; other folders are ignored.
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+\Z")

# The processes come first: a job that ends meanwhile has then written its exit status to its files,
# and one that begins meanwhile has a process that was not asked about. The keeper matters only if
# the process is gone; "read" reads a file byte by byte, so the longer keeper file is read only
# then. /dev/null makes grep print the file's name before every line.
_SCRIPT = """\
{identity}
rt_boot
echo "ringtasks-boot:$rt_boot"
echo "ringtasks-now:$(date +%s)"
cd "$HOME/{folder}" 2>/dev/null || exit 0
set --
for rt_folder in {folders}; do
  [ ! -s "$rt_folder/exit_status" ] || continue
  read -r rt_pid 2>/dev/null <"$rt_folder/pid" && set -- "$@" "$rt_pid" && [ -e "/proc/$rt_pid" ] ||
    {{ read -r rt_pid rt_rest 2>/dev/null <"$rt_folder/keeper" && set -- "$@" "$rt_pid"; }}
done
echo "ringtasks-asked:$*"
if [ -r /proc/self/stat ]; then
  for rt_pid; do shift; set -- "$@" "/proc/$rt_pid/stat"; done
else
  for rt_pid; do shift; rt_start "$rt_pid"; echo "/proc/$rt_pid/start:$rt_start"; done
fi
LC_ALL=C grep -s "" "$@" {files} /dev/null
exit 0
"""


def probe_script(job_ids: Iterable[str] | None = None) -> str:
    """Return a script that prints the files and processes of all jobs, or of these."""
    folders = ["*"] if job_ids is None else list(job_ids)
    return _SCRIPT.format(
        identity=IDENTITY,
        folder=JOBS_FOLDER,
        folders=" ".join(folders),
        files=" ".join(f"{folder}/{_FILES}" for folder in folders),
    )


def parse_probe(printed: str, host_id: str) -> dict[str, JobStatus]:
    """Parse the output of `probe_script`; return the jobs by their ids, ordered by their start.

    A job with a file of an unexpected format is unknown; the others are not affected.

    :raises AnswerError: the answer lacks the host's clock, which the script always prints.
    """
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
    boot, now = facts.get("ringtasks-boot", ""), unix_time(facts.get("ringtasks-now", ""), "clock")
    found = []
    for job_id, own in files.items():
        try:
            found.append(status_of(job_id, host_id, own, boot=boot, now=now, starts=starts))
        except AnswerError as error:
            found.append(unknown(job_id, host_id, None, str(error)))
    found.sort(key=lambda job: job.started_at or float("inf"))
    return {job.id: job for job in found}


def _start(stat: str) -> str:
    """Return the start time in proc_pid_stat(5); "" for a zombie, which only waits to be reaped."""
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""

"""One question to a host about all of its jobs, and what it answers.  Pure.

However many jobs there are, three programs are run for them: grep(1) reads their files, cat(1) (or
ps(1), off Linux) tells which processes there are, date(1) tells the host's clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..background import IDENTITY, JOBS_FOLDER
from .states import JobStatus, number, status_of

__all__ = ["parse_probe", "probe_script"]

_FILES = (
    "about", "command", "ended_at", "exit_status", "gpus", "keeper", "process", "stopped",
    "waits_for",
)  # fmt: skip

#: What goes into further scripts; no other folder is a job's.
_JOB_ID = re.compile(r"[A-Za-z0-9_-]+\Z")

# The processes come first: a job that ends meanwhile has then left its exit status in its files,
# and one that begins meanwhile has a process that was not asked about.
# Every line of a file bears the file's name: grep gives it because of /dev/null.
_SCRIPT = """\
{identity}
rt_boot
echo "ringtasks-boot:$rt_boot"
echo "ringtasks-now:$(date +%s)"
cd "$HOME/{folder}" 2>/dev/null || exit 0
set --
for rt_file in {identities}; do
  [ -s "${{rt_file%/*}}/exit_status" ] && continue
  read -r rt_pid rt_rest 2>/dev/null <"$rt_file" && set -- "$@" "$rt_pid"
done
echo "ringtasks-asked:$*"
if [ $# -gt 0 ] && [ -r /proc/self/stat ]; then
  for rt_pid; do shift; set -- "$@" "/proc/$rt_pid/stat"; done
  cat "$@" 2>/dev/null
else
  for rt_pid; do
    rt_start "$rt_pid"
    echo "$rt_pid $rt_start"
  done
fi
echo ringtasks-files:
LC_ALL=C grep -s "" {files} /dev/null
exit 0
"""


def probe_script(job_ids: Iterable[str] | None = None) -> str:
    """What prints all that is to know of the host's jobs, or of these alone."""
    folders = ["*"] if job_ids is None else list(job_ids)
    return _SCRIPT.format(
        identity=IDENTITY,
        folder=JOBS_FOLDER,
        files=" ".join(f"{folder}/{file}" for folder in folders for file in _FILES),
        identities=" ".join(f"{f}/{file}" for f in folders for file in ("keeper", "process")),
    )


def parse_probe(printed: str, host_id: str) -> dict[str, JobStatus]:
    """The jobs of a host by their ids, those that started first at the front."""
    head, _, listed = printed.partition("ringtasks-files:\n")
    facts = dict(line.partition(":")[::2] for line in head.split("\n"))
    starts = _starts(facts.get("ringtasks-asked", ""), head)
    files: dict[str, dict[str, str]] = {}
    for line in listed.split("\n"):
        place, colon, text = line.partition(":")
        job_id, slash, file = place.partition("/")
        if colon and slash and _JOB_ID.match(job_id):
            known = files.setdefault(job_id, {})
            known[file] = f"{known[file]}\n{text}" if file in known else text
    found = [
        status_of(
            job_id,
            host_id,
            own,
            boot=facts.get("ringtasks-boot", ""),
            now=number(facts.get("ringtasks-now", "")),
            starts=starts,
        )
        for job_id, own in files.items()
    ]
    found.sort(key=lambda job: job.started_at or float("inf"))
    return {job.id: job for job in found}


def _starts(asked: str, printed: str) -> dict[int, str]:
    """Process id to start time; "" where it is gone, or a zombie, which only waits to be reaped."""
    starts = {int(pid): "" for pid in asked.split() if pid.isdecimal()}
    for line in printed.split("\n"):
        pid, _, rest = line.partition(" ")
        if not pid.isdecimal():
            continue
        fields = rest.rpartition(")")[2].split()
        if ")" not in rest:
            starts[int(pid)] = "".join(fields)
        elif len(fields) > 19 and fields[0] not in "ZX":
            starts[int(pid)] = fields[19]
    return starts

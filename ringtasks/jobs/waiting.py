"""Wait on the host until a job has ended.  Pure."""

from __future__ import annotations

from ringtasks.remote.launcher import IDENTITY, JOBS_FOLDER

__all__ = ["wait_script"]

_LOOK_INTERVAL = 0.2

_SCRIPT = """\
{identity}
rt_runs() {{
  [ ! -s "$1/exit_status" ] || return 1
  for rt_file in "$1/process" "$1/keeper"; do
    read -r rt_id 2>/dev/null <"$rt_file" && rt_is_alive $rt_id && return
  done
  return 1
}}
rt_looks=0
while [ $rt_looks -lt {looks} ] && rt_runs "$HOME/{folder}/{job_id}"; do
  rt_looks=$((rt_looks + 1))
  sleep {interval}
done
"""


def wait_script(job_id: str, seconds: float) -> str:
    """Return a script that exits when the job has ended, at the latest after ``seconds``."""
    return _SCRIPT.format(
        identity=IDENTITY,
        folder=JOBS_FOLDER,
        job_id=job_id,
        looks=round(seconds / _LOOK_INTERVAL),
        interval=_LOOK_INTERVAL,
    )

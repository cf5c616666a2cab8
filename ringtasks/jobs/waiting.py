"""Wait on the host until a job has ended."""

from __future__ import annotations

from ringtasks.remote.launcher import JOBS_FOLDER
from ringtasks.remote.programs import Program

__all__ = ["wait_script"]

_WAIT = Program(__file__, "wait.sh")


def wait_script(job_id: str, seconds: float) -> str:
    """Return a script that exits when the job has ended, at the latest after ``seconds``."""
    return _WAIT.render(rt_folder=JOBS_FOLDER, rt_id=job_id, seconds_cs=round(seconds * 100))

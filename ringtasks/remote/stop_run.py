"""The program that ends a run on a host (``stop_run.sh``), and the words for its result."""

from __future__ import annotations

from .programs import Program

__all__ = ["STILL_RUNNING", "TERMINATED", "stop_run_script", "unconfirmed"]

#: The same words for a command and for a job.
TERMINATED = "terminated (verified)"
STILL_RUNNING = "STILL RUNNING"


def unconfirmed(whose: str, why: str) -> str:
    """Return the text if it is not known whether the processes have ended."""
    return f"could not confirm that the {whose} processes exited: {why}"


def stop_run_script(
    pid: int | None, run_id: str, grace: float, *, age: float = 0.0, with_sudo: bool = False
) -> str:
    """Return a script that ends a run and prints the process ids that are still there.

    It asks the run's processes and all that descend from them to end (TERM), waits up to ``grace``
    seconds, then stops and kills what is left, and looks for all that it has seen.  Safe to repeat.

    :param pid: the process id of the run's shell; None: the run's mark alone identifies it.
    :param age: seconds for which that shell has existed at least: its process id may have been
        given to another process since.
    :param with_sudo: the command was started by sudo, whose process only root may signal.
    """
    return Program(__file__, "stop_run.sh").render(
        group="" if pid is None else pid,
        age_cs=round(age * 100),
        run_id=run_id,
        grace_cs=round(grace * 100),
        with_sudo=int(with_sudo),
    )

"""Conditions for which a job waits: free GPUs, the end of another job (``turn.sh``).

A GPU is free if no process is on it (``gpus.sh``), no job has reserved it, and hardly any of its
memory is in use: a container does not show the processes of others.  A reservation is a
symbolic link ``~/.ringtasks/gpus/UUID`` whose target names its holder: symlink(2) makes it whole or
not at all, for a single caller, and it needs no space on the disk.  It is valid as long as the
holder's monitor runs, or any process with the job's mark; so neither a killed monitor nor a reboot
leaves a GPU reserved.

A job that makes reservations holds ``lock``, a link as well.  If the holder has ended, the job that
creates the folder ``broken-HOLDER`` removes that lock.  Only one job can create it, so no job
removes the lock of a running holder.  The folder exists for a moment only; one that was left behind
is removed after a minute.

Jobs that queue for GPUs get them in the order of their tickets, ``~/.ringtasks/queue/TIME.ID``.
"""

from __future__ import annotations

from ringtasks.remote.gpus import HIDDEN_MIB, HIDDEN_PERCENT
from ringtasks.remote.programs import Program

__all__ = ["turn"]

_TURN = Program(__file__, "turn.sh")


def turn(job_id: str, *, gpus: int, after: str | None, queue: bool, any_memory: bool) -> str:
    """Return the shell functions by which a job waits, or reserves its GPUs at once.

    :param after: the id of another job on the host; the job waits until that one ends, in any way.
    :param queue: wait until ``gpus`` are free; False: if they are not free, refuse the job.
    :param any_memory: also take GPUs whose memory is in use by no visible process.
    """
    if not gpus and after is None:
        return ""
    return _TURN.render(
        rt_id=job_id,
        rt_after=after or "",
        rt_count=gpus,
        rt_queue=int(queue),
        rt_percent="" if any_memory else HIDDEN_PERCENT,
        rt_mib=HIDDEN_MIB,
    )

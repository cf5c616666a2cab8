"""A token is sent to a port only if a process of the cluster listens on it.

Once a cluster's process has ended, another program may take its port, and would receive the token.
Linux shows which process has a listening socket (proc_pid_fd(5), proc_net(5)); other systems are
not checked.
"""

from __future__ import annotations

from importlib import resources

from ringtasks.remote.script import RUN_ID_VARIABLE, quote

from .port_guard import SILENT, STRANGER

__all__ = ["SILENT", "STRANGER", "guarded"]


def guarded(command: str, port: int, job_id: str) -> str:
    """Return ``command``, run only if ``port`` is that of a process of the job; for a shell.

    Else the exit status is `STRANGER` or `SILENT`, and the reason is on stderr.
    """
    program = resources.files(__package__).joinpath("port_guard.py").read_text()
    mark = quote(f"{RUN_ID_VARIABLE}={job_id}")
    return f"python3 -c {quote(program)} {port} {mark} || exit\n{command}"

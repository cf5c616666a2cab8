"""Programs for a cluster, by Ray's own job API on its head."""

from __future__ import annotations

from collections.abc import Callable

from ringtasks.client.result import SSHResult
from ringtasks.remote.script import quote

from .commands import ray
from .guard import guarded
from .standing import Member

__all__ = ["submit", "submit_command"]


def submit_command(
    cluster_id: str, command: str, port: int, working_dir: str | None, *, wait: bool
) -> str:
    """Return what hands a command to the job API, for the head's shell."""
    told = [f"{ray(cluster_id)} job submit", f"--address http://127.0.0.1:{port}"]
    if working_dir is not None:
        told.append(f"--working-dir {quote(working_dir)}")
    if not wait:
        told.append("--no-wait")
    return f"{' '.join(told)} -- {command}"


def submit(
    head: Member,
    command: str,
    working_dir: str | None,
    *,
    wait: bool,
    timeout: float = 0,
    on_output: Callable[[int, bytes], None],
) -> SSHResult:
    """Hand a command to the job API; its log, and 0 where it has succeeded.

    :param working_dir: a folder of the head's host that Ray brings to where the command runs.
    :param wait: False: only until Ray has taken it.
    :param timeout: seconds; 0: no limit.
    """
    assert head.start is not None  # noqa: S101  # a head is known by it
    assert head.job is not None  # noqa: S101
    port = head.start.dashboard_port
    told = submit_command(head.cluster_id, command, port, working_dir, wait=wait)
    script = guarded(told, port, head.job.id)
    return head.client.run(script, timeout=timeout, cwd="~", on_output=on_output)

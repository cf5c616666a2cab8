"""Submit, follow and stop programs by Ray's own job API on the head of a cluster.

The name of Ray's job is chosen here before the submission, so that the job can be found again if
the connection fails.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ringtasks import transfer
from ringtasks.client.ask import Ask, OnOutput
from ringtasks.client.dialogue import ask_until_known, hold
from ringtasks.client.result import SSHResult, last_words, why_failed
from ringtasks.common import interruption
from ringtasks.common.program_name import as_typed
from ringtasks.errors import ClusterError, UsageError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.jobs import PATIENCE
from ringtasks.remote.programs import Program
from ringtasks.transfer import Options
from ringtasks.transfer.patterns import literal

from .cluster_state import Member
from .commands import FOLDER, token_settings
from .job_api import FAILED, NO_ANSWER, NO_SUCH_JOB, STOPPED
from .port_guard import SILENT, STRANGER
from .prepare import ray_python
from .upload import Upload

__all__ = ["follow", "new_id", "stop", "submit", "submit_command"]

_API = Program(__file__, "job_api.py")
#: Seconds between attempts to reach the head; each may log in again.
_RETRY_DELAY = 2.0
#: Seconds for Ray to take a job, with its folder.
_SUBMIT_TIMEOUT = 300.0
_STOP_TIMEOUT = 90.0

Tell = Callable[[str], None]


def new_id() -> str:
    """Return a name for a job that Ray does not know yet."""
    return f"raysubmit_{os.urandom(8).hex()}"


def submit(
    head: Member,
    job_id: str,
    command: str,
    folder: Path | None = None,
    upload: Upload | None = None,
    *,
    tell: Tell,
) -> None:
    """Submit a command to the job API.

    :param folder: a local folder; Ray copies it to the host that runs the command.
    :param upload: the part of it to send.
    :raises ClusterError: Ray did not take it, or it is not known whether it did.
    """
    there = f"{FOLDER}/{head.cluster_id}/{job_id}" if folder is not None else None
    try:
        if folder is not None:
            with interruption.said_as("interrupted: the folder was being sent; Ray has no job"):
                _send(head, folder, f"~/{there}", upload)
        _hand_over(head, job_id, command, there)
    finally:
        if there is not None:
            gone = head.client.ask(Ask(f'rm -rf "$HOME/{there}"'))
            if (why := why_failed(gone)) is not None:
                tell(f"{head.host}: ~/{there} was not removed: {why}")


def follow(head: Member, job_id: str, on_output: OnOutput, timeout: float = 0) -> SSHResult:
    """Follow the job's log from its beginning; the exit status is 0 if it succeeded, else 1.

    Connections may be lost meanwhile.  Ray's own messages are on stderr.

    :param timeout: seconds after which the function returns; 0: no limit.
    :raises UsageError: Ray knows no such job.
    """
    deadline = time.monotonic() + timeout if timeout else None
    printed = 0

    def take(stream: int, chunk: bytes) -> None:
        nonlocal printed
        printed += len(chunk) if stream == 1 else 0
        on_output(stream, chunk)

    heard = time.monotonic()
    while True:
        asked = _question(head, "follow", job_id, offset=printed)
        before = printed
        left = max(0.1, deadline - time.monotonic()) if deadline is not None else 0
        # Not `run`: if it is interrupted, no command of the user is ended.
        result = head.client.ask(Ask(asked, left, in_venv=True, on_output=take))
        if result.timed_out:
            return result
        if result.error is None or printed > before:
            heard = time.monotonic()
        if result.error is None:
            return _judged(result, job_id)
        if time.monotonic() - heard >= PATIENCE:
            return result
        time.sleep(_RETRY_DELAY)


def stop(head: Member, job_id: str) -> SSHResult:
    """Let Ray stop the job, and wait until it has ended: the exit status is then 0."""
    asked = _question(head, "stop", job_id)
    return _judged(head.client.ask(Ask(asked, _STOP_TIMEOUT, in_venv=True)), job_id)


def submit_command(cluster_id: str, command: str, port: int, there: str | None) -> str:
    """Return the command that submits ``command`` on the head; for a shell.

    :param there: the folder on the head, relative to the home.
    """
    return _program(cluster_id, port, "submit", new_id(), command=command, working_dir=there)


def _send(head: Member, folder: Path, there: str, upload: Upload | None) -> None:
    left_out = tuple(f"/{literal(path.rstrip('/'))}" for path in upload.left_out) if upload else ()
    # put copies the targets of links that lead out of the folder, in place of the links.
    sent = transfer.put(folder.resolve(), there, [head.client], Options(exclude=left_out))
    for failed in sent.failed:
        why = failed.error or f"exit status {failed.returncode}"
        raise ClusterError(head.host, f"{folder} was not sent: {why}")


def _hand_over(head: Member, job_id: str, command: str, there: str | None) -> None:
    asked = _question(head, "submit", job_id, command=command, working_dir=there)
    submission = Ask(asked, _SUBMIT_TIMEOUT, in_venv=True)
    result = hold(head.client, ask_until_known(submission))
    if result.success:
        return
    why = result.error or last_words(result)
    if result.is_unknown or result.timed_out or result.returncode == NO_ANSWER:
        finds_out = f"'{as_typed(f'ray.submit --attach {job_id}')}' finds out"
        raise ClusterError(head.host, f"it is unknown whether Ray has the job: {why}; {finds_out}")
    raise ClusterError(head.host, f"the job was not handed over: {why}")


def _question(head: Member, action: str, job_id: str, **more: Any) -> str:
    assert head.start is not None  # noqa: S101  # a head is known by it
    port = head.start.dashboard_port
    return head.guarded(_program(head.cluster_id, port, action, job_id, **more), port)


def _program(cluster_id: str, port: int, action: str, job_id: str, **more: Any) -> str:
    asked = {"address": f"http://127.0.0.1:{port}", "action": action, "id": job_id, **more}
    return f"{token_settings(cluster_id)}\n{ray_python(_API.text, json.dumps(asked))}"


def _judged(result: SSHResult, job_id: str) -> SSHResult:
    """Return the result with the job's exit status; any other status means that it is unknown.

    :raises UsageError: Ray knows no such job.
    """
    if result.error is not None or result.returncode in (0, FAILED):
        return result
    if result.returncode == STOPPED:
        return replace(result, returncode=FAILED)
    if result.returncode == NO_SUCH_JOB:
        raise UsageError(f"{result.host}: Ray knows no job {job_id}")
    text = f"{result.host}: the outcome of job {job_id} is unknown: {last_words(result)}"
    if result.returncode in (NO_ANSWER, SILENT, STRANGER):
        text += f": Ray's job API gives no answer; see '{as_typed('ray.status')}'"
    return replace(result, returncode=UNREACHABLE, success=False, error=text)

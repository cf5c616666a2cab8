"""Flags of Invoke that ringtasks obeys: ``--dry``, ``--hide``, ``-e``, ``-w``, ``-T`` and ``-p``.

They arrive through Invoke's configuration (``run.dry``, ``run.echo``, ``run.warn``, ``run.pty``,
``run.hide``, ``timeouts.command``), so that settings files and the environment can set them too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from invoke import Context, Exit

from ringtasks.errors import UsageError
from ringtasks.exit_status import UNREACHABLE, USAGE, combined_status
from ringtasks.output import display

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.jobs import HostJobs, Overview, Pruned

__all__ = [
    "TaskFailed",
    "answers_status",
    "command_timeout",
    "echo",
    "ended",
    "failure_status",
    "hidden_streams",
    "is_dry",
    "wants_pty",
]

T = TypeVar("T")


class TaskFailed(Exit):
    """A failed task; ``result`` is the value that the task returns when it succeeds."""

    def __init__(self, result: object, status: int) -> None:
        super().__init__(code=status)
        self.result = result


def ended(c: Context, result: T, status: int, *, is_commands: bool = False) -> T:
    """Return ``result``, the value that a task gives to its caller, if the task succeeded.

    :param status: the exit status; 0: success.
    :param is_commands: the status is that of the user's own command: with ``-w`` it does not count
        as a failure. Like Invoke, ringtasks raises in spite of ``-w`` if a host is unreachable or a
        time limit has passed.
    :raises TaskFailed: the task did not succeed.
    """
    if status == 0 or (is_commands and _run_setting(c, "warn")):
        return result
    raise TaskFailed(result, status)


def failure_status(config: SSHConfig) -> int:
    """Return the exit status for a host that could not be asked."""
    from ringtasks.ssh.evaluated_config import settings_of

    try:
        if config.fault is None and not config.embedded:
            settings_of(config)
    except UsageError:  # nothing was sent: ssh cannot use its own files
        return USAGE
    return UNREACHABLE if config.fault is None else USAGE


def answers_status(
    clients: Iterable[SSHClient], answers: Iterable[HostJobs | Overview | Pruned]
) -> int:
    """Return the exit status for the hosts' answers, some of which may be errors."""
    return combined_status(
        failure_status(client.config) if answer.error else 0
        for client, answer in zip(clients, answers, strict=True)
    )


def is_dry(c: Context) -> bool:
    """Return whether the task is to show its plan and send nothing (``inv --dry``)."""
    return bool(_run_setting(c, "dry"))


def wants_pty(c: Context) -> bool:
    """Return whether commands get a terminal without a flag of the task (``inv -p``)."""
    return bool(_run_setting(c, "pty"))


def echo(c: Context, command: str, *, on_stderr: bool = False) -> None:
    """Show a command before it runs, if echo is set (``inv -e``), in Invoke's format.

    :param on_stderr: write to stderr, because stdout is for programs.
    """
    if not _run_setting(c, "echo"):
        return
    text = display.shown_lines(command)
    shape = _run_setting(c, "echo_format") or "{command}"
    print(shape.format(command=text), file=sys.stderr if on_stderr else sys.stdout, flush=True)


def hidden_streams(c: Context) -> tuple[int, ...]:
    """Return the streams of commands that are not shown (``inv --hide``): 1, 2, both or none.

    :raises UsageError: the setting is none of Invoke's values.
    """
    given = _run_setting(c, "hide")
    streams = {None: (), False: (), "out": (1,), "stdout": (1,), "err": (2,), "stderr": (2,)}
    streams |= {"both": (1, 2), True: (1, 2)}
    if not isinstance(given, str | bool | None) or given not in streams:
        raise UsageError(f"run.hide (--hide): expected out, err or both, got {given!r}")
    return streams[given]


def command_timeout(c: Context) -> float | None:
    """Return the limit for each command in seconds (``inv -T``); None: not given.

    :raises UsageError: the setting is not a number of seconds.
    """
    given = (c.config.get("timeouts") or {}).get("command")
    if given is None:
        return None
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"timeouts.command: expected a number of seconds, got {given!r}")
    return seconds


def _run_setting(c: Context, name: str) -> Any:
    return (c.config.get("run") or {}).get(name)

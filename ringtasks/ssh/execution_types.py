"""The circumstances of the execution of a script, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from ringtasks.common.light_typing import NamedTuple

from .link import Link, Terminal

__all__ = ["Ending", "ExecutionOptions", "RunShell", "StopOutcome"]


class RunShell(NamedTuple):
    """The shell that runs a script on the host.

    :param began: the time of `time.monotonic` at which its mark came.
    """

    pid: int
    run_id: str
    began: float


class StopOutcome(NamedTuple):
    """The fate of the processes that were told to end.

    ``is_gone`` None: it could not be determined.  ``left`` are the process ids that still exist.
    """

    is_gone: bool | None
    left: tuple[int, ...] = ()

    def __str__(self) -> str:
        from ringtasks.remote.stop_run import STILL_RUNNING, TERMINATED, unconfirmed

        if self.is_gone is None:
            return unconfirmed("remote", "they may still be running")
        if self.is_gone:
            # A process that left parent, session and environment has no link to the run in /proc.
            return (
                f"the remote processes were {TERMINATED}; "
                "any that had detached before are not covered"
            )
        return f"remote processes are {STILL_RUNNING}: {', '.join(map(str, self.left))}"


class Ending(NamedTuple):
    """The end of an execution: an exit status, or the reason why there is none."""

    status: int | None = None
    timed_out: bool = False
    interrupted: bool = False
    lost: str | None = None
    """The reason, as far as known, of a broken link; it is not known whether the command ran."""
    stopped: StopOutcome | None = None
    unproven: str | None = None
    """The text, maybe empty, that the host printed without a proof that it runs the script."""
    unknown: str | None = None
    """The reason why it is not known whether the script ran, though the link works."""
    error: str | None = None
    """The reason of a failure for which ``status`` stands; None: the output gives it."""


class ExecutionOptions(NamedTuple):
    """The circumstances under which a script runs.

    :param shell: runs the script.
    :param stdin: passed on until its end; None: the command's stdin is empty.
    :param spare_link: makes a link of its own, to end processes if the link has no room.
    :param is_stop: it ends another's processes: it neither waits until the host has room for
        another session, nor is it ended like a command of the caller's.
    :param meanwhile: called once the command is started, before its output is awaited.
    :param ready_timeout: seconds for the host to start a shell to which the script is then sent, or
        the input of a script of ringtasks; if the mark has begun to come, twice as long.
    :param max_output_bytes: output beyond this ends it: ringtasks' own scripts answer in few bytes.
    :param host: its name, for the notice that it does not answer; None: no notice is given.
    """

    shell: str = "/bin/sh"
    stdin: BinaryIO | None = None
    terminal: Terminal | None = None
    spare_link: Callable[[], Link] | None = None
    is_stop: bool = False
    meanwhile: Callable[[], None] | None = None
    ready_timeout: float = 60.0
    max_output_bytes: int | None = None
    host: str | None = None

"""OpenSSH's client on this machine, and the connections that a control master of it can hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ringtasks.common import one_look
from ringtasks.common.local_user import has_passwd_entry
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE, SSHConfig

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "CANNOT_START",
    "OTHER_SSH",
    "end",
    "finished",
    "is_usable",
    "program",
    "run",
    "start",
    "why_no_master",
]

#: The words of an ``ssh`` that finds other libraries than it was built with, as beside conda's.
CANNOT_START = (
    r"error while loading shared libraries|symbol lookup error|OpenSSL version mismatch"
    r"|Library not loaded"
)
OTHER_SSH = "ssh does not start: check LD_LIBRARY_PATH, or put another ssh first on PATH"


@one_look.kept
def is_usable() -> bool:
    """Return True if there is an ``ssh`` that runs for this user id."""
    return program() is not None and has_passwd_entry()


@one_look.kept
def program() -> str | None:
    """Return the first ``ssh`` of PATH; every run asks, so it is done without loading shutil."""
    paths = (os.path.join(folder, "ssh") for folder in os.get_exec_path())  # noqa: PTH118
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)  # noqa: PTH113


def run(
    argv: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that gets no input, and return its status and its output.

    :raises OSError: it cannot be started.
    :raises subprocess.TimeoutExpired: it has not ended within ``timeout`` seconds.
    """
    return finished(start(argv, environment), timeout)


def start(
    argv: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program that gets no input, for `finished` or `end`.

    :raises OSError: it cannot be started.
    """
    import subprocess  # a run over a control master starts none

    from ringtasks.common.processor import anywhere

    pipe = subprocess.PIPE
    with anywhere():
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment
        )


def finished(
    process: subprocess.Popen[bytes], timeout: float
) -> subprocess.CompletedProcess[bytes]:
    """Return the status and the output of a program of `start`.

    :raises subprocess.TimeoutExpired: it has not ended within ``timeout`` seconds.
    """
    from subprocess import CompletedProcess

    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        end(process)
    return CompletedProcess(process.args, process.returncode, output, errors)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program of `start`, if it still runs."""
    with process:
        process.kill()


def why_no_master(config: SSHConfig) -> str | None:
    """Return the reason why no master is possible for this host; None: one is possible."""
    if not config.use_control_master:
        return "use_control_master is off"
    if config.control_persist <= 0:
        return "control_persist is 0"  # to ssh that would mean: keep it for ever
    if config.embedded:
        return "the host lives in this process, and the master would outlive it"
    if config.private_key or os.environ.get(PRIVATE_KEY_VARIABLE):
        return "the private key is not in a file, and is never written to one"
    return None

"""Run a source's program: its output within limits of time and size, without a shell."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ringtasks.common.text import bounded

from .kinds import masked
from .model import Deadline, SourceError

__all__ = ["MAX_BYTES", "output_of"]

#: 5,000 instances as a provider prints them have about half of this.
MAX_BYTES = 32 * 1024 * 1024
_MAX_ERRORS = 8192  # bytes kept of stderr, the last ones
#: Seconds for the end of the output after the program has ended: a child may hold the pipe.
_DRAIN_TIMEOUT = 0.5

#: The programs that run now.
_running: set[subprocess.Popen[bytes]] = set()


def output_of(argv: Sequence[str], deadline: Deadline, cwd: Path | None = None) -> bytes:
    """Return what the program prints on stdout.

    It gets no input, and is a process group of its own, which is killed if a limit is passed.

    :raises SourceError: it cannot be started, fails, prints too much, or takes too long.
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{bounded(argv[0])} cannot be run: {reason}") from None
    with _ended(process):
        output, errors = _read(process, deadline)
        try:
            status = process.wait(deadline.left())
        except subprocess.TimeoutExpired:
            raise deadline.passed() from None
    if status != 0:
        raise SourceError(_failure(argv[0], status, errors))
    return output


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the program's process group unless it has ended by itself; close the pipes."""
    _running.add(process)
    try:
        yield
    finally:
        _running.discard(process)
        if process.poll() is None:
            _kill(process)
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


@atexit.register
def _kill_running() -> None:
    """End the programs of threads that are not waited for, at the end of this process."""
    for process in list(_running):
        _kill(process)


os.register_at_fork(after_in_child=_running.clear)  # they are the parent's


def _read(process: subprocess.Popen[bytes], deadline: Deadline) -> tuple[bytes, bytes]:
    """Return stdout, and the end of stderr."""
    assert process.stdout is not None  # noqa: S101  # both are pipes
    assert process.stderr is not None  # noqa: S101  # as above
    out, err = process.stdout.fileno(), process.stderr.fileno()
    output, errors = bytearray(), bytearray()
    poll = select.poll()  # select(2) takes no descriptor above 1023
    for pipe in (out, err):
        poll.register(pipe, select.POLLIN)
    pipes, ended_at = 2, None
    while pipes:
        for pipe, _ in poll.poll(min(deadline.left(), _DRAIN_TIMEOUT) * 1000):
            chunk = os.read(pipe, 65536)
            if not chunk:
                poll.unregister(pipe)
                pipes -= 1
            elif pipe == out:
                output += chunk
            else:
                errors = (errors + chunk)[-_MAX_ERRORS:]
        if len(output) > MAX_BYTES:
            raise SourceError(f"printed more than {MAX_BYTES // 1024**2} MiB")
        if ended_at is None and process.poll() is not None:
            ended_at = time.monotonic()
        if ended_at is not None and time.monotonic() - ended_at > _DRAIN_TIMEOUT:
            break
    return bytes(output), bytes(errors)


def _failure(program: str, status: int, errors: bytes) -> str:
    said = errors.decode("utf-8", "replace").strip().splitlines()
    name = Path(program).name
    ended = f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"
    return f"{bounded(name)} {ended}" + (f": {bounded(masked(said[-1]))}" if said else "")

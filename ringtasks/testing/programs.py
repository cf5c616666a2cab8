"""Programs of a fake host: the shell that reads a script, and the commands in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ringtasks.remote.script import GIVE_UP, Script, encode

from .links import FakeLink, FakeProgram, ProgramStep
from .rules import Answer, Call

__all__ = ["Bootstrap", "HostParts", "Run", "as_bytes", "farewell_of"]

_SIGTERM_STATUS = 128 + 15


class EndedProgram:
    """A program that has already ended."""

    def __init__(self, step: ProgramStep) -> None:
        self._step = step

    def step(self, stdin: bytearray, *, is_at_eof: bool) -> ProgramStep | None:
        return self._step

    def due_in(self) -> float | None:
        return None


class Bootstrap:
    """The shell that reads its script from stdin, and becomes the script's program.

    :param greeting: printed first.
    :param start: makes the script's program.
    """

    def __init__(self, greeting: bytes, start: Callable[[], FakeProgram]) -> None:
        self._greeting, self._start = greeting, start
        self._program: FakeProgram | None = None

    def step(self, stdin: bytearray, *, is_at_eof: bool) -> ProgramStep | None:
        if self._program is not None:
            return self._program.step(stdin, is_at_eof=is_at_eof)
        if self._greeting:
            greeting, self._greeting = self._greeting, b""
            return ProgramStep(greeting)
        while stdin.startswith(GIVE_UP):
            del stdin[: len(GIVE_UP)]
        end = stdin.find(b"\n") + 1
        if not end:  # cut short: nothing is evaluated
            return ProgramStep(status=1) if is_at_eof else None
        del stdin[:end]
        self._program = self._start()
        return ProgramStep()

    def due_in(self) -> float | None:
        return self._program.due_in() if self._program is not None else None


class HostParts(NamedTuple):
    """The parts of a host that a `Run` needs.

    ``farewell`` returns the last output for an exit status.
    """

    link: FakeLink
    pid: int
    hello: bytes
    respond: Callable[[Call], Answer]
    farewell: Callable[[int], bytes] = lambda status: b""

    def done(self, stdout: bytes = b"", stderr: bytes = b"", status: int = 0) -> EndedProgram:
        """Return a program that printed this and has ended."""
        return EndedProgram(
            ProgramStep(self.hello + stdout + self.farewell(status), stderr, status)
        )


def farewell_of(script: Script) -> Callable[[int], bytes]:
    """Return a function that gives the last output of the shell of ``script``."""
    if not script.is_own:
        return lambda status: b""
    return lambda status: script.mark.printed + b"end:%d\n" % status


class Run:
    """One command under way. It is answered after it has read all of its stdin."""

    def __init__(self, call: Call, around: HostParts) -> None:
        self.pid, self.is_stoppable = around.pid, True
        self._call, self._around = call, around
        self._hello: bytes | None = around.hello
        self._stdin = bytearray()
        self._started = time.monotonic()
        self._answer: Answer | None = None
        self._is_stopped = self._has_printed = False

    @property
    def call(self) -> Call:
        """The call, with the stdin that has come so far."""
        return self._call._replace(stdin=bytes(self._stdin))

    def stop(self) -> bool:
        """End the run as TERM does, from any thread; return False if it continues."""
        if self.is_stoppable:
            self._is_stopped = True
            with self._around.link.changed:
                self._around.link.changed.notify_all()
        return self.is_stoppable

    def step(self, stdin: bytearray, *, is_at_eof: bool) -> ProgramStep | None:
        if self._hello:
            hello, self._hello = self._hello, None
            return ProgramStep(hello)
        self._stdin = stdin
        if self._is_stopped:
            return ProgramStep(status=_SIGTERM_STATUS)
        if not is_at_eof:
            return None
        if self._answer is None:
            self._answer = self._around.respond(self.call)
            self.is_stoppable = self._answer.is_stoppable
        return self._outcome(self._answer)

    def due_in(self) -> float | None:
        if self._is_stopped:
            return 0.0
        if self._answer is None or self._has_printed:
            return None
        return max(0.0, self._started + self._answer.delay - time.monotonic())

    def _outcome(self, answer: Answer) -> ProgramStep | None:
        if self._has_printed or time.monotonic() < self._started + answer.delay:
            return None
        self._has_printed = True
        if answer.is_hanging:
            return ProgramStep(as_bytes(answer.stdout), as_bytes(answer.stderr))
        status = answer.returncode
        stdout = as_bytes(answer.stdout) + self._around.farewell(status)
        return ProgramStep(stdout, as_bytes(answer.stderr), status)


def as_bytes(printed: str | bytes) -> bytes:
    """Return the bytes that are sent for an answer's text."""
    return encode(printed) if isinstance(printed, str) else printed

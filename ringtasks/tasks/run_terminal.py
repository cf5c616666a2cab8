"""This machine's terminal while ``inv run --pty`` runs a command in one on the host."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

from ringtasks.client.terminal import piped_stdin, raw_mode, requested_terminal
from ringtasks.client.typed_input import TypedInput
from ringtasks.common import interruption
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.threads import start_timer
from ringtasks.exit_status import INTERRUPTED, UNREACHABLE

if TYPE_CHECKING:
    from ringtasks.client.ask import Ask
    from ringtasks.client.result import SSHResult
    from ringtasks.client.ssh_client import SSHClient

__all__ = ["at_terminal"]

#: Seconds to end the remote processes after ``~.``; a host that is frozen does not answer.
_LEAVE_TIME = 2.0


def at_terminal(client: SSHClient, ask: Ask, has_stdin: bool) -> tuple[SSHResult, bool]:
    """Ask with a terminal; return the result, and whether the user has left the terminal."""
    with _RunTerminal() as terminal:
        ask = ask._replace(
            stdin=terminal.stdin() if has_stdin else None,
            terminal=requested_terminal(),
            before_start=terminal.set_raw,
            cancellation=terminal.cancellation,
        )
        return terminal.result_of(client.ask(ask)), terminal.cancellation.is_cancelled


class _RunTerminal:
    """The terminal, in raw mode from `set_raw` to the end of the block; ``~.`` ends the command.

    ``cancellation`` is requested by ``~.`` alone.
    """

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self._until_the_end = contextlib.ExitStack()
        self._has_ended = False

    def __enter__(self) -> _RunTerminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._has_ended = True
        self._until_the_end.close()

    def set_raw(self) -> None:
        """Enter raw mode; not before the log-in, which may ask questions."""
        self._until_the_end.pop_all().close()
        self._until_the_end.enter_context(raw_mode())

    def stdin(self) -> BinaryIO | None:
        """Return the input for the command: typed keys without escapes, or a pipe as it is."""
        stdin = piped_stdin(even_terminal=True)
        if stdin is None or not os.isatty(0):
            return stdin
        return cast(BinaryIO, TypedInput(stdin, self._leave))  # it is read by read1 alone

    def result_of(self, result: SSHResult) -> SSHResult:
        """Return the result with ssh's exit status for ``~.`` if that has ended the command."""
        if self.cancellation.is_cancelled and result.returncode == INTERRUPTED:
            return replace(result, returncode=UNREACHABLE)
        return result

    def _leave(self) -> None:
        start_timer(_LEAVE_TIME, self._leave_at_once, name="ringtasks-leave")
        self.cancellation.cancel()

    def _leave_at_once(self) -> None:
        if not self._has_ended:
            text = "exited at once: the remote processes may still be running"
            interruption.exit_at_once(UNREACHABLE, text)

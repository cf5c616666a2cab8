"""`Ask`: one command for a host, with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO

from ringtasks.common.light_typing import NamedTuple
from ringtasks.ssh.link import Terminal

if TYPE_CHECKING:
    from ringtasks.common.cancellation import Cancellation

__all__ = ["Ask", "OnOutput", "both"]

#: Called with 1 (stdout) or 2 (stderr) and the bytes as they arrive.
OnOutput = Callable[[int, bytes], None]


class Ask(NamedTuple):
    """A command to run on a host; the first four fields are the arguments of `SSHClient.run`.

    :param run_id: marks its processes; None: a random mark.
    :param in_venv: run it in the host's virtual environment.
    :param is_own: its end is proven by a mark, too.
    :param on_output: receives the output; the result holds it only if ``keeps_output`` is set.
    :param cancellation: ends it from another thread.
    :param before_start: called when the host is reached, before the command can start; called again
        if another link is needed.
    """

    command: str
    timeout: float | None = None
    cwd: str | None = "~"
    env: Mapping[str, str] | None = None
    run_id: str | None = None
    in_venv: bool = False
    is_own: bool = True
    stdin: BinaryIO | None = None
    on_output: OnOutput | None = None
    keeps_output: bool = False
    terminal: Terminal | None = None
    cancellation: Cancellation | None = None
    before_start: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"Ask({self.command!r})"  # the environment may hold secrets


def both(first: OnOutput, second: OnOutput) -> OnOutput:
    """Return a function that calls one after the other."""

    def on_output(stream: int, chunk: bytes) -> None:
        first(stream, chunk)
        second(stream, chunk)

    return on_output

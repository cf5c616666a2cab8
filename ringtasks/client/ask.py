"""`Ask`: one command for a host, with its options; the checks of what callers of a client give.

:raises TypeError: (every check) a value of another type.
:raises ValueError: (every check) a value out of range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.local_user import expanded_home
from ringtasks.ssh.link import Terminal

if TYPE_CHECKING:
    from ringtasks.common.cancellation import Cancellation

__all__ = ["Ask", "OnOutput", "as_text", "check_at_least", "check_whole", "copy_paths", "limit_of"]

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

    def output_to(self, keep: OnOutput) -> OnOutput:
        """Return the receiver of the output; ``keep`` adds a part of it to the result."""
        given = self.on_output
        if given is None or not self.keeps_output:
            return given or keep

        def both(stream: int, chunk: bytes) -> None:
            given(stream, chunk)
            keep(stream, chunk)

        return both


def as_text(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return the environment with numbers as text; `Script` refuses values of other types."""
    if not isinstance(env, Mapping):
        return {} if env is None else env
    numbers = {name: str(value) for name, value in env.items() if isinstance(value, int | float)}
    return {**env, **numbers} if numbers else env


def copy_paths(
    local: str | Path | None,
    remote: str | None,
    local_path: str | Path | None,
    remote_path: str | None,
) -> tuple[str | Path, str]:
    """Return the local and the remote path of a copy, each given by one of its two names.

    ``~`` is expanded in the local one.

    :raises TypeError: a path is missing, or given by both names.
    """
    for name, one, other in (("local", local, local_path), ("remote", remote, remote_path)):
        if (one is None) == (other is None):
            problem = "is missing" if one is None else f"is given twice, also as {name}_path"
            raise TypeError(f"{name}: {problem}")
    near = local if local is not None else local_path
    far = remote if remote is not None else remote_path
    assert near is not None and far is not None  # noqa: S101, PT018  # checked above
    return (expanded_home(near) if str(near).startswith("~") else near), far


def limit_of(timeout: float) -> float | None:
    """Return the time limit in seconds; None if ``timeout`` is 0: no limit.

    :raises ValueError: ``timeout`` is negative or NaN.
    :raises TypeError: ``timeout`` is not a number.
    """
    check_at_least("timeout", timeout, 0)
    return timeout or None


def check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    check_at_least(name, value, least)


def check_at_least(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not value >= least:  # also refuses NaN
        raise ValueError(f"{name}: expected at least {least:g}, got {value!r}")

"""The program that runs: ``inv``, ``ringtasks`` or another; in hints as the user has typed it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import PurePath
from types import FrameType

__all__ = [
    "as_typed",
    "as_typed_for",
    "hints_of_task",
    "is_program",
    "program_name",
    "repeat_in_hints",
    "runs_task",
]

_PROGRAMS = ("inv", "invoke", "ringtasks")

#: The values of the flags that hints repeat, and the beginnings of the tasks that have them.
_typed: dict[str, tuple[str, tuple[str, ...]]] = {}


def program_name() -> str:
    """Return ``ringtasks`` if that console script runs, else ``inv``."""
    return "ringtasks" if PurePath(*sys.argv[:1]).stem == "ringtasks" else "inv"


def is_program() -> bool:
    """Return whether this process is ``inv``, ``invoke``, ``python -m invoke`` or ``ringtasks``."""
    name = sys.argv[0] if sys.argv else ""
    return name.rpartition("/")[2] in _PROGRAMS or name.endswith("invoke/__main__.py")


def runs_task(frame: FrameType | None) -> bool:
    """Return whether Invoke runs a task, which may belong to another package."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__call__" and code.co_filename.endswith("invoke/tasks.py"):
            return True
        frame = frame.f_back
    return False


def as_typed(command: str) -> str:
    """Return a command for a message, with the program in front: ``inv check``.

    Flags that the user has typed are added if it lacks them: it has to find the same hosts.
    """
    task, space, rest = command.partition(" ")
    for name, (value, tasks) in _typed.items():
        if task.startswith(tasks) and not task.startswith("-") and f"--{name} " not in command:
            task += f" --{name} {_quoted(value)}"
    return f"{program_name()} {task}{space}{rest}"


def as_typed_for(host: str, command: str) -> str:
    """Return a command for one host; an address that the user has typed stays as it was typed."""
    told = as_typed(command)
    return told if "--host " in told else f"{told} --host {_quoted(host)}"


@contextlib.contextmanager
def hints_of_task(**flags: str | None) -> Iterator[None]:
    """Within the block, a task, hints repeat these flags, and those of `repeat_in_hints`."""
    earlier = dict(_typed)
    repeat_in_hints(**flags)
    try:
        yield
    finally:
        _typed.clear()
        _typed.update(earlier)


def repeat_in_hints(*tasks: str, **flags: str | None) -> None:
    """Repeat these flags in hints until the task ends; one that is None was not typed.

    :param tasks: the beginnings of the names of the tasks that have the flags; none: all have them.
    """
    given = {name: (value, tasks or ("",)) for name, value in flags.items() if value is not None}
    _typed.update(given)


def _quoted(value: str) -> str:
    import shlex  # most runs print no hint with a flag

    return shlex.quote(value)

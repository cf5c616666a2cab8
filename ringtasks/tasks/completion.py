"""``ringtasks completion SHELL``: print a script that makes a shell complete our command lines."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from importlib.resources import files

from invoke import Context
from invoke.parser import Argument

from ringtasks.common.program_name import program_name
from ringtasks.errors import UsageError

from .options import task

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")
#: The kind of word that completes a flag or positional argument (`ringtasks.output.candidates`).
_KINDS = {
    "after": "job", "attach": "run", "dst": "file", "env-file": "file", "host": "host",
    "inventory": "file", "job": "job", "junit": "file", "log-file": "file", "out": "file",
    "outdir": "file", "script": "file", "shell": "shell", "src": "file", "sync-up": "file",
    "transport": "route", "working-dir": "file",
}  # fmt: skip
#: The same where a task gives the name another meaning; Ray's jobs are known to Ray alone.
_KINDS_OF_TASK = {
    ("plot", "job"): "plot", ("ray.stop", "job"): "text", ("ray.submit", "attach"): "text",
}  # fmt: skip


@task(connects=False, positional=["shell"], help={"shell": "bash, zsh or fish"})
def completion(c: Context, shell: str | None = None) -> None:
    """Print a script for a shell's start-up file: completes tasks, flags, hosts, jobs and runs."""
    if shell not in _SHELLS:
        raise UsageError(f"completion: expected {', '.join(_SHELLS)}, got {shell!r}")
    text = files(__package__).joinpath(f"completion.{shell}").read_text()
    for name, value in {
        "PROGRAM": program_name(),
        "PYTHON": shlex.quote(sys.executable),
        "TABLE": shlex.quote("\n".join(_table())),
    }.items():
        text = text.replace(f"@{name}@", value)
    print(text, end="")


def _table() -> Iterator[str]:
    """Yield a line for each task, as `ringtasks.output.candidates` reads it."""
    from . import namespace

    for name, aliases in sorted(namespace.task_names.items()):
        arguments = namespace[name].get_arguments()
        positionals = [_kind(name, argument) for argument in arguments if argument.positional]
        flags = [flag for argument in arguments for flag in _flags(name, argument)]
        for each in (name, *aliases):
            yield " ".join([each, ",".join(positionals) or "-", *flags])


def _flags(task_name: str, argument: Argument) -> Iterator[str]:
    value = f"={_kind(task_name, argument)}" if argument.takes_value else ""
    no = "no-" if argument.default is True else ""  # as Invoke names what turns a flag off
    long, *letters = argument.names
    yield f"--{no}{long}{value}"
    for letter in letters:
        yield f"-{letter}{value}"


def _kind(task_name: str, argument: Argument) -> str:
    name = argument.names[0]
    return _KINDS_OF_TASK.get((task_name, name)) or _KINDS.get(name, "text")

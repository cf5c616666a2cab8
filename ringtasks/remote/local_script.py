"""A script of this machine as a command for hosts: it is written there, run, and removed.

It is run by what its first line names (``#!``), else by ``/bin/sh``; by name, so that a ``/tmp``
on which nothing may be executed is no hindrance.  Its text travels like any long command, on
stdin before the program starts, and so neither arguments nor process lists hold it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ringtasks.errors import UsageError

from .script import quote

__all__ = ["command_of_file", "label_of"]


def command_of_file(path: Path, arguments: Sequence[str] = ()) -> str:
    """The command that runs the script with these arguments.

    :raises UsageError: it cannot be read, is empty, or is no text.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--script: {path}: {error.strerror}") from error
    if not text.strip():
        raise UsageError(f"--script: {path} is empty")
    if b"\0" in text:
        raise UsageError(f"--script: {path} has a NUL character: expected a text, not a program")
    content = text.decode("utf-8", "surrogateescape")
    words = [*_interpreter(content), '"$ringtasks_script"', *map(quote, arguments)]
    # The status is the script's: what removes it is a trap. TERM and HUP end sh without one.
    return "\n".join(
        [
            'ringtasks_script=$(mktemp "${TMPDIR:-/tmp}/ringtasks.XXXXXX") || exit 1',
            "trap 'rm -f \"$ringtasks_script\"' EXIT",
            "trap 'exit 143' TERM HUP",
            f'printf %s {quote(content)} > "$ringtasks_script" || exit 1',
            " ".join(words),
        ]
    )


def label_of(path: Path, arguments: Sequence[str] = ()) -> str:
    """What results call it: the script's path and its arguments."""
    return shlex.join([str(path), *arguments])


def _interpreter(content: str) -> list[str]:
    first = content.splitlines()[0]
    if not first.startswith("#!"):
        return ["/bin/sh"]
    # The kernel takes all after the interpreter as one argument (execve(2)).
    program, *argument = first[2:].strip().split(None, 1)
    return [quote(program), *map(quote, argument)]

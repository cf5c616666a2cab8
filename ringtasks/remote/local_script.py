"""A script of this machine as a command for hosts: it is written there, run, and removed.

The interpreter in its first line (``#!``) runs it, else ``/bin/sh``.  The interpreter gets its file
name, so a ``/tmp`` mounted noexec does not matter.  Its text is sent like any long command, on
stdin before the program starts, so neither arguments nor process lists hold it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ringtasks.errors import UsageError

from .programs import Program
from .script import quote

__all__ = ["command_of_file", "label_of"]

_SCRIPT_FILE = Program(__file__, "script_file.sh")


def command_of_file(path: Path, arguments: Sequence[str] = ()) -> str:
    """Return the command that runs the script with these arguments.

    :raises UsageError: the script cannot be read, is empty, or has a NUL character.
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
    return _SCRIPT_FILE.render(ringtasks_content=content) + " ".join(words)


def label_of(path: Path, arguments: Sequence[str] = ()) -> str:
    """Return the script's name in results: its path and its arguments."""
    return shlex.join([str(path), *arguments])


def _interpreter(content: str) -> list[str]:
    first = content.splitlines()[0]
    if not first.startswith("#!"):
        return ["/bin/sh"]
    # The kernel passes all text after the interpreter as one argument (execve(2)).
    program, *argument = first[2:].strip().split(None, 1)
    return [quote(program), *map(quote, argument)]

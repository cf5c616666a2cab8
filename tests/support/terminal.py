"""The real program at a terminal of its own."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["at_terminal"]


INV = (sys.executable, "-m", "invoke")


def at_terminal(
    arguments: list[str], typed: dict[bytes, bytes], cwd: Path, program: Sequence[str] = INV
) -> tuple[int, bytes]:
    """Run ``inv`` at a terminal of its own; type each answer once its question is there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvp(program[0], [*program, *arguments])
    shown, waiting = b"", dict(typed)
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux: the last process has closed it
            break
        if not chunk:
            break
        shown += chunk
        for question in [question for question in waiting if question in shown]:
            os.write(terminal, waiting.pop(question))
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown

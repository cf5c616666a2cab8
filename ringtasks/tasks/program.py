"""The console script ``ringtasks``: the same tasks as ``inv``, outside a checkout."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from invoke import Exit, Program
from invoke.exceptions import ParseError

from ringtasks import __version__
from ringtasks.common.program_name import as_typed
from ringtasks.common.text import visible
from ringtasks.exit_status import USAGE

from . import namespace
from .command_line import task_names, unknown_flag, unknown_task
from .config_files import fault
from .invoke_private import PublicConfig

__all__ = ["main"]


_MISSING = "did not receive required positional arguments"  # Invoke's text
_UNKNOWN = re.compile(r"No idea what ['\"](.*)['\"] is!", re.DOTALL)  # the same


class _Config(PublicConfig):
    """Invoke's configuration without its Python files: an untrusted folder's code is never run."""

    def load_python_file(self, path: str) -> dict[str, Any]:
        if Path(path).exists():
            print(f"ringtasks: {path} is not read: use invoke.yaml or invoke.json", file=sys.stderr)
        raise FileNotFoundError(errno.ENOENT, "Python files are not read", path)


class _InvokeProgram(Program):
    """Invoke's Program, with ringtasks' exit status for a malformed command line."""

    def parse_core(self, argv: list[str] | None) -> None:
        try:
            super().parse_core(argv)
        except ParseError as error:
            raise Exit(f"ringtasks: {error}", code=USAGE) from error

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ParseError as error:
            told = _with_advice(error, task_names(self))
            raise Exit(f"ringtasks: {told}", code=USAGE) from error

    def parse_collection(self) -> None:
        super().parse_collection()
        # Invoke reads the project's invoke.yaml only if it has found a tasks.py.
        self.config.set_project_location(".")
        self.config.load_project()


def _with_advice(error: ParseError, tasks: Iterable[str]) -> str:
    """Return the error; for an unknown word, with the tasks or flags of similar names."""
    if error.context is not None and _MISSING in str(error):
        task = error.context.name or ""
        usage = " ".join(
            [task, *(str(each.name).upper() for each in error.context.positional_args)]
        )
        return f"{error}: '{as_typed(usage)}'; '{as_typed(task)} --help' explains them"
    unknown = _UNKNOWN.fullmatch(str(error))
    if unknown is None:
        return str(error)
    word = unknown[1].partition("=")[0]
    context = error.context
    if not word.startswith("-") or context is None or not context.name:
        return unknown_task(word, tasks)
    return unknown_flag(word, context)


def main() -> None:
    """Run the program; does not return."""
    if sys.stdout is None:  # each task fails then; Invoke would print a list or a help text nowhere
        sys.exit("ringtasks: stdout is closed")
    program = _InvokeProgram(
        name="ringtasks", namespace=namespace, version=__version__, config_class=_Config
    )
    try:
        program.run()
    except Exception:
        told = fault()
        if told is None:
            raise
        print(f"ringtasks: {visible(told)}", file=sys.stderr)
        sys.exit(USAGE)

"""The console script ``ringtasks``: the same tasks as ``inv``, outside a checkout."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

from invoke import Exit, Program
from invoke.exceptions import ParseError

from ringtasks import __version__
from ringtasks.common.text import visible
from ringtasks.exit_status import USAGE

from . import namespace
from .config_files import fault
from .invoke_private import PublicConfig

__all__ = ["main"]


class _Config(PublicConfig):
    """Invoke's configuration without its Python files: an untrusted folder's code is never run."""

    def load_python_file(self, path: str) -> dict[str, Any]:
        if Path(path).exists():
            print(f"ringtasks: {path} is not read: use invoke.yaml or invoke.json", file=sys.stderr)
        raise FileNotFoundError(errno.ENOENT, "Python files are not read", path)


class _Program(Program):
    """Invoke's Program, with ringtasks' exit status for a malformed command line."""

    def parse_core(self, argv: list[str] | None) -> None:
        try:
            super().parse_core(argv)
        except ParseError as error:
            raise Exit(f"ringtasks: {error}", code=2) from error

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ParseError as error:
            raise Exit(f"ringtasks: {error}", code=2) from error

    def parse_collection(self) -> None:
        super().parse_collection()
        # Invoke reads the project's invoke.yaml only if it has found a tasks.py.
        self.config.set_project_location(".")
        self.config.load_project()


def main() -> None:
    """Run the program; does not return."""
    program = _Program(
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

"""The console script ``ringtasks``: the same tasks as ``inv``, outside a checkout."""

from __future__ import annotations

from invoke import Exit, Program
from invoke.exceptions import ParseError

from ringtasks import __version__

from . import namespace

__all__ = ["main"]


class _Program(Program):
    """Invoke's Program, with our exit status for a command line that makes no sense."""

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
        # Invoke reads the project's invoke.yaml only where it has found a tasks.py.
        self.config.set_project_location(".")
        self.config.load_project()


def main() -> None:
    """Run the program; does not return."""
    _Program(name="ringtasks", namespace=namespace, version=__version__).run()

"""A collection of many tasks that costs a run no more than one of few."""

from __future__ import annotations

import sys

from invoke import Collection
from invoke.parser import Context as ParserContext

__all__ = ["Namespace"]


class Namespace(Collection):
    """A Collection that prepares its tasks for the parser only if the command line names them.

    Invoke prepares and copies all of them at each run: 0.3 ms a task.
    """

    def to_contexts(self, ignore_unknown_help: bool | None = None) -> list[ParserContext]:
        """All of them where no task is named, for errors, and for completion."""
        words = set(sys.argv[1:])
        named = {
            primary: aliases
            for primary, aliases in self.task_names.items()
            if words & {primary, *aliases}
        }
        if not named or "--complete" in words:
            return super().to_contexts(ignore_unknown_help=ignore_unknown_help)
        return [
            ParserContext(
                name=primary,
                aliases=aliases,
                args=self[primary].get_arguments(ignore_unknown_help=ignore_unknown_help),
            )
            for primary, aliases in named.items()
        ]

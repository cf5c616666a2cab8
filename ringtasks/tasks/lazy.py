"""Tasks that cost nothing until they are wanted: a collection of many is as quick as one of few.

Invoke would have every module loaded, and every flag of every task prepared and copied twice,
before it looks at which task was named: 10 ms for ours, a tenth of an ``inv run``.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from invoke import Collection, Task
from invoke.parser import Argument

__all__ = ["LazyTask", "group"]

#: What names one of our tasks on a command line.
_ours: set[str] = set()


class LazyTask(Task[Any]):
    """The task ``function`` of a module of this package, which is loaded when it is looked into."""

    def __init__(self, module: str, function: str = "", *names: str) -> None:
        """:param names: what it is called on the command line; none: as the function."""
        # Not Task's own, which needs the function: the rest of its attributes come by `_load`.
        self._module = module
        self._function = self._name = function or module
        self.aliases = ()
        self.is_default = False
        self._names = frozenset(names or [self._name])
        _ours.update(self._names)

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Its flags; none where the command line names others of our tasks and not this one."""
        words = set(sys.argv[1:])
        is_left_out = words & _ours and not words & self._names and "--complete" not in words
        return [] if is_left_out else super().get_arguments(ignore_unknown_help)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name != "__name__":
            raise AttributeError(name)
        self._load()
        return getattr(self, name)

    def _load(self) -> None:
        module = importlib.import_module(f".{self._module}", __package__)
        loaded: Task[Any] = getattr(module, self._function)
        self.__dict__ = {**vars(loaded), **self.__dict__}

    # Invoke looks here for the line that ``inv --list`` shows.
    __doc__ = property(lambda self: self.body.__doc__)


def group(module: str, *functions: str, default: str = "") -> Collection:
    """A module's tasks, called ``module.function``; the ``default`` one also just ``module``."""
    collection = Collection(module)
    for function in functions:
        names = [f"{module}.{function}"] + [module] * (function == default)
        task = LazyTask(module, function, *names)
        collection.add_task(task, default=function == default)
    return collection

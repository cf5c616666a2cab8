"""Tasks whose modules load on use: a large collection starts as fast as a small one.

Invoke would load every module, and prepare and copy every flag of every task twice, before it looks
at which task the command line names: 10 ms for this collection, a tenth of an ``inv run``.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from invoke import Collection, Program, Task
from invoke.parser import Argument

__all__ = ["LazyTask", "group"]

#: The largest number of frames from `LazyTask.get_arguments` up to Invoke's Program.
_MAX_FRAMES = 6


class LazyTask(Task[Any]):
    """The task ``function`` of a module of this package, which is loaded on first use."""

    def __init__(self, module: str, function: str = "") -> None:
        # Task's own __init__ needs the function, so it is not called: `_load` sets its other
        # attributes.
        self._module = module
        self._function = self._name = function or module
        self.aliases = ()
        self.is_default = False

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return its flags; none if the command line does not name it, under any mounted name."""
        return [] if _is_left_out() else super().get_arguments(ignore_unknown_help)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name != "__name__":
            raise AttributeError(name)
        self._load()
        return getattr(self, name)

    def _load(self) -> None:
        module = importlib.import_module(f".{self._module}", __package__)
        loaded: Task[Any] = getattr(module, self._function)
        self.__dict__ = {**vars(loaded), **self.__dict__}

    # Invoke reads the line that ``inv --list`` shows from here.
    __doc__ = property(lambda self: self.body.__doc__)


def group(module: str, *functions: str, default: str = "") -> Collection:
    """Return a module's tasks, called ``module.function``; the ``default`` one also ``module``."""
    collection = Collection(module)
    for function in functions:
        collection.add_task(LazyTask(module, function), default=function == default)
    return collection


def _is_left_out() -> bool:
    """Return whether Invoke prepares the flags of a task that its command line does not name.

    A task knows neither its name in a user's collection nor the command line, which is not always
    ``sys.argv``.  Both are in the calling frames: ``Collection.to_contexts`` and a method of
    ``Program``.  If they are not there, no task is left out.
    """
    frame = sys._getframe(2)
    names = [frame.f_locals.get("primary"), *(frame.f_locals.get("aliases") or ())]
    for _ in range(_MAX_FRAMES):
        program = frame.f_locals.get("self")
        if isinstance(program, Program):
            words = program.argv[1:]
            if None in names or "--complete" in words:  # a completion may be about to name it
                return False
            flags = [word for word in words if word.startswith("-")]  # "--help=run" names it, too
            return not any(name in words or any(name in flag for flag in flags) for name in names)
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False

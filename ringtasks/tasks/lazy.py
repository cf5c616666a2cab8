"""Tasks whose modules load on use: a large collection starts as fast as a small one.

Invoke would load every module, and prepare and copy every flag of every task twice, before it looks
at which task the command line names: 10 ms for this collection, a tenth of an ``inv run``.
"""

from __future__ import annotations

import copy
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

from invoke import Collection, Program, Task
from invoke.parser import Argument, ParserContext

from .invoke_private import set_name

__all__ = ["SHORT_FLAGS", "LazyTask", "group"]

#: Flag -> its letter, in every task that has the flag; all other flags have none. A letter of
#: Invoke's own flags may stand here: after a task it means the task's flag.
SHORT_FLAGS = {
    "cmd": "c",
    "env": "e",
    "follow": "f",
    "host": "H",
    "inventory": "i",
    "json": "j",
    "number": "n",
    "pty": "p",
    "timeout": "t",
}

_DOCSTRING = r'^def {}\(.*?\) -> [^\n]*:\n    """(.*?)"""'
#: The largest number of frames from `LazyTask.get_arguments` up to Invoke's Program.
_MAX_FRAMES = 6
#: The programs whose first word was looked at.
_checked: WeakSet[Program] = WeakSet()


class _Flag(Argument):
    """A flag that is copied fast: Invoke copies each of a task's flags twice, by `copy`.

    Its values are replaced and never changed, so copies can share them.
    """

    def __init__(self, argument: Argument) -> None:
        self.__dict__ = dict(vars(argument))
        if self.kind is list:
            self.raw_value = None  # Invoke's [] passes for a value: a flag without one is no error

    def __repr__(self) -> str:
        """Return the flag as typed, which Invoke's error about a missing value shows."""
        return f"--{self.name}"

    def __deepcopy__(self, memo: dict[int, Any]) -> _Flag:
        return _Flag(self)


class _NoFlags(list[Argument]):
    """The flags of a task that the command line does not name: none.

    Invoke makes a context of them, and copies all contexts, by `copy`: 1.5 ms for this collection.
    This one lets the copies share the context, since only that of a named task is changed.
    """

    def __iter__(self) -> Iterator[Argument]:
        context = sys._getframe(1).f_locals.get("self")
        if isinstance(context, ParserContext):
            vars(context)["__deepcopy__"] = lambda memo: context
        return super().__iter__()


class LazyTask(Task[Any]):
    """The task ``function`` of a module of this package, which is loaded on first use."""

    def __init__(self, module: str, function: str = "") -> None:
        # Task's own __init__ needs the function, so it is not called: `_load` sets its other
        # attributes.
        self._module = module
        self._function = function or module
        set_name(self, self._function)
        self.aliases = ()
        self.is_default = False

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return its flags; none if the command line does not name it, under any mounted name."""
        program, names = _caller()
        if program is not None and _is_left_out(program, names):
            if program not in _checked:
                from .command_line import check_first_word

                _checked.add(program)
                check_first_word(program)
            return _NoFlags()
        texts = dict(self.help)
        found: list[Argument] = [*map(_Flag, super().get_arguments(ignore_unknown_help))]
        self.help = texts  # Invoke takes each text out of it
        for argument in found:
            letter = SHORT_FLAGS.get(argument.name or "")
            if letter is not None:
                argument.names = (*argument.names, letter)
        if program is not None:
            from .command_line import look_at

            look_at(program, names, found, LazyTask)
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name != "__name__":
            raise AttributeError(name)
        self._load()
        return getattr(self, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyTask:
        # Invoke copies all tasks of a tasks.py; the usual way of `copy` takes five times as long.
        made = LazyTask.__new__(LazyTask)
        made.__dict__ = {name: copy.deepcopy(own, memo) for name, own in self.__dict__.items()}
        return made

    def _load(self) -> None:
        module = importlib.import_module(f".{self._module}", __package__)
        loaded: Task[Any] = getattr(module, self._function)
        self.__dict__ = {**vars(loaded), **self.__dict__}

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """The docstring, whose first line ``inv --list`` shows, read without loading the module."""
        if "body" not in self.__dict__:
            source = Path(__file__).with_name(f"{self._module}.py").read_text(encoding="utf-8")
            if found := re.search(_DOCSTRING.format(self._function), source, re.M | re.S):
                return found[1]
        return self.body.__doc__


def group(module: str, *functions: str, default: str = "") -> Collection:
    """Return a module's tasks, called ``module.function``; the ``default`` one also ``module``."""
    collection = Collection(module)
    for function in functions:
        collection.add_task(LazyTask(module, function), default=function == default)
    return collection


def _caller() -> tuple[Program | None, list[str]]:
    """Return the program that asks a task for its flags, and the task's names there.

    A task knows neither its name in a user's collection nor the command line, which is not always
    ``sys.argv``.  Both are in the calling frames: ``Collection.to_contexts`` and a method of
    ``Program``.  If they are not there, the program is None.
    """
    frame = sys._getframe(2)
    names = [frame.f_locals.get("primary"), *(frame.f_locals.get("aliases") or ())]
    for _ in range(_MAX_FRAMES):
        program = frame.f_locals.get("self")
        if isinstance(program, Program):
            return (None if None in names else program), [name for name in names if name]
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None, []


def _is_left_out(program: Program, names: list[str]) -> bool:
    """Return whether Invoke prepares the flags of a task that its command line does not name."""
    words = program.argv[1:]
    if "--complete" in words:  # a completion may be about to name it
        return False
    flags = [word for word in words if word.startswith("-")]  # "--help=run" names it, too
    return not any(name in words or any(name in flag for flag in flags) for name in names)

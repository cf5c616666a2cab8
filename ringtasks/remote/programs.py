"""Shell programs as files: POSIX sh beside the module that sends it, with quoted parameters.

A program ``NAME.sh`` opens with a comment that lists its parameters::

    # parameters: job_id grace

`Program.render` puts one assignment per parameter before the program's lines, so that a value is
quoted once and the file stays plain sh that ShellCheck reads and that runs in any shell.  A last
parameter ``names...`` is a list: the program finds it in its positional parameters (``"$@"``).  A
line ``# include: identity.sh`` is replaced by that file, found beside the file with the line or in
this folder; a file is included once.  Comments and blank lines are not sent.

Invariant: the text after the assignments is constant; no value of a caller is ever part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .script import quote

__all__ = ["Program", "Rendered", "Word"]

_PARAMETERS = r"(?m)^# parameters:(.*)$"
_INCLUDE = r"(?m)^# include: (\S+)$"
_HERE = Path(__file__).parent


class Word(str):
    """A parameter's value that is a word of the shell already, such as ``"$HOME"/'x'``."""

    __slots__ = ()


class Rendered(str):
    """A program's text, with its name and parameters, from which a fake host knows it."""

    name: str
    parameters: Mapping[str, str | int | float | Sequence[str]]


class Program:
    """A shell program of the package: ``Program(__file__, "stop_run.sh")``.

    Of a program in Python, which is sent as the argument of ``python3 -c``, `text` alone is used.

    The file is read when the program is first rendered.
    """

    def __init__(self, module_file: str, name: str) -> None:
        """:param module_file: ``__file__`` of a module in the program's folder."""
        self._folder, self._name = Path(module_file).parent, name
        self._text: str | None = None
        self._parameters: tuple[str, ...] = ()

    def render(self, **parameters: str | int | float | Sequence[str]) -> Rendered:
        """Return the program's text with its parameters assigned before it.

        :raises TypeError: a parameter is missing, or the program does not list it.
        """
        text = self.text
        names = [name.removesuffix("...") for name in self._parameters]
        if set(parameters) != set(names):
            expected, given = sorted(names), sorted(parameters)
            raise TypeError(f"{self._name}: expected the parameters {expected}, got {given}")
        lines = map(_assigned, self._parameters, (parameters[name] for name in names))
        rendered = Rendered("\n".join([*lines, text]))
        rendered.name, rendered.parameters = self._name, parameters
        return rendered

    @property
    def text(self) -> str:
        """The program's lines without comments, its includes in their places."""
        if self._text is None:
            source = (self._folder / self._name).read_text("utf-8")
            found = re.search(_PARAMETERS, source)
            self._parameters = tuple(found.group(1).split()) if found else ()
            self._text = _without_comments(_included(source, self._folder, set()))
        return self._text


def _included(source: str, folder: Path, known: set[Path]) -> str:
    """Return the text with the files that it includes, except those in ``known``."""

    def content(found: re.Match[str]) -> str:
        beside = folder / found.group(1)
        file = (beside if beside.exists() else _HERE / found.group(1)).resolve()
        if file in known:
            return ""
        known.add(file)
        return _included(file.read_text("utf-8"), file.parent, known)

    return re.sub(_INCLUDE, content, source)


def _assigned(parameter: str, value: str | int | float | Sequence[str]) -> str:
    values = [value] if isinstance(value, str | int | float) else value
    if parameter.endswith("..."):
        return " ".join(["set --", *map(_word, values)])
    (one,) = values
    return f"{parameter}={_word(one)}"


def _word(value: str | int | float) -> str:
    return value if isinstance(value, Word) else quote(str(value))


def _without_comments(source: str) -> str:
    lines = (line for line in source.splitlines() if line.strip())
    return "".join(f"{line}\n" for line in lines if not line.lstrip().startswith("#"))


def call(function: str, *values: str | float) -> str:
    """Return a line that calls a shell function with quoted arguments."""
    return " ".join([function, *(quote(str(value)) for value in values)]) + "\n"

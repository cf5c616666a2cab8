"""Faults in Invoke's configuration, reported with the file and line, or with the variable.

Invoke reads its files (``invoke.yaml``) and variables (``INVOKE_…``) before any task; one that it
cannot use ends it with a traceback.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from invoke import Config

from ringtasks.common.text import near_names, printable
from ringtasks.errors import RingtasksError

__all__ = ["NAMES", "fault", "warn_of_unknown_settings"]

_SUFFIXES = (".yaml", ".yml", ".json")
#: The files of a project's settings, the first that exists is read.
NAMES = tuple(f"invoke{suffix}" for suffix in _SUFFIXES)
#: The settings of the section ``ringtasks``.
_SETTINGS = ("inventory",)
_warned: set[str] = set()

#: The names that lead to a setting, the section first.
_Names: TypeAlias = tuple[Any, ...]


def fault() -> str | None:
    """Return the place and the kind of the first fault in the configuration; None: it has none."""
    documents = [("invoke.yaml, by default", Config.global_defaults())]
    for file in _files():
        told, document = _read(file)
        if told is not None:
            return told
        documents.append((str(file), document))
    return _variable_fault(documents)


def warn_of_unknown_settings(given: Iterable[str]) -> None:
    """Print a warning, once, for each unknown setting of the section ``ringtasks``."""
    from ringtasks.output.display import say

    for name in given:
        if name not in _SETTINGS and name not in _warned:
            _warned.add(name)
            near = near_names(str(name), _SETTINGS)
            known = f"did you mean {near[0]}?" if near else f"there is {', '.join(_SETTINGS)}"
            say(f"warning: ringtasks: {name}: is not a setting; {known}")


def _files() -> Iterator[Path]:
    """Yield the files that Invoke may have read, those of the project first."""
    yield from map(Path, _named_files(sys.argv[1:]))
    here = Path.cwd()
    folder = next((f for f in (here, *here.parents) if (f / "tasks.py").exists()), here)
    yield from (folder / name for name in NAMES)
    yield from (Path("~").expanduser() / f".{name}" for name in NAMES)
    yield from (Path("/etc") / name for name in NAMES)
    if runtime := os.environ.get("INVOKE_RUNTIME_CONFIG"):
        yield Path(runtime)


def _named_files(words: Sequence[str]) -> Iterator[str]:
    """Yield the values of ``--config FILE``, in each of its forms."""
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if word in ("-f", "--config"):
            yield following
        elif word.startswith("--config="):
            yield word.partition("=")[2]
        elif word.startswith("-f"):
            yield word[2:].removeprefix("=")


def _read(file: Path) -> tuple[str | None, dict[str, Any]]:
    """Return the fault of a file, if it has one, and its content."""
    if file.suffix not in (*_SUFFIXES, ".py"):
        return f"{file}: expected a file that ends in {', '.join(_SUFFIXES)} or .py", {}
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, {}
    except OSError as error:
        return f"{file}: cannot be read: {error.strerror}", {}
    except UnicodeDecodeError as error:
        return f"{file}: is not UTF-8: {error.reason} at byte {error.start}", {}
    if file.suffix == ".py":
        return None, {}
    try:
        document = (_json if file.suffix == ".json" else _yaml)(file, text)
        _check(file, text, document)
    except _FaultError as error:
        return str(error), {}
    return None, document or {}


class _FaultError(Exception):
    """A file of the configuration cannot be used."""


def _json(file: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise _FaultError(f"{file}:{line}: is not JSON: {printable(str(error))}") from error


def _yaml(file: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = printable(error.problem or "broken")
        raise _FaultError(f"{file}{line}: is not YAML: {problem}") from error
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, int(error.position)) + 1
        raise _FaultError(f"{file}:{number}: is not YAML: {printable(error.reason)}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise _FaultError(f"{file}: is not YAML: {printable(str(error))}") from error


def _check(file: Path, text: str, document: Any) -> None:
    """Refuse a document that Invoke cannot merge with its defaults.

    :raises _FaultError: it is not a mapping of settings with names.
    """
    if not isinstance(document, dict | None):
        found = type(document).__name__
        raise _FaultError(f"{file}: expected a mapping of sections, found {found}")
    defaults = {**Config.global_defaults(), "ringtasks": {"inventory": None}}
    for names, value in _settings(document or {}):
        place = f"{file}{_line(file, text, names)}: {': '.join(map(str, names))}"
        if not isinstance(names[-1], str):
            raise _FaultError(f"{place}: a name is expected: put it in quotes, {str(names[-1])!r}")
        default = _below(defaults, names)
        if isinstance(default, dict) and not isinstance(value, dict):
            raise _FaultError(f"{place}: expected a mapping of settings, found {value!r}")
        if isinstance(value, dict) and not isinstance(default, dict | _Missing):
            raise _FaultError(f"{place}: expected a value, found a mapping")


class _Missing:
    """The default of a setting that Invoke does not know."""


def _below(document: Any, names: Iterable[Any]) -> Any:
    for name in names:
        document = document.get(name, _Missing()) if isinstance(document, dict) else _Missing()
    return document


def _settings(document: dict[Any, Any], above: _Names = ()) -> Iterator[tuple[_Names, Any]]:
    """Yield each setting with the names that lead to it, each section before its settings."""
    for name, value in document.items():
        yield (*above, name), value
        if isinstance(value, dict):
            yield from _settings(value, (*above, name))


def _line(file: Path, text: str, names: _Names) -> str:
    """Return ``:LINE`` of a setting; empty if it cannot be found."""
    from ringtasks.inventory.yaml_lines import LinedMapping, parse_value

    try:
        here = parse_value(str(file), text.encode())
    except RingtasksError:
        return ""
    for name in names[:-1]:
        here = here.get(name) if isinstance(here, dict) else None
    line = here.lines.get(names[-1]) if isinstance(here, LinedMapping) else None
    return "" if line is None else f":{line}"


def _variable_fault(documents: Iterable[tuple[str, dict[str, Any]]]) -> str | None:
    """Return the fault of a variable whose setting the documents have.

    Invoke casts its text to the kind of the value that it replaces.
    """
    known: dict[str, _Names] = {}
    for file, document in documents:
        for names, value in _settings(document):
            if isinstance(value, dict):
                continue
            variable = f"INVOKE_{'_'.join(names)}".upper()
            if known.setdefault(variable, names) != names:
                both = " and ".join(": ".join(each) for each in (known[variable], names))
                return f"{file}: {both} have one variable, {variable}: rename one of them"
            told = _cast_fault(value, os.environ.get(variable))
            if told is not None:
                return f"{variable}: {told} (of {file}): change it there"
    return None


def _cast_fault(value: Any, text: str | None) -> str | None:
    if text is None or isinstance(value, bool | str | None):
        return None
    if isinstance(value, list | tuple):
        return "a variable cannot replace a list"
    try:
        type(value)(text)
    except (TypeError, ValueError):
        return f"expected {type(value).__name__}, got {text!r}"
    return None

"""Faults in the files of Invoke's configuration (``invoke.yaml``), told with file and line.

Invoke reads them before any task, and a file that it cannot read ends it with a traceback.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from invoke import Config

from ringtasks.common.text import near_names, printable

__all__ = ["fault", "warn_of_unknown_settings"]

_NAMES = ("invoke.yaml", "invoke.yml", "invoke.json")
#: The settings of the section ``ringtasks``.
_SETTINGS = ("inventory",)
_warned: set[str] = set()


def fault() -> str | None:
    """Return the place and the kind of the first fault in a file; None: all can be read."""
    return next((told for file in _files() if (told := _fault_of(file)) is not None), None)


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
    words = sys.argv[1:]
    for flag, value in itertools.pairwise(words):
        if flag in ("-f", "--config"):
            yield Path(value)
    here = Path.cwd()
    folder = next((f for f in (here, *here.parents) if (f / "tasks.py").exists()), here)
    yield from (folder / name for name in _NAMES)
    yield from (Path("~").expanduser() / f".{name}" for name in _NAMES)
    yield from (Path("/etc") / name for name in _NAMES)
    if runtime := os.environ.get("INVOKE_RUNTIME_CONFIG"):
        yield Path(runtime)


def _fault_of(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{file}: cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        return f"{file}: is not UTF-8: {error.reason} at byte {error.start}"
    if file.suffix == ".json":
        return _json_fault(file, text)
    return _yaml_fault(file, text)


def _json_fault(file: Path, text: str) -> str | None:
    try:
        return _section_fault(file, json.loads(text))
    except ValueError as error:
        return f"{file}:{getattr(error, 'lineno', 1)}: is not JSON: {printable(str(error))}"


def _yaml_fault(file: Path, text: str) -> str | None:
    import yaml

    try:
        return _section_fault(file, yaml.safe_load(text))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        return f"{file}{line}: is not YAML: {printable(error.problem or 'broken')}"
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, int(error.position)) + 1
        return f"{file}:{line_number}: is not YAML: {printable(error.reason)}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return f"{file}: is not YAML: {printable(str(error))}"


def _section_fault(file: Path, document: Any) -> str | None:
    if not isinstance(document, dict | None):
        return f"{file}: expected a mapping of sections, found {type(document).__name__}"
    sections = {**Config.global_defaults(), "ringtasks": {}}
    for name, default in sections.items():
        given = (document or {}).get(name, default)
        if isinstance(default, dict) and not isinstance(given, dict):
            return f"{file}: {name}: expected a mapping of settings, found {given!r}"
    return None

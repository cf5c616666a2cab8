"""Candidates for a shell's completion, one a line: ``python -m ringtasks.output.candidates LINE``.

A key press waits for it, so it imports neither Invoke nor, as a rule, YAML: the flags of the tasks
come with the shell's script (``ringtasks completion``), the names of the hosts from a cache that is
renewed when a hosts file has changed, and jobs from the last answers of the hosts.  It never asks
a host.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ringtasks.common.atomic_file import replace_file
from ringtasks.common.light_typing import NamedTuple
from ringtasks.common.regular_file import UNUSABLE, read_regular
from ringtasks.errors import RingtasksError

__all__ = ["FILES_STATUS", "candidates", "inventory_of", "main", "project_folder"]

#: Exit status that asks the shell to complete names of files.
FILES_STATUS = 3
_CACHED_INVENTORIES = 16
_INVENTORY = ("--inventory", "-i")
#: Characters that a shell may obey. Names of jobs come from hosts, and the shell puts the word into
#: the command line as it is. A word that begins with "-" would be a flag.
_OBEYED = r"[\s'\"\\$`;&|<>(){}*?#^!]|\A[-~]"


class _Task(NamedTuple):
    """A line of the table: ``NAME POSITIONAL,… FLAG[=KIND] …``; ``-`` for no positionals."""

    positionals: list[str]
    flags: dict[str, str | None]
    """The kind of a flag's value; None: it takes none."""


class _WordPlace(NamedTuple):
    """The place of the word to complete: its kind, or the flags or tasks that may stand there."""

    kind: str = ""
    words: tuple[str, ...] = ()


def candidates(table: str, words: list[str]) -> Iterator[str] | None:
    """Return the words that may replace the last one; None: names of files.

    :param table: the tasks of the program, one a line.
    :param words: the command line up to the cursor, the program first.
    """
    *before, current = words
    prefix = ""
    place = _place(_tasks(table), before[1:], current)
    if current.startswith("--") and "=" in current:
        flag, _, current = current.partition("=")
        prefix = f"{flag}="
    if place.kind in ("file", "text"):
        return None if place.kind == "file" else iter(())
    found = place.words or tuple(_safe(_values(place.kind, inventory_of(before))))
    if not place.words:  # a list of names: complete the last one
        cut = max(map(current.rfind, ",&!")) + 1
        found = tuple(name for name in found if name not in re.split("[,&!]", current[:cut]))
        prefix, current = prefix + current[:cut], current[cut:]
    return (prefix + word for word in found if word.startswith(current))


def _tasks(table: str) -> dict[str, _Task]:
    found = {}
    for line in table.splitlines():
        name, positionals, *flags = line.split()
        pairs = (flag.partition("=") for flag in flags)
        found[name] = _Task(
            [] if positionals == "-" else positionals.split(","),
            {flag: kind if equals else None for flag, equals, kind in pairs},
        )
    return found


def _place(tasks: Mapping[str, _Task], before: list[str], current: str) -> _WordPlace:
    task: _Task | None = None
    awaiting: str | None = None
    positionals: list[str] = []
    for word in before:
        if awaiting is not None:
            awaiting = None
        elif word.startswith("-"):
            awaiting = task.flags.get(word) if task else None
        elif positionals:
            positionals.pop(0)
        elif word in tasks:
            task = tasks[word]
            positionals = list(task.positionals)
    if awaiting is not None:
        return _WordPlace(awaiting)
    if current.startswith("-"):
        flag, equals, _ = current.partition("=")
        flags = task.flags if task else {"--help": None, "--list": None}
        if equals:
            return _WordPlace(flags.get(flag) or "text")
        return _WordPlace(words=(*flags, "--help"))
    if positionals:
        return _WordPlace(positionals[0])
    return _WordPlace(words=tuple(tasks))


def inventory_of(words: Sequence[str]) -> str | None:
    given = [after for flag, after in itertools.pairwise(words) if flag in _INVENTORY]
    return given[-1] if given else os.environ.get("INVOKE_RINGTASKS_INVENTORY")


def _values(kind: str, inventory: str | None) -> list[str]:
    known: dict[str, Callable[[], list[str]]] = {
        "host": lambda: _hosts(inventory),
        "job": lambda: [*_jobs(), "last", "all"],
        "run": lambda: [*_runs(), "last"],
        "plot": lambda: [*_runs(), *_jobs(), "last"],
        "route": _routes,
        "shell": lambda: ["bash", "zsh", "fish"],
    }
    return known[kind]() if kind in known else []


def _safe(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if name.isprintable() and not re.search(_OBEYED, name))


def _routes() -> list[str]:
    from ringtasks.ssh.routes import ROUTE_NAMES

    return list(ROUTE_NAMES)


def _hosts(inventory: str | None) -> list[str]:
    from ringtasks.inventory.files import locate

    beside = project_folder()
    try:
        located = locate(inventory, beside)
        answers = [file for file in (_cache_file().with_name("sources"),) if file.is_dir()]
        files = [*located.files, *located.programs, *answers]
        version = [[str(file.resolve()), *_version(file)] for file in files]
    except (RingtasksError, OSError):
        return []
    known = _cached()
    for entry in known:
        if entry["files"] == version:
            return list(map(str, entry["names"]))
    names = _read(inventory, beside)
    _cache([{"files": version, "names": names}, *known][:_CACHED_INVENTORIES])
    return names


def project_folder() -> Path | None:
    """Return the folder of the ``tasks.py`` that Invoke would find."""
    folders = [Path.cwd(), *Path.cwd().parents]
    return next((folder for folder in folders if (folder / "tasks.py").is_file()), None)


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _read(inventory: str | None, beside: Path | None) -> list[str]:
    from ringtasks.inventory.loader import load_inventory

    try:
        found = load_inventory(inventory, beside=beside, may_fetch=False)
    except RingtasksError:
        return []
    return [*found.hosts, *(f"@{group}" for group in found.groups), "@all"]


def _cached() -> list[dict[str, Any]]:
    try:
        found = json.loads(read_regular(_cache_file()))
        return [entry for entry in found if entry["files"] and isinstance(entry["names"], list)]
    except UNUSABLE:
        return []


def _cache(entries: list[dict[str, Any]]) -> None:
    with suppress(OSError):
        replace_file(_cache_file(), json.dumps(entries), makes_folder=True)


def _cache_file() -> Path:
    from ringtasks.inventory.state_files import state_folder

    return state_folder() / "completion.json"


def _jobs() -> list[str]:
    """Return the names and ids of the jobs of the hosts' last answers; those that ended come last.

    A run is the group of its jobs.
    """
    from ringtasks.inventory.state_files import state_folder

    found: dict[str, dict[str, None]] = {"jobs": {}, "ended": {}}
    for file in sorted((state_folder() / "jobs").glob("*.json")):
        with suppress(*UNUSABLE):
            content = json.loads(read_regular(file))
            for kind, names in found.items():
                for job in content.get(kind, ()):
                    known = (job.get("group"), job.get("name"), job["id"])
                    names.update(dict.fromkeys(filter(None, known)))
    return [name for names in found.values() for name in names if isinstance(name, str)]


def _runs() -> list[str]:
    return sorted((file.parent.name for file in Path("runs").glob("*/run.json")), reverse=True)


def main(line: str) -> int:
    """Print the candidates for the last word of ``line``; return the exit status."""
    try:
        words = shlex.split(line)
    except ValueError:  # within quotes
        return 0
    if not words:
        return 0
    if line[-1:].isspace() or len(words) == 1:
        words.append("")
    found = candidates(os.environ.get("RINGTASKS_COMPLETION_TABLE", ""), words)
    if found is None:
        return FILES_STATUS
    # Bash replaces the end of the word: what follows the last of its word breaks.
    replaced = os.environ.get("RINGTASKS_COMPLETION_WORD", words[-1])
    cut = len(words[-1]) - len(replaced) if words[-1].endswith(replaced) else 0
    for word in dict.fromkeys(found):
        print(word[cut:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

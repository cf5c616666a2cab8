"""The files that an attempt has written: tell them from older ones, and fetch them.

A list of the files is left on the host before the job starts; each file that differs from it
afterwards was written since.  Clocks are not compared, since the files' may not be the host's
(NFS).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ringtasks import transfer
from ringtasks.client.ask import Ask
from ringtasks.client.result import why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import RingtasksError
from ringtasks.remote.globs import matches
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import quoted_path
from ringtasks.transfer import Options
from ringtasks.transfer.patterns import literal

from .files import FileCopyError, TimeLimit, checked
from .records import is_own_name

__all__ = ["Fetched", "fetch_written", "note_files"]

_FOLDER = ".ringtasks/runs"
#: The exit status if there is no list of the older files.
_NO_LIST = 66

_NOTE, _COMPARE = (Program(__file__, name) for name in ("note_outputs.sh", "compare_outputs.sh"))


class Fetched(NamedTuple):
    """One item of ``fetch``: whether it was fetched, and a text for the user."""

    item: str
    is_here: bool
    text: str


class _Match(NamedTuple):
    """A file or folder on the host that matches an item; ``old``: its files of before."""

    name: str
    is_folder: bool
    old: list[str]
    new: list[str]


def note_files(client: SSHClient, cwd: str, items: Sequence[str], key: str) -> None:
    """Write a list of the items' files on the host.

    :param key: the attempt's key.
    :raises FileCopyError: it could not be written.
    """
    result = client.ask(Ask(_script(_NOTE, cwd, items, key)))
    if (why := why_failed(result)) is not None:
        raise FileCopyError(f"{client.config.id}: the files there could not be listed: {why}")


def fetch_written(
    client: SSHClient,
    cwd: str,
    items: Sequence[str],
    key: str,
    folder: Path,
    limit: TimeLimit,
) -> Iterator[Fetched]:
    """Fetch the items' files that were written since `note_files` into ``folder``."""
    result = client.ask(Ask(_script(_COMPARE, cwd, items, key, no_list=_NO_LIST)))
    if (why := why_failed(result)) is not None:
        if result.returncode == _NO_LIST:
            why = "the host has no list of the files that were there before"
        for item in items:
            yield Fetched(item, False, f"{item} was not fetched: {why}")
        return
    for item, found in zip(items, _parsed(result.stdout, len(items)), strict=True):
        yield _fetch(client, cwd, item, found, folder, limit)


def _fetch(
    client: SSHClient,
    cwd: str,
    item: str,
    matches: Sequence[_Match],
    folder: Path,
    limit: TimeLimit,
) -> Fetched:
    wanted = [match for match in matches if match.new or not match.old]
    left = sum(len(match.old) for match in matches)
    if not wanted:
        why = "no file of it was written since the attempt began" if left else "there is none"
        return Fetched(item, False, f"{item} was not fetched: {why}")
    refused = next((match.name for match in wanted if not _is_asked_for(item, match.name)), None)
    if refused is not None:
        return Fetched(item, False, f"{item} was not fetched: the host names {refused!r}: refused")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for match in wanted:
            options = limit.options(Options(exclude=tuple(_excluded(match))))
            place = posixpath.join(cwd, match.name)
            checked(transfer.get(place, folder, [client], options))
    except (FileCopyError, OSError, RingtasksError) as error:
        return Fetched(item, False, f"{item} was not fetched: {error}")
    besides = f", but for {left} files that were there before" if left else ""
    return Fetched(item, True, f"{item} fetched into {folder}{besides}")


def _is_asked_for(item: str, name: str) -> bool:
    """Return whether the host may name ``name`` for the item, and no file of the record has it."""
    asked = posixpath.normpath(item)
    return (name == asked or matches(asked, name)) and not is_own_name(posixpath.basename(name))


def _excluded(match: _Match) -> Iterator[str]:
    """Yield patterns for the older files, relative to the folder."""
    for name in match.old if match.is_folder else ():
        yield f"/{literal(posixpath.relpath(name, match.name))}"


def _script(program: Program, cwd: str, items: Sequence[str], key: str, **parameters: int) -> str:
    return program.render(
        cwd=Word(quoted_path(cwd)),
        list=f"{_FOLDER}/{key}",
        items=[f"./{posixpath.normpath(item)}" for item in items],
        **parameters,
    )


def _parsed(printed: str, count: int) -> list[list[_Match]]:
    """Return the matches of each item; malformed lines are left out."""
    found: list[list[_Match]] = []
    for line in printed.split("\n"):
        kind, _, rest = line.partition(" ")
        if line == "item":
            found.append([])
        elif kind in ("file", "folder") and found:
            found[-1].append(_Match(posixpath.normpath(rest), kind == "folder", [], []))
        elif kind in ("old", "new") and found and found[-1]:
            match, name = found[-1][-1], posixpath.normpath(rest.partition(" ./")[2])
            if not match.is_folder or name.startswith(f"{match.name}/"):
                (match.old if kind == "old" else match.new).append(name)
    return (found + [[] for _ in range(count)])[:count]

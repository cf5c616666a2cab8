"""The files that an attempt has written: tell them from older ones, and fetch them.

A list of the files is left on the host before the job starts; each file that differs from it
afterwards was written since.  Clocks are not compared, since the files' may not be the host's
(NFS).
"""

from __future__ import annotations

import glob
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ringtasks import transfer
from ringtasks.client.ask import Ask
from ringtasks.client.result import why_failed
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.text import printable
from ringtasks.errors import RingtasksError
from ringtasks.remote.globs import matches
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import quoted_path
from ringtasks.transfer import Options
from ringtasks.transfer.patterns import literal

from .files import FileCopyError, TimeLimit, check_answer, checked
from .records import is_own_name

__all__ = ["fetch_written", "note_files"]

_FOLDER = ".ringtasks/runs"
#: The exit status if there is no list of the older files.
_NO_LIST = 66

_NOTE, _COMPARE = (Program(__file__, name) for name in ("note_outputs.sh", "compare_outputs.sh"))


class _Match(NamedTuple):
    """A file or folder on the host that matches an item; ``old``: its files of before."""

    name: str
    is_folder: bool
    old: list[str]
    new: list[str]

    @property
    def is_wanted(self) -> bool:
        """True unless all that it has is older than the attempt."""
        return bool(self.new) or not self.old


def note_files(client: SSHClient, cwd: str, items: Sequence[str], key: str) -> None:
    """Write a list of the items' files on the host.

    :param key: the attempt's key.
    :raises FileCopyError: it could not be written.
    """
    result = client.ask(Ask(_script(_NOTE, cwd, items, key)))
    check_answer(result, f"{client.config.id}: the files there could not be listed")


def fetch_written(
    client: SSHClient,
    cwd: str,
    items: Sequence[str],
    key: str,
    folder: Path,
    limit: TimeLimit,
) -> Iterator[str]:
    """Fetch the items' files that were written since `note_files` into ``folder``.

    Yields a text for the user for each item, and for each match that would replace another one.
    """
    result = client.ask(Ask(_script(_COMPARE, cwd, items, key, no_list=_NO_LIST)))
    if (why := why_failed(result)) is not None:
        if result.returncode == _NO_LIST:
            why = "the host has no list of the files that were there before"
        for item in items:
            yield f"{item} was not fetched: {why}"
        return
    sources: dict[str, str] = {}  # of the names in the folder
    for item, found in zip(items, _parsed(result.stdout, len(items)), strict=True):
        refused = {
            m.name: why for m in found if m.is_wanted and (why := _refusal(m, item, sources))
        }
        yield from (f"{printable(name)} was not fetched: {why}" for name, why in refused.items())
        rest = [match for match in found if match.name not in refused]
        if rest or not refused:
            yield from _fetch(client, cwd, item, rest, folder, limit)


def _fetch(
    client: SSHClient,
    cwd: str,
    item: str,
    matches: Sequence[_Match],
    folder: Path,
    limit: TimeLimit,
) -> Iterator[str]:
    """Fetch the matches of an item; one that cannot be fetched does not keep back the others."""
    wanted = [match for match in matches if match.is_wanted]
    left = sum(len(match.old) for match in matches)
    if not wanted:
        why = "no file of it was written since the attempt began" if left else "there is none"
        yield f"{item} was not fetched: {why}"
    fetched = 0
    for match in wanted:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            options = limit.options(Options(exclude=tuple(_excluded(match))))
            place = glob.escape(posixpath.join(cwd, match.name))
            checked(transfer.get(place, folder, [client], options))
            fetched += 1
        except (FileCopyError, OSError, RingtasksError) as error:
            name = item if len(wanted) == 1 else printable(match.name)
            yield f"{name} was not fetched: {error}"
            if not limit.left or getattr(error, "is_unreachable", False):
                if match is not wanted[-1]:
                    yield f"nor was the rest of {item}"
                break
    besides = f", but for {left} files that were there before" if left else ""
    if fetched:
        yield f"{item} fetched into {folder}{besides}"


def _refusal(match: _Match, item: str, sources: dict[str, str]) -> str:
    """Return why a match is not fetched; empty: it is.

    :param sources: of the files that have their names in the local folder; the match is added.
    """
    name, asked = posixpath.basename(match.name), _pattern(item)
    if match.name != asked and not matches(asked, match.name):
        return f"the host names it for {item!r}: refused"
    if is_own_name(name):
        return "the record of the run has a file of that name: refused"
    source = sources.setdefault(name, match.name)
    return "" if source == match.name else f"it would replace {source}: fetch its folder"


def _pattern(item: str) -> str:
    """Return the pattern of an item; for the run's folder, that of its content."""
    pattern = posixpath.normpath(item)
    return "*" if pattern == "." else pattern


def _excluded(match: _Match) -> Iterator[str]:
    """Yield patterns for the older files, relative to the folder."""
    for name in match.old if match.is_folder else ():
        yield f"/{literal(posixpath.relpath(name, match.name))}"


def _script(program: Program, cwd: str, items: Sequence[str], key: str, **parameters: int) -> str:
    return program.render(
        cwd=Word(quoted_path(cwd)),
        list=f"{_FOLDER}/{key}",
        items=[f"./{_pattern(item)}" for item in items],
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

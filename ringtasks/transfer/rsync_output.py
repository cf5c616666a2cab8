"""Parse the output of rsync (pure).

Source: rsync(1), "--itemize-changes", "--info=progress2", "--stats"; log.c, ``filtered_fwrite``,
for ``\\#012``.
"""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ringtasks.client.result import SSHResult

from .rsync_flags import LINE_MARK

__all__ = [
    "NOT_EMPTY",
    "Change",
    "Meter",
    "RsyncOutput",
    "RsyncResult",
    "parse_change",
    "parse_meter",
    "parse_stat",
]

_CHANGE = re.compile(rf"^{LINE_MARK} (\S+) +([0-9][0-9,]{{0,25}}) (.*)$", re.MULTILINE)
_METER = re.compile(
    r"\s*([0-9,]{1,25})\s+([0-9]{1,3})%\s+([0-9,]{1,15}(?:\.[0-9]{1,5})?)([kMGT]?)B/s"
)
_STAT = re.compile(r"(Total [a-z ]+|Literal data): ([0-9,]{1,25})")
_ESCAPED = re.compile(rb"\\#([0-7]{3})")
#: A name of the source that rsync does not copy; a file at the target that has it stays.
_SKIPPED = re.compile(r'skipping non-regular file "(.*)"\Z', re.DOTALL)
_UNSAFE = re.compile(r'ignoring unsafe symlink "(.*?)" -> ".*"\Z', re.DOTALL)
#: With --debug=DEL2: before it is removed, or makes way for another kind of file.
_REMOVED = re.compile(r"delete_item\((.*)\) mode=([0-7]{1,7}) flags=[0-9]+\Z", re.DOTALL)
#: A folder that holds excluded names. In a dry run, the line that tells its deletion still follows.
_KEPT = re.compile(r"cannot delete non-empty directory: (.*)\Z", re.DOTALL)
_UNITS = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


#: The advice if a folder with content is in the place of a file or a link.
NOT_EMPTY = (
    "a folder that is not empty is in its place: remove it, or let sync do so with --delete, "
    "unless it holds excluded names"
)


class Change(NamedTuple):
    """One change that rsync made, or would make.

    ``kind``: ``sent`` (its content, in either direction), ``deleted``, ``made`` (folders, links,
    renamed files, modes and times), ``replaced`` (a symbolic link to ``link``, in whose place a
    folder is made), ``skipped`` (a pipe, a device, a socket, or a link that leads out of the tree:
    not copied), or ``same`` (no change). ``is_link``: it is a symbolic link.
    """

    kind: str
    name: str
    size_bytes: int
    is_link: bool = False
    link: str = ""

    @property
    def is_copied(self) -> bool:
        """True if the receiving side has the name now."""
        return self.kind in ("sent", "made")


class Meter(NamedTuple):
    """The progress: bytes and percent of the known total, and the rate in bytes a second."""

    done_bytes: int
    percent: int
    rate: float


class RsyncResult(NamedTuple):
    """The result of one pull or push by rsync; true if it did all.

    ``changes`` is in the order in which they were made. ``sent_bytes`` is what this machine
    wrote to the host, ``received_bytes`` what it read; 0 if rsync printed no figures at the end.
    """

    result: SSHResult
    changes: tuple[Change, ...] = ()
    stats: Mapping[str, int] = MappingProxyType({})
    is_missing: bool = False
    """True if our own script found no rsync on the host; nothing was done then."""
    was_killed: bool = False
    """True if the local rsync was killed, and could not put its unfinished files aside."""

    def __bool__(self) -> bool:
        return self.result.success

    @property
    def sent(self) -> list[Change]:
        """The files whose content was copied."""
        return [change for change in self.changes if change.kind == "sent"]

    @property
    def sent_bytes(self) -> int:
        return self.stats.get("Total bytes sent", 0)

    @property
    def received_bytes(self) -> int:
        return self.stats.get("Total bytes received", 0)


class RsyncOutput:
    """The output of rsync so far.

    :param lists: `present` is needed.
    """

    def __init__(
        self,
        on_meter: Callable[[Meter], None] | None = None,
        on_change: Callable[[Change], None] | None = None,
        *,
        lists: bool = False,
    ) -> None:
        self.on_meter, self._on_change, self._lists = on_meter, on_change, lists
        self.changes: list[Change] = []
        self.skipped: list[Change] = []
        self.present: set[str] = set()
        """Each name in the output; a folder's with ``/`` at its end, and without."""
        self.stats: dict[str, int] = {}
        self._removed: dict[str, int] = {}
        """Names that are removed next, with their modes."""
        self._kept: set[str] = set()
        """Folders that hold excluded names, which a dry run still calls deleted."""

    def read(self, text: str) -> None:
        """Read whole lines, the last of which has no line end."""
        found = _CHANGE.findall(text)
        if len(found) > text.count("\n"):  # each line tells a change, as with 20,000 files
            self._add([_change(*fields) for fields in found])
            return
        for line in text.split("\n"):
            self._read_line(line)

    def _read_line(self, line: str) -> None:
        if (change := parse_change(line)) is not None:
            self._add([change])
        elif (figure := parse_stat(line)) is not None:
            self.stats[figure[0]] = figure[1]
        elif (skipped := _SKIPPED.match(line) or _UNSAFE.match(line)) is not None:
            name = _unescaped(skipped[1])
            self.present.add(name)
            self.skipped.append(Change("skipped", name, 0))
        elif (kept := _KEPT.match(line)) is not None:
            self._kept.add(_unescaped(kept[1]))
        elif (removed := _REMOVED.match(line)) is not None:
            self._removed[_unescaped(removed[1])] = int(removed[2], 8)
        elif self.on_meter is not None and (meter := parse_meter(line)) is not None:
            self.on_meter(meter)

    def _add(self, changes: list[Change]) -> None:
        if self._lists:
            names = [change.name for change in changes if change.kind != "deleted"]
            self.present.update(names, [name.rstrip("/") for name in names])
        changes = [change for change in changes if change.kind != "same"]
        if self._kept:
            changes = [change for change in changes if not self._is_kept(change)]
        if self._removed:
            changes = [each for change in changes for each in (*self._cleared(change), change)]
        self.changes += changes
        if self._on_change is not None:
            for change in changes:
                self._on_change(change)

    def _is_kept(self, change: Change) -> bool:
        return change.kind == "deleted" and change.name.rstrip("/") in self._kept

    def _cleared(self, change: Change) -> list[Change]:
        """Return the deletion of a file that a folder replaces, or of a folder that a file does.

        A link is told by itself (`replaced_links`).
        """
        name = change.name.rstrip("/")
        mode = self._removed.pop(name, None)
        if mode is None or not change.is_copied:
            return []
        was_folder, is_folder = stat.S_ISDIR(mode), change.name.endswith("/")
        if was_folder == is_folder or stat.S_ISLNK(mode):
            return []
        return [Change("deleted", f"{name}/" if was_folder else name, 0)]


def parse_change(line: str) -> Change | None:
    """Return the change that a line describes; None if it describes none."""
    found = _CHANGE.fullmatch(line)
    return None if found is None else _change(*found.groups())


def _change(item: str, size: str, name: str) -> Change:
    kind, is_link = _kind(item)
    return Change(kind, _unescaped(name), _whole(size), is_link)


@functools.lru_cache
def _kind(item: str) -> tuple[str, bool]:
    """Return the kind of a change, and whether it is a symbolic link; of rsync's ``%i``."""
    kind = "deleted" if item.startswith("*deleting") else "made"
    if item[0] in "<>" and item[1:2] == "f":
        kind = "sent"
    elif len(item) == 2:  # the type alone; as "cd" for a folder that is equal elsewhere
        kind = "same"
    return kind, item[1:2] == "L"


def parse_meter(line: str) -> Meter | None:
    """Parse a line of ``--info=progress2``."""
    found = _METER.match(line)
    if found is None:
        return None
    done, percent, rate, unit = found.groups()
    in_bytes = float(rate.replace(",", "") or 0) * _UNITS[unit]
    return Meter(_whole(done), int(percent), in_bytes)


def parse_stat(line: str) -> tuple[str, int] | None:
    """Parse a line of ``--stats``: such as ("Total bytes sent", 1234)."""
    found = _STAT.match(line)
    return (found[1], _whole(found[2])) if found else None


def _whole(digits: str) -> int:
    return int(digits.replace(",", "") or 0)


def _unescaped(name: str) -> str:
    """Return the name; rsync prints control characters as ``\\#`` and three octal digits."""
    if "\\#" not in name:  # as with nearly all names
        return name
    raw = name.encode("utf-8", "surrogateescape")
    plain = _ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 255]), raw)
    return plain.decode("utf-8", "surrogateescape")

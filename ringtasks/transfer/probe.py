"""A transfer's facts about the host, read by one request."""

from __future__ import annotations

import re

from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.light_typing import NamedTuple
from ringtasks.remote.answers import disk_space
from ringtasks.remote.paths import above, quoted_pattern
from ringtasks.remote.programs import Program, Word
from ringtasks.remote.script import quoted_path

from .checksums import HASHERS

__all__ = [
    "DANGLING",
    "DENIED",
    "FILE",
    "FOLDER",
    "NOTHING",
    "OTHER",
    "PathProbe",
    "RemotePath",
    "path_probe",
]

FILE, FOLDER, OTHER, NOTHING = "file", "folder", "other", "nothing"
#: It may exist: the user may not look into a folder above it.
DENIED = "denied"
#: A symbolic link that leads nowhere; as a target it counts as nothing.
DANGLING = "dangling"

_PROBE = Program(__file__, "probe.sh")
# Sizes up to a petabyte and times of any file: no file has more digits.
_ITEM = re.compile(
    r"(file|folder|other|denied|dangling)=(?:([0-9]{1,18}) ([0-7]{1,5}) (-?[0-9]{1,11}))?=(.+)",
    re.DOTALL,
)


class RemotePath(NamedTuple):
    """A path on the host as the shell prints it, and its kind.

    For a file also its size, its permissions, and the time of its modification in Unix seconds.
    """

    path: str
    kind: str
    size_bytes: int = 0
    mode: int = 0o600
    modified: int = 0


class PathProbe(NamedTuple):
    """The host's answer; ``result`` holds the reason if there is none.

    ``free_bytes`` None: not known. ``hasher`` empty: it has no program for a SHA-256.
    """

    result: SSHResult
    hasher: str = ""
    kind: str = NOTHING
    parent_kind: str = NOTHING
    free_bytes: int | None = None
    found: tuple[RemotePath, ...] = ()


def path_probe(
    client: SSHClient,
    target: str | None = None,
    sources: str | None = None,
    timeout: float | None = None,
) -> PathProbe:
    """Ask the host for its tools, and for the kind of ``target`` or the matches of ``sources``.

    Both are as `remote.paths.on_host` returns them.

    :param timeout: None: the host's own ``command_timeout``.
    """
    script = _PROBE.render(
        place=Word(quoted_path(target)) if target is not None else "",
        above=Word(quoted_path(above(target))) if target is not None else "",
        sources=[Word(quoted_pattern(sources))] if sources is not None else [],
    )
    return _parsed(client.ask(Ask(script, timeout, "/")))


def _parsed(result: SSHResult) -> PathProbe:
    text = result.stdout_bytes.decode("utf-8", "surrogateescape")
    head, *items = text.split("\0")
    fields = dict(line.partition("=")[::2] for line in head.splitlines())
    found = tuple(_found(item) for item in items)
    hasher = fields.get("hasher", "")
    return PathProbe(
        result,
        hasher=hasher if hasher in HASHERS else "",
        kind=_kind(fields.get("kind", "")),
        parent_kind=_kind(fields.get("above", "")),
        free_bytes=disk_space(fields.get("free", ""))[1],
        found=tuple(item for item in found if item is not None),
    )


def _kind(text: str) -> str:
    return text if text in (FILE, FOLDER, OTHER, DENIED) else NOTHING


def _found(item: str) -> RemotePath | None:
    """Return the parsed item; None: it is not in the script's format."""
    match = _ITEM.fullmatch(item)
    if match is None:
        return None
    kind, size, mode, modified, path = match.groups()
    if size is None:  # stat gave no figures
        return RemotePath(path, kind)
    return RemotePath(path, kind, int(size), int(mode, 8), int(modified))

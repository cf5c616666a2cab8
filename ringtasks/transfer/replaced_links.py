"""Symbolic links of a target whose places folders of the source take, as rsync replaces them.

rsync does not report such a link, which may lead to a volume.  So the host's script looks for links
to folders before it starts rsync; those that rsync then makes a folder of were replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence

from ringtasks.common.local_tree import LocalTree
from ringtasks.remote.script import quote

from .rsync_output import Change

__all__ = ["local_links", "replaced", "search_script", "split"]

_LINK = "link"
#: Length of the command to search in some folders only; a server may limit commands (Dropbear).
_MOST_CHARACTERS = 4000
# Also links that lead nowhere: the volume may not be mounted. The shell of find has its own stdout.
_SEARCH = (
    "find %s -type l -exec /bin/sh -c 'for name do "
    '[ ! -d "$name" ] && [ -e "$name" ] || '
    'printf "%%s %s\\\\0%%s\\\\0%%s\\\\0" "$0" "$name" "$(readlink "$name")" >&3; done\' '
    "%s {} + 3>&2 2>/dev/null </dev/null >/dev/null"
)


def search_script(mark: str, folders: Sequence[str]) -> str:
    """Return a script for the target's folder that prints links on stderr, for `split`.

    :param mark: begins each of them; not to be guessed by another program.
    :param folders: the names of the folders at the top of the source.
    """
    places = " ".join(quote(f"./{name}") for name in folders)
    if len(places) > _MOST_CHARACTERS:
        places = "."
    return _SEARCH % (places, _LINK, quote(mark)) if places else "true"


def split(mark: str, stderr: bytes) -> tuple[dict[str, str], bytes]:
    """Return the links that `search_script` has printed, each with its text, and the rest."""
    pattern = re.compile(re.escape(f"{mark} {_LINK}".encode()) + rb"\0\./([^\0]*)\0([^\0]*)\0")
    found = {os.fsdecode(name): os.fsdecode(text) for name, text in pattern.findall(stderr)}
    return found, pattern.sub(b"", stderr)


def local_links(tree: LocalTree, changes: Iterable[Change]) -> dict[str, str]:
    """Return the links in whose places ``changes`` make folders, each with its text."""
    found = {}
    for name in _folders(changes):
        with contextlib.suppress(OSError):  # it is none
            found[name] = tree.read_link(name)
    return found


def replaced(links: dict[str, str], changes: Iterable[Change]) -> list[Change]:
    """Return the links in whose places ``changes`` make folders."""
    found = [name for name in _folders(changes) if name in links]
    return [Change("replaced", name, 0, link=links[name]) for name in found]


def _folders(changes: Iterable[Change]) -> Iterator[str]:
    return (change.name.rstrip("/") for change in changes if change.name.endswith("/"))

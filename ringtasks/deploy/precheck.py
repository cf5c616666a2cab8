"""The obstacles to a deploy that a host reported (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringtasks.common.text import bounded
from ringtasks.remote.answers import disk_space

from .records import HostState, parse_state

__all__ = ["Precheck", "parse_precheck"]


@dataclass(frozen=True)
class Precheck:
    """State of a host before a deploy, with the obstacles to it.

    ``problems`` would make the deploy fail; ``lacking`` are the shared files that do not exist;
    ``free_bytes`` None: not known.
    """

    state: HostState = field(default_factory=HostState)
    problems: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    free_bytes: int | None = None


def parse_precheck(text: str) -> Precheck:
    """Parse the output of `layout.probe`."""
    said: dict[str, list[str]] = {"problem": [], "lacks": [], "disk": [""]}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in said:
            said[kind].append(bounded(rest))
    _, free_bytes = disk_space(said["disk"][-1])
    return Precheck(parse_state(text), tuple(said["problem"]), tuple(said["lacks"]), free_bytes)

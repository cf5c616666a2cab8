"""The obstacles to a deploy that a host reported (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringtasks.common.text import bounded
from ringtasks.remote.answers import MAX_COUNT, whole

from .records import HostState, parse_state

__all__ = ["Precheck", "parse_survey"]


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


def parse_survey(text: str) -> Precheck:
    """Parse the output of `layout.probe`.

    :raises AnswerError: the free space is not a number.
    """
    said: dict[str, list[str]] = {"problem": [], "lacks": [], "free": []}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in said:
            said[kind].append(bounded(rest))
    told = said["free"][-1] if said["free"] else ""
    free = (
        whole(told, "free space", at_least=-MAX_COUNT, at_most=MAX_COUNT // 1024) if told else None
    )
    return Precheck(
        parse_state(text),
        tuple(said["problem"]),
        tuple(said["lacks"]),
        None if free is None else max(0, free) * 1024,
    )

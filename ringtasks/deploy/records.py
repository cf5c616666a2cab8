"""What a host says of its releases, and what follows from it (pure).

The host is not trusted: what is no name of a release of ours is left out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from ringtasks.common.text import printable

from .locking import Held, parse_held
from .release import is_release

__all__ = ["Event", "HostState", "Kind", "parse_state", "superfluous", "way_back"]


class Kind(str, enum.Enum):
    """What can happen to a release on a host."""

    BUILT = "built"
    SWITCHED = "switched"
    GOOD = "good"
    FAILED = "failed"
    """Its build, restart or check did, or it was put back: nobody goes back to it."""
    LEFT = "left"
    """Rolled back from."""
    UNLOCKED = "unlocked"

    def __str__(self) -> str:
        return self.value


#: What says whether a release is one to go back to; the last of them counts.
_VERDICTS = (Kind.GOOD, Kind.FAILED, Kind.LEFT)


class Event(NamedTuple):
    """A line of the history. ``time`` is UTC by the host's clock, ``release`` may be empty."""

    time: str
    kind: str
    release: str
    revision: str
    who: str
    link: str
    note: str


@dataclass(frozen=True)
class HostState:
    """What is on a host; nothing at all where nothing was deployed."""

    link: str | None = None
    """Where ``current`` leads; not to be trusted."""
    releases: tuple[str, ...] = ()
    """Whole ones, the oldest first."""
    content: str | None = None
    """Of the files that were sent last (`source.Source.content`)."""
    history: tuple[Event, ...] = ()
    held: Held | None = None

    @property
    def current(self) -> str | None:
        """The release that ``current`` leads to."""
        name = (self.link or "").removeprefix("releases/")
        return name if is_release(name) else None

    @property
    def stands_on(self) -> str | None:
        """The same for people: where somebody else has made ``current``, where it leads."""
        return self.current or (printable(self.link) if self.link else None)

    @property
    def revision(self) -> str | None:
        """Of the current release."""
        return self.revision_of(self.current) if self.current else None

    def revision_of(self, release: str) -> str:
        """As the history has it, else what its name tells."""
        own = [event for event in self.history if event.release == release]
        known = [event.revision for event in own if event.revision]
        return known[-1] if known else release.split("-")[1]

    def verdict(self, release: str) -> str | None:
        """The last word on it: good, failed or left; None: there was none."""
        said = [event.kind for event in self.history if event.release == release]
        verdicts = [kind for kind in said if kind in _VERDICTS]
        return verdicts[-1] if verdicts else None

    def is_good(self, release: str) -> bool:
        """It was checked and well, and nothing was held against it since."""
        return self.verdict(release) == Kind.GOOD

    @property
    def drift(self) -> str | None:
        """How what is there differs from what was deployed; None: it does not."""
        switched = [event.release for event in self.history if event.kind == Kind.SWITCHED]
        if self.link and not self.current:
            return f"current leads to {self.stands_on}, which is no release"
        if self.current and self.current not in self.releases:
            return f"current leads to {self.current}, which is not there or not whole"
        if switched and self.current != switched[-1]:
            return f"{switched[-1]} was switched to last, and current is {self.current or 'gone'}"
        return None


def parse_state(text: str) -> HostState:
    """What `layout.state` printed."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        said.setdefault(kind, []).append(rest)
    contents = said.get("content", [])
    return HostState(
        link=said.get("current", [""])[-1] or None,
        releases=tuple(sorted(name for name in said.get("release", []) if is_release(name))),
        content=contents[-1] if contents else None,
        history=tuple(filter(None, map(_event, said.get("history", [])))),
        held=parse_held(text),
    )


def way_back(state: HostState, before: str | None = None) -> str | None:
    """What a rollback goes to: the last that was good and is not ``before``; None: none.

    :param before: what is to be left; None: the current one.
    """
    left = before or state.current
    times: dict[str, int] = {}
    for number, event in enumerate(state.history):
        if event.kind == Kind.GOOD:
            times[event.release] = number
    good = [name for name in state.releases if name != left and state.is_good(name)]
    # What was good after the one that is left was itself rolled back from to it.
    return max(good, key=lambda name: times[name], default=None)


def superfluous(state: HostState, keep: int) -> tuple[str, ...]:
    """Those to remove: never the current one, nor the one that a rollback would go to."""
    needed = {state.current, way_back(state)}
    others = [name for name in state.releases if name not in needed]
    surplus = max(0, len(state.releases) - keep)
    # What failed goes first: nobody will ever go back to it.
    others.sort(key=lambda name: (state.is_good(name), name))
    return tuple(others[:surplus])


def _event(line: str) -> Event | None:
    parts = [printable(part) for part in line.split("\t")]
    if len(parts) != len(Event._fields) or (parts[2] and not is_release(parts[2])):
        return None
    return Event(*parts)

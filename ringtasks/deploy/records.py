"""The releases of a host as it reports them, and the choices that follow from them (pure).

The host is not trusted: names that are not those of ringtasks' releases are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ringtasks.common.text import TextEnum, bounded
from ringtasks.remote.answers import disk_space, lines_by_name

from .locking import LockState, parse_held
from .release import is_release, started

__all__ = [
    "Event",
    "EventKind",
    "HostState",
    "Precheck",
    "parse_precheck",
    "parse_state",
    "superfluous",
    "way_back",
]


class EventKind(TextEnum):
    """Kind of a history line: an event of a release on a host."""

    BUILT = "built"
    SWITCHED = "switched"
    GOOD = "good"
    FAILED = "failed"
    """Its build, restart or check failed, or it was reverted; no rollback goes to it."""
    SUPERSEDED = "superseded"
    """A rollback replaced it."""
    UNLOCKED = "unlocked"


#: The events that decide if a rollback may go to a release; the last of them counts.
_VERDICTS = (EventKind.GOOD, EventKind.FAILED, EventKind.SUPERSEDED)


class Event(NamedTuple):
    """Line of the history. ``time`` is UTC by the host's clock, ``release`` may be empty."""

    time: str
    kind: str
    release: str
    revision: str
    who: str
    link: str
    note: str


@dataclass(frozen=True)
class HostState:
    """State of the deploy path; all fields are empty if nothing was deployed."""

    link: str | None = None
    """The target of ``current``; not to be trusted."""
    releases: tuple[str, ...] = ()
    """The whole releases, the oldest first."""
    content: str | None = None
    """`source.ReleaseSource.content` of the files that were sent last."""
    history: tuple[Event, ...] = ()
    held: LockState | None = None

    @property
    def current(self) -> str | None:
        """The release that ``current`` points to; None: it points to no release."""
        name = (self.link or "").removeprefix("releases/")
        return name if is_release(name) else None

    @property
    def stands_on(self) -> str | None:
        """The current release for display; if ``current`` points elsewhere, its target."""
        return self.current or (bounded(self.link) if self.link else None)

    @property
    def revision(self) -> str | None:
        """The revision of the current release."""
        return self.revision_of(self.current) if self.current else None

    def revision_of(self, release: str) -> str:
        """Return the release's revision from the history, else the short one in its name."""
        own = [event for event in self.history if event.release == release]
        known = [event.revision for event in own if event.revision]
        return known[-1] if known else release.split("-")[1]

    def verdict(self, release: str) -> str | None:
        """Return the last verdict in the history: good, failed or superseded; None: none."""
        said = [event.kind for event in self.history if event.release == release]
        verdicts = [kind for kind in said if kind in _VERDICTS]
        return verdicts[-1] if verdicts else None

    def is_good(self, release: str) -> bool:
        """Return True if the release passed its check and has no later verdict."""
        return self.verdict(release) == EventKind.GOOD

    @property
    def drift(self) -> str | None:
        """The difference between the current release and the last switch; None: there is none."""
        switched = [event.release for event in self.history if event.kind == EventKind.SWITCHED]
        if self.link and not self.current:
            return f"current is a link to {self.stands_on}, which is not a release"
        if self.current and self.current not in self.releases:
            return f"current is a link to {self.current}, which is missing or incomplete"
        if switched and not self.link and self.verdict(switched[-1]) == EventKind.FAILED:
            return f"{switched[-1]} failed, and no release is current"
        if switched and self.current != switched[-1]:
            return f"the last switch was to {switched[-1]}, but current is {self.current or 'gone'}"
        return None


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


def parse_state(text: str) -> HostState:
    """Parse the output of ``state`` in ``layout.sh``."""
    said = lines_by_name(text)
    history = tuple(filter(None, map(_event, said["history"])))
    return HostState(
        link=[None, *said["current"]][-1] or None,
        releases=_by_age(filter(is_release, said["release"]), history),
        content=[None, *said["content"]][-1],
        history=history,
        held=parse_held(text),
    )


def _by_age(releases: Iterable[str], history: Sequence[Event]) -> tuple[str, ...]:
    """Return the releases, the oldest first; the history orders those of the same second."""
    first = {event.release: -number for number, event in enumerate(reversed(history))}
    return tuple(sorted(releases, key=lambda name: (started(name), first.get(name, 1), name)))


def parse_precheck(text: str) -> Precheck:
    """Parse the output of `layout.probe`."""
    said = lines_by_name(text)
    _, free_bytes = disk_space(bounded(["", *said["disk"]][-1]))
    problems, lacking = (tuple(map(bounded, said[kind])) for kind in ("problem", "lacks"))
    return Precheck(parse_state(text), problems, lacking, free_bytes)


def way_back(state: HostState) -> str | None:
    """Return the release that a rollback goes to, the last good one; None: there is none."""
    times: dict[str, int] = {}
    for number, event in enumerate(state.history):
        if event.kind == EventKind.GOOD:
            times[event.release] = number
    good = [name for name in state.releases if name != state.current and state.is_good(name)]
    # A release that was good after the one to leave was itself rolled back to that one.
    return max(good, key=lambda name: times[name], default=None)


def superfluous(state: HostState, keep: int) -> tuple[str, ...]:
    """Return the releases to remove beyond ``keep``.

    The current release and the one that a rollback would go to are never among them.
    """
    needed = {state.current, way_back(state)}
    others = [name for name in state.releases if name not in needed]
    surplus = max(0, len(state.releases) - keep)
    # Failed releases go first: no rollback goes to them.
    others.sort(key=state.is_good)
    return tuple(others[:surplus])


def _event(line: str) -> Event | None:
    parts = [bounded(part) for part in line.split("\t")]
    if len(parts) != len(Event._fields) or (parts[2] and not is_release(parts[2])):
        return None
    if parts[1] == "left":  # in histories of before 0.1
        parts[1] = EventKind.SUPERSEDED.value
    return Event(*parts)

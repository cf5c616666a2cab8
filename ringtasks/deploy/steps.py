"""A rollout's steps on one host as whole scripts, in their order (pure).

A rollout runs these scripts, and ``--dry-run`` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from . import layout, locking
from .records import Kind
from .release import Release
from .settings import DeploySettings
from .source import Source

__all__ = [
    "LEASE",
    "Place",
    "Plan",
    "Step",
    "activation",
    "build",
    "finish",
    "lock",
    "put_back",
    "renew",
    "room",
    "survey",
    "unlock",
]

#: Seconds that a lock lasts without being renewed.
LEASE = 60.0
#: Seconds for a script without users' commands; it may have to look at many files.
OWN_TIMEOUT = 120.0
_CHECK_MARGIN = 15.0


class Place(NamedTuple):
    """Place of the application on one host; ``root`` is a result of `remote.paths.on_host`."""

    host: str
    root: str
    url: str | None = None


@dataclass(frozen=True)
class Plan:
    """Values that all hosts of a rollout have in common.

    ``source`` None: the release is on the hosts already.  ``wait``: seconds to wait for the lock
    of another deploy that is running.  ``secrets`` are variables for the commands; ``conceal``
    removes their values from a text.
    """

    release: Release
    settings: DeploySettings
    token: str
    source: Source | None = None
    wait: float = 0.0
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    conceal: Callable[[str], str] = str

    @property
    def note(self) -> locking.Note:
        """The note in the lock that describes this deploy."""
        release = self.release
        return locking.Note(self.token, release.who, release.host, release.revision, release.link)


class Step(NamedTuple):
    """Step on one host; ``is_users``: it contains users' commands, and is never run twice."""

    name: str
    script: str
    timeout: float = OWN_TIMEOUT
    is_users: bool = False


def survey(plan: Plan, place: Place) -> Step:
    """Return the step that reports the state and the obstacles to a deploy."""
    needs_url = place.url is not None
    return Step("survey", layout.probe(place.root, plan.settings.shared, needs_url=needs_url))


def lock(plan: Plan, place: Place, dead: str = "") -> Step:
    """Return the step that takes the lock and reports the state; ``dead`` as in `acquire`."""
    script = locking.acquire(plan.note, LEASE, dead) + layout.state()
    return Step("lock", layout.inside(place.root, script, makes=True))


def renew(plan: Plan, place: Place) -> Step:
    """Return the step that renews the lock."""
    return Step("renew", _held(plan, place, ""), LEASE / 3)


def room(plan: Plan, place: Place) -> Step:
    """Return the step that makes the host ready for an upload."""
    return Step("upload", _held(plan, place, layout.ready_for_files()))


def build(plan: Plan, place: Place, content: str | None) -> Step:
    """Return the step that builds the release.

    :param content: `Source.content` of the files that were just sent; None: none were.
    """
    settings = plan.settings
    script = layout.took_files(content) if content else ""
    script += layout.build(plan.release, settings.shared, settings.build, is_old=content is None)
    return _users("build", plan, place, script, settings.build_timeout)


def activation(plan: Plan, place: Place, previous: str | None) -> Sequence[Step]:
    """Return the steps that switch to a built release, restart, check and record it as good.

    :param previous: the release that is current before.
    """
    settings, release = plan.settings, plan.release
    why = "" if plan.source else f"rollback from {previous}"
    steps = [Step("switch", _held(plan, place, layout.switch(release, why)))]
    if plan.source and settings.activate:
        script = layout.activate(release, settings.activate)
        steps.insert(0, _users("activate", plan, place, script, settings.build_timeout))
    steps += _confirmation(plan, place)
    good = layout.note(Kind.GOOD, release) + "\n"
    if not plan.source and previous and previous != release.id:
        good += layout.note(Kind.LEFT, release._replace(id=previous, revision="")) + "\n"
    steps[-1] = steps[-1]._replace(script=f"{steps[-1].script}\n{good}")
    return steps


def put_back(plan: Plan, place: Place, link: str | None, why: str) -> Sequence[Step]:
    """Return the steps that revert from a failed release to the one before.

    :param link: the earlier target of ``current``; None: there was none.
    """
    script = layout.put_back(plan.release, link, why)
    undo = Step("put back", _held(plan, place, script))
    again = [step._replace(name=f"{step.name} again") for step in _confirmation(plan, place)]
    return [undo, *(again if link else ())]


def finish(plan: Plan, place: Place, removed: Sequence[str], failed: str | None) -> Step:
    """Return the step that removes old releases and releases the lock.

    If another deploy holds the lock, the script does nothing.

    :param failed: the error before the switch; None: there was none.
    """
    script = layout.prune(removed)
    if failed is not None:
        script = layout.note(Kind.FAILED, plan.release, failed) + "\n" + script
    text = f'[ "$(holder)" = {plan.token} ] || exit 0\n{script}{locking.release(plan.token)}'
    return Step("unlock", layout.inside(place.root, text))


def unlock(plan: Plan, place: Place, reason: str) -> Step:
    """Return the step that removes the lock of any deploy and records the reason."""
    nothing = plan.release._replace(id="", revision="")
    script = f"[ -L lock ] || exit 0\n{layout.note(Kind.UNLOCKED, nothing, reason)}\n"
    return Step("unlock", layout.inside(place.root, script + locking.unlock()))


def _confirmation(plan: Plan, place: Place) -> list[Step]:
    """Return the steps for restart and check, for those that the settings have."""
    settings, steps = plan.settings, []
    if settings.restart:
        script = layout.restart(settings.restart)
        steps.append(_users("restart", plan, place, script, settings.restart_timeout))
    if settings.check or place.url:
        script = layout.check(settings.check, place.url, settings.check_timeout)
        limit = settings.check_timeout + _CHECK_MARGIN
        steps.append(_users("check", plan, place, script, limit))
    return steps


def _users(name: str, plan: Plan, place: Place, script: str, timeout: float) -> Step:
    text = layout.variables(plan.release, place.host) + script
    return Step(name, _held(plan, place, text), timeout, is_users=True)


def _held(plan: Plan, place: Place, script: str) -> str:
    return layout.inside(place.root, locking.holding(plan.token, LEASE) + script)

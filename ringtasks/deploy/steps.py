"""A rollout's steps on one host as whole scripts, in their order (pure).

A rollout runs these scripts, and ``--dry-run`` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ringtasks.remote.programs import call

from . import layout, locking
from .records import EventKind
from .release import Release
from .settings import DeploySettings
from .source import ReleaseSource

__all__ = [
    "ENDED",
    "LEASE",
    "AppFolder",
    "DeployPlan",
    "HostStep",
    "activation",
    "build",
    "finish",
    "lock",
    "precheck",
    "renew",
    "revert",
    "room",
    "unlock",
]

#: Seconds that a lock lasts without being renewed.
LEASE = 60.0
#: Seconds for a script without users' commands; it may have to look at many files.
OWN_TIMEOUT = 120.0
#: The last line that a script with users' commands prints: all of them have succeeded.
ENDED = "ended"
#: Seconds beyond ``check_timeout`` in which a check that fails, and does not hang, tells why.
_CHECK_MARGIN = 1.5


class AppFolder(NamedTuple):
    """Place of the application on one host; ``root`` is a result of `remote.paths.on_host`."""

    host: str
    root: str
    url: str | None = None


@dataclass(frozen=True)
class DeployPlan:
    """Values that all hosts of a rollout have in common.

    ``source`` None: the release is on the hosts already.  ``is_reading``: the hosts are only asked
    for their state.  ``wait``: seconds to wait for the lock of another deploy that is running.
    ``secrets`` are variables for the commands; ``conceal`` removes their values from a text.
    """

    release: Release
    settings: DeploySettings
    token: str
    source: ReleaseSource | None = None
    wait: float = 0.0
    is_reading: bool = False
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    conceal: Callable[[str], str] = str

    @property
    def holder(self) -> locking.LockState:
        """The note in the lock that describes this deploy."""
        release = self.release
        return locking.LockState(
            self.token, release.who, release.host, release.revision, release.link
        )


class HostStep(NamedTuple):
    """Step on one host; ``is_users``: it contains users' commands, and is never run twice.

    ``limit`` is the limit that the settings set, if the script ends by itself when it has passed;
    ``timeout`` is a little longer then.
    """

    name: str
    script: str
    timeout: float = OWN_TIMEOUT
    is_users: bool = False
    limit: float | None = None


def precheck(plan: DeployPlan, place: AppFolder) -> HostStep:
    """Return the step that reports the state and, unless it is only read, the obstacles."""
    shared = () if plan.is_reading else plan.settings.shared
    needs_url = place.url is not None and not plan.is_reading
    script = layout.probe(place.root, shared, writes=not plan.is_reading, needs_url=needs_url)
    return HostStep("precheck", script)


def lock(plan: DeployPlan, place: AppFolder, dead: str = "") -> HostStep:
    """Return the step that takes the lock and reports the state; ``dead`` as in `acquire`."""
    script = locking.acquire(plan.holder, LEASE, dead, place.host) + call("state")
    return HostStep("lock", layout.inside(place.root, script, makes=True))


def renew(plan: DeployPlan, place: AppFolder) -> HostStep:
    """Return the step that renews the lock."""
    return HostStep("renew", _held(plan, place, ""), LEASE / 3)


def room(plan: DeployPlan, place: AppFolder) -> HostStep:
    """Return the step that makes the host ready for an upload."""
    return HostStep("upload", _held(plan, place, call("ready_for_files")))


def build(plan: DeployPlan, place: AppFolder, content: str | None) -> HostStep:
    """Return the step that builds the release.

    :param content: `ReleaseSource.content` of the files that were just sent; None: none were.
    """
    settings = plan.settings
    script = call("took_files", content) if content else ""
    script += layout.build(plan.release, settings.shared, settings.build, is_old=content is None)
    return _users("build", plan, place, script, settings.build_timeout)


def activation(plan: DeployPlan, place: AppFolder, previous: str | None) -> Sequence[HostStep]:
    """Return the steps that switch to a built release, restart, check and record it as good.

    :param previous: the release that is current before.
    """
    settings, release = plan.settings, plan.release
    why = "" if plan.source else f"rollback from {previous}"
    steps = [HostStep("switch", _held(plan, place, layout.switch(release, why)))]
    if plan.source and settings.activate:
        script = layout.activate(release, settings.activate)
        steps.insert(0, _users("activate", plan, place, script, settings.build_timeout))
    steps += _confirmation(plan, place)
    good = layout.note(EventKind.GOOD, release)
    if not plan.source and previous and previous != release.id:
        good += layout.note(EventKind.SUPERSEDED, release._replace(id=previous, revision=""))
    steps[-1] = steps[-1]._replace(script=steps[-1].script + good)
    return steps


def revert(plan: DeployPlan, place: AppFolder, link: str | None, why: str) -> Sequence[HostStep]:
    """Return the steps that revert from a failed release to the one before.

    :param link: the earlier target of ``current``; None: there was none.
    """
    script = layout.revert(plan.release, link, why)
    undo = HostStep("revert", _held(plan, place, script))
    again = [step._replace(name=f"{step.name} again") for step in _confirmation(plan, place)]
    return [undo, *(again if link else ())]


def finish(
    plan: DeployPlan, place: AppFolder, removed: Sequence[str], failed: str | None
) -> HostStep:
    """Return the step that removes old releases and releases the lock.

    If another deploy holds the lock, the script does nothing.

    :param failed: the error before the switch; None: there was none.
    """
    script = call("prune", *removed)
    if failed is not None:
        script = layout.note(EventKind.FAILED, plan.release, failed) + script
    is_ours = f'read_holder || exit 1\n[ "$there" = {plan.token} ] || exit 0\n'
    text = is_ours + script + call("drop", plan.token)
    return HostStep("unlock", layout.inside(place.root, text))


def unlock(plan: DeployPlan, place: AppFolder, reason: str) -> HostStep:
    """Return the step that removes the lock of any deploy and records the reason."""
    nothing = plan.release._replace(id="", revision="")
    script = f"[ -L lock ] || exit 0\n{layout.note(EventKind.UNLOCKED, nothing, reason)}"
    return HostStep("unlock", layout.inside(place.root, script + call("unlock")))


def _confirmation(plan: DeployPlan, place: AppFolder) -> list[HostStep]:
    """Return the steps for restart and check, for those that the settings have."""
    settings, steps = plan.settings, []
    if settings.restart:
        script = call("restart", settings.restart)
        steps.append(_users("restart", plan, place, script, settings.restart_timeout))
    if settings.check or place.url:
        limit = settings.check_timeout
        script = layout.check(settings.check, place.url, limit, settings.check_status)
        limit = settings.check_timeout + _CHECK_MARGIN
        step = _users("check", plan, place, script, limit)
        steps.append(step._replace(limit=settings.check_timeout))
    return steps


def _users(name: str, plan: DeployPlan, place: AppFolder, script: str, timeout: float) -> HostStep:
    text = f"{layout.variables(plan.release, place.host)}{script}echo {ENDED}\n"
    return HostStep(name, _held(plan, place, text), timeout, is_users=True)


def _held(plan: DeployPlan, place: AppFolder, script: str) -> str:
    return layout.inside(place.root, call("hold", plan.token, round(LEASE)) + script)

"""Make the plan and the targets of a rollout from settings and hosts."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from secrets import token_hex

from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.common.redaction import masking
from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.model import HostConfig
from ringtasks.remote.paths import on_host

from .records import EventKind, HostState, way_back
from .release import Release, new_id
from .rollout import RolloutObserver
from .settings import DeploySettings
from .source import ReleaseSource
from .steps import AppFolder, DeployPlan
from .target import StepOutcome, Target

__all__ = [
    "chosen_release",
    "going_to",
    "looked_at",
    "new_plan",
    "place_of",
    "secrets_of",
    "targets_of",
]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def new_plan(
    settings: DeploySettings,
    source: ReleaseSource | None,
    *,
    who: str,
    link: str = "",
    wait: float = 0.0,
    secrets: Mapping[str, str] | None = None,
) -> DeployPlan:
    """Return the plan of a new release, named for the current time.

    :param source: the release's files; None: no release is made, the plan is for looking only.
    :param secrets: variables for the commands; their values are concealed in output.
    """
    revision = source.revision if source else ""
    token = token_hex(8)
    return DeployPlan(
        release=Release(
            new_id(revision, time.time(), token), revision, who, socket.gethostname(), link
        ),
        settings=settings,
        token=token,
        source=source,
        wait=wait,
        secrets=secrets or {},
        conceal=masking((secrets or {}).values()),
    )


def secrets_of(settings: DeploySettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that ``secrets`` names, with their values.

    :raises UsageError: a variable is not set.
    """
    names = settings.secrets
    for name in names:
        if name not in environ:
            raise UsageError(f"deploy: secrets: {name}: is not set on this machine")
    return {name: environ[name] for name in names}


def going_to(plan: DeployPlan, release_id: str, revision: str) -> DeployPlan:
    """Return the plan, changed to a release that is on the hosts already."""
    return replace(
        plan, source=None, release=plan.release._replace(id=release_id, revision=revision)
    )


@contextmanager
def targets_of(
    hosts: Sequence[HostConfig], plan: DeployPlan, watcher: RolloutObserver
) -> Iterator[list[Target]]:
    """Yield a target for each host; on exit their connections are closed.

    :raises UsageError: a path has a placeholder for which a host has no value.
    """
    with ExitStack() as stack:
        targets = []
        for host in hosts:
            config = SSHConfig.from_host_config(host)
            client = stack.enter_context(SSHClient(config))
            targets.append(Target(client, place_of(host, config, plan.settings), plan, watcher))
        yield targets


def place_of(host: HostConfig, config: SSHConfig, settings: DeploySettings) -> AppFolder:
    """Return the application's place on a host.

    :raises UsageError: the host has no value for a placeholder.
    """
    known = {"host": host.name, "address": config.host, **host.facts}
    root = _filled("path", settings.path, known)
    url = settings.check_url and _filled("check_url", settings.check_url, known)
    return AppFolder(host.name, on_host(config, root).rstrip("/"), url)


def looked_at(targets: Sequence[Target]) -> Sequence[tuple[Target, StepOutcome]]:
    """Check all targets; return each with its outcome, in the order of ``targets``."""
    found = dict(each(targets, Target.look))
    return [(target, found[target]) for target in targets]


def chosen_release(states: Mapping[str, HostState], wanted: str | None) -> str:
    """Return the release to which all hosts roll back.

    :param states: the hosts' states by their names.
    :param wanted: its id, or the beginning of its revision; None: the last good one.
    :raises UsageError: there is no such release, it differs between hosts, or it has failed.
    """
    chosen = {
        host: way_back(state) if wanted is None else _wanted(host, state, wanted)
        for host, state in states.items()
    }
    for host, release in chosen.items():
        if release is None:
            raise UsageError(f"{host}: there is no earlier good release")
    if len(set(chosen.values())) > 1:
        told = "; ".join(f"{host}: {release}" for host, release in chosen.items())
        raise UsageError(
            f"the hosts would go back to different releases: {told}; choose a release "
            "by --to, or hosts by --host"
        )
    return next(release for release in chosen.values() if release is not None)


def _wanted(host: str, state: HostState, wanted: str) -> str:
    found = [
        name
        for name in state.releases
        if name == wanted or state.revision_of(name).startswith(wanted)
    ]
    if not found:
        known = ", ".join(state.releases) or "none"
        raise UsageError(f"--to {wanted}: {host} has no such release; it has: {known}")
    usable = [name for name in found if state.verdict(name) != EventKind.FAILED]
    if not usable:
        raise UsageError(f"--to {wanted}: it failed on {host}; choose a release that succeeded")
    return usable[-1]


def _filled(field: str, text: str, known: Mapping[str, object]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise UsageError(
                f"deploy: {field}: {known['host']}: the host has no fact {match[0]}: "
                "add it in the hosts file"
            )
        return str(known[match[1]])

    return _PLACEHOLDER.sub(value, text)

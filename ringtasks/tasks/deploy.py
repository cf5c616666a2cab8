"""``inv deploy`` and its related tasks: deploy releases by the ``deploy`` settings; roll back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from invoke import Context

from ringtasks.errors import UsageError

from .core_flags import command_timeout, ended, is_dry
from .options import HOST_HELP, number, selected, task
from .sections import settings_section

if TYPE_CHECKING:
    from ringtasks.deploy.report import DeployReport
    from ringtasks.deploy.settings import DeploySettings
    from ringtasks.inventory.model import HostConfig

__all__ = ["check", "releases", "rollback", "run", "status", "unlock"]

_HOSTS_HELP = HOST_HELP + " (default: the settings' hosts)"
_ROLLOUT_HELP = {
    "host": _HOSTS_HELP,
    "serial": "hosts to switch at once: 2 or 25%",
    "max-failures": "stop after N hosts, or N%, have failed (default: 1)",
    "revert": "revert hosts if it fails (--no-revert leaves them)",
    "wait": "seconds to wait for another deploy to end (default: 0)",
    "dry-run": "change nothing: show hosts, routes, scripts and what would be removed",
    "junit": "write a JUnit report to this file",
    "verbose": "show the output of the commands while they run; with --dry-run, whole scripts",
}
_LOOK_HELP = {"host": _HOSTS_HELP}


@task(
    help={
        **_ROLLOUT_HELP,
        "ref": "git revision (default: the settings' ref, else HEAD)",
        "diff": "change nothing: show the commits and files that a deploy would change",
    }
)
def run(
    c: Context,
    host: str | None = None,
    ref: str | None = None,
    serial: str | int | None = None,
    max_failures: str | int | None = None,
    revert: bool = True,
    wait: str | float = "0",
    dry_run: bool = False,
    diff: bool = False,
    junit: str | None = None,
    verbose: bool = False,
    json: bool = False,
    inventory: str | None = None,
) -> DeployReport | list[dict[str, Any]]:
    """Deploy a release: upload, build, switch, restart, check; or revert all hosts."""
    from . import deploy_rollout

    settings = _settings(c, host, ref, serial, max_failures, revert=revert)
    hosts = selected(c, settings.hosts, inventory)
    if is_dry(c):
        from . import deploy_plan

        return deploy_plan.plan_deploy(settings, hosts, json=json)
    if diff:
        from . import deploy_diff

        return ended(c, *deploy_diff.diff(settings, hosts, json=json))
    flags = deploy_rollout.Flags(_seconds(wait), junit, dry_run, verbose, json)
    return ended(c, *deploy_rollout.deploy(settings, hosts, flags))


@task(
    help={
        **_ROLLOUT_HELP,
        "to": "a release, or the beginning of its revision (default: the last good release)",
    }
)
def rollback(
    c: Context,
    host: str | None = None,
    to: str | None = None,
    serial: str | int | None = None,
    max_failures: str | int | None = None,
    revert: bool = True,
    wait: str | float = "0",
    dry_run: bool = False,
    junit: str | None = None,
    verbose: bool = False,
    json: bool = False,
    inventory: str | None = None,
) -> DeployReport | list[dict[str, Any]]:
    """Roll back to the previous release, or to another good one; never to a failed one."""
    from . import deploy_rollout

    if to is not None and not to.strip():  # an unset variable of the shell, for example
        raise UsageError("--to: expected a release or the beginning of its revision")
    settings = _settings(c, host, None, serial, max_failures, revert=revert)
    hosts = selected(c, settings.hosts, inventory)
    if is_dry(c):
        from . import deploy_plan

        return deploy_plan.plan_rollback(settings, hosts, to, json=json)
    flags = deploy_rollout.Flags(_seconds(wait), junit, dry_run, verbose, json)
    return ended(c, *deploy_rollout.rollback(settings, hosts, to, flags))


@task(help=_LOOK_HELP)
def check(
    c: Context, host: str | None = None, json: bool = False, inventory: str | None = None
) -> list[dict[str, Any]]:
    """Check whether a deploy would work; changes nothing."""
    from . import deploy_state

    return _look(c, deploy_state.check, host, inventory, json=json)


@task(help=_LOOK_HELP)
def status(
    c: Context, host: str | None = None, json: bool = False, inventory: str | None = None
) -> list[dict[str, Any]]:
    """Show the revision that each host runs; exit status 1 if it is not the deployed one."""
    from . import deploy_state

    return _look(c, deploy_state.status, host, inventory, json=json)


@task(help=_LOOK_HELP)
def releases(
    c: Context, host: str | None = None, json: bool = False, inventory: str | None = None
) -> list[dict[str, Any]]:
    """Show the releases of each host and their outcomes."""
    from . import deploy_state

    return _look(c, deploy_state.releases, host, inventory, json=json)


@task(
    help={
        "host": _HOSTS_HELP,
        "reason": "reason, written to the history of each host",
    }
)
def unlock(
    c: Context,
    host: str | None = None,
    reason: str | None = None,
    inventory: str | None = None,
) -> dict[str, str]:
    """Remove the lock of a deploy that has ended; one that still runs notices, and stops."""
    from . import deploy_state

    if not reason or not reason.strip():
        raise UsageError("--reason is required: it is kept in the history of each host")
    settings, hosts = _looked_for(c, host, inventory)
    if is_dry(c):
        from . import deploy_plan

        deploy_plan.plan_unlock(settings, hosts, reason)
        return {}
    return ended(c, *deploy_state.unlock(settings, hosts, reason))


def _look(
    c: Context,
    look: Callable[..., tuple[list[dict[str, Any]], int]],
    host: str | None,
    inventory: str | None,
    *,
    json: bool,
) -> list[dict[str, Any]]:
    """Show the state of the hosts by a function of `deploy_state`, or the plan."""
    settings, hosts = _looked_for(c, host, inventory)
    if is_dry(c):
        from . import deploy_plan

        return deploy_plan.plan_look(settings, hosts, json=json)
    return ended(c, *look(settings, hosts, json=json))


def _looked_for(
    c: Context, host: str | None, inventory: str | None
) -> tuple[DeploySettings, list[HostConfig]]:
    settings = _settings(c, host)
    return settings, selected(c, settings.hosts, inventory)


def _settings(
    c: Context,
    host: str | None,
    ref: str | None = None,
    serial: str | int | None = None,
    max_failures: str | int | None = None,
    *,
    revert: bool = True,
) -> DeploySettings:
    from ringtasks.deploy.settings import parse

    section = settings_section(c, "deploy")
    limit = command_timeout(c)
    if limit is not None:
        for name in ("build_timeout", "restart_timeout"):
            section.setdefault(name, limit)
    return parse(
        section,
        hosts=host,
        ref=ref,
        serial=serial,
        max_failures=max_failures,
        revert=None if revert else False,
    )


def _seconds(wait: str | float) -> float:
    return number("--wait", wait, at_least=0) or 0.0

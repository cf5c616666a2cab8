"""Try every route of a host: log in, run ``true``, and report the latency or the failure.

If a control master keeps a route's connection open, the route is tried over that connection, unless
a fresh log-in is asked for.  A host may still answer over an old connection while it refuses every
new log-in: its disk is full, its sshd has ended, or the key was removed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ringtasks.common.text import bounded, printable
from ringtasks.errors import (
    OtherProgramError,
    Reason,
    RouteError,
    UnreachableError,
    UsageError,
)
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.remote.script import Script
from ringtasks.ssh.evaluated_config import settings_of
from ringtasks.ssh.execution import Execution, ExecutionOptions
from ringtasks.ssh.failure_table import Classified
from ringtasks.ssh.link import Link, LinkLostError, NotStartedError
from ringtasks.ssh.link_pool import LinkPool, RouteReport
from ringtasks.ssh.merged_settings import with_ssh_settings
from ringtasks.ssh.routes import Route, routes_of

from .refused_channel import NoChannelError, advise_on_gateway

__all__ = ["Probe", "is_alive_by_old_only", "is_reached", "probe"]

_MAX_THREADS = 64
#: Reasons of a host that answered and refused the log-in.
_LOG_IN_REFUSED = {Reason.AUTHENTICATION, Reason.HOST_KEY, Reason.OTHER_PROGRAM}


@dataclass(frozen=True)
class Probe:
    """One route of one host; ``latency_ms`` is the time of the log-in, None if it failed.

    If ``is_old`` is set, it is the time of a command over a connection that was open before.
    ``fault`` is the error of a configuration that cannot be used; nothing was sent.
    """

    host: str
    route: str
    address: str
    latency_ms: float | None
    failure: RouteError | None = None
    is_old: bool = False
    fault: str | None = None


def probe(configs: Sequence[SSHConfig], *, fresh: bool = False) -> list[Probe]:
    """Try every route of every host at the same time; record each host once in the health file.

    :param fresh: log in anew over every route. If no route of a host works, but an open connection
        still does, that is added to the host's probes with ``is_old``: it does not count for the
        host's health.
    :returns: the probes, in the order of ``configs`` and of their routes.
    """
    served = [_served(config) for config in configs]
    attempt = _try_anew if fresh else _try
    started = time.time()
    found = _tried(served, attempt)
    found |= _tried([c for c in served if _has_moved(c, found[c.id], started)], attempt)
    tried = {host: [p for p in own if p.fault is None] for host, own in found.items()}
    HealthStore().record([_outcome(host, own) for host, own in tried.items() if own])
    for config in served:
        own = found[config.id]
        if fresh and all(p.latency_ms is None for p in own):
            old = _try_old(config)
            own += [old] if old else []
        elif not fresh and is_alive_by_old_only(own):
            found[config.id] = _with_log_in(config, own)
    return [each for own in found.values() for each in own]


def is_reached(probes: Sequence[Probe]) -> bool:
    """Return True if a route of the host works, and not an old connection alone."""
    return any(p.latency_ms is not None for p in probes) and not is_alive_by_old_only(probes)


def is_alive_by_old_only(probes: Sequence[Probe]) -> bool:
    """Return True if log-ins were tried now and refused, while an old connection works."""
    if any(p.latency_ms is not None for p in probes if not p.is_old):
        return False
    old = {p.route for p in probes if p.is_old}
    # A route without an answer proves nothing about log-ins, unless the old connection uses it.
    return bool(old) and any(
        p.failure is not None and (p.route in old or p.failure.reason in _LOG_IN_REFUSED)
        for p in probes
    )


def _with_log_in(config: SSHConfig, probes: Sequence[Probe]) -> list[Probe]:
    """Log in over the route of the old connection, too: another one refused the log-in."""
    [old] = (p for p in probes if p.is_old)
    [route] = (r for r in routes_of(config, os.environ) if r.name == old.route)
    anew = _try_anew((config, route))
    others = [p for p in probes if p is not old]
    return [*others, anew] if anew.latency_ms is not None else [*others, anew, old]


def _tried(
    configs: Sequence[SSHConfig], attempt: Callable[[tuple[SSHConfig, Route]], Probe]
) -> dict[str, list[Probe]]:
    """Try every route of every host at the same time; return the probes of each host."""

    def guarded(way: tuple[SSHConfig, Route]) -> Probe:
        try:
            return attempt(way)
        except UsageError as error:
            config, route = way
            return Probe(config.id, route.name, route.address, None, fault=str(error))

    ways = [(config, route) for config in configs for route in routes_of(config, os.environ)]
    found: dict[str, list[Probe]] = {config.id: [] for config in configs}
    with ThreadPoolExecutor(min(_MAX_THREADS, max(1, len(ways)))) as pool:
        for tried in pool.map(guarded, ways):
            found[tried.host].append(tried)
    return found


def _has_moved(config: SSHConfig, probes: Sequence[Probe], started: float) -> bool:
    """Ask the sources of a host that no route reaches where it is now."""
    if not config.inventory_files or any(p.latency_ms is not None or p.fault for p in probes):
        return False
    from ringtasks.inventory.relocation import relocate

    return relocate(config, started)


def _served(config: SSHConfig) -> SSHConfig:
    if not config.embedded:
        return config
    from ringtasks.ssh.embedded.server import serve

    return serve(config)


def _try(way: tuple[SSHConfig, Route]) -> Probe:
    config, route = way
    return _try_old(config, route.name) or _try_anew(way)


def _try_old(config: SSHConfig, route: str | None = None) -> Probe | None:
    """Return the probe of a command over the control master; None if that does not work.

    :param route: the route that the master must use; None: any.
    """
    if not config.use_control_master or config.embedded:
        return None
    from ringtasks.ssh.master.lookup import find

    started = time.monotonic()
    try:
        link = find(config)
        if link is None:
            return None
        with contextlib.closing(link):
            if route not in (None, link.route) or _fault(link, config):
                return None
    except LinkLostError:
        return None
    latency_ms = round((time.monotonic() - started) * 1000, 1)
    return Probe(config.id, link.route, link.master.address, latency_ms, is_old=True)


def _fault(link: Link, config: SSHConfig) -> Classified | None:
    """Return the fault of a host that accepted the log-in; None if it runs ``true``.

    :raises LinkLostError: the link failed, or the host refuses to start the program.
    """
    options = ExecutionOptions(host=config.id)
    execution = Execution(Script("true", is_own=True), lambda *_: None, options)
    ending = execution.run(link, config.connect_timeout)
    if ending.unproven is not None:
        other = OtherProgramError("", bounded(ending.unproven), ending.status)
        advise_on_gateway(other, has_terminal=False)
        return Classified(Reason.OTHER_PROGRAM, other.what, other.advice)
    if ending.lost is not None:
        return Classified(Reason.LINK_LOST, ending.lost)
    if ending.timed_out:
        return Classified(Reason.TIMED_OUT, "logged in, but 'true' did not end")
    if ending.status != 0:
        told = ending.unknown or f"'true' ended with {ending.status}"
        return Classified(Reason.OTHER_PROGRAM, told)
    return None


def _address_of(config: SSHConfig, route: Route) -> str:
    """Return the address that is dialled: ssh's files may give another name or port."""
    settled = with_ssh_settings(config, settings_of(config))
    found = (r.address for r in routes_of(settled, os.environ) if r.name == route.name)
    return next(found, route.address)


def _try_anew(way: tuple[SSHConfig, Route]) -> Probe:
    config, route = way
    address = _address_of(config, route)
    started = time.monotonic()
    try:
        with LinkPool(config, route.name).fresh_link(RouteReport()) as link:
            latency_ms = round((time.monotonic() - started) * 1000, 1)
            fault = _fault(link, config)
    except UnreachableError as error:
        failure = error.failures[0] if error.failures else None
        return Probe(config.id, route.name, address, None, failure)
    except NotStartedError as error:
        refused = NoChannelError(config.id, error.request, printable(str(error)))
        fault = Classified(Reason.OTHER_PROGRAM, refused.evidence, refused.advice)
    except LinkLostError as error:
        fault = Classified(Reason.LINK_LOST, str(error))
    if fault is not None:
        failure = RouteError(
            config.id,
            route.name,
            fault.reason,
            fault.evidence,
            address=address,
            advice=fault.advice,
        )
        return Probe(config.id, route.name, address, None, failure)
    return Probe(config.id, route.name, address, latency_ms)


def _outcome(host: str, probes: Sequence[Probe]) -> HostOutcome:
    routes = tuple(
        RouteOutcome(
            p.route,
            # The route leads to the host, even if the host runs another program.
            success=p.latency_ms is not None or _is_other_program(p),
            reason=str(p.failure.reason) if p.failure and not _is_other_program(p) else "",
        )
        for p in probes
    )
    success = any(route.success for route in routes)
    reason = "" if success else "; ".join(f"{r.route}: {r.reason}" for r in routes)
    return HostOutcome(host, success=success, reason=reason, routes=routes)


def _is_other_program(probe: Probe) -> bool:
    return probe.failure is not None and probe.failure.reason is Reason.OTHER_PROGRAM

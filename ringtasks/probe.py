"""Trying every route of a host: log-in included, latency or why not."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from .config import SSHConfig
from .connection import Connection
from .errors import RouteError, UnreachableError
from .health import Outcome, RouteOutcome
from .health_store import HealthStore
from .routes import Route, routes_of

__all__ = ["Probe", "probe"]

_MAX_THREADS = 64


@dataclass(frozen=True)
class Probe:
    """One route of one host; ``latency_ms`` is the time to be logged in, None where it failed."""

    host: str
    route: str
    address: str
    latency_ms: float | None
    failure: RouteError | None = None


def probe(configs: Sequence[SSHConfig]) -> list[Probe]:
    """Every route of every host, tried at the same time; recorded in the health file, once a host.

    In the order of ``configs`` and of their routes.

    :raises UsageError: a configuration that cannot be used.
    """
    served = [_served(config) for config in configs]
    ways = [(config, route) for config in served for route in routes_of(config, os.environ)]
    with ThreadPoolExecutor(min(_MAX_THREADS, max(1, len(ways)))) as pool:
        probes = list(pool.map(_try, ways))
    HealthStore().record([_outcome(config.id, probes) for config in served])
    return probes


def _served(config: SSHConfig) -> SSHConfig:
    if not config.embedded:
        return config
    from .demo import serve

    return serve(config)


def _try(way: tuple[SSHConfig, Route]) -> Probe:
    config, route = way
    config = replace(config, use_control_master=False)
    connection = Connection(config, transport=route.name, report=lambda _: None)
    started = time.monotonic()
    try:
        connection.open()
    except UnreachableError as error:
        failure = error.failures[0] if error.failures else None
        return Probe(config.id, route.name, route.address, None, failure)
    latency_ms = round((time.monotonic() - started) * 1000, 1)
    connection.close()
    return Probe(config.id, route.name, route.address, latency_ms)


def _outcome(host: str, probes: Sequence[Probe]) -> Outcome:
    own = [p for p in probes if p.host == host]
    routes = tuple(
        RouteOutcome(
            p.route,
            success=p.latency_ms is not None,
            reason=str(p.failure.reason) if p.failure else "",
        )
        for p in own
    )
    is_reached = any(route.success for route in routes)
    reason = "" if is_reached else "; ".join(f"{r.route}: {r.reason}" for r in routes)
    return Outcome(host, success=is_reached, reason=reason, routes=routes)

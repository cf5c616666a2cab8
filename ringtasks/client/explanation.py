"""The routes to a host in their present order with reasons, and its settings with origins.

Nothing is sent, and nothing is recorded; a link for ``ssh`` to a former place is removed.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ringtasks.common.durations import ago, lasting
from ringtasks.errors import HostKeyError, UsageError
from ringtasks.health.model import HOST_CIRCUIT, ROUTE_CIRCUIT, SSHHealth, order_routes
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.model import SETTINGS, HostConfig
from ringtasks.inventory.state_files import known_hosts_file
from ringtasks.ssh.evaluated_config import NO_SETTINGS, HostSettings, settings_of
from ringtasks.ssh.master.lookup import drop_stale_link, usable_master
from ringtasks.ssh.master.records import Master
from ringtasks.ssh.merged_settings import with_ssh_settings
from ringtasks.ssh.pins import KnownHosts
from ringtasks.ssh.rehearsal import planned
from ringtasks.ssh.routes import routes_of
from ringtasks.ssh.settings_files import files_of, text_of
from ringtasks.ssh.ssh_command import ssh_command

__all__ = ["Explanation", "RouteReason", "Setting", "explain"]

#: A setting of the inventory, the keyword of ssh_config(5) that may set it, and its default.
_BOTH = (
    ("ssh_host", "hostname", ""),
    ("ssh_port", "port", "22"),
    ("ssh_user", "user", "the local user"),
    ("ssh_key", "identityfile", "the agent and ssh's usual key files"),
    ("proxy_jump", "proxyjump", "none"),
    ("connect_timeout", "connecttimeout", "10"),
    ("address_family", "addressfamily", "any"),
    ("bind_address", "bindaddress", "none"),
)
_SECRET = "***"  # noqa: S105  # shown in place of one
_TRACKED = {name for name, _, _ in _BOTH}


@dataclass(frozen=True)
class RouteReason:
    """One route, in the order of the attempts.

    ``state`` is that of the route's circuit; ``ssh`` is a command for a shell, which logs in by
    itself, not over a master.
    """

    route: str
    address: str
    state: str
    reason: str
    ssh: str
    last_success: float | None
    last_failure: float | None
    last_reason: str
    retry_at: float | None
    """Unix seconds at which its back-off ends; None: it has none."""
    rehearsed: str
    """The failures that the rehearsal in force has for it; empty: none."""


@dataclass(frozen=True)
class Setting:
    """The value of a setting in use, and the place that sets it."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Explanation:
    """The way to one host."""

    host: str
    state: str
    """That of the host's circuit."""
    routes: tuple[RouteReason, ...]
    settings: tuple[Setting, ...]
    master: Master | None
    """The connection that the next command uses; then no route is dialled."""
    former_master: Master | None
    """The connection over other routes or with other pins that ``ssh`` would have used until now,
    through the link that `explain` has removed."""
    pins: tuple[str, ...]
    """The accepted host keys."""
    pinned_by: str
    absence: str = ""
    """The reason why a source has no present address for the host, which has one of a file."""


def explain(config: SSHConfig, entry: HostConfig) -> Explanation:
    """Return the routes and settings of a host.

    :param entry: the host's entry in the inventory.
    :raises UsageError: the host cannot be used.
    """
    if config.fault is not None:
        raise UsageError(config.fault)
    now = time.time()
    health = HealthStore().get(config.id)
    told = NO_SETTINGS if config.embedded else settings_of(config)
    in_use = config if config.embedded else with_ssh_settings(config, told)
    return Explanation(
        config.id,
        HOST_CIRCUIT.state_at(health, now),
        tuple(_routes(config, in_use, health, now, entry)),
        tuple(_settings(config, entry, told)),
        None if config.embedded else usable_master(config),
        None if config.embedded else drop_stale_link(config),
        *_pins(config, entry),
        entry.absence,
    )


def _routes(
    config: SSHConfig, in_use: SSHConfig, health: SSHHealth, now: float, entry: HostConfig
) -> Iterator[RouteReason]:
    routes = {} if config.embedded else {r.name: r for r in routes_of(in_use, os.environ)}
    for name in order_routes(list(routes), health.transports, now):
        known = health.transports.get(name, SSHHealth())
        retry_at = ROUTE_CIRCUIT.recovers_at(known)
        rehearsed = planned(config.id, name)
        marked = f"; REHEARSAL: {rehearsed}" if rehearsed else ""
        yield RouteReason(
            name,
            routes[name].address,
            ROUTE_CIRCUIT.state_at(known, now),
            _reason(known, now) + _outdated(known, entry) + marked,
            shlex.join(ssh_command(config, routes[name])),
            known.last_success,
            known.last_failure,
            known.last_reason,
            retry_at if retry_at > now and known.consecutive_failures else None,
            rehearsed,
        )


def _outdated(health: SSHHealth, entry: HostConfig) -> str:
    """Return a doubt: a route's health is kept under its name, and not under its address."""
    last = max(health.last_success or 0.0, health.last_failure or 0.0)
    if 0 < last < entry.moved_at:
        return "; that was before the source gave another address"
    if 0 < last < _written_at(entry):
        return "; the hosts file is newer, so that may have been another address"
    return ""


def _written_at(entry: HostConfig) -> float:
    """Return the time (Unix seconds) of the last change of the host's file; 0: it has none."""
    try:
        return Path(entry.file).stat().st_mtime if entry.file else 0.0
    except OSError:
        return 0.0


def _reason(health: SSHHealth, now: float) -> str:
    """Return the reason for a route's place in the order."""
    if health.last_success is None and health.last_failure is None:
        return "not tried yet: in its usual place"
    if not health.consecutive_failures:
        return f"worked {ago(health.last_success, now)}"
    times = health.consecutive_failures
    often = "failed" if times == 1 else f"failed {times} times in a row, last"
    failed = f"{often} {ago(health.last_failure, now)}: {health.last_reason}"
    state = ROUTE_CIRCUIT.state_at(health, now)
    if state == "open":
        left = lasting(ROUTE_CIRCUIT.recovers_at(health) - now)
        return f"{failed}; at the back of the order for another {left}"
    if not ROUTE_CIRCUIT.admits(health, now):
        return f"{failed}; another process is trying it now, so it is at the back of the order"
    return f"{failed}; its back-off is over: in its usual place"


def _settings(config: SSHConfig, entry: HostConfig, told: HostSettings) -> Iterator[Setting]:
    for name, keyword, default in _BOTH:
        of_ssh = told.values.get(keyword)
        is_given = getattr(entry, name) is not None
        if of_ssh and (not is_given or keyword == "hostname"):
            yield Setting(name, ", ".join(of_ssh), f"{_ssh_file(config, keyword)} ({keyword})")
        elif is_given:
            yield Setting(name, _shown(name, entry), _place(entry, name))
        elif default:
            yield Setting(name, default, "default")
    for name in {**entry.lines, **entry.origins}:
        if name not in _TRACKED and getattr(entry, name) is not None:
            yield Setting(name, _shown(name, entry), _place(entry, name))


def _ssh_file(config: SSHConfig, keyword: str) -> str:
    """Return the file that sets a keyword, or those that may: an included file may set it."""
    texts = {file: text_of(file).lower() for file in files_of(config.ssh_config_file)}
    return " or ".join([f for f in texts if keyword in texts[f]] or filter(texts.get, texts))


def _shown(name: str, entry: HostConfig) -> str:
    return _SECRET if SETTINGS[name].metadata["is_secret"] else str(getattr(entry, name))


def _place(entry: HostConfig, name: str) -> str:
    """Return the line of the hosts file; a host that was typed as an address has none."""
    if name in entry.origins:
        return entry.origins[name]
    if not entry.file:
        return "the command line"
    return f"{entry.file}:{entry.lines.get(name, entry.line)}"


def _pins(config: SSHConfig, entry: HostConfig) -> tuple[tuple[str, ...], str]:
    if config.embedded:
        return (), "served in this process"
    try:
        pins = KnownHosts().pins(config)
    except HostKeyError as error:
        return (), error.what
    keys = tuple(f"{key.type} {key.fingerprint}" for key in (*pins.keys, *pins.authorities))
    if config.ssh_host_key:
        return keys, _place(entry, "ssh_host_key")
    if config.is_ephemeral:
        return keys, "is_ephemeral: any key is accepted, and none is pinned"
    if not keys:
        return keys, "no key yet: the first contact pins one"
    return keys, str(known_hosts_file())

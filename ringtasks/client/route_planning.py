"""Making a `route_plan` of a host's routes: at a connection, or ahead of the first one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ringtasks.common import rehearsal
from ringtasks.errors import RingtasksError
from ringtasks.health.store import HealthStore
from ringtasks.inventory.files import locate
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.loader import find_host, sources_at
from ringtasks.inventory.model import ADDRESS_KEYS, HostConfig
from ringtasks.inventory.sources.model import Freshness
from ringtasks.ssh.evaluated_config import settings_of, watched_files
from ringtasks.ssh.merged_settings import gateway_of, with_ssh_settings
from ringtasks.ssh.routes import Route, routes_of

from .route_plan import Plan, store, version_of

__all__ = ["Planning", "plan_ahead"]

#: Nanoseconds. A file that changed more recently may change again with the same time stamp.
_SETTLED_NS = 50_000_000
#: Seconds for `plan_ahead`, whose caller has something else to do.
_AHEAD_TIMEOUT = 4.0


class Planning:
    """The versions of the hosts files, from before they were read.

    :param inventory: an absolute path.
    """

    def __init__(self, inventory: str, name: str) -> None:
        self._inventory, self._name = inventory, name
        files = [inventory, *locate(inventory).paths]
        self._files = {file: version_of(file) for file in files}

    def keep(self, config: SSHConfig, in_use: SSHConfig) -> None:
        """Keep the plan, if its files show each change of the routes.

        :param config: as the hosts file has it.
        :param in_use: with the values of ssh's files.
        """
        watched, fresh = watched_files(config), self._freshness()
        if watched is None or fresh is None or rehearsal.current() is not None:
            return
        answers = {file: version_of(file) for file in fresh.files}
        written = {**self._files, **_as_read(watched)}
        now = time.time_ns()
        if any(found and now - found[-1] < _SETTLED_NS for found in written.values()):
            return
        entry = find_host(self._name, self._inventory)
        # A source may have given another answer since the config was made.
        if entry is None or _has_variable(entry) or SSHConfig.from_host_config(entry) != config:
            return
        routes = [_planned(route) for route in routes_of(in_use, os.environ)]
        plan = Plan(config.id, routes, str(HealthStore().path))
        # The file of an answer is replaced, and never written in place: it needs not be settled.
        files = {**written, **answers}
        store(self._inventory, self._name, plan, files, (fresh.since, fresh.until))

    def _freshness(self) -> Freshness | None:
        """Return the time up to which no source is asked; None: a plan is never valid."""
        sources = sources_at(locate(self._inventory))
        if not sources:
            return Freshness()
        from ringtasks.inventory.sources.answers import freshness_of  # few inventories have any
        from ringtasks.inventory.sources.kinds import digest_of

        has_key = any(digest_of(source.kind) for source in sources)  # another account, other hosts
        return None if has_key else freshness_of(sources)


def plan_ahead(inventory: Path, names: Iterable[str]) -> None:
    """Make the plans of hosts that `ringtasks connect` will be asked for, as far as time allows."""
    end = time.monotonic() + _AHEAD_TIMEOUT
    made = []
    for name in names:
        if time.monotonic() > end - _AHEAD_TIMEOUT / 2:
            break
        with contextlib.suppress(RingtasksError, OSError):
            planning, entry = Planning(str(inventory), name), find_host(name, inventory)
            if entry is None:
                continue
            config = SSHConfig.from_host_config(entry)
            settings = settings_of(config)
            in_use = with_ssh_settings(config, settings)
            if gateway_of(in_use, settings) is None:
                made.append((planning, config, in_use))
    time.sleep(_SETTLED_NS / 1e9)  # for files that the caller, or asking ssh, has just written
    for planning, config, in_use in made:
        if time.monotonic() > end:  # each look at a large inventory takes a third of a second
            return
        with contextlib.suppress(RingtasksError, OSError):
            planning.keep(config, in_use)


def _has_variable(entry: HostConfig) -> bool:
    return any("${" in str(getattr(entry, key)) for key in ADDRESS_KEYS)


def _as_read(watched: Mapping[str, object]) -> dict[str, list[int] | None]:
    """Return the versions with the device, or one that no file has if it has changed meanwhile."""
    found = {file: version_of(file) for file in watched}
    return {
        file: version if version is None or tuple(version[1:]) == watched[file] else [0]
        for file, version in found.items()
    }


def _planned(route: Route) -> tuple[str, str, int]:
    is_plain = route.proxy is None and route.family == "any" and route.source is None
    return route.name, route.host if is_plain and _is_plain_name(route.host) else "", route.port


def _is_plain_name(host: str) -> bool:
    """Return whether a host is an address, without the interface of a link-local one, or a name."""
    return host.isascii() and not any(char in host for char in "%[]")

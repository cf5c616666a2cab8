"""Making a `plan` of a host's routes, once a connection has shown that they can be used."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from ringtasks.common import rehearsal
from ringtasks.health.store import HealthStore
from ringtasks.inventory.config import SSHConfig
from ringtasks.inventory.files import find_files
from ringtasks.inventory.loader import find_host
from ringtasks.inventory.model import ADDRESS_KEYS
from ringtasks.ssh.routes import Route, routes_of
from ringtasks.ssh.ssh_config import watched_files

from .plan import Plan, store, version_of

__all__ = ["Planning"]

_SOURCES = re.compile(rb"^[ \t\"']*sources\b", re.MULTILINE)
#: A file that is younger may change again without another time.
_SETTLED_NS = 50_000_000


class Planning:
    """The versions of the hosts files, from before they were read.

    :param inventory: an absolute path.
    """

    def __init__(self, inventory: str, name: str) -> None:
        self._inventory, self._name = inventory, name
        files = [inventory, *map(str, find_files(inventory))]
        self._files = {file: version_of(file) for file in files}

    def keep(self, config: SSHConfig, in_use: SSHConfig) -> None:
        """Keep the plan, if its files show each change of the routes.

        :param config: as the hosts file has it.
        :param in_use: with the values of ssh's files.
        """
        watched = watched_files(config)
        entry = find_host(self._name, self._inventory)
        if watched is None or entry is None or rehearsal.current() is not None:
            return
        if any("${" in str(getattr(entry, key)) for key in ADDRESS_KEYS) or self._has_sources():
            return
        files = {**self._files, **_as_read(watched)}
        now = time.time_ns()
        if any(found and now - found[-1] < _SETTLED_NS for found in files.values()):
            return
        routes = [_planned(route) for route in routes_of(in_use, os.environ)]
        store(self._inventory, self._name, Plan(config.id, routes, str(HealthStore().path)), files)

    def _has_sources(self) -> bool:
        """Return whether hosts may move without a change of a file: other programs know them."""
        inventory = Path(self._inventory)
        if inventory.is_dir():
            files = [each for each in inventory.iterdir() if each.is_file()]
            if any(os.access(each, os.X_OK) for each in files):
                return True
        texts = (Path(file).read_bytes() for file in self._files if Path(file).is_file())
        return any(_SOURCES.search(text) for text in texts)


def _as_read(watched: Mapping[str, object]) -> dict[str, list[int] | None]:
    """Return the versions with the device, or one that no file has if it has changed meanwhile."""
    found = {file: version_of(file) for file in watched}
    return {
        file: version if version is None or tuple(version[1:]) == watched[file] else [0]
        for file, version in found.items()
    }


def _planned(route: Route) -> tuple[str, str, int]:
    is_plain = route.proxy is None and route.family == "any" and route.source is None
    return route.name, route.host if is_plain and _is_address(route.host) else "", route.port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # the interface of a link-local address

"""`fake_fleet`: fake hosts for the tests of programs built on ringtasks."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from ringtasks.client import registry
from ringtasks.common.atomic_file import replace_file
from ringtasks.common.text import near_names
from ringtasks.errors import Reason, RouteError, UnknownHostError, UnreachableError, UsageError
from ringtasks.health.model import HostOutcome, RouteOutcome
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.model import ADDRESS_KEYS, HostConfig, Inventory
from ringtasks.ssh.attempts import ordered_routes
from ringtasks.ssh.link import Link
from ringtasks.ssh.routes import Route, routes_of
from ringtasks.ssh.substitutes import Note, links_from

from .host import FakeHost
from .rules import Answering

__all__ = ["FakeFleet", "fake_fleet"]

_ADDRESSES = (*ADDRESS_KEYS, "embedded")
_NOT_A_FIELD = {"name", "facts", "groups", "file", "line"}


@contextlib.contextmanager
def fake_fleet(
    *hosts: str | HostConfig, strict: bool = False, **facts: Mapping[str, Any]
) -> Iterator[FakeFleet]:
    """Yield a fleet of fake hosts, which every `SSHClient` finds; nothing reaches the network.

    Inside, the inventory is that of the fleet, and the health file starts empty.  A host that is
    not in the fleet is unreachable.  At the end the clients made inside are closed and forgotten;
    earlier clients are unchanged.  A fleet applies to the whole process: several may be nested, but
    must not overlap in different threads.

    :param hosts: names, or HostConfigs if addresses and routes matter.
    :param strict: a command that no rule matches fails with exit status 127 instead of succeeding.
    :param facts: further hosts by name, with their fields: ``gpu1={"role": "training"}``.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ringtasks-fake-")))
        fleet = FakeFleet(folder / "hosts.yaml", strict=strict)
        stack.enter_context(
            _environment(
                RINGTASKS_HOSTS=str(folder / "hosts.yaml"),
                RINGTASKS_HEALTH_FILE=str(folder / "health.json"),
                XDG_STATE_HOME=str(folder / "state"),
            )
        )
        for host in hosts:
            fleet.add(host)
        for name, own in facts.items():
            fleet.add(name, **own)
        stack.enter_context(links_from(fleet.open_link))
        # Clients from before come back at the end.
        stack.enter_context(mock.patch.dict(registry._clients, clear=True))
        stack.callback(fleet.close)
        yield fleet


class FakeFleet(Answering):
    """The fake hosts by name, and the rules for all of them, later ones too.

    A host's own rules come first.

    :param file: the inventory, written again for each host that is added.
    """

    def __init__(self, file: Path, *, strict: bool = False) -> None:
        super().__init__()
        self.hosts: dict[str, FakeHost] = {}
        self._file, self._is_strict = file, strict
        self._fields: dict[str, dict[str, Any]] = {}
        self._is_over = False
        self._write(self._fields)

    def __getitem__(self, name: str) -> FakeHost:
        if name not in self.hosts:
            near = near_names(name, self.hosts)
            raise UnknownHostError(f"no host {name!r} in the fake fleet", near=near)
        return self.hosts[name]

    def __iter__(self) -> Iterator[FakeHost]:
        return iter(self.hosts.values())

    def add(self, host: str | HostConfig, **given: Any) -> FakeHost:
        """Add a host, with fields of the hosts file: ``add("gpu1", role="training")``.

        ``groups`` are the names of its groups.  A host without an address gets one that does not
        exist (``NAME.invalid``).

        :raises InventoryError: the inventory does not accept these fields.
        """
        name = host if isinstance(host, str) else host.name
        if name in self.hosts:
            raise UsageError(f"{name}: is in the fake fleet already")
        own = _fields_of(host) if isinstance(host, HostConfig) else {}
        with_it = {**self._fields, name: {**own, **given}}
        try:
            config = self._write(with_it).hosts[name]
            if config.fault is not None:
                raise config.fault
        except UsageError:
            self._write(self._fields)
            raise
        self._fields = with_it
        self.hosts[name] = FakeHost(config, self._rules, is_strict=self._is_strict)
        return self.hosts[name]

    def open_link(self, config: SSHConfig, transport: str | None, note: Note) -> Link:
        """Open a link to a fake host: the `ringtasks.ssh.substitutes.OpenLink` of this fleet."""
        if self._is_over:
            raise UsageError(f"{config.id}: its client is from a fake fleet that is over")
        host = self._find(config)
        failures: list[RouteError] = []
        for route in ordered_routes(config, transport):
            failure = host.refusal(route) if host else self._unknown(config, route)
            if failure is None and host is not None:
                note(_outcome(config.id, failures, route.name))
                return host.log_in(route.name)
            failures += [failure] if failure else []
        note(_outcome(config.id, failures, None))
        raise UnreachableError(config.id, tuple(failures))

    def close(self) -> None:
        """Break every link; no more can be opened."""
        self._is_over = True
        for host in self:
            host.close_links("the fake fleet is over")

    def _find(self, config: SSHConfig) -> FakeHost | None:
        """Return the host with the client's name or address; None if there is none."""
        for name in (config.id, config.host):
            if name in self.hosts:
                return self.hosts[name]
        wanted = {(route.host, route.port) for route in routes_of(config, {})}
        for host in self:
            own = routes_of(SSHConfig.from_host_config(host.config), {})
            if wanted & {(route.host, route.port) for route in own}:
                return host
        return None

    def _unknown(self, config: SSHConfig, route: Route) -> RouteError:
        names = ", ".join(self.hosts) or "which is empty"
        return RouteError(
            config.id,
            route.name,
            Reason.NO_ROUTE,
            f"it is not in the fake fleet ({names}), and nothing else is reached from a test",
            address=route.address,
            advice="add it to fake_fleet()",
        )

    def _write(self, hosts: Mapping[str, Mapping[str, Any]]) -> Inventory:
        """Write the hosts file, and return it as a client reads it."""
        groups: dict[str, list[str]] = {}
        written: dict[str, dict[str, Any]] = {}
        for name, given in hosts.items():
            own = dict(given)
            for group in own.pop("groups", ()):
                groups.setdefault(group, []).append(name)
            has_address = any(own.get(field) for field in _ADDRESSES)
            written[name] = own if has_address else {"ssh_host": f"{name}.invalid", **own}
        document = {"hosts": written, "groups": groups}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        replace_file(self._file, text)  # a client may be reading it
        return load_inventory(self._file)


def _fields_of(host: HostConfig) -> dict[str, Any]:
    """Return the host's fields as the hosts file would hold them."""
    known = {f.name: (getattr(host, f.name), f.default) for f in fields(host)}
    given = {
        name: value
        for name, (value, default) in known.items()
        if name not in _NOT_A_FIELD and value != default
    }
    return {**host.facts, **given, "groups": host.groups}


def _outcome(host: str, failures: list[RouteError], used: str | None) -> HostOutcome:
    routes = [RouteOutcome(f.route, success=False, reason=str(f.reason)) for f in failures]
    if used is not None:
        return HostOutcome(host, True, "", (*routes, RouteOutcome(used, success=True)))
    return HostOutcome(host, False, UnreachableError(host, tuple(failures)).reason, tuple(routes))


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

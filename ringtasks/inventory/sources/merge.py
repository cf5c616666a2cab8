"""Merge the hosts of sources with those of the hosts files.

A host in both is one host: the file says what it is, the source where it is now.  The source's
addresses and ports replace the file's; its user counts if the file gives none, and its facts too.
Of two sources that give different hosts one name, the first one counts, with a warning.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ringtasks.common.durations import ago, lasting
from ringtasks.inventory.model import ADDRESS_KEYS, PLACE_KEYS, SETTINGS, Content, HostConfig

from .checking import few
from .kinds import KINDS
from .model import PrintedHost, Source, SourceAnswer

__all__ = ["Merged"]

#: Two names of one setting.
_FOLDER = ("work_dir", "ringrift_path")


class Merged:
    """The hosts of the files, to which those of one source after the other are added.

    :ivar hosts: by name: those of the files first, in their order.
    :ivar groups: the members that sources give to groups.
    :ivar absent: the reasons for hosts of sources that cannot be reached now.
    :ivar warnings: for people.
    :param contents: the hosts files by name, for their defaults.
    :param files: the inventory, for asking its sources again; empty: they are not asked again.
    """

    def __init__(
        self,
        hosts: Mapping[str, HostConfig],
        contents: Mapping[str, Content],
        files: tuple[str, ...],
    ) -> None:
        self.hosts = dict(hosts)
        self.groups: dict[str, list[str]] = {}
        self.absent: dict[str, str] = {}
        self.warnings: list[str] = []
        self._contents, self._files = contents, files
        self._of_files = frozenset(hosts)
        self._spellings = {name.lower(): name for name in hosts}
        self._by_tailnet = {h.tailscale_ip: h.name for h in hosts.values() if h.tailscale_ip}
        self._origins: dict[str, Source] = {}
        self._gone: dict[str, str] = {}

    def add(self, answer: SourceAnswer) -> None:
        """Add the hosts of a source."""
        source, doubtful = answer.source, list[str]()
        origin = f"source {source.label}, asked {ago(answer.fetched_at, time.time())}"
        for host in answer.listing.hosts:
            doubtful += self._add(source, host, origin)
        for name, moved_at in answer.listing.moved.items():
            if self._origins.get(name) is source:
                self.hosts[name] = replace(self.hosts[name], moved_at=moved_at)
        for group, members in answer.listing.groups.items():
            self.groups.setdefault(group, []).extend(m for m in members if m in self.hosts)
        first = [answer.warning] if answer.warning else []
        told = (*first, *answer.listing.warnings, *few(doubtful))
        self.warnings += [f"{source.place}: {text}" for text in told]
        for name, since in answer.listing.gone.items():
            span = lasting(max(0.0, time.time() - since))
            self._gone.setdefault(name, f"source {source.label} has not listed it for {span}")

    def with_absences(self) -> dict[str, HostConfig]:
        """Return the hosts; those of the files that no source has as usable say so."""
        for name, reason in self._gone.items():
            if name not in self._origins and name not in self.absent:
                self.absent[name] = reason
        return {
            name: replace(host, absence=self.absent[name])
            if name in self.absent and name in self._of_files
            else host
            for name, host in self.hosts.items()
        }

    def _add(self, source: Source, host: PrintedHost, origin: str) -> list[str]:
        """Add one host; return the warnings about it."""
        name = host.name
        if name not in self._of_files:  # the file may have another name for the machine
            name = self._by_tailnet.get(host.values.get("tailscale_ip"), name)
        spelling = self._spellings.setdefault(name.lower(), name)
        if name not in self.hosts and spelling != name:
            return [f"{name}: left out: the name differs only in case from {spelling}"]
        first = self._origins.get(name)
        if name in self.hosts and first is None:  # of a file
            self._origins[name] = source
            self.hosts[name] = self._updated(self.hosts[name], source, host, origin)
        if host.absence:
            self.absent.setdefault(name, f"source {source.label}: {host.absence}")
        if (name in self._of_files and first is None) or host.absence:
            return []
        if first is None:
            new = self._new(source, host, origin)
            if not any(getattr(new, key) for key in ADDRESS_KEYS):
                self.absent.setdefault(name, f"source {source.label}: it has no address")
                return [f"{name}: left out: it has no address"]
            self._origins[name], self.hosts[name] = source, new
            return []
        return self._again(first, source, host._replace(name=name), origin)

    def _again(self, first: Source, source: Source, host: PrintedHost, origin: str) -> list[str]:
        """Add a host whose name another source has given before."""
        known = self.hosts[host.name]
        given = [key for key in ADDRESS_KEYS if key in host.values]
        if any(getattr(known, key) for key in given if key in known.origins):
            return [f"{host.name}: is also a host of {first.place}, which comes first: left out"]
        self.hosts[host.name] = self._updated(known, source, host, origin)
        if host.name in self._of_files:
            return []
        return [
            f"{host.name}: is also a host of {first.place}: taken for one host with two routes; a "
            "host of that name in the hosts file confirms it"
        ]

    def _new(self, source: Source, host: PrintedHost, origin: str) -> HostConfig:
        """Return the host of a source that no file describes."""
        usual = KINDS[source.kind].user
        common = {} if usual is None else {"ssh_user": usual}
        content = self._contents.get(source.file, Content({}))
        shared = {**content.defaults, **source.defaults}
        own = {**common, **shared, **host.values}
        settings = {key: value for key, value in own.items() if key in SETTINGS}
        settings.setdefault("work_dir", settings.get("ringrift_path"))
        facts = {str(key): value for key, value in own.items() if key not in SETTINGS}
        origins = {
            **_places(source.file, content.default_lines),
            **_places(source.file, source.lines),
            **{key: f"source {source.label}" for key in common if key not in shared},
            **dict.fromkeys(host.values, origin),
        }
        return HostConfig(
            host.name,
            **settings,
            facts=facts,
            origins={key: place for key, place in origins.items() if key in settings},
            inventory_files=self._files,
            file=source.file,
            line=source.line,
        )

    def _updated(
        self, known: HostConfig, source: Source, host: PrintedHost, origin: str
    ) -> HostConfig:
        """Return a host of a file, at the place that a source gives."""
        if known.fault is not None or known.embedded:
            return known
        changes = {key: host.values[key] for key in PLACE_KEYS if key in host.values}
        if source.kind == "ssh_config" and any(getattr(known, key) for key in ADDRESS_KEYS):
            changes = {}  # an alias tells no address
        user = host.values.get("ssh_user")
        if user is None and "ssh_user" not in source.defaults:
            user = KINDS[source.kind].user
        if known.ssh_user is None and user:
            changes["ssh_user"] = user
        common = _lacking(known, source.defaults, changes)
        values = {**source.defaults, **host.values}
        facts = {str(key): value for key, value in values.items() if key not in SETTINGS}
        return replace(
            known,
            **common,
            **changes,
            inventory_files=self._files,
            facts={**known.facts, **facts, **_given(known.facts)},
            origins={
                **known.origins,
                **{k: v for k, v in _places(source.file, source.lines).items() if k in common},
                **dict.fromkeys(changes, origin),
            },
        )


def _lacking(
    known: HostConfig, defaults: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings among the defaults that the host's own line and its source lack."""
    given = {**known.lines, **changes}
    if not given.keys().isdisjoint(_FOLDER):
        given.update(dict.fromkeys(_FOLDER))
    lacking = {k: v for k, v in defaults.items() if k in SETTINGS and k not in given}
    if "ringrift_path" in lacking:
        lacking.setdefault("work_dir", lacking["ringrift_path"])
    return lacking


def _places(file: str, lines: Mapping[str, int]) -> dict[str, str]:
    return {key: f"{file}:{line}" for key, line in lines.items()}


def _given(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}

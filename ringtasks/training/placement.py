"""Selection of hosts for the next attempt of a run: asked, checked and ranked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.fanout import each
from ringtasks.errors import NoEligibleHostError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.model import HostConfig

from .choice import Candidate, HostVerdict, choose, willing
from .files import folder_of
from .preflight import checks
from .probe import probe_host
from .settings import Preflight, TrainSettings

__all__ = ["Placement"]

#: Without preflight checks, a host only has to answer.
_ANSWERS = Preflight(min_disk_gb=0, max_clock_skew=float("inf"))


class Placement:
    """The hosts of a run, each with a client.

    :param tell: receives each check, and each host's verdict.
    """

    def __init__(
        self, settings: TrainSettings, hosts: Sequence[HostConfig], tell: Callable[[str], None]
    ) -> None:
        self._settings, self._tell = settings, tell
        self._hosts = {host.name: host for host in hosts}
        self._clients = {host.name: _client(host, settings.venv) for host in hosts}
        self._asked: list[Candidate] = []
        self.gone: set[str] = set()
        """Hosts on which an attempt was lost: they come last."""

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close_link()

    def client(self, host: str) -> SSHClient:
        """Return the client of a host.

        :raises UsageError: the host is not selected.
        """
        if host not in self._clients:
            raise UsageError(f"train: the run is on {host}, which is not among the hosts: --host")
        return self._clients[host]

    def ranked(self) -> list[SSHClient]:
        """Return the hosts that can take the run, best first, at least as many as its nodes.

        :raises UsageError: the hosts file lets none of them train.
        :raises NoEligibleHostError: there are too few.
        """
        verdicts = self._choose()
        fit = sorted((own.host for own in verdicts if own.is_fit), key=self.gone.__contains__)
        needed = self._settings.nodes
        for verdict in verdicts:
            is_chosen = len(fit) >= needed and verdict.host in fit[:needed]
            word = "chosen" if is_chosen else "eligible" if verdict.is_fit else "not eligible"
            self._tell(f"{verdict.host}: {word}: {verdict.reason}")
        if len(fit) < needed:
            if not self._asked:
                raise UsageError("train: the hosts file lets no selected host train: see above")
            is_unreachable = all(own.probe.error is not None for own in self._asked)
            raise NoEligibleHostError(len(fit), needed, is_unreachable=is_unreachable)
        return [self._clients[name] for name in fit]

    def _choose(self) -> list[HostVerdict]:
        refused = willing({name: host.facts for name, host in self._hosts.items()})
        asked = [name for name, why in refused.items() if not why]
        known = dict(each(asked, self._look))
        self._asked = list(known.values())
        shows_all = self._settings.preflight is not None
        for name in asked:
            for check in known[name].checks if shows_all else known[name].failed:
                self._tell(f"{name}: {'pass' if check.is_passed else 'FAIL'}: {check}")
        return choose([known[name] for name in asked], refused)

    def _look(self, name: str) -> Candidate:
        client = self._clients[name]
        wanted = self._settings.preflight or _ANSWERS
        before, asked_at = client.health, time.time()
        found = probe_host(
            client,
            cwd=folder_of(client, self._settings.cwd),
            imports=wanted.imports,
            driver_timeout=wanted.driver_timeout,
        )
        has_checks = self._settings.preflight is not None
        held = checks(
            found,
            wanted,
            gpus=self._settings.gpus if has_checks else 0,
            facts=self._hosts[name].facts if has_checks else None,
            any_memory=self._settings.any_memory,
        )
        return Candidate(name, found, held, before, asked_at)


def _client(host: HostConfig, venv: str | None) -> SSHClient:
    config = SSHConfig.from_host_config(host)
    return SSHClient(replace(config, venv_activate=venv) if venv else config)

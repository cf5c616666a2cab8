"""A training run from the choice of its hosts to what it has left: `Supervisor`.

Two attempts of a run never go on at once: another host takes over only from a job that is known to
have ended, unless the caller allows a split.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from .. import jobs
from ..client import SSHClient
from ..config import SSHConfig
from ..errors import JobNotStartedError, RunNotStartedError, UsageError
from ..fanout import each
from ..inventory import HostConfig
from ..jobs import Job, JobStatus, State
from . import attempts, torchrun
from .choice import Candidate, Choice, choose, willing
from .curves import Curves
from .files import CheckpointPuller, TransferError, fetch, folder_of, send, send_folder
from .meeting import find_meeting
from .preflight import Check, checks
from .records import Attempt, JobPlace, RunRecord
from .settings import Preflight, TrainSettings
from .survey import survey
from .view import View

__all__ = ["Outcome", "Supervisor"]

#: What a run's processes find in their environment.
ATTEMPT_VARIABLE = "RINGTASKS_ATTEMPT"
CHECKPOINT_VARIABLE = "RINGTASKS_CHECKPOINT"
RUN_VARIABLE = "RINGTASKS_RUN"

#: Takes one host's checks, as they are known.
OnChecks = Callable[[str, Sequence[Check]], None]


class Outcome(NamedTuple):
    """How a run ended: its exit status, and why in words."""

    status: int
    reason: str


class Supervisor:
    """Sees one run through; for one thread. Usable with ``with``: it closes its connections.

    :param hosts: those selected, in the inventory's order.
    :param curves: is fed what the run prints.
    :param view: shows it.
    """

    def __init__(
        self,
        settings: TrainSettings,
        hosts: Sequence[HostConfig],
        record: RunRecord,
        curves: Curves,
        view: View,
    ) -> None:
        self._settings, self._record = settings, record
        self._curves, self._view = curves, view
        self._hosts = {host.name: host for host in hosts}
        self._clients = {host.name: _client(host, settings.venv) for host in hosts}
        self._gone: list[str] = []
        self.jobs: list[Job] = []
        """The jobs of the attempt under way."""

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self._clients.values():
            client.close_link()

    @property
    def is_embedded(self) -> bool:
        """Whether the run ends with this process, as its hosts do."""
        return any(job.client.config.embedded for job in self.jobs)

    def run(self) -> Outcome:
        """Choose, start, follow, and take over where that is needed and allowed.

        :raises UsageError: no host can take the run, or something it needs is not here.
        """
        for attempt in range(1, self._settings.retries + 2):
            statuses = self._attempt(attempt)
            worst = next((s for s in statuses if s.state is not State.SUCCEEDED), statuses[0])
            is_last = attempt > self._settings.retries
            if is_last or not attempts.may_take_over(worst, allow_split=self._settings.allow_split):
                break
            self._gone.append(worst.host_id)
            self._say(f"{worst.host_id}: {worst.describe()}: another host takes over")
        return self._ended(statuses)

    def _attempt(self, attempt: int) -> list[JobStatus]:
        clients = self._chosen()
        for client in clients:
            self._send(client, attempt)
        if attempt > 1:
            self._curves.new_attempt()
        self.jobs = self._start(clients, attempt)
        entry = Attempt(attempt, [JobPlace(job.host, job.id) for job in self.jobs])
        self._record.attempts.append(entry)
        self._record.save()
        for job in self.jobs:
            self._say(f"attempt {attempt}: job {job.id} on {job.host}")
        statuses = self._see_through(attempt)
        entry.state = str(_worst(statuses).state)
        self._record.save()
        return statuses

    def _chosen(self) -> list[SSHClient]:
        """The best hosts for the next attempt; those that were lost come last.

        :raises UsageError: there are too few.
        """
        choice = self._choose()
        fit = sorted(choice.fit, key=lambda name: name in self._gone)
        needed = self._settings.nodes
        for verdict in choice.verdicts:
            is_chosen = verdict.host in fit[:needed]
            word = "chosen" if is_chosen else "fit" if verdict.is_fit else "not fit"
            self._say(f"{verdict.host}: {word}: {verdict.reason}")
        if len(fit) < needed:
            hosts = "no host" if not fit else f"only {len(fit)} of {needed} hosts"
            raise UsageError(f"train: {hosts} can take the run: see above")
        return [self._clients[name] for name in fit[:needed]]

    def _choose(self) -> Choice:
        facts = {name: host.facts for name, host in self._hosts.items()}
        refused = willing(facts)
        asked = [name for name, why in refused.items() if not why]
        known = dict(each(asked, self._look))
        return choose([known[name] for name in asked], refused)

    def _look(self, name: str) -> Candidate:
        client, needed = self._clients[name], self._settings.preflight
        asked = needed or Preflight(min_disk_gb=0, max_clock_skew=float("inf"))
        found = survey(
            client,
            cwd=folder_of(client, self._settings.cwd),
            imports=asked.imports,
            driver_timeout=asked.driver_timeout,
        )
        gpus = self._settings.gpus if needed else 0
        facts: Mapping[str, object] = self._hosts[name].facts if needed else {}
        held = checks(found, asked, gpus=gpus, facts=facts)
        if needed:
            for check in held:
                self._say(f"{name}: {'pass' if check.is_passed else 'FAIL'}: {check}")
        health = client.health
        tried = health.total_successes + health.total_failures
        rate = health.success_rate if tried else 1.0
        return Candidate(name, found, held, self._hosts[name].facts, rate)

    def _send(self, client: SSHClient, attempt: int) -> None:
        settings = self._settings
        cwd = folder_of(client, settings.cwd)
        try:
            send(client, settings.sync_up, cwd)
            if settings.checkpoint and attempt > 1 and self._record.checkpoint.is_dir():
                self._say(f"{client.config.id}: starts from the checkpoint")
                send_folder(
                    client, self._record.checkpoint, posixpath.join(cwd, settings.checkpoint)
                )
        except TransferError as error:
            raise RunNotStartedError(
                client.config.id, f"its files were not sent: {error}"
            ) from error

    def _start(self, clients: Sequence[SSHClient], attempt: int) -> list[Job]:
        """One job a host; where one does not start, those before it are stopped."""
        started: list[Job] = []
        settings = self._settings
        for client, own in zip(clients, self._commands(clients), strict=True):
            env = {
                **own.env,
                **settings.env,
                ATTEMPT_VARIABLE: str(attempt),
                RUN_VARIABLE: self._record.id,
            }
            if settings.checkpoint:
                env[CHECKPOINT_VARIABLE] = settings.checkpoint
            try:
                job = jobs.start(
                    client,
                    own.command,
                    name=self._record.id,
                    group=self._record.id,
                    log_file=settings.log_file,
                    cwd=folder_of(client, settings.cwd),
                    env=env,
                    gpus=settings.gpus,
                )
            except JobNotStartedError:
                attempts.stop_all(started, 0.0, self._say)
                raise
            started.append(job)
        return started

    def _commands(self, clients: Sequence[SSHClient]) -> list[torchrun.NodeCommand]:
        settings = self._settings
        if len(clients) == 1 and settings.nproc_per_node == 1:
            return [torchrun.NodeCommand(settings.command, {})]
        meeting = find_meeting(clients)
        if len(clients) > 1:
            self._say(f"the hosts meet at {meeting.address}:{meeting.port}")
        return torchrun.commands(
            settings.command, meeting, self._record.id, settings.nproc_per_node, settings.env
        )

    def _see_through(self, attempt: int) -> list[JobStatus]:
        settings = self._settings
        first = self.jobs[0]
        puller = self._puller(first)
        if puller:
            puller.start()
        found: dict[str, JobStatus] = {}
        try:
            with self._record.log_of(attempt) as log:
                is_labelled = len(self.jobs) > 1
                ranks = _FirstRank() if settings.nodes * settings.nproc_per_node > 1 else None

                def on_log(job: Job, chunk: bytes) -> None:
                    self._view.log(chunk, job.host if is_labelled else None)
                    told = ranks.add(job.host, chunk) if ranks else chunk
                    self._curves.feed(told)
                    log.write(told if is_labelled else chunk)
                    log.flush()

                found = attempts.see_through(
                    self.jobs,
                    on_log,
                    patience=settings.lost_after,
                    grace=settings.grace,
                    tell=self._say,
                )
        finally:
            if puller:
                status = found.get(first.id)
                puller.stop(last=status is not None and status.state is not State.UNKNOWN)
        return [found[job.id] for job in self.jobs]

    def _puller(self, job: Job) -> CheckpointPuller | None:
        settings = self._settings
        if not settings.checkpoint:
            return None
        remote = posixpath.join(folder_of(job.client, settings.cwd), settings.checkpoint)
        keep, interval = self._record.checkpoint, settings.checkpoint_interval
        return CheckpointPuller(job.client, remote, keep, interval, self._say)

    def _ended(self, statuses: Sequence[JobStatus]) -> Outcome:
        worst = _worst(statuses)
        self._record.state, self._record.ended_at = str(worst.state), time.time()
        self._record.save()
        status = attempts.exit_status_of(statuses)
        if worst.state is State.UNKNOWN:
            text = f"{worst.host_id}: {worst.describe()}: the run may still go on there"
            if self._settings.retries and not self._settings.allow_split:
                text += ", so no other host takes over (--allow-split would let one)"
            return Outcome(status, text)
        if self._settings.fetch:
            self._fetch(self.jobs[0])
        return Outcome(status, f"{worst.host_id}: {worst.describe()}")

    def _fetch(self, job: Job) -> None:
        cwd = folder_of(job.client, self._settings.cwd)
        for item in self._settings.fetch:
            try:
                fetch(job.client, posixpath.join(cwd, item), self._record.folder)
            except TransferError as error:
                self._say(f"{item} was not fetched: {error}")
            else:
                self._say(f"{item} fetched into {self._record.folder}")

    def _say(self, text: str) -> None:
        self._view.say(text)


class _FirstRank:
    """Of what several ranks print, the lines of the first one: all print the same metrics."""

    def __init__(self) -> None:
        self._partial: dict[str, bytes] = {}

    def add(self, host: str, chunk: bytes) -> bytes:
        *whole, self._partial[host] = (self._partial.get(host, b"") + chunk).split(b"\n")
        told = (torchrun.of_first_rank(line) for line in whole)
        return b"".join(line + b"\n" for line in told if line)


def _client(host: HostConfig, venv: str | None) -> SSHClient:
    config = SSHConfig.from_host_config(host)
    return SSHClient(replace(config, venv_activate=venv) if venv else config)


def _worst(statuses: Sequence[JobStatus]) -> JobStatus:
    """The status that tells how the run ended."""
    bad = [status for status in statuses if status.state is not State.SUCCEEDED]
    own = [status for status in bad if status.state is not State.STOPPED]
    return (own or bad or list(statuses))[0]

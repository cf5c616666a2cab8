"""A training run from the choice of its hosts to its output: `Supervisor`.

Two attempts of a run never run at once: another host takes over only from a job that is known to
have ended, unless the caller allows a split.
"""

from __future__ import annotations

import enum
import posixpath
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ringtasks import jobs
from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import (
    JobNotStartedError,
    NoEligibleHostError,
    RunNotStartedError,
    StateFileError,
    UsageError,
)
from ringtasks.inventory.model import HostConfig
from ringtasks.jobs import Job, JobState, JobStatus

from . import attempts, torchrun
from .checkpoints import CheckpointPuller, claim, remove_spare
from .curves import Curves
from .files import FileCopyError, TimeLimit, make_folder, mirror, run_folder, send
from .outputs import fetch_written, note_files
from .placement import Placement
from .records import JobPlace, RunAttempt, RunRecord
from .rendezvous import find_rendezvous
from .settings import TrainSettings
from .setup import set_up

__all__ = ["RunOutcome", "Stage", "Supervisor"]

#: Names the attempt in the environment of a run's processes.
ATTEMPT_VARIABLE = "RINGTASKS_ATTEMPT"
CHECKPOINT_VARIABLE = "RINGTASKS_CHECKPOINT"
RUN_VARIABLE = "RINGTASKS_RUN"
REVISION_VARIABLE = "RINGTASKS_REVISION"

#: Seconds between searches for a host that can take over; each asks all hosts.
_LOOK_INTERVAL = 10.0

#: The errors of an attempt that was not started on any host.
_NOT_STARTED = (NoEligibleHostError, RunNotStartedError, JobNotStartedError)

OnLog = Callable[[bytes, str | None], None]
Tell = Callable[[str], None]


class Stage(enum.Enum):
    """The step of a run, which decides what an interruption leaves behind."""

    CHOOSING = "no job was started"
    STARTING = "a job is being started"
    FOLLOWING = "its job was started and may run"
    ENDED = "its job has ended; files may be missing here, or another host may take over"


class RunOutcome(NamedTuple):
    """The end of a run: its exit status, and the reason as text.

    ``is_commands``: the status is that of the training command, which has ended.
    """

    status: int
    reason: str
    is_commands: bool = False


class Supervisor:
    """Follows one run to its end; for one thread. Usable with ``with``: it closes its connections.

    :param hosts: those selected, in the inventory's order.
    :param curves: receives the run's output.
    :param on_log: receives the output, and the host, which is None if there is only one.
    :param tell: receives messages for the user, a sentence at a time, from any thread.
    """

    def __init__(
        self,
        settings: TrainSettings,
        hosts: Sequence[HostConfig],
        record: RunRecord,
        curves: Curves,
        on_log: OnLog,
        tell: Tell,
    ) -> None:
        self._settings, self._record, self._curves = settings, record, curves
        self._on_log, self._tell = on_log, tell
        self._placement = Placement(settings, hosts, tell)
        self.jobs: list[Job] = []
        """The jobs of the current attempt."""
        self._last_transfers = TimeLimit(settings.fetch_timeout)
        self.stage = Stage.CHOOSING

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._placement.close()

    def run(self) -> RunOutcome:
        """Choose, start, follow, and take over if that is needed and allowed.

        A run that has been started is followed from its last attempt on.

        :raises UsageError: the hosts file excludes all hosts, or a required file is missing here.
        :raises NoEligibleHostError: no host can take the run.
        :raises RunNotStartedError: its files did not arrive on any host.
        :raises JobNotStartedError: no host would start it.
        """
        if self._settings.uses_torchrun:
            torchrun.check(self._settings.command, self._settings.env)
        if self._record.attempts:
            status = self._attend(self._record.attempts[-1])
        else:
            status = self._attempt(1, self._placement.ranked())
        for attempt in range(len(self._record.attempts) + 1, self._settings.retries + 2):
            if not attempts.may_take_over(status, allow_split=self._settings.allow_split):
                break
            self._placement.gone.add(status.host_id)
            self._tell(f"{status.host_id}: {status.describe()}: another host takes over")
            if status.state is JobState.UNKNOWN:
                stop = self._hint("stop", status.id)
                self._tell(f"job {status.id} may go on there: {stop} once it is back")
            try:
                status = self._attempt(attempt, self._hosts_in_time())
            except (UsageError, *_NOT_STARTED) as error:
                if _may_have_started(error):
                    raise
                self._tell(f"no other host takes over: {error}")
                break
        return self._ended(status)

    def _hosts_in_time(self) -> list[SSHClient]:
        """Return hosts that can take over; one that was rebooted may need a while.

        :raises UsageError: the hosts file excludes all.
        :raises NoEligibleHostError: there is none in time.
        """
        deadline = time.monotonic() + self._settings.lost_after
        while True:
            try:
                return self._placement.ranked()
            except (UsageError, NoEligibleHostError):
                if time.monotonic() > deadline:
                    raise
            self._tell(f"trying again in {_LOOK_INTERVAL:g} s")
            time.sleep(min(_LOOK_INTERVAL, self._settings.lost_after))

    def _attempt(self, attempt: int, hosts: Sequence[SSHClient]) -> JobStatus:
        if attempt > 1:
            self._curves.new_attempt()
        try:
            self.jobs = self._started(hosts, attempt)
        except (JobNotStartedError, KeyboardInterrupt) as error:
            self._keep_unknown(attempt, error)
            raise
        entry = RunAttempt(attempt, [JobPlace(job.host, job.id) for job in self.jobs])
        self._record.attempts.append(entry)
        self.stage = Stage.FOLLOWING  # before the record can tell others of the job
        self._save_record()
        return self._attend(entry)

    def _keep_unknown(self, attempt: int, error: BaseException) -> None:
        """Record a job that may have been started: its end has to be known before another one."""
        cause = error if isinstance(error, JobNotStartedError) else next(iter(error.args), None)
        if isinstance(cause, JobNotStartedError) and cause.is_unknown and self._settings.nodes == 1:
            place = JobPlace(cause.host, cause.job)
            self._record.attempts.append(RunAttempt(attempt, [place]))
            self._save_record()
            attach = self._hint("train --attach", self._record.argument)
            self._tell(f"job {cause.job} may run on {cause.host}: {attach} follows it")

    def _attend(self, entry: RunAttempt) -> JobStatus:
        """Follow the attempt to its end; return the status that decides about the run."""
        self.jobs = [Job(self._placement.client(own.host_id), own.job_id) for own in entry.jobs]
        self.stage = Stage.FOLLOWING
        for job in self.jobs:
            folder = "" if self._settings.cwd else f", in {self._folder(job.client)}"
            self._tell(f"attempt {entry.attempt}: job {job.id} on {job.host}{folder}")
        status = attempts.decisive(self._see_through(entry.attempt))
        if status.is_ended or entry.state == JobState.RUNNING:  # a known end stays known
            entry.state = str(status.state)
        self._save_record()
        return status

    def _save_record(self) -> None:
        """Save the record of a run that goes on without it."""
        try:
            self._record.save()
        except StateFileError as error:
            self._tell(f"{error}; the run goes on without its record here")

    def _started(self, hosts: Sequence[SSHClient], attempt: int) -> list[Job]:
        """Return the attempt's jobs; on one host, the first that takes it."""
        if self._settings.nodes > 1:
            return self._start(hosts[: self._settings.nodes], attempt)
        *others, last = hosts
        stage = self.stage
        for client in others:
            try:
                return self._start([client], attempt)
            except (RunNotStartedError, JobNotStartedError) as error:
                if _may_have_started(error):
                    raise
                self._tell(f"{error}; trying the next host")
                self.stage = stage
        return self._start([last], attempt)

    def _send(self, client: SSHClient, attempt: int, *, is_first: bool) -> None:
        settings = self._settings
        cwd = self._folder(client)
        try:
            make_folder(client, cwd)
            if settings.checkpoint:
                self._claim(client, cwd, settings.checkpoint, attempt)
            if settings.sync_up:
                sent = send(client, settings.sync_up, cwd, settings.runs)
                self._tell(f"{client.config.id}: {sent}")
            if settings.setup:
                self._set_up(client, cwd)
            if (settings.fetch or settings.metrics) and is_first:
                items = settings.fetch + settings.metrics
                note_files(client, cwd, items, self._key(attempt))
            if settings.checkpoint and attempt > 1:
                self._send_checkpoint(client, posixpath.join(cwd, settings.checkpoint))
        except FileCopyError as error:
            raise RunNotStartedError(
                client.config.id,
                f"its files were not sent: {error}",
                is_unreachable=error.is_unreachable,
            ) from error

    def _send_checkpoint(self, client: SSHClient, target: str) -> None:
        if not self._record.checkpoint.is_dir():
            self._tell(f"{client.config.id}: gets no checkpoint: none was pulled")
            return
        self._tell(f"{client.config.id}: starts from the checkpoint")
        mirror(client, self._record.checkpoint, target)

    def _claim(self, client: SSHClient, cwd: str, checkpoint: str, attempt: int) -> None:
        """Set aside the checkpoint of another run, or one that is known to be incomplete."""
        has_kept = self._record.checkpoint.is_dir()
        keeps_own = has_kept or self._settings.checkpoint_done is None
        aside = claim(
            client, cwd, checkpoint, self._record.id, attempt=attempt, keeps_own=keeps_own
        )
        if aside:
            self._tell(f"{client.config.id}: earlier files of {checkpoint} were moved to {aside}")

    def _set_up(self, client: SSHClient, cwd: str) -> None:
        settings, host = self._settings, client.config.id
        self._tell(f"{host}: setup")
        env = {**settings.env, RUN_VARIABLE: self._record.id}

        def show(_: int, chunk: bytes) -> None:
            self._on_log(chunk, host if settings.nodes > 1 else None)

        is_new = set_up(client, settings.setup, settings.setup_inputs, cwd, env, show)
        if not is_new:
            self._tell(f"{host}: setup: done before, and its inputs are the same")

    def _folder(self, client: SSHClient) -> str:
        """Return the run's folder on a host."""
        return run_folder(client, self._settings.cwd, self._record.id)

    def _key(self, attempt: int) -> str:
        return f"{self._record.id}-{attempt}"

    def _start(self, clients: Sequence[SSHClient], attempt: int) -> list[Job]:
        """Send the files and start a job on each; if one does not start, stop the others."""
        started: list[Job] = []
        settings = self._settings
        for client in clients:
            self._send(client, attempt, is_first=client is clients[0])
        for client, own in zip(clients, self._commands(clients), strict=True):
            env = {**own.env, **settings.env, **self._variables(attempt)}
            self.stage = Stage.STARTING
            try:
                job = jobs.start(
                    client,
                    own.command,
                    name=self._record.id,
                    group=self._record.id,
                    log_file=settings.log_file,
                    cwd=self._folder(client),
                    env=env,
                    gpus=settings.gpus,
                    any_memory=settings.any_memory,
                )
            except BaseException:  # Ctrl-C, too: half a run would stay without a record
                attempts.stop_all(started, 0.0, self._tell)
                raise
            started.append(job)
        return started

    def _variables(self, attempt: int) -> dict[str, str]:
        """Return the variables that tell a run's processes about the run."""
        values = {
            ATTEMPT_VARIABLE: str(attempt),
            RUN_VARIABLE: self._record.id,
            REVISION_VARIABLE: self._record.revision,
            CHECKPOINT_VARIABLE: self._settings.checkpoint,
        }
        return {name: value for name, value in values.items() if value}

    def _commands(self, clients: Sequence[SSHClient]) -> list[torchrun.NodeCommand]:
        settings = self._settings
        if not settings.uses_torchrun:
            return [torchrun.NodeCommand(settings.command, {})]
        rendezvous_point = find_rendezvous(clients)
        if len(clients) > 1:
            self._tell(f"the hosts meet at {rendezvous_point.address}:{rendezvous_point.port}")
        return torchrun.commands(
            settings.command,
            rendezvous_point,
            self._record.id,
            settings.nproc_per_node,
            settings.env,
        )

    def _see_through(self, attempt: int) -> list[JobStatus]:
        settings = self._settings
        first = self.jobs[0]
        puller = self._puller(first)
        if puller:
            puller.start(settings.checkpoint_interval)
        found: dict[str, JobStatus] = {}
        try:
            with self._record.logs_of(attempt, len(self.jobs)) as files:
                logs = {job.id: file for job, file in zip(self.jobs, files, strict=True)}

                def on_log(job: Job, chunk: bytes) -> None:
                    self._curves.feed(chunk, job.host)
                    self._on_log(chunk, job.host if len(self.jobs) > 1 else None)
                    if why := logs[job.id].write(chunk):
                        self._tell(f"the local copy of the log of {job.host} ends here: {why}")

                found = attempts.see_through(
                    self.jobs,
                    on_log,
                    patience=settings.lost_after,
                    grace=settings.grace,
                    tell=self._tell,
                )
            if all(status.is_ended for status in found.values()):
                self.stage = Stage.ENDED
        finally:
            self._last_transfers = TimeLimit(settings.fetch_timeout)
            if puller:
                may_pull = self._may_pull(found.get(first.id))
                puller.stop(self._last_transfers if may_pull else None)
        return [found[job.id] for job in self.jobs]

    def _may_pull(self, status: JobStatus | None) -> bool:
        """Return whether the job can have left a whole checkpoint on a reachable host."""
        if status is None or not status.is_ended:
            return False
        return self._settings.checkpoint_done is not None or not _was_cut_off(status)

    def _puller(self, job: Job) -> CheckpointPuller | None:
        settings = self._settings
        if not settings.checkpoint:
            return None
        remote = posixpath.join(self._folder(job.client), settings.checkpoint)
        return CheckpointPuller(
            job.client,
            remote,
            self._record.checkpoint,
            self._tell,
            settings.checkpoint_done,
            lambda: _was_cut_off(job.status()),
        )

    def _ended(self, status: JobStatus) -> RunOutcome:
        exit_status = attempts.exit_status_of(status)
        self._record.state = self._record.attempts[-1].state
        if not status.is_ended:
            self._save_record()
            if self._settings.fetch:
                self._tell(f"not fetched: {', '.join(self._settings.fetch)}")
            text = f"{status.host_id}: {status.describe()}: the run may still go on there"
            if self._settings.retries and not self._settings.allow_split:
                text += ", so no other host takes over (--allow-split would let one)"
            text += f"; reattach with {self._hint('train --attach', self._record.argument)}"
            return RunOutcome(exit_status, text)
        remove_spare(self._record.checkpoint)
        if self._settings.fetch:
            self._fetch(self.jobs[0], self._settings.fetch, self._record.folder)
        if self._settings.metrics:
            self._fetch(self.jobs[0], self._settings.metrics, self._record.metrics)
        # Not before: a reattached run that has ended fetches nothing.
        self._record.ended_at, self._record.exit_status = time.time(), exit_status
        self._save_record()
        is_commands = status.state in (JobState.FAILED, JobState.KILLED)
        return RunOutcome(exit_status, f"{status.host_id}: {status.describe()}", is_commands)

    def _fetch(self, job: Job, items: Sequence[str], folder: Path) -> None:
        cwd = self._folder(job.client)
        key = self._key(self._record.attempts[-1].attempt)
        limit = self._last_transfers
        for text in fetch_written(job.client, cwd, items, key, folder, limit):
            self._tell(text)

    def _hint(self, task: str, argument: str) -> str:
        command = self._record.hint(f"{task} {argument}")
        return f"'{command}'"


def _was_cut_off(status: JobStatus) -> bool:
    """Return whether the job may have been ended while it wrote a checkpoint.

    Then only the file that is written last shows that a checkpoint is complete.
    """
    if status.state in (JobState.KILLED, JobState.LOST):
        return True
    return not (status.is_ended or status.state.is_live)


def _may_have_started(error: Exception) -> bool:
    """Return whether a job may exist without an answer: then there must not be a second one."""
    return isinstance(error, JobNotStartedError) and error.is_unknown

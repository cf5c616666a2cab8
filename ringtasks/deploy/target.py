"""One host of a rollout: runs its steps and returns the outcome of each.

If an answer is lost, a script of ringtasks' own runs again; one with users' commands never does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ringtasks.client.dialogue import Ask
from ringtasks.client.result import SSHResult
from ringtasks.client.retries import LinkRetries
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.capture import Capture
from ringtasks.common.text import bounded, joined_lines, printable
from ringtasks.errors import RingtasksError, UsageError
from ringtasks.exit_status import INTERRUPTED, TIMED_OUT, UNREACHABLE, USAGE
from ringtasks.remote.answers import lines_by_name
from ringtasks.remote.paths import joined
from ringtasks.ssh.link import STDOUT

from . import steps
from .lease import is_dead
from .locking import LockState, parse_held
from .records import (
    Event,
    EventKind,
    HostState,
    Precheck,
    parse_precheck,
    parse_state,
    superfluous,
    way_back,
)
from .report import EndState, HostReport, StepReport
from .rollout import RolloutObserver
from .source import ReleaseSource
from .steps import AppFolder, DeployPlan, HostStep

__all__ = ["HELD_STATUS", "StepOutcome", "Target"]

#: Exit status: another deploy holds the lock (sysexits.h, EX_TEMPFAIL).
HELD_STATUS = 75
#: The number of lost links that a step survives.
_MOST_LOSSES = 5
_LOCK_INTERVAL = 1.0
_LAST_QUESTION_TIMEOUT = 20.0
_HELD_OUTPUT = (
    "the commands have ended, but until the time limit of {:g} s a process that they left running "
    "held their output; redirect it: './daemon >daemon.log 2>&1 &'"
)
_OUTPUT_BYTES = 64 * 1024
_OUTPUT_LINES, _LINE_CHARACTERS = 30, 500


class StepOutcome(NamedTuple):
    """Outcome of a step; ``error`` None: it succeeded.

    ``returncode`` is as in `HostReport`; 255: the step may or may not have been done.  ``said`` is
    the script's stdout, ``output`` the end of the users' commands' output.
    """

    error: str | None = None
    returncode: int = 0
    said: str = ""
    output: str = ""

    def __bool__(self) -> bool:
        return self.error is None

    @property
    def is_known(self) -> bool:
        """False if the step may or may not have been done."""
        return self.returncode != UNREACHABLE


class Target:
    """Host of a rollout; for one thread at a time, except `renew`.

    ``precheck`` is the host's first answer, ``state`` its state when it was locked.  ``stop`` ends
    the running step.  ``loss`` is the reason why the lock was lost while a step ran.
    """

    def __init__(
        self, client: SSHClient, place: AppFolder, plan: DeployPlan, watcher: RolloutObserver
    ) -> None:
        self.client, self.place, self.plan = client, place, plan
        self.report = HostReport(client.config.id, is_current_known=False)
        self.precheck = Precheck()
        self.state = HostState()
        self.stop = Cancellation()
        self.loss: str | None = None
        self._has_locked = False
        self._has_switched = False
        """True if the switch was made or may have been made."""
        self._watcher = watcher

    def look(self) -> StepOutcome:
        """Check the host for obstacles to a deploy; change nothing."""
        return self._step("precheck", self._look)

    def lock(self) -> StepOutcome:
        """Take the lock; replace that of a deploy that has ended."""
        outcome = self._step("lock", self._lock)
        self._has_locked = bool(outcome)
        return outcome

    def renew(self, cancellation: Cancellation) -> LockState | None:
        """Renew the lock, as `lease.Renew` describes; callable from any thread."""
        result = self._asked(steps.renew(self.plan, self.place), cancellation)
        return None if result.success else self._other_holder(result.stdout)

    def stage(self) -> StepOutcome:
        """Send the release and build it; switch nothing."""
        source = self.plan.source
        assert source is not None  # noqa: S101  # without a source there is no stage step
        if self.state.content == source.content:
            outcome = self._run(steps.build(self.plan, self.place, None))
            if "changed" not in outcome.said.splitlines():
                return outcome
        sent = self._step("upload", lambda: self._upload(source))
        return sent and self._run(steps.build(self.plan, self.place, source.content))

    def activate(self) -> StepOutcome:
        """Switch to the release, restart and check."""
        for step in steps.activation(self.plan, self.place, self.state.current):
            if step.name == "switch":
                self._has_switched, self.report.is_current_known = True, False
            outcome = self._run(step)
            if not outcome:
                return outcome
            if step.name == "switch":
                self.report.current, self.report.is_current_known = self.plan.release.id, True
        return StepOutcome()

    def ask_current(self) -> None:
        """Learn the current release from the host, if it is not sure: it may be another's by now.

        A host that was never reached is not asked again.
        """
        report = self.report
        if report.returncode == UNREACHABLE and report.transport_used is None:
            return
        if report.is_current_known and report.error is None:
            return
        report.is_current_known = False
        self.stop = Cancellation()
        step = steps.precheck(self.plan, self.place)
        result = self._asked(step._replace(timeout=_LAST_QUESTION_TIMEOUT))
        if result.success:
            self._learn_current(parse_state(result.stdout))

    def revert(self) -> StepOutcome:
        """Undo `activate`, after its success or its failure."""
        link = self._link_before()
        why = self.report.error or "reverted with the others"
        undo, *confirmation = steps.revert(self.plan, self.place, link, why)
        self.report.is_current_known = False
        outcome = self._run(undo)
        if not outcome:
            return outcome
        self._learn_current(parse_state(outcome.said))
        for step in confirmation if self._has_switched else ():
            if not self._run(step):
                break  # the link is restored all the same; the report has the error
        return StepOutcome()

    def finish(self) -> StepOutcome:
        """Remove old releases and release the lock."""
        removed = self.superfluous() if self.report.end_state is EndState.DEPLOYED else ()
        is_unchanged = self.report.end_state is EndState.UNCHANGED
        failed = self.report.error if is_unchanged and self.plan.source else None
        step = steps.finish(self.plan, self.place, removed, failed)
        if not self._has_locked:  # the answer was lost; there is nothing to remove
            step = step._replace(timeout=_LAST_QUESTION_TIMEOUT)
        outcome = self._run(step)
        if outcome:
            told = lines_by_name(outcome.said)
            self.report.removed = tuple(name for name in removed if name in told["removed"])
            left = (joined(self.place.root, bounded(path)) for path in told["left"])
            self.report.left = tuple(left)
        return outcome

    def unlock(self, reason: str) -> tuple[StepOutcome, LockState | None]:
        """Remove the lock of any deploy; return the outcome and the lock (None: there was none)."""
        result = self._own(steps.unlock(self.plan, self.place, reason))
        return self._told(result, is_ours=True), parse_held(result.stdout)

    def again(self, plan: DeployPlan) -> Target:
        """Return a target for the same host and another plan."""
        target = Target(self.client, self.place, plan, self._watcher)
        target.precheck, target.state = self.precheck, self.state
        target.report.transport_used = self.report.transport_used
        return target

    def outlook(self) -> Sequence[HostStep]:
        """Return the steps that a rollout would run, as far as the host's state is known."""
        plan, place, state = self.plan, self.place, self.state
        found = [steps.lock(plan, place)]
        if plan.source is not None:
            is_there = state.content == plan.source.content
            if not is_there:
                found.append(steps.room(plan, place))
            found.append(steps.build(plan, place, None if is_there else plan.source.content))
        found += steps.activation(plan, place, state.current)
        return [*found, steps.finish(plan, place, self.superfluous(), None)]

    def superfluous(self) -> tuple[str, ...]:
        """Return the releases to remove once this one is good."""
        return superfluous(self._state_now(), self.plan.settings.keep)

    def _look(self) -> StepOutcome:
        result = self._asked(steps.precheck(self.plan, self.place))
        if not result.success:
            return self._told(result)
        self.report.transport_used = result.transport_used
        self.precheck = parse_precheck(result.stdout)
        self.state = self.precheck.state
        self._learn_current(self.state)
        found = list(self.precheck.problems)
        source = self.plan.source
        if source is not None:
            lacking = [name for name in self.precheck.lacking if not source.has(name)]
            found += [f"shared/{name}: is not on the host: put it there" for name in lacking]
        return StepOutcome("; ".join(found), 1) if found else StepOutcome()

    def _lock(self) -> StepOutcome:
        began, first, dead = time.monotonic(), None, ""
        while True:
            result = self._own(steps.lock(self.plan, self.place, dead))
            state = parse_state(result.stdout)
            if result.success:
                self.state = state
                self._learn_current(state)
                self.report.previous = self.report.current
                return StepOutcome()
            held = self._other_holder(result.stdout)
            if held is None:
                return self._told(result)
            if is_dead(held.token) and held.token != dead:
                dead = held.token
                continue
            if first is None:
                first = held
                self._watcher.say(f"{self.report.host}: locked by {held}: is it still there?")
            # If the lock was renewed or another deploy took it, its holder is running.
            self._learn_current(state)
            is_alive = (held.token, held.until) != (first.token, first.until)
            if is_alive and time.monotonic() - began >= self.plan.wait:
                return StepOutcome(f"locked by {held}", HELD_STATUS)
            self.stop.wait(_LOCK_INTERVAL)
            if self.stop.is_cancelled:
                return StepOutcome("interrupted", INTERRUPTED)

    def _upload(self, source: ReleaseSource) -> StepOutcome:
        result = self._own(steps.room(self.plan, self.place))
        if not result.success:
            return self._told(result)
        from .upload import upload, upload_to  # not needed if the files are unchanged

        host_copy = upload_to(self.client, self.plan.settings, self.stop)
        try:
            upload(host_copy, self.place, source)
        finally:
            self.report.sent_bytes += host_copy.ended().sent_bytes
        return StepOutcome()

    def _run(self, step: HostStep) -> StepOutcome:
        if step.is_users:
            return self._step(step.name, lambda: self._run_users(step))
        return self._step(step.name, lambda: self._told(self._own(step)))

    def _run_users(self, step: HostStep) -> StepOutcome:
        result, output = self._users(step)
        if step.limit is not None and (result.timed_out or result.returncode == 1):
            outcome = _without_success(step.limit, output)
        elif result.timed_out and steps.ENDED in result.stdout.splitlines():
            outcome = StepOutcome(_HELD_OUTPUT.format(step.timeout), TIMED_OUT)
        else:
            held = self._holder_that_ended(result)
            outcome = self._told(result) if held is None else self._without_lock(held)
        return outcome._replace(output=output)

    def _holder_that_ended(self, result: SSHResult) -> LockState | None:
        """Return the new lock if the host may have ended commands because ours was lost."""
        if result.returncode != UNREACHABLE or self.stop.is_cancelled:
            return None
        return self.renew(self.stop)

    def _own(self, step: HostStep) -> SSHResult:
        """Run one of our own scripts; while the host is unreachable, try again."""
        retries = LinkRetries(_MOST_LOSSES, is_reached=True)
        while True:
            result = self._asked(step)
            delay = retries.delay(result)
            if delay is None or self.stop.is_cancelled:
                return result
            self.stop.wait(delay)

    def _asked(self, step: HostStep, cancellation: Cancellation | None = None) -> SSHResult:
        stop = cancellation or self.stop
        return self.client.ask(Ask(step.script, step.timeout, cancellation=stop))

    def _users(self, step: HostStep) -> tuple[SSHResult, str]:
        """Run a script with users' commands once; return the result and the end of its stderr."""
        out, err = Capture(_OUTPUT_BYTES), Capture(_OUTPUT_BYTES)

        def on_output(stream: int, chunk: bytes) -> None:
            if stream == STDOUT:
                out.add(chunk)
                return
            err.add(chunk)
            self._watcher.output(self.report.host, chunk)

        ask = Ask(
            step.script,
            step.timeout,
            env={**self.plan.settings.env, **self.plan.secrets},
            in_venv=True,
            on_output=on_output,
            cancellation=self.stop,
        )
        result = self.client.ask(ask)
        stdout, stderr = (
            self.plan.conceal(stream.getvalue().decode("utf-8", "replace")) for stream in (out, err)
        )
        lines = [line[:_LINE_CHARACTERS] for line in stderr.splitlines()[-_OUTPUT_LINES:]]
        return replace(result, stdout=stdout, stderr=stderr), "\n".join(lines)

    def _told(self, result: SSHResult, *, is_ours: bool = False) -> StepOutcome:
        """Return the outcome that a script's result means.

        :param is_ours: a lock in the output is expected and no error.
        """
        if result.success:
            return StepOutcome(said=result.stdout)
        held = self._other_holder(result.stdout)
        if held is not None and not is_ours:
            return self._without_lock(held)
        if result.error is not None:
            own = result.error.removeprefix(f"{self.report.host}: ")
            return StepOutcome(self.plan.conceal(joined_lines(own)), result.returncode)
        said = [line for line in result.stderr.splitlines() if line.strip()]
        why = f": {printable(said[-1][:_LINE_CHARACTERS])}" if said else ""
        return StepOutcome(f"exit status {result.returncode}{why}", 1)

    def _without_lock(self, held: LockState) -> StepOutcome:
        return StepOutcome(f"{held.as_loss}: nothing more was done", HELD_STATUS)

    def _other_holder(self, stdout: str) -> LockState | None:
        held = parse_held(stdout)
        return held if held and held.token != self.plan.token else None

    def _learn_current(self, state: HostState) -> None:
        self.report.current, self.report.is_current_known = state.stands_on, True

    def _link_before(self) -> str | None:
        """Return the target to restore for ``current``.

        It is the earlier target; if that release is missing or has failed, the last good release.
        """
        state = self.state
        is_bad = state.current and state.verdict(state.current) == EventKind.FAILED
        is_gone = state.current and state.current not in state.releases
        if not (is_bad or is_gone):
            return state.link
        good = way_back(state)
        return f"releases/{good}" if good else None

    def _state_now(self) -> HostState:
        """Return the state that results once the release is recorded as good."""
        release = self.plan.release
        good = Event("", EventKind.GOOD, release.id, release.revision, "", "", "")
        return replace(
            self.state,
            link=f"releases/{release.id}",
            releases=tuple(dict.fromkeys((*self.state.releases, release.id))),
            history=(*self.state.history, good),
        )

    def _step(self, name: str, do: Callable[[], StepOutcome]) -> StepOutcome:
        """Do a step, and add its result to the report.

        An error of this machine, such as a full disk, is the host's too: the rollout has to go on
        to release the locks.
        """
        report, began = self.report, time.monotonic()
        try:
            outcome = do()
        except (RingtasksError, OSError) as error:
            told = joined_lines(str(error)).removeprefix(f"{report.host}: ")
            status = USAGE if isinstance(error, UsageError) else getattr(error, "returncode", 1)
            outcome = StepOutcome(told, status)
        if self.loss is not None and outcome.returncode == INTERRUPTED:
            outcome = outcome._replace(
                error=f"{self.loss}; {outcome.error}", returncode=HELD_STATUS
            )
        elapsed_ms = round((time.monotonic() - began) * 1000, 3)
        step = StepReport(name, elapsed_ms, outcome.error, outcome.output)
        report.steps.append(step)
        if not outcome:
            report.error = "; ".join(filter(None, [report.error, f"{name}: {outcome.error}"]))
            report.returncode = report.returncode or outcome.returncode
        self._watcher.step_ended(report.host, step)
        return outcome


def _without_success(limit: float, output: str) -> StepOutcome:
    """Return the outcome of a check that did not succeed; an attempt that failed has an output.

    The time limit may also end the last attempt of a check that fails: only a check that did
    nothing but hang has timed out.
    """
    last = output.splitlines()[-1:]
    why = f": {printable(last[0])}" if last else ""
    return StepOutcome(f"has not succeeded in {limit:g} s{why}", 1 if last else TIMED_OUT)

"""A rollout over all hosts: does the steps that `rollout` decides, then releases the locks.

After the first Ctrl-C, no new step begins, running steps are ended, and switched hosts are
reverted.  After the second, each host keeps the whole release that it is on, and the locks expire.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Sequence

from ringtasks.common import interruption
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.fanout import FANOUT, each
from ringtasks.common.program_name import as_typed
from ringtasks.exit_status import INTERRUPTED, TIMED_OUT, UNREACHABLE

from .lease import Lease, life_sign
from .report import DeployReport, EndState
from .rollout import Action, Rollout, RolloutObserver, RolloutStep
from .steps import DeployPlan
from .target import HELD_STATUS, Target

__all__ = ["Deployment", "exit_status"]


class Deployment:
    """One rollout; ``report`` is complete when `run` returns or raises.

    :param targets: the hosts, in the order in which to switch them.
    """

    def __init__(
        self, plan: DeployPlan, targets: Sequence[Target], watcher: RolloutObserver
    ) -> None:
        settings, release = plan.settings, plan.release
        self.plan = plan
        self.report = DeployReport(
            action="deploy" if plan.source else "rollback",
            release=release.id,
            revision=release.revision,
            who=release.who,
            link=release.link,
            hosts=[target.report for target in targets],
        )
        self._targets = {target.report.host: target for target in targets}
        self._watcher = watcher
        self._lock = threading.Lock()
        self._rollout = Rollout(
            list(self._targets),
            batch_size=settings.batch_size(len(targets)),
            max_failures=settings.failure_limit(len(targets)),
            stages=plan.source is not None,
            reverts=settings.revert,
        )
        self._lease = Lease()
        #: Printed if a signal ends the process at once; the hosts may all be reverted by then.
        self.remains = f"exited at once: '{as_typed('deploy.status')}' shows the hosts"

    def run(self) -> DeployReport:
        """Deploy or roll back, and return the report.

        :raises KeyboardInterrupt: Ctrl-C was pressed twice; the report gives each host's state.
        """
        began = time.monotonic()
        try:
            with life_sign(self.plan.token), self._lease:
                while (step := self._rollout.next()) is not None:
                    self._interruptible(step)
            for _ in each(list(self._targets.values()), Target.ask_current):
                pass
            for host in self.report.hosts:
                is_other = host.is_current_known and host.current != self.plan.release.id
                if host.end_state is EndState.FAILED and is_other:
                    host.end_state = EndState.UNKNOWN  # it is not on that release
        finally:
            self.report.elapsed_ms = round((time.monotonic() - began) * 1000, 3)
        return self.report

    def _interruptible(self, step: RolloutStep) -> None:
        begun: set[str] = set()
        try:
            with self._ending_announced(step):
                self._do(step, begun)
        except KeyboardInterrupt:
            if self.report.is_interrupted:
                raise
            self.report.is_interrupted = True
            self._rollout.undone(step, [host for host in step.hosts if host not in begun])
            with self._lock:
                self._rollout.stop()

    def _ending_announced(self, step: RolloutStep) -> contextlib.AbstractContextManager[None]:
        """Allow the steps that end and repair a deploy all their time, once it changes hosts."""
        if step.action is Action.LOOK:
            return contextlib.nullcontext()
        return interruption.ending(
            math.inf,
            "interrupted: Ctrl-C again leaves everything as it is",
            remains=self.remains,
            reports=True,
        )

    def _do(self, step: RolloutStep, begun: set[str]) -> None:
        if self._rollout.is_stopped:
            self._begin_anew()
        self._watcher.action_began(step.action, step.hosts)
        do = functools.partial(self._act, step, begun)
        # The first Ctrl-C does not end a revert or a finish: they repair the hosts.
        is_repair = step.action in (Action.REVERT, Action.FINISH)
        on_interrupt = (lambda: None) if is_repair else self._end
        for hosts in [[host] for host in step.hosts] if step.in_order else [step.hosts]:
            for _ in each(hosts, do, FANOUT, on_interrupt=on_interrupt):
                pass
            if self._rollout.is_stopped:
                break
        self._watcher.action_ended(step.action)

    def _act(self, step: RolloutStep, begun: set[str], host: str) -> None:
        begun.add(host)
        target = self._targets[host]
        outcome = {
            Action.LOOK: target.look,
            Action.LOCK: target.lock,
            Action.STAGE: target.stage,
            Action.ACTIVATE: target.activate,
            Action.REVERT: target.revert,
            Action.FINISH: target.finish,
        }[step.action]()
        if step.action is Action.LOCK and outcome:
            self._lease.add(target.renew, functools.partial(self._lost, target))
        with self._lock:
            self._rollout.ended(step, host, is_well=bool(outcome), is_known=outcome.is_known)
            target.report.end_state = self._rollout.end_state[host]

    def _lost(self, target: Target, why: str) -> None:
        target.loss = why
        target.report.is_current_known = False  # the new holder may switch it
        self._watcher.say(f"{target.report.host}: {why}")
        with self._lock:
            self._rollout.stop()
        self._end()

    def _begin_anew(self) -> None:
        """Renew the `Cancellation` of each ended target, so that steps can run that repair it."""
        for target in self._targets.values():
            if target.stop.is_cancelled:
                target.stop = Cancellation()

    def _end(self) -> None:
        """End the running steps."""
        for target in self._targets.values():
            target.stop.cancel()


def exit_status(report: DeployReport) -> int:
    """Return 0 if all hosts were deployed, else the first status of this list that applies.

    130: interrupted; 75: another deploy holds a lock, or this one has lost one; 255: a host was not
    reached, or its state is not known; 124: a time limit passed; 1: something failed.
    """
    if report.is_interrupted:
        return INTERRUPTED
    if report:
        return 0
    failed = {host.returncode for host in report.hosts if host.error}
    if any(host.end_state is EndState.UNKNOWN for host in report.hosts):
        failed.add(UNREACHABLE)
    return next((status for status in (HELD_STATUS, UNREACHABLE, TIMED_OUT) if status in failed), 1)

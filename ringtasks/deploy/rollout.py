"""The order of a rollout's steps and hosts.  Pure: results of steps in, the next step out.

::

    LOOK ──> LOCK ──> STAGE ──> ACTIVATE a batch, again and again ──> FINISH
                                  │      ^
                                  v      │ (failures within the limit)
                                 REVERT ─┘
                                  │ (too many, or stopped: all switched hosts, the last first)
                                  └──────────────────────────────────> FINISH

No host is switched before all are staged.  A host whose activation failed counts as switched, so
that it is reverted even if only the answer was lost.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from .report import EndState, StepReport

__all__ = ["Action", "Rollout", "RolloutObserver", "RolloutStep"]


class Action(str, enum.Enum):
    """Action of a step; the value is shown to people."""

    LOOK = "look"
    LOCK = "lock"
    STAGE = "stage"
    ACTIVATE = "activate"
    REVERT = "revert"
    FINISH = "finish"


class RolloutObserver:
    """Observer of a rollout; ignores events, unless a method is overridden.

    Its methods are called as events happen, from several threads.
    """

    def action_began(self, action: Action, hosts: Sequence[str]) -> None:
        """Show that an action begins on these hosts."""

    def action_ended(self, action: Action) -> None:
        """Show that an action has ended on all of its hosts."""

    def output(self, host: str, chunk: bytes) -> None:
        """Show output of a user's command on the host."""

    def step_ended(self, host: str, step: StepReport) -> None:
        """Show that a step has ended on a host."""

    def say(self, text: str) -> None:
        """Show a message to people."""


class RolloutStep(NamedTuple):
    """Action to do on hosts.

    ``in_order``: one host after another, in this order; after a failure the rest are left out.
    """

    action: Action
    hosts: tuple[str, ...]
    in_order: bool = False


class Rollout:
    """Decisions of one rollout over ``hosts``.

    :param batch_size: number of hosts to activate at once.
    :param max_failures: number of failed activations that stops the rollout; at least 1.
    :param stages: the release has to be sent to the hosts first.
    :param reverts: revert switched hosts on failure.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        batch_size: int,
        max_failures: int = 1,
        stages: bool = True,
        reverts: bool = True,
    ) -> None:
        # All deploys lock in the same order: of two to the same hosts, one gets every lock.
        self._hosts = tuple(sorted(hosts))
        self.end_state = dict.fromkeys(hosts, EndState.UNCHANGED)
        self.is_stopped = False
        self._batch_size, self._max_failures = batch_size, max_failures
        self._reverts = reverts
        self._before = [Action.LOOK, Action.LOCK, *([Action.STAGE] if stages else [])]
        self._later = list(hosts)
        self._locked: list[str] = []
        self._failures = 0
        self._switched: list[str] = []
        """In the order of their switch, without those that were reverted."""
        self._owed: list[str] = []
        """To be reverted, in this order."""

    def next(self) -> RolloutStep | None:
        """Return the next step; None: the rollout is over."""
        if self._owed:
            hosts = self._taken(self._owed)
            self._switched = [host for host in self._switched if host not in hosts]
            return RolloutStep(Action.REVERT, hosts)
        if not self.is_stopped and self._before:
            action = self._before.pop(0)
            return RolloutStep(action, self._hosts, in_order=action is Action.LOCK)
        if not self.is_stopped and self._later:
            return RolloutStep(Action.ACTIVATE, self._taken(self._later))
        if self._locked:
            return RolloutStep(Action.FINISH, self._taken(self._locked, all_of_them=True))
        return None

    def ended(self, step: RolloutStep, host: str, *, is_well: bool, is_known: bool = True) -> None:
        """Record the result of a step on a host.

        :param is_known: False: it is unknown if the step was done.
        """
        failed = EndState.FAILED if is_known else EndState.UNKNOWN
        if step.action is Action.ACTIVATE:
            self.end_state[host] = EndState.DEPLOYED if is_well else failed
            self._activated(host, is_well=is_well)
        elif step.action is Action.REVERT:
            self.end_state[host] = EndState.REVERTED if is_well else failed
        elif step.action is not Action.FINISH:
            if step.action is Action.LOCK:
                # The host may have taken the lock though the answer was lost; releasing a lock that
                # was not taken does no harm.
                self._locked.append(host)
            elif step.action is Action.STAGE and is_well:
                self.end_state[host] = EndState.STAGED
            self._stop_unless(is_well)

    def undone(self, step: RolloutStep, hosts: Sequence[str]) -> None:
        """Queue again the hosts on which a step was not begun, if it is a revert or a finish.

        No other step would revert these hosts or release their locks.
        """
        if step.action is Action.REVERT:
            self._owed = [*hosts, *self._owed]
        elif step.action is Action.FINISH:
            self._locked = [*hosts, *self._locked]

    def stop(self) -> None:
        """Begin no further look, lock, stage or activation; revert switched hosts (``reverts``)."""
        if self.is_stopped:
            return
        self.is_stopped = True
        if self._reverts:
            self._owed = self._switched[::-1]

    def _activated(self, host: str, *, is_well: bool) -> None:
        self._switched.append(host)
        if self._reverts and (self.is_stopped or not is_well):
            self._owed.insert(0, host)
        if not is_well:
            self._failures += 1
            self._stop_unless(self._failures < self._max_failures)

    def _stop_unless(self, is_well: bool) -> None:
        if not is_well:
            self.stop()

    def _taken(self, queue: list[str], *, all_of_them: bool = False) -> tuple[str, ...]:
        size = len(queue) if all_of_them else self._batch_size
        taken = tuple(queue[:size])
        del queue[:size]
        return taken

"""What is done next, on which hosts.  Pure: it is told how each step ended, and does no I/O.

::

    LOOK ──> LOCK ──> STAGE ──> ACTIVATE a batch, again and again ──> FINISH
                                  │      ^
                                  v      │ (failures within the limit)
                                 REVERT ─┘
                                  │ (too many, or stopped: all that were switched, the last first)
                                  └──────────────────────────────────> FINISH

Nothing is switched before all could be staged.  A host whose activation failed counts as switched,
so that an answer that was lost is put right too.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from .report import Standing

__all__ = ["Action", "Rollout", "Step"]


class Action(str, enum.Enum):
    """What a host is to do; the value is what people read."""

    LOOK = "look"
    LOCK = "lock"
    STAGE = "stage"
    ACTIVATE = "activate"
    REVERT = "put back"
    FINISH = "finish"


class Step(NamedTuple):
    """``in_order``: one host after another, in this order, and none after one that failed."""

    action: Action
    hosts: tuple[str, ...]
    in_order: bool = False


class Rollout:
    """One rollout over ``hosts``.

    :param batch_size: so many are activated at once.
    :param max_failures: so many failed activations stop it; fewer do not. At least 1.
    :param stages: whether the release has to be brought to the hosts first.
    :param reverts: whether those that were switched are put back.
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
        # In one order for everybody: of two who deploy to the same hosts, one gets them all.
        self._hosts = tuple(sorted(hosts))
        self.standing = dict.fromkeys(hosts, Standing.UNTOUCHED)
        self.is_stopped = False
        self._batch_size, self._max_failures = batch_size, max_failures
        self._reverts = reverts
        self._before = [Action.LOOK, Action.LOCK, *([Action.STAGE] if stages else [])]
        self._later = list(hosts)
        self._locked: list[str] = []
        self._failures = 0
        self._switched: list[str] = []
        """In their order; those that were put back are not in it any more."""
        self._owed: list[str] = []
        """To be put back, the first first."""

    def next(self) -> Step | None:
        """What is to be done now; None: it is over."""
        if self._owed:
            hosts = self._taken(self._owed)
            self._switched = [host for host in self._switched if host not in hosts]
            return Step(Action.REVERT, hosts)
        if not self.is_stopped and self._before:
            action = self._before.pop(0)
            return Step(action, self._hosts, in_order=action is Action.LOCK)
        if not self.is_stopped and self._later:
            return Step(Action.ACTIVATE, self._taken(self._later))
        if self._locked:
            return Step(Action.FINISH, self._taken(self._locked, all_of_them=True))
        return None

    def ended(self, step: Step, host: str, *, is_well: bool, is_known: bool = True) -> None:
        """How a step ended on a host.

        :param is_known: False: whether it was done cannot be found out.
        """
        if step.action is Action.LOOK:
            self._stop_unless(is_well)
        elif step.action is Action.LOCK:
            # A lock may be ours though we never heard of it: giving it back costs nothing.
            self._locked.append(host)
            self._stop_unless(is_well)
        elif step.action is Action.STAGE:
            if is_well:
                self.standing[host] = Standing.STAGED
            self._stop_unless(is_well)
        elif step.action is Action.ACTIVATE:
            self._activated(host, is_well=is_well, is_known=is_known)
        elif step.action is Action.REVERT:
            if is_well:
                self.standing[host] = Standing.REVERTED
            else:
                self.standing[host] = Standing.FAILED if is_known else Standing.UNKNOWN

    def undone(self, step: Step, hosts: Sequence[str]) -> None:
        """These were not begun, and have to be: nobody else puts back, or gives back a lock."""
        if step.action is Action.REVERT:
            self._owed = [*hosts, *self._owed]
        elif step.action is Action.FINISH:
            self._locked = [*hosts, *self._locked]

    def stop(self) -> None:
        """Begin nothing new; what was switched is put back."""
        if self.is_stopped:
            return
        self.is_stopped = True
        if self._reverts:
            self._owed = self._switched[::-1]

    def _activated(self, host: str, *, is_well: bool, is_known: bool) -> None:
        self._switched.append(host)
        if is_well:
            self.standing[host] = Standing.DEPLOYED
            if self.is_stopped and self._reverts:
                self._owed.insert(0, host)
            return
        self.standing[host] = Standing.FAILED if is_known else Standing.UNKNOWN
        if self._reverts:
            self._owed.insert(0, host)
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

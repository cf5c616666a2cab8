"""The threads of a run: each takes hosts from the schedule until none is left for it.

The client blocks, so each host under way has a thread.  A thread that has finished a host takes
the next one; the dispatcher starts further threads when a delay, a batch or a parked host has made
room, and records the hosts that were never started.
"""

from __future__ import annotations

import collections
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from ringtasks.common import processor
from ringtasks.common.text import counted
from ringtasks.common.threads import start_thread
from ringtasks.errors import UsageError

from .host_run import HostRun
from .overload import retry_delay
from .results import FleetState, HostResult
from .schedule import Schedule, Ticket

__all__ = ["Workers"]


class Workers:
    """Runs the hosts in the order of the schedule and puts one answer per host into ``answers``.

    :param stdin: returns a reader of the input for one host; None if the input is empty.
    """

    def __init__(
        self,
        runs: Sequence[HostRun],
        schedule: Schedule,
        stdin: Callable[[], BinaryIO | None],
    ) -> None:
        self.answers: queue.SimpleQueue[HostResult | BaseException] = queue.SimpleQueue()
        self._runs, self._schedule, self._stdin = runs, schedule, stdin
        self._changed = threading.Condition()
        self._under_way: set[Ticket] = set()
        self._reached: collections.deque[tuple[Ticket, threading.Event]] = collections.deque()
        """Parked hosts that were reached after all, each with the event its thread waits for."""
        self._is_stopped = False
        self._processor: int | None = None

    @property
    def is_over(self) -> bool:
        """True if every host has ended and every answer was taken."""
        with self._changed:
            return self._schedule.is_over and self.answers.empty()

    def start(self) -> None:
        """Start the threads and return at once.

        :raises UsageError: this machine allows no thread.
        """
        if not any(run.keeps_client for run in self._runs):  # whose threads stay after the run
            self._processor = processor.current()
        start_thread(self._dispatch, name="ringtasks-fleet")

    def stop(self) -> bool:
        """Start no more hosts and end the running commands; callable from any thread.

        A host whose command has not started gets its answer at once: its thread may still wait
        for the host, but no longer starts the command.

        :returns: False if the run was stopped before.
        """
        with self._changed:
            if self._is_stopped:
                return False
            self._is_stopped = True
            under_way = list(self._under_way)
        for ticket in under_way:
            self._runs[ticket.index].cancel()
        with self._changed:
            self._admit()
            for ticket in under_way:
                if not self._runs[ticket.index].is_reached:
                    self._end(ticket, self._skipped(ticket, "interrupted before it was reached"))
            self._changed.notify_all()
        return True

    def _dispatch(self) -> None:
        processor.stay_on(self._processor)  # with the threads that it starts
        while (ticket := self._next()) is not None:
            # Not under the lock: threads that have started need it.
            try:
                start_thread(self._work, ticket, name="ringtasks-fleet-host")
            except UsageError:  # this machine allows no more: the threads that run must do
                self._work(ticket)

    def _next(self) -> Ticket | None:
        """Wait for the next host that needs a thread; None when the run is over."""
        with self._changed:
            while not self._schedule.is_over:
                self._skip_the_rest_if_stopped()
                now = time.monotonic()
                self._schedule.park(now)
                self._admit()
                ticket = self._take()
                if ticket is not None:
                    return ticket
                if not self._schedule.is_over:
                    self._changed.wait(self._schedule.next_wake(now))
        return None

    def _skip_the_rest_if_stopped(self) -> None:
        if self._is_stopped:
            reason = "interrupted before it was started"
        elif self._schedule.has_enough():
            reason = f"not started: {counted(self._schedule.failures, 'failure')} before"
        else:
            return
        for ticket in self._schedule.give_up():
            run = self._runs[ticket.index]
            self.answers.put(run.given_up() if ticket.attempts else self._skipped(ticket, reason))

    def _take(self) -> Ticket | None:
        if self._is_stopped or self._schedule.has_enough():
            return None
        ticket = self._schedule.take(time.monotonic())
        if ticket is not None:
            self._under_way.add(ticket)
        return ticket

    def _work(self, first: Ticket) -> None:
        ticket: Ticket | None = first
        while ticket is not None:
            answer = self._attempt(ticket)
            with self._changed:
                self._settle(ticket, answer)
                self._admit()
                ticket = self._take()
                self._changed.notify_all()

    def _attempt(self, ticket: Ticket) -> HostResult | BaseException | None:
        run = self._runs[ticket.index]
        try:
            return run.attempt(self._stdin, lambda: self._await_place(ticket))
        except BaseException as error:  # noqa: BLE001  # raised again where the run is waited for
            return error

    def _await_place(self, ticket: Ticket) -> None:
        """Wait until the command of a host that was just reached may start."""
        with self._changed:
            self._schedule.reached(ticket)
            if self._is_stopped or self._schedule.unpark(ticket):
                return
            admitted = threading.Event()
            self._reached.append((ticket, admitted))
        admitted.wait()

    def _admit(self) -> None:
        """Admit reached hosts that wait for a place, before other hosts are started."""
        while self._reached and (self._is_stopped or self._schedule.unpark(self._reached[0][0])):
            self._reached.popleft()[1].set()

    def _settle(self, ticket: Ticket, answer: HostResult | BaseException | None) -> None:
        if ticket not in self._under_way:  # `stop` has answered for it
            return
        if answer is None:
            answer = self._again(ticket)
        if answer is not None:
            self._end(ticket, answer)

    def _again(self, ticket: Ticket) -> HostResult | None:
        """Schedule another attempt, or return the last answer if the host's time is up."""
        run, now = self._runs[ticket.index], time.monotonic()
        delay = retry_delay(ticket.attempts, random.random())  # noqa: S311  # only to spread them
        if self._is_stopped or now + delay > run.patient_until:
            return run.given_up()
        self._under_way.discard(ticket)
        self._schedule.again(ticket, now, delay)
        return None

    def _end(self, ticket: Ticket, answer: HostResult | BaseException) -> None:
        if ticket not in self._under_way:
            return
        self._under_way.discard(ticket)
        is_failure = not isinstance(answer, HostResult) or answer.state not in _NO_FAILURE
        self._schedule.done(ticket, is_failure=is_failure)
        self.answers.put(answer)

    def _skipped(self, ticket: Ticket, reason: str) -> HostResult:
        return self._runs[ticket.index].skipped(reason)


_NO_FAILURE = (FleetState.SUCCEEDED, FleetState.SKIPPED)

"""One host of a run: its client is opened, used and closed in one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import BinaryIO

from ringtasks.client.ask import Ask
from ringtasks.client.result import SSHResult
from ringtasks.client.retries import RETRY_DELAY, Attempts
from ringtasks.client.ssh_client import SSHClient
from ringtasks.common import rehearsal
from ringtasks.common.cancellation import Cancellation
from ringtasks.common.processor import anywhere
from ringtasks.errors import UsageError
from ringtasks.exit_status import USAGE
from ringtasks.health.model import HostOutcome, SSHHealth
from ringtasks.health.recorder import HealthBuffer, HealthRecorder
from ringtasks.inventory.host_settings import SSHConfig

from .overload import is_overload
from .request import FleetRequest
from .results import FleetState, HostResult, skipped, state_of

__all__ = ["HostRun", "OnOutput"]

#: Called with the host's name, 1 (stdout) or 2 (stderr), and the bytes as they arrive.
OnOutput = Callable[[str, int, bytes], None]


class HostRun:
    """The attempts at one host; `Workers` calls `attempt` once for each.

    :param given: a client, which stays open, or the configuration to make one from.
    :param known: the health file's content, read once for all hosts.
    """

    def __init__(
        self,
        given: SSHClient | SSHConfig,
        request: FleetRequest,
        known: Mapping[str, SSHHealth],
        file: HealthRecorder,
    ) -> None:
        self.config = given.config if isinstance(given, SSHClient) else given
        self.host = self.config.id
        self.outcomes: list[HostOutcome] = []
        """The outcomes to record in the health file at the end."""
        self.starts_masters = True
        """Whether it may start a control master if none is running."""
        self.is_reached = False
        """Whether the command may have started; until then `cancel` prevents the start."""
        self._given, self._request = given, request
        self._known, self._file = known, file
        self.on_output: OnOutput | None = None
        self.keeps_output = False
        self._last_open: HostOutcome | None = None
        self._cancellation = Cancellation()
        self._await_place: Callable[[], None] = lambda: None
        self._began_at = 0.0
        self._turned_away: tuple[HostResult, list[HostOutcome]] | None = None

    def attempt(
        self, stdin: Callable[[], BinaryIO | None], await_place: Callable[[], None]
    ) -> HostResult | None:
        """Reach the host and run the command.

        :param stdin: opens the input from its beginning; None if it is empty.
        :param await_place: called when the host is reached; returns when the command may start.
        :returns: None if sshd dropped the log-in for overload: nothing was sent, try again later.
        """
        self._await_place, self._last_open = await_place, None
        self._began_at = self._began_at or time.monotonic()
        notes = HealthBuffer(self._known, self._file)
        client = self._client(notes)
        try:
            answer = self._answer(client, stdin)
        finally:
            if not self.keeps_client:
                client.close_link()
        if answer.state is FleetState.UNREACHABLE and is_overload(self._last_open):
            self._turned_away = answer, notes.outcomes
            return None
        self.outcomes += notes.outcomes
        return answer

    def given_up(self) -> HostResult:
        """Return the answer of the last attempt, which sshd dropped."""
        assert self._turned_away is not None  # noqa: S101  # for the type checker
        answer, outcomes = self._turned_away
        self.outcomes += outcomes
        return answer

    @property
    def keeps_client(self) -> bool:
        """True if its client was there before, and stays open."""
        return isinstance(self._given, SSHClient)

    @property
    def patient_until(self) -> float:
        """The monotonic time until which a dropped log-in is tried again."""
        return self._began_at + self.config.connect_timeout

    def skipped(self, reason: str) -> HostResult:
        """Return the answer of a host that is left out."""
        return skipped(self.host, self._request.label or self._request.command, reason)

    def left(self) -> HostResult:
        """Return the answer of a host that was still running when the run was abandoned."""
        if not self.is_reached:
            return self.skipped("interrupted before it was reached")
        reason = "it may still be running; look before you repeat it"
        unreached = self.skipped("").result
        told = f"{self.host}: {FleetState.UNKNOWN}: {reason}"
        return HostResult(
            self.host, FleetState.UNKNOWN, replace(unreached, error=told, is_unknown=True), reason
        )

    def cancel(self) -> None:
        """End the attempt, from any thread; it returns soon, at the latest when it is connected."""
        self._cancellation.cancel()

    def _client(self, notes: HealthBuffer) -> SSHClient:
        if isinstance(self._given, SSHClient):
            return self._given
        config = self._given
        if not self.starts_masters:
            from ringtasks.ssh.master.lookup import without_new_master

            config = without_new_master(config, self._request.transport)
        client = SSHClient(
            config,
            transport=self._request.transport,
            max_output_bytes=self._request.max_output_bytes,
            on_open=self._opened,
        )
        client._record_in(notes)  # the run writes the outcomes of all hosts at once
        return client

    def _opened(self, outcome: HostOutcome) -> None:
        self._last_open = outcome

    def _reached(self) -> None:
        self._await_place()
        self.is_reached = not self._cancellation.is_cancelled

    def _answer(self, client: SSHClient, stdin: Callable[[], BinaryIO | None]) -> HostResult:
        request = self._request
        attempts = Attempts(request.retries + 1)
        try:
            while not attempts.is_last(result := self._run_once(client, stdin)):
                if self._cancellation.wait(RETRY_DELAY):
                    break
        except UsageError as error:
            return self._unusable(error)
        result = attempts.with_notes(result)
        state = state_of(result)
        return HostResult(
            self.host, state, result, self._reason(state, result), _fallback_note(self._last_open)
        )

    def _run_once(self, client: SSHClient, stdin: Callable[[], BinaryIO | None]) -> SSHResult:
        source = stdin()
        try:
            return self._run(client, source)
        finally:
            if source is not None:
                source.close()

    def _run(self, client: SSHClient, stdin: BinaryIO | None) -> SSHResult:
        request = self._request
        ask = Ask(
            request.command,
            request.timeout,
            request.cwd,
            request.env,
            in_venv=True,
            is_own=False,
            stdin=stdin,
            keeps_output=self.keeps_output,
            on_output=self.on_output and self._show,
            terminal=request.terminal,
            cancellation=self._cancellation,
            before_start=self._reached,
        )
        result = client.ask(ask)
        return result if request.label is None else result.for_command(request.label)

    def _show(self, stream: int, chunk: bytes) -> None:
        assert self.on_output is not None  # noqa: S101  # for the type checker
        with anywhere():  # the caller's function may start programs
            self.on_output(self.host, stream, chunk)

    def _unusable(self, error: UsageError) -> HostResult:
        """Report a configuration that turned out unusable as this host's own failure."""
        told = str(error)
        unreached = replace(self.skipped("").result, returncode=USAGE, error=told)
        reason = told.removeprefix(f"{self.host}: ")
        return HostResult(self.host, FleetState.UNREACHABLE, unreached, reason)

    def _reason(self, state: FleetState, result: SSHResult) -> str:
        if state is FleetState.SUCCEEDED:
            return ""
        if state is FleetState.UNREACHABLE and self._last_open is not None:
            return _reasons(self._last_open) or self._last_open.reason
        if result.error is None:
            return f"exit status {result.returncode}"
        return result.error.removeprefix(f"{self.host}: ")


def _fallback_note(opened: HostOutcome | None) -> str:
    """Name the routes that failed before one worked."""
    if opened is None or not opened.success:
        return ""
    from ringtasks.ssh.attempts import fallback_note  # loaded by the attempt

    return fallback_note(opened)


def _reasons(opened: HostOutcome) -> str:
    """Return the reason of each route, with the mark of a rehearsal; empty: there is none."""
    if rehearsal.current() is None:
        return ""
    from ringtasks.ssh.rehearsal import mark  # loaded by the attempt

    failed = [route for route in opened.routes if not route.success]
    return "; ".join(f"{r.route}: {r.reason}{mark(opened.host, r.route)}" for r in failed)

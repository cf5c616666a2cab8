"""The results of a run: one per host, in the order in which the hosts were named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ringtasks.client.result import SSHResult
from ringtasks.common.text import TextEnum
from ringtasks.exit_status import UNREACHABLE, combined_status

__all__ = ["FleetResult", "FleetState", "HostResult", "skipped", "state_of"]


class FleetState(TextEnum):
    """The outcome of one host; the value is the text shown."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    SKIPPED = "skipped"
    UNKNOWN = "outcome unknown"


@dataclass(frozen=True)
class HostResult:
    """The result of one host; true if it succeeded.

    ``reason`` says in a few words why it failed (``direct: refused``, ``exit status 3``), without
    details that differ from host to host; it is empty for a success.  ``fallback_note`` names the
    routes that failed before one worked; it is empty if the first one worked.
    """

    host: str
    state: FleetState
    result: SSHResult
    reason: str = ""
    fallback_note: str = ""

    def __bool__(self) -> bool:
        return self.state is FleetState.SUCCEEDED

    @property
    def has_run(self) -> bool:
        """True if the command was started, and has ended by itself."""
        return self.state in (FleetState.SUCCEEDED, FleetState.FAILED)


@dataclass(frozen=True)
class FleetResult:
    """The results of all hosts that were named, in that order; true if none failed.

    ``elapsed_ms`` is the duration of the whole run, in milliseconds.
    """

    results: tuple[HostResult, ...]
    elapsed_ms: float = 0.0

    def __bool__(self) -> bool:
        return self.returncode == 0

    def __iter__(self) -> Iterator[HostResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, host: str) -> HostResult:
        """Return the result of a host.

        :raises KeyError: the host was not part of the run.
        """
        for found in self.results:
            if found.host == host:
                return found
        raise KeyError(host)

    def of(self, *states: FleetState) -> tuple[HostResult, ...]:
        """Return the results in one of these states."""
        return tuple(found for found in self.results if found.state in states)

    @property
    def succeeded(self) -> tuple[HostResult, ...]:
        """The hosts on which the command ran and exited 0."""
        return self.of(FleetState.SUCCEEDED)

    @property
    def failed(self) -> tuple[HostResult, ...]:
        """The hosts that failed, were unreachable or timed out, or whose outcome is unknown."""
        return self.of(
            FleetState.FAILED, FleetState.UNREACHABLE, FleetState.TIMED_OUT, FleetState.UNKNOWN
        )

    @property
    def skipped(self) -> tuple[HostResult, ...]:
        """The hosts that were left out."""
        return self.of(FleetState.SKIPPED)

    @property
    def returncode(self) -> int:
        """0 if all succeeded, the one status that all failures share, else 1.

        Skipped hosts do not count; if all were skipped it is 255, since nothing was done.
        """
        if self.results and not (self.succeeded or self.failed):
            return UNREACHABLE
        return combined_status(found.result.returncode for found in self.failed)


def state_of(result: SSHResult) -> FleetState:
    """Return the state that a result of `SSHClient` stands for."""
    if result.success:
        return FleetState.SUCCEEDED
    if result.is_unknown:
        return FleetState.UNKNOWN
    if result.timed_out:
        return FleetState.TIMED_OUT
    is_ours = result.error is not None and result.returncode == UNREACHABLE
    return (
        FleetState.UNREACHABLE if is_ours and result.transport_used is None else FleetState.FAILED
    )


def skipped(host: str, command: str, reason: str) -> HostResult:
    """Return the result of a host that was left out."""
    result = SSHResult(
        success=False,
        returncode=UNREACHABLE,
        stdout="",
        stderr="",
        elapsed_ms=0.0,
        command=command,
        host=host,
        error=f"{host}: skipped: {reason}",
    )
    return HostResult(host, FleetState.SKIPPED, result, reason)

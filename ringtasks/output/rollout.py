"""The display of a rollout: its steps as they end, and at the end the state of each host.

All output goes to stderr; in GitHub Actions, in groups and with annotations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from ringtasks.common.lines import Lines
from ringtasks.common.redaction import MIN_LENGTH
from ringtasks.common.text import counted, visible
from ringtasks.deploy.report import DeployReport, EndState, HostReport, StepReport
from ringtasks.deploy.rollout import Action, RolloutObserver

from . import github
from .screen import Screen

__all__ = ["RolloutView"]

#: Steps that are shown only if they fail.
_QUIET = ("precheck", "lock", "unlock")


class RolloutView(RolloutObserver):
    """Display of a rollout; its methods may be called from any thread.

    :param is_verbose: show the output of the commands as it arrives.
    :param environ: environment variables; they show if GitHub Actions reads the output.
    """

    def __init__(
        self, *, is_verbose: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        self.conceal: Callable[[str], str] = str
        self.before_upload: Callable[[], None] = lambda: None
        self._said: set[str] = set()
        self._environ = environ or {}
        self._in_github = github.is_active(self._environ)
        self._is_verbose = is_verbose
        self._screen = Screen()
        self._lock = threading.Lock()
        self._lines: dict[str, Lines] = {}

    def began(self, report: DeployReport, secrets: Sequence[str]) -> None:
        """Show the beginning of the rollout; call it before the first step."""
        for secret in secrets:
            if len(secret) >= MIN_LENGTH:
                self._tell_github(github.command("add-mask", secret))
        hosts = counted(len(report.hosts), "host")
        self.say(f"{report.action} {report.release} by {report.who}: {hosts}")

    def action_began(self, action: Action, hosts: Sequence[str]) -> None:
        if action is Action.STAGE:
            self.before_upload()
        self._tell_github(github.command("group", f"{action.value}: {counted(len(hosts), 'host')}"))

    def action_ended(self, action: Action) -> None:
        self._tell_github(github.command("endgroup"))

    def output(self, host: str, chunk: bytes) -> None:
        if not self._is_verbose:
            return
        with self._lock:
            lines = self._lines.setdefault(host, Lines()).add(chunk)
        for line in lines:
            self._show(host, line.decode("utf-8", "replace"))

    def step_ended(self, host: str, step: StepReport) -> None:
        for rest in self._lines.pop(host, Lines()).end():
            self._show(host, rest.decode("utf-8", "replace"))
        if step.error is None:
            if step.name in _QUIET:
                return
            self._show(host, f"{step.name}: {step.elapsed_ms / 1000:.2f} s")
            return
        if not self._is_verbose:
            for line in step.output.splitlines():
                self._show(host, line)
        self._show(host, f"{step.name}: FAILED: {step.error}")

    def say(self, text: str) -> None:
        self._print(f"ringtasks: {visible(text)}")

    def say_once(self, text: str) -> None:
        """Print a message, unless it was printed before."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def ended(self, report: DeployReport) -> None:
        """Show the state of each host and the summary."""
        from ringtasks.fleet.folding import groups_of  # imported late: the rollout has ended

        for end_state in EndState:
            own = [host for host in report.hosts if host.end_state is end_state]

            def told(host: HostReport) -> str:
                return _fate(host, report.action)

            for group in groups_of(own, lambda host: host.host, told):
                self.say(f"{group}: {told(own[group.first])}")
        for host in report.hosts:
            for path in host.left:
                self.say(f"{host.host}: could not be removed: {path}")
        good = sum(host.success for host in report.hosts)
        self.say(
            f"{report.action} {report.release}: {good} of {counted(len(report.hosts), 'host')} "
            f"in {report.elapsed_ms / 1000:.1f} s"
        )
        if self._in_github:
            for line in github.faults(report):
                self._tell_github(line)
            try:
                if not github.write_summary(report, self._environ):
                    self.say("warning: the step summary is full: the hosts are not added to it")
            except OSError as error:
                self.say(f"warning: the step summary cannot be written: {error.strerror}")

    def _show(self, host: str, line: str) -> None:
        self._print(visible(f"{host}: {self.conceal(line.rstrip())}"))

    def _print(self, line: str) -> None:
        """Print a line that may contain remote text; GitHub's runner obeys none of it."""
        shown = github.harmless(line) if self._in_github else line
        self._screen.write(2, shown.encode() + b"\n")

    def _tell_github(self, command: str) -> None:
        if self._in_github:
            self._screen.write(2, command.encode() + b"\n")


def _fate(host: HostReport, action: str) -> str:
    if action == "rollback" and host.success and host.is_current_known:
        return f"rolled back to {host.current}"
    stands = f"; current release: {host.current}" if host.current else "; no current release"
    if not host.is_current_known:
        stands = "; the current release is not known"
    error = f": {host.error}" if host.error else ""
    return f"{host.end_state}{stands}{error}"

"""``inv run`` on several hosts: the same flags, many outputs, one summary."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from ringtasks import fleet
from ringtasks.client.result import SSHResult
from ringtasks.client.terminal import piped_stdin
from ringtasks.common import interruption
from ringtasks.common.local_user import expanded_home
from ringtasks.errors import StateFileError
from ringtasks.exit_status import INTERRUPTED
from ringtasks.fleet.eligibility import EligibleHosts, eligible_hosts
from ringtasks.fleet.host_run import OnOutput
from ringtasks.fleet.last_run import LastRun
from ringtasks.fleet.results import FleetState, state_of
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.model import HostConfig
from ringtasks.output import display
from ringtasks.output.files import FilesReport
from ringtasks.output.fleet_report import JsonReport, Report, summary
from ringtasks.output.grouped_output import DiffReport, FoldReport
from ringtasks.output.lines import LineReport
from ringtasks.output.screen import HostProgress, Screen
from ringtasks.ssh.link import Terminal

from . import plan
from .run_flags import OutputFlags, RunFlags

__all__ = ["are_commands", "run_on_many", "show_plan"]

#: Bytes kept of each stream of each host for Python callers, if it is shown as it comes.
_KEPT_BYTES = 1024 * 1024
#: No local terminal is attached, so it has the usual size.
_TERMINAL = Terminal(os.environ.get("TERM", "xterm"), 80, 24)


def run_on_many(
    hosts: Sequence[HostConfig],
    request: RunFlags,
    output: OutputFlags,
    *,
    one: Callable[[HostConfig], SSHResult],
) -> tuple[fleet.FleetResult, int]:
    """Run, show and remember; return the results and the exit status.

    :param one: runs on a single host, used if health has excluded all others.
    """
    alone = _only_one_left(hosts, request) if output.is_plain and not output.json else None
    if alone is not None:
        result = fleet.FleetResult((_host_result(one(alone)),))
        return result, result.returncode
    running = _prepare(hosts, request, output)
    screen = Screen()
    report = _report(screen, output, running.hosts)
    running.on_output, running.keeps_output = _shown(report.on_output, output), True
    with display.messages_by(screen.write):
        result, is_interrupted = _watch(running, report, screen)
    report.finish(result)
    if not output.json:
        for line in summary(result):
            display.say(line)
    _remember(result, hosts, request.name)
    if isinstance(report, FilesReport):
        report.check()
    return result, INTERRUPTED if is_interrupted else result.returncode


def _shown(on_output: OnOutput | None, output: OutputFlags) -> OnOutput | None:
    """Return the callback for the output that is not hidden."""
    if on_output is None or not output.hidden:
        return on_output

    def shown(host: str, stream: int, chunk: bytes) -> None:
        if stream not in output.hidden:
            on_output(host, stream, chunk)

    return shown


def are_commands(result: fleet.FleetResult) -> bool:
    """Return whether each failure is a command that ran and ended by itself."""
    return all(found.state is FleetState.FAILED for found in result.failed) and bool(result.failed)


def _host_result(result: SSHResult) -> fleet.HostResult:
    reason = "" if result.success else result.error or f"exit status {result.returncode}"
    return fleet.HostResult(result.host, state_of(result), result, reason)


def show_plan(configs: Sequence[SSHConfig], request: RunFlags, *, json: bool) -> fleet.FleetResult:
    """Show the plan: hosts and routes, and the script; send nothing.

    The values of the environment are left out: they may be secret.
    """
    eligible = _eligible([config.id for config in configs], request)
    chosen = [config for config in configs if config.id in eligible.chosen]
    plan.show((_plan(config, request) for config in chosen), json=json)
    return fleet.FleetResult(tuple(_not_run(config.id, request.label) for config in chosen))


def _not_run(host: str, command: str) -> fleet.HostResult:
    """Return the result of a dry run for callers: a success without output, as Invoke does."""
    result = SSHResult(True, 0, "", "", 0.0, command, host)
    return fleet.HostResult(host, FleetState.SUCCEEDED, result)


def _prepare(hosts: Sequence[HostConfig], request: RunFlags, output: OutputFlags) -> fleet.FleetRun:
    options: dict[str, Any] = {"fanout": request.fanout} if request.fanout else {}
    if output.streams:
        options["max_output_bytes"] = _KEPT_BYTES
    return fleet.FleetRun(
        hosts,
        fleet.FleetRequest(
            request.command,
            request.timeout,
            request.cwd,
            request.env,
            stdin=piped_stdin() if request.has_stdin else None,
            transport=request.transport,
            retries=request.repeats,
            serial=request.serial,
            max_failures=request.max_failures,
            skip_unhealthy=request.skip_unhealthy,
            pick=request.pick,
            terminal=_TERMINAL if request.pty else None,
            label=request.label,
            **options,
        ),
    )


def _report(screen: Screen, output: OutputFlags, hosts: Sequence[str]) -> Report:
    report: Report
    if output.json:
        report = JsonReport(hosts)
    elif output.diff:
        report = DiffReport(screen)
    elif output.fold:
        report = FoldReport(screen)
    else:
        report = LineReport(screen, hosts)
    return FilesReport(expanded_home(output.outdir), report) if output.outdir else report


#: Seconds to end the commands of all hosts after Ctrl-C.
_STOP_LIMIT = 20.0


def _watch(
    running: fleet.FleetRun, report: Report, screen: Screen
) -> tuple[fleet.FleetResult, bool]:
    """Show output as it arrives; return the result, and whether Ctrl-C has ended the run."""
    told = 0
    is_interrupted = False
    stopping = interruption.ending(
        _STOP_LIMIT,
        "stopping; Ctrl-C again exits at once",
        remains="exited at once: the commands may still be running",
        reports=True,
    )
    with stopping, HostProgress(screen, len(running.hosts)) as progress:
        running.on_stop = progress.stopping
        arrivals = iter(running)
        try:
            for found in arrivals:
                told += 1
                progress.arrived(found)
                report.arrived(found)
        except KeyboardInterrupt:
            is_interrupted = True
            with contextlib.suppress(KeyboardInterrupt):
                arrivals.close()
        for found in running.arrived[told:]:
            report.arrived(found)
    return running.in_order(), is_interrupted


def _remember(result: fleet.FleetResult, hosts: Sequence[HostConfig], name: str | None) -> None:
    try:
        for each in {None, name}:
            LastRun("run", name=each).remember(result, hosts)
    except StateFileError as error:
        display.say(f"warning: {error}; --rerun-failed will not know of this run")


def _only_one_left(hosts: Sequence[HostConfig], request: RunFlags) -> HostConfig | None:
    if not request.chooses:
        return None
    eligible = _eligible([host.name for host in hosts], request)
    if len(eligible.chosen) != 1:
        return None
    for name, reason in eligible.skipped.items():
        display.say(f"{name}: {FleetState.SKIPPED}: {reason}")
    return next(host for host in hosts if host.name == eligible.chosen[0])


def _eligible(names: Sequence[str], request: RunFlags) -> EligibleHosts:
    return eligible_hosts(
        names,
        HealthStore().load() if request.chooses else {},
        time.time(),
        skip_unhealthy=request.skip_unhealthy,
        pick=request.pick,
    )


def _plan(config: SSHConfig, request: RunFlags) -> plan.HostPlan:
    script = plan.script_of(config, request.command, cwd=request.cwd, env=request.env)
    return plan.HostPlan(
        config,
        [plan.PlannedStep(request.label, script)],
        request.transport,
        ["-t"] if request.pty else [],
        {"script": script},
    )

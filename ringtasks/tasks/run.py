"""``inv run``: run one command on the selected hosts.

One host is the common case and imports little: the code for several hosts is in `run_fleet`, which
is loaded only for them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Context

from ringtasks.client.terminal import piped_stdin
from ringtasks.common import interruption
from ringtasks.common.program_name import as_typed
from ringtasks.errors import UsageError
from ringtasks.output import display

from .core_flags import command_timeout, echo, ended, hidden_streams, is_dry, wants_pty
from .env_files import environment
from .options import (
    config_of,
    configs_of,
    inventory_of,
    number,
    selected,
    several,
    task,
    whole_number,
)
from .run_flags import OutputFlags, RunFlags

if TYPE_CHECKING:
    from ringtasks.client.ask import Ask
    from ringtasks.client.result import SSHResult
    from ringtasks.client.retries import Attempts
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.fleet import FleetResult
    from ringtasks.health.model import HostOutcome
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.inventory.model import HostConfig

__all__ = ["run"]

#: Bytes kept of each stream, for Python callers; all output is shown as it comes.
_KEPT_BYTES = 16 * 1024 * 1024


@task(
    iterable=["env", "env_file", "arg"],
    help={
        "cmd": "the command, for /bin/sh on the host",
        "script": "run this local script on the host, with the interpreter in its first line",
        "arg": "an argument for --script; repeatable (--arg=-x for one that starts with a dash)",
        "timeout": "kill after N seconds, 10m or 2h (default: the host's command_timeout; 0: no)",
        "cwd": "folder on the host; ~ is the remote home (default: the host's work_dir)",
        "retries": "repeat a failed command up to N times; only if it is safe to run twice",
        "fanout": "hosts at the same time (default: 64)",
        "serial": "run in batches of N hosts, or N% of them",
        "max-failures": "start no more hosts after N, or N%, have failed",
        "rerun-failed": "only hosts that failed in the last multi-host run",
        "name": "name of a multi-host run, for --rerun-failed with the same --name",
        "skip-unhealthy": "leave out hosts whose circuit is open",
        "pick": "only the N hosts that have been working best",
        "dry-run": "show the hosts, their routes and the script; send nothing",
        "fold": "group hosts with identical output",
        "diff": "show the most frequent output, and diffs of the others against it",
        "outdir": "also write each host's output to DIR/HOST.out and DIR/HOST.err",
        "pty": "give the command a terminal; ~. at the beginning of a line leaves it",
        "no-stdin": "read nothing from stdin: needed in a 'while read' loop, as ssh's -n",
    },
)
def run(
    c: Context,
    # Callers may give them by position: append new ones at the end.
    host: str | None = None,
    cmd: str | None = None,
    timeout: str | float | None = None,
    cwd: str | None = None,
    env: Any = None,  # Invoke makes it a list
    transport: str | None = None,
    retries: str | int = "0",
    fanout: str | int | None = None,
    json: bool = False,
    pty: bool = False,
    skip_unhealthy: bool = False,
    inventory: str | None = None,
    script: str | None = None,
    arg: Any = None,  # Invoke makes it a list
    serial: str | None = None,
    max_failures: str | None = None,
    rerun_failed: bool = False,
    pick: str | None = None,
    dry_run: bool = False,
    fold: bool = False,
    diff: bool = False,
    outdir: str | None = None,
    name: str | None = None,
    no_stdin: bool = False,
    env_file: Any = None,  # Invoke makes it a list
) -> SSHResult | FleetResult:
    """Run a command or a local script on hosts, over whichever route works."""
    request = RunFlags(
        *_command(cmd, script, several(arg)),
        timeout=command_timeout(c) if timeout is None else number("--timeout", timeout, at_least=0),
        cwd=cwd,
        env=environment(env, env_file),
        transport=transport,
        repeats=whole_number("--retries", retries) or 0,
        pty=pty or wants_pty(c),
        fanout=whole_number("--fanout", fanout, at_least=1),
        serial=_share("--serial", serial),
        max_failures=_share("--max-failures", max_failures),
        skip_unhealthy=skip_unhealthy,
        pick=whole_number("--pick", pick, at_least=1),
        name=name,
        has_stdin=not no_stdin,
    )
    output = _output(json, fold, diff, outdir, hidden_streams(c))
    if rerun_failed:
        hosts = _failed(c, host, inventory, name)
    else:
        hosts = selected(c, host, inventory, may_ask=not dry_run)
    if dry_run or is_dry(c):
        return _planned(c, hosts, request, json=json)
    echo(c, request.label, on_stderr=json)
    if len(hosts) == 1 and not rerun_failed and output.is_plain and not request.chooses:
        result = _run_on_one(config_of(c, hosts[0]), request, output)
        _advise_on_limit([result])
        return ended(c, result, result.returncode, is_commands=result.error is None)
    return _run_on_many(c, hosts, request, output)


def _share(flag: str, text: str | None) -> str | None:
    """Return the text.

    :raises UsageError: it is neither a number of hosts nor a percentage.
    """
    if text is not None:
        from ringtasks.common.setting_checks import share

        share(flag, text, 100)
    return text


def _planned(
    c: Context, hosts: Sequence[HostConfig], request: RunFlags, *, json: bool
) -> SSHResult | FleetResult:
    """Show the plan; return what a run in which all succeed would."""
    from .run_fleet import show_plan

    results = show_plan(configs_of(c, hosts, request.transport), request, json=json)
    return results.results[0].result if len(hosts) == len(results) == 1 else results


def _run_on_many(
    c: Context, hosts: Sequence[HostConfig], request: RunFlags, output: OutputFlags
) -> FleetResult:
    from .run_fleet import are_commands, run_on_many

    results, status = run_on_many(
        hosts,
        request,
        output,
        one=lambda only: _run_on_one(config_of(c, only), request, output),
    )
    _advise_on_limit([host.result for host in results.results])
    if not output.json:
        ran = {each.host: each.result for each in results.failed if each.has_run}
        own = [(config_of(c, host), ran[host.name]) for host in hosts if host.name in ran]
        _advise_on_settings(own, request)
    return ended(c, results, status, is_commands=are_commands(results))


def _command(cmd: str | None, script: str | None, arguments: Sequence[str]) -> tuple[str, str]:
    """Return the command and its label."""
    if cmd and script:
        raise UsageError("--cmd and --script: give one of them")
    if not cmd and not script:
        raise UsageError("--cmd is required: the command to run on the hosts; or --script FILE")
    if cmd:
        if arguments:
            raise UsageError("--arg is for --script; put it into --cmd")
        return cmd, cmd
    from ringtasks.remote.local_script import command_of_file, label_of

    path = Path(script or "")
    return command_of_file(path, arguments), label_of(path, arguments)


def _output(json: bool, fold: bool, diff: bool, *others: Any) -> OutputFlags:
    if fold + diff + json > 1:
        raise UsageError("--fold, --diff and --json: give one of them")
    return OutputFlags(json, fold, diff, *others)


def _advise_on_settings(results: Sequence[tuple[SSHConfig, SSHResult]], request: RunFlags) -> None:
    """Name the hosts whose shell could not use a setting, with the setting."""
    failed = [(config, result) for config, result in results if not result]
    if not failed:
        return
    from ringtasks.client.setting_advice import setting_advice
    from ringtasks.fleet.folding import groups_of

    advised = [
        (config.id, advice)
        for config, result in failed
        if (advice := setting_advice(config, request.cwd, result))
    ]
    for group in groups_of(advised, lambda each: each[0], lambda each: each[1]):
        display.say(f"{group}: {advised[group.first][1]}")


def _advise_on_limit(results: Sequence[SSHResult]) -> None:
    """Name the ways to run longer, if a command ran until its limit."""
    if any(result.timed_out and not result.has_silent_shell for result in results):
        start = as_typed("start")
        display.say(f"for longer commands raise --timeout (0: no limit), or use '{start}'")


def _failed(
    c: Context, selector: str | None, given: str | None, name: str | None
) -> list[HostConfig]:
    """Return the selected hosts that did not succeed in the last run on several hosts."""
    from ringtasks.fleet.last_run import LastRun

    inventory = inventory_of(c, given)
    undone = set(LastRun("run", name=name).undone(inventory))
    known = selected(c, selector, given) if selector else inventory.hosts.values()
    hosts = [host for host in known if host.name in undone]
    if not hosts:
        raise UsageError(f"--rerun-failed: no host that failed matches --host {selector or '@all'}")
    return hosts


def _run_on_one(config: SSHConfig, request: RunFlags, output: OutputFlags) -> SSHResult:
    """Run on one host, with the requested number of retries; return the last attempt's result."""
    from ringtasks.client.retries import Attempts

    reporter = display.JsonReporter() if output.json else display.RawReporter(output.hidden)
    attempts = Attempts(request.repeats + 1)
    with _client(config, request) as client:
        while True:
            try:
                with interruption.said_as(None):
                    ask, is_last = _asked(request, reporter), False
                    if request.pty:
                        from .run_terminal import at_terminal

                        result, is_last = at_terminal(client, ask, request.has_stdin)
                    else:
                        result = client.ask(ask)
            except KeyboardInterrupt as interrupt:
                result, is_last = _interrupted(config.id, interrupt), True
            if is_last or attempts.is_last(result):
                break
            _pause(attempts, result)
    result = result.for_command(request.label)
    reporter.finish(result)
    if not output.json:
        _advise_on_settings([(config, result)], request)
    return result


def _client(config: SSHConfig, request: RunFlags) -> SSHClient:
    from ringtasks.client.ssh_client import SSHClient

    return SSHClient(
        replace(config, batch_mode=False) if request.pty else config,
        transport=request.transport,
        max_output_bytes=_KEPT_BYTES,
        on_open=_tell_fallback,
    )


def _interrupted(host: str, interrupt: KeyboardInterrupt) -> SSHResult:
    """Return the result of an interrupted command; without one, nothing was sent."""
    if not interrupt.args:
        display.say(f"{host}: interrupted before the command was sent")
        raise interrupt
    result: SSHResult = interrupt.args[0]
    return result


def _pause(attempts: Attempts, failed: SSHResult) -> None:
    from ringtasks.client.retries import RETRY_DELAY

    why = failed.error or f"exit status {failed.returncode}"
    display.say(f"attempt {attempts.made} of {attempts.most} failed: {why}")
    time.sleep(RETRY_DELAY)


def _asked(request: RunFlags, reporter: display.Reporter) -> Ask:
    from ringtasks.client.ask import Ask

    return Ask(
        request.command,
        request.timeout,
        request.cwd,
        request.env,
        in_venv=True,
        is_own=False,
        stdin=piped_stdin() if request.has_stdin and not request.pty else None,
        on_output=reporter.on_output,
        keeps_output=True,
    )


def _tell_fallback(outcome: HostOutcome) -> None:
    """Print on stderr which routes failed before one worked."""
    from ringtasks.ssh.attempts import fallback_note  # loaded by the attempt

    if note := fallback_note(outcome):
        display.say(f"{outcome.host}: {note}")

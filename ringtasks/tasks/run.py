"""``inv run``: one command on the selected hosts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from invoke import Context, Exit

from .. import display
from ..errors import UsageError
from ..terminal import local_terminal, piped_stdin, terminable
from .options import (
    HOST_HELP,
    INVENTORY_HELP,
    JSON_HELP,
    combined_status,
    environment,
    number,
    selected,
    task,
)

if TYPE_CHECKING:
    from ..client import SSHClient
    from ..health import Outcome
    from ..inventory import HostConfig
    from ..result import SSHResult

__all__ = ["run"]

RETRY_DELAY = 2.0  # seconds between attempts, as SSHClient.run_async_with_retry


@task(
    iterable=["env"],
    help={
        "host": HOST_HELP,
        "cmd": "the command, for /bin/sh on the host",
        "timeout": "seconds until it is ended (default: the host's command_timeout; 0: never)",
        "cwd": "folder on the host; ~ is the remote home (default: the host's work_dir)",
        "env": "NAME=VALUE for the command, or NAME to pass on this machine's; repeatable",
        "transport": "use this route only: tailscale, direct or cloudflare",
        "retries": "repeat a failed command up to N times; only if it is safe to run twice",
        "fanout": "hosts at the same time (they still run one after another)",
        "json": JSON_HELP,
        "pty": "give the command a terminal",
        "skip-unhealthy": "leave out hosts whose circuit is open",
        "inventory": INVENTORY_HELP,
    },
)
def run(
    c: Context,
    host: str | None = None,
    cmd: str | None = None,
    timeout: str | None = None,
    cwd: str | None = None,
    env: Any = None,  # Invoke makes it a list
    transport: str | None = None,
    retries: str = "0",
    fanout: str | None = None,
    json: bool = False,
    pty: bool = False,
    skip_unhealthy: bool = False,
    inventory: str | None = None,
) -> None:
    """Run a command on hosts, by whichever route works."""
    if not cmd:
        raise UsageError("--cmd is missing: what shall run?")
    number("--fanout", fanout, at_least=1, whole=True)
    request = _Request(
        command=cmd,
        timeout=number("--timeout", timeout, at_least=0),
        cwd=cwd,
        env=environment(env or ()),
        repeats=int(number("--retries", retries, at_least=0, whole=True) or 0),
        pty=pty,
    )
    clients = _clients(selected(c, host, inventory), transport)
    if skip_unhealthy:
        clients = _without_unhealthy(clients)
    with terminable():
        statuses = [
            _run_on(client, request, _reporter(client, clients, json=json)) for client in clients
        ]
    raise Exit(code=combined_status(statuses))


class _Request(NamedTuple):
    command: str
    timeout: float | None
    cwd: str | None
    env: Mapping[str, str]
    repeats: int
    pty: bool


def _clients(hosts: list[HostConfig], transport: str | None) -> list[SSHClient]:
    from ..client import SSHClient
    from ..config import SSHConfig

    return [
        SSHClient(SSHConfig.from_host_config(host), transport=transport, on_open=_tell_fallback)
        for host in hosts
    ]


def _without_unhealthy(clients: list[SSHClient]) -> list[SSHClient]:
    for client in clients:
        if client.health.circuit_state == "open":
            display.say(f"{client.config.id}: skipped: {client.health.last_reason}")
    return [client for client in clients if client.health.circuit_state != "open"]


def _reporter(client: SSHClient, clients: list[SSHClient], *, json: bool) -> display.Reporter:
    if json:
        return display.JsonReporter()
    if len(clients) > 1:
        return display.LabelledReporter(client.config.id)
    return display.RawReporter()


def _run_on(client: SSHClient, request: _Request, reporter: display.Reporter) -> int:
    """Run on one host, and again as often as was asked for; the last attempt's status."""
    with client:
        for attempt in range(request.repeats + 1):
            try:
                result = _attempt(client, request, reporter)
            except KeyboardInterrupt as interrupt:
                if not interrupt.args:
                    raise
                reporter.finish(interrupt.args[0])
                raise Exit(code=interrupt.args[0].returncode) from None
            if result.success or attempt == request.repeats:
                break
            why = result.error or f"exit status {result.returncode}"
            display.say(f"attempt {attempt + 1} of {request.repeats + 1} failed: {why}")
            time.sleep(RETRY_DELAY)
    reporter.finish(result)
    return result.returncode


def _attempt(client: SSHClient, request: _Request, reporter: display.Reporter) -> SSHResult:
    with local_terminal(wanted=request.pty) as terminal:
        return client.run(
            request.command,
            timeout=request.timeout,
            cwd=request.cwd,
            env=request.env,
            stdin=piped_stdin(even_terminal=request.pty),
            on_output=reporter.on_output,
            terminal=terminal,
        )


def _tell_fallback(outcome: Outcome) -> None:
    """Say on stderr which routes were given up on the way to the one that works."""
    used = [route.route for route in outcome.routes if route.success]
    failed = [f"{route.route} {route.reason}" for route in outcome.routes if not route.success]
    if used and failed:
        display.say(f"{outcome.host}: {', '.join(failed)}; going by {used[0]}")

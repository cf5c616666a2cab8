"""``inv shell``: an interactive shell, with the same fallback between routes as all tasks."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from functools import partial

from invoke import Context

from ringtasks.common import interruption
from ringtasks.common.program_name import as_typed
from ringtasks.errors import UsageError

from . import plan
from .core_flags import ended, is_dry
from .options import config_of, one_host, task

__all__ = ["shell"]


@task(help={"host": "one host of the inventory"})
def shell(
    c: Context,
    host: str | None = None,
    transport: str | None = None,
    inventory: str | None = None,
) -> int:
    """Open an interactive shell on a host; ~. at the beginning of a line ends it, ~? tells more."""
    from ringtasks.client.shell import interact
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.output.display import write_bytes
    from ringtasks.ssh.evaluated_config import shell_of

    config = config_of(c, one_host(c, host, inventory))
    if is_dry(c):
        plan.show([plan.HostPlan(config, transport=transport, ssh_options=["-t"])])
        return 0
    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(
            f"{as_typed('shell')} needs a terminal; to run commands from a script use "
            f"'{as_typed('run')}'"
        )
    config = replace(config, batch_mode=False)
    with interruption.also(signal.SIGQUIT), SSHClient(config, transport=transport) as client:
        command, has_terminal = shell_of(config)
        show = partial(write_bytes, 1)
        status = interact(client.link(), config.id, show, command, has_terminal=has_terminal)
    return ended(c, status, status, is_commands=True)

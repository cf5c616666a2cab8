"""Plans of ``put``, ``get`` and ``sync`` (``inv --dry``); see `plan`.

The plan is an rsync command with the same effect: the real task finds out together with the host
which files to copy.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .plan import HostPlan, PlannedStep

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.transfer import Options

__all__ = ["copies", "plan_copies"]


def plan_copies(
    clients: Sequence[SSHClient],
    here: Sequence[str],
    there: str,
    options: Options,
    transport: str | None,
    *,
    pulls: bool,
) -> list[HostPlan]:
    """Return the plan of each host: a copy to it, or from it into the one path ``here``.

    A path here that ends in ``/`` means the folder's content.  Of several hosts, each is copied
    into a folder of its name.
    """
    plans = []
    for config in (client.config for client in clients):
        own = [f"{here[0].rstrip('/')}/{config.id}/"] if pulls and len(clients) > 1 else here
        steps = copies(config, own, there, pulls=pulls, options=options, transport=transport)
        plans.append(HostPlan(config, steps, transport))
    return plans


def copies(
    config: SSHConfig,
    here: Sequence[str],
    there: str,
    *,
    pulls: bool = False,
    options: Options | None = None,
    transport: str | None = None,
) -> list[PlannedStep]:
    """Return, for each route, an rsync command that copies over it.

    :param pulls: copy from the host; else to it.
    """
    from ringtasks.remote.paths import on_host
    from ringtasks.ssh.attempts import ordered_routes
    from ringtasks.ssh.ssh_command import ssh_command

    if config.embedded:
        return []
    path = on_host(config, there).rstrip("/") + ("/" if there.endswith("/") else "")
    steps = []
    for route in ordered_routes(config, transport):
        *shell, login = ssh_command(config, route)
        user, at, host = login.rpartition("@")
        place = f"{user}{at}{f'[{host}]' if ':' in host else host}:{path}"
        argv = ["rsync", "-rlpt", *_flags(options), "-e", shlex.join(shell)]
        argv += [place, *here] if pulls else [*here, place]
        steps.append(PlannedStep(f"copy, via {route.name}", shlex.join(argv), is_local=True))
    return steps


def _flags(options: Options | None) -> Iterator[str]:
    if options is None:
        return
    if options.delete:
        yield "--delete"
    for name in ("checksum", "sparse", "hard_links"):
        if getattr(options, name):
            yield f"--{name.replace('_', '-')}"
    # rsync obeys the first pattern that matches, ringtasks the last.
    for pattern in reversed(options.exclude):
        is_back = pattern.startswith("!")
        yield f"--include={pattern[1:]}" if is_back else f"--exclude={pattern}"
    if options.gitignore:
        yield from ("--exclude=/.git", "--filter=:- .gitignore")

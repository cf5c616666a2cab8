"""Plans of ``put``, ``get`` and ``sync`` (``inv --dry``); see `plan`.

The plan is an rsync command with the same effect: the real task finds out together with the host
which files to copy.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .plan import HostPlan, PlannedStep, show

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.transfer import Options

__all__ = ["copies", "pull", "push"]


def push(
    clients: Sequence[SSHClient],
    sources: Sequence[str],
    target: str,
    options: Options,
    transport: str | None,
    *,
    json: bool,
) -> None:
    """Plan a copy from here to the hosts; a path that ends in ``/`` means the folder's content."""
    show(
        (
            HostPlan(
                client.config,
                copies(client.config, sources, target, options=options, transport=transport),
                transport,
            )
            for client in clients
        ),
        json=json,
    )


def pull(
    clients: Sequence[SSHClient],
    source: str,
    target: str,
    options: Options,
    transport: str | None,
    *,
    json: bool,
) -> None:
    """Plan a copy from the hosts to here; if there are several, each has a folder of its name."""
    plans = []
    for client in clients:
        config = client.config
        into = f"{target.rstrip('/')}/{config.id}/" if len(clients) > 1 else target
        steps = copies(config, [into], source, pulls=True, options=options, transport=transport)
        plans.append(HostPlan(config, steps, transport))
    show(plans, json=json)


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

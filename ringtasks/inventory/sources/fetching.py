"""Ask one source: by the provider's own program if it is installed, else by its HTTP API."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from ringtasks.common.light_typing import NamedTuple
from ringtasks.inventory.ssh_aliases import ssh_aliases

from . import command, lambda_cloud, runpod, tailscale, vast
from .kinds import KEYS, KINDS
from .model import Deadline, Listing, PrintedHost, Source, SourceError

__all__ = ["fetch"]

_Ask = Callable[[str, Deadline], Listing]


class _Provider(NamedTuple):
    """The ways to ask a provider."""

    by_program: _Ask | None
    url: str = ""
    by_api: _Ask | None = None


_PROVIDERS: Mapping[str, _Provider] = {
    "tailscale": _Provider(tailscale.by_program),
    "runpod": _Provider(runpod.by_program, runpod.API, runpod.by_api),
    "vast": _Provider(vast.by_program, vast.API, vast.by_api),
    "lambda": _Provider(None, lambda_cloud.API, lambda_cloud.by_api),
}


def fetch(source: Source, deadline: Deadline) -> Listing:
    """Return the hosts that a source lists, as they are printed.

    :raises SourceError: it does not answer.
    """
    if source.kind == "command":
        return command.fetch(source, deadline)
    if source.kind == "ssh_config":
        return _ssh_aliases()
    provider = _PROVIDERS[source.kind]
    name = KINDS[source.kind].program
    program = shutil.which(name) if name and not source.url else None
    if program is None or provider.by_program is None:
        return _by_api(source, provider, deadline)
    try:
        return provider.by_program(program, deadline)
    except SourceError:
        # An old version may lack the command.
        if provider.by_api is None or not os.environ.get(KEYS[source.kind]):
            raise
        return _by_api(source, provider, deadline)


def _by_api(source: Source, provider: _Provider, deadline: Deadline) -> Listing:
    program = KINDS[source.kind].program
    if provider.by_api is None:
        raise SourceError(f"the program {program} is not on PATH")
    if program and not source.url and not os.environ.get(KEYS[source.kind]):
        raise SourceError(f"{program} is not on PATH, and {KEYS[source.kind]} is not set")
    return provider.by_api((source.url or provider.url).rstrip("/"), deadline)


def _ssh_aliases() -> Listing:
    # ssh's configuration knows the rest.
    aliases = ssh_aliases(Path("~/.ssh/config").expanduser())
    return Listing(tuple(PrintedHost(alias, {"ssh_host": alias}) for alias in aliases))

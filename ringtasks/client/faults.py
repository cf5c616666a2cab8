"""Find hosts whose configuration cannot be used, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ringtasks.common.local_user import expanded_home
from ringtasks.errors import InventoryError, UsageError
from ringtasks.inventory.host_settings import SSHConfig, error_at, expand
from ringtasks.inventory.model import HostConfig
from ringtasks.ssh.key_files import no_file
from ringtasks.ssh.routes import ROUTE_NAMES, only, routes_of

__all__ = ["checked"]


def checked(
    configs: Sequence[SSHConfig],
    transport: str | None = None,
    entries: Mapping[str, HostConfig] | None = None,
    *,
    is_alone: bool = False,
) -> list[SSHConfig]:
    """Return the configurations; one that cannot be used has its ``fault`` set.

    So the other hosts of a run can be used.

    :param transport: the route to use; None: any.
    :param entries: the hosts' entries in the inventory by name; an error names their place.
    :param is_alone: there is no other host, so an error is raised.
    :raises UsageError: ``is_alone`` and the host cannot be used, or no route is called
        ``transport``.
    """
    if transport is not None and transport not in ROUTE_NAMES:
        only((), transport, "")
    found = []
    for config in configs:
        try:
            _check(config, transport, (entries or {}).get(config.id))
        except UsageError as error:
            if is_alone:
                raise
            config = replace(config, fault=str(error))
        found.append(config)
    return found


def _check(config: SSHConfig, transport: str | None, entry: HostConfig | None) -> None:
    """Refuse a configuration that cannot work.

    :raises UsageError: it has a fault, lacks the route, or its key file does not exist.
    """
    if config.fault is not None:
        raise UsageError(config.fault)
    if config.embedded:
        return
    if transport is not None:
        only(routes_of(config, os.environ), transport, config.id)
    if config.key_path:
        file = expanded_home(expand(config.key_path))
        if problem := no_file(file):
            if entry is not None:
                raise error_at(entry, problem, "ssh_key")
            raise InventoryError(problem, host=config.id, field_name="ssh_key")

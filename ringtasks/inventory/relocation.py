"""Ask the sources of a host for its addresses again, after every route has failed."""

from __future__ import annotations

import threading
import time

from ringtasks.common.alarms import notify
from ringtasks.errors import InventoryError

from .files import located_at
from .host_settings import SSHConfig, addresses
from .loader import load_located

__all__ = ["relocate"]

#: Seconds in which the sources of an inventory are asked once, however many hosts are down.
_PAUSE = 30.0
_lock = threading.Lock()
_asked_at: dict[tuple[str, ...], float] = {}


def relocate(config: SSHConfig, since: float) -> bool:
    """Give ``config`` the host's present addresses; False: they are the same, or not known.

    A value that is not the inventory's is the caller's own, and stays.

    :param since: Unix seconds at which the failed attempt began; a later answer is not asked again.
    """
    files = config.inventory_files
    if not files or config.name is None:
        return False
    try:
        inventory = load_located(located_at(files), newer_than=_due(files, since))
        entry = inventory.hosts.get(config.name)
        found = None if entry is None else SSHConfig.from_host_config(entry)
    except InventoryError:
        return False
    if found is None:
        return False
    changes = {
        key: getattr(found, key)
        for key, given in config.inventory_place
        if getattr(config, key) == given != getattr(found, key)
    }
    if not changes:
        return False
    before = _shown(config)
    for key, value in changes.items():
        setattr(config, key, value)
    config.inventory_place = tuple((key, changes.get(key, v)) for key, v in config.inventory_place)
    notify(config.id, f"has moved: {before} is now {_shown(config)}")
    return True


def _due(files: tuple[str, ...], since: float) -> float:
    """Return the time from which an answer counts as new."""
    with _lock:
        last = _asked_at.get(files, 0.0)
        if 0 <= since - last < _PAUSE:
            return last
        _asked_at[files] = time.time()
        return since


def _shown(config: SSHConfig) -> str:
    ports = {"direct": config.port, "tailscale": config.tailscale_port}
    return ", ".join(
        f"{route} {address}:{ports[route]}" if route in ports else f"{route} {address}"
        for route, address in addresses(config).items()
    )

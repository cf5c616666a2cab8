"""The routes of a host as `ringtasks connect` found them last, for its next start.

A plan is a file in the state folder that only its owner can read or change.  It is valid while all
that it was made from is the same (hosts files, ssh's files, the answers of sources, our modules,
variables), and until a source is due to be asked again.  It holds routes that are one TCP
connection, and no secret.
"""

from __future__ import annotations

import json
import os
import time
from binascii import crc32

from ringtasks.common.regular_file import UNUSABLE, open_regular

TYPE_CHECKING = False  # typing is slow to load
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["KEYS", "Plan", "load", "modules", "store", "version_of"]

#: The variables that change a host's routes, or the place of its health.
_VARIABLES = (
    "HOME",
    "RINGTASKS_HEALTH_FILE",
    "RINGTASKS_INVENTORY_ENV",
    "RINGTASKS_TAILSCALE_PROXY",
    "XDG_STATE_HOME",
)
#: The variables with keys for sources: a plan is made only if none of them is used.
KEYS = ("LAMBDA_API_KEY", "RUNPOD_API_KEY", "VAST_API_KEY")
_FOREVER = float("inf")
_MAX_BYTES = 256 * 1024
#: Number of plans that are kept: the latest ones.
_MOST_FILES = 1000


class Plan:
    """The routes of a host in their usual order: name, address or host name, and port.

    An address is empty if the route needs more than a TCP connection.
    """

    def __init__(self, host: str, routes: Iterable[tuple[str, str, int]], health_file: str) -> None:
        self.host, self.routes, self.health_file = host, list(routes), health_file


def load(inventory: str, name: str) -> Plan | None:
    """Return the plan for a host of an inventory; None: there is none that is valid."""
    try:
        with os.fdopen(open_regular(_path(inventory, name)), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                return None
            known = json.loads(file.read(_MAX_BYTES))
        if known["for"] != [inventory, name] or known["variables"] != _variables():
            return None
        if not known["since"] <= time.time() < known["until"]:
            return None
        if any(version_of(path) != version for path, version in known["files"].items()):
            return None
        routes = [(str(route), str(address), int(port)) for route, address, port in known["routes"]]
        return Plan(str(known["host"]), routes, str(known["health_file"]))
    except UNUSABLE:
        return None


def store(
    inventory: str,
    name: str,
    plan: Plan,
    files: Mapping[str, list[int] | None],
    valid: tuple[float, float] = (0.0, _FOREVER),
) -> None:
    """Keep a plan; without it, the next start is only slower.

    :param files: the files that it was made from, each with its `version_of` before it was read.
    :param valid: Unix seconds from and until which it is valid.
    """
    from ringtasks.common.atomic_file import keep_newest, replace_file
    from ringtasks.inventory.state_files import state_folder

    known = {
        "for": [inventory, name],
        "variables": _variables(),
        "files": {**files, **{path: version_of(path) for path in modules()}},
        "host": plan.host,
        "since": valid[0],
        "until": valid[1],
        "routes": plan.routes,
        "health_file": plan.health_file,
    }
    folder = state_folder() / _FOLDER
    try:
        file = folder / os.path.basename(_path(inventory, name))  # noqa: PTH119  # no Path
        replace_file(file, json.dumps(known), makes_folder=True)
        keep_newest(folder, _MOST_FILES)
    except OSError:
        return


def version_of(path: str) -> list[int] | None:
    """Return values that change when a file does; None if it does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116  # no Path
    except OSError:
        return None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


_FOLDER = "routes"


def _path(inventory: str, name: str) -> str:
    """Return the path of a plan; `inventory.state_files.state_folder` has the same rule."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        base = os.path.expanduser("~/.local/state")  # noqa: PTH111  # no Path
    key = crc32(os.fsencode(f"{inventory}\0{name}"))
    return f"{base}/ringtasks/{_FOLDER}/{key:08x}.json"


def _variables() -> list[str | bool | None]:
    values = [os.environ.get(name) for name in _VARIABLES]
    return [*values, *(bool(os.environ.get(name)) for name in KEYS)]


def modules() -> list[str]:
    """Return the modules that interpret a hosts file: another version may find other routes."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    names = ("client/route_plan", "client/route_planning", "inventory/hosts_file",
             "inventory/host_settings", "ssh/config_query", "ssh/deciding_lines",
             "ssh/evaluated_config", "ssh/merged_settings", "ssh/routes")  # fmt: skip
    return [f"{package}/{name}.py" for name in names]

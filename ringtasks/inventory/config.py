"""The settings to reach one host (`SSHConfig`), and the paths of ringtasks' state.

Durations are seconds, sizes are bytes.  Values may hold ``${VAR}``; they are expanded at use
(`expand`), so a missing variable affects only the parts that need it.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError

__all__ = [
    "SSHConfig",
    "expand",
    "health_file",
    "is_reached_alike",
    "known_hosts_file",
    "state_folder",
]

DEFAULT_SSH_PORT = 22  # RFC 4253 section 4.1

_VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
#: A host or user name that no program takes for an option.
ADDRESS = r"[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*\Z"
#: Names the variables that may stand in addresses.
ALLOWED_VARIABLES = "RINGTASKS_INVENTORY_ENV"


@dataclass
class SSHConfig:
    """The settings to reach and use one host.

    The first 16 fields may be given by position, the others by keyword only.  ``host`` is the
    public address, or ``""`` for a box that has none.  ``user`` None means the user in
    ``~/.ssh/config``, else the local user.  Durations are seconds.

    A field that is set later applies from the next connection or command on; if it changes how the
    host is reached, the next command uses a new connection.

    :raises ValueError: a port is outside 1…65535, or a duration or count is below zero.
    :raises TypeError: a field has the wrong type.
    :raises AttributeError: no field has that name.
    """

    host: str
    port: int = DEFAULT_SSH_PORT
    user: str | None = None
    key_path: str | None = None
    connect_timeout: float = 10
    command_timeout: float = 60
    use_control_master: bool = True
    control_persist: float = 300
    server_alive_interval: float = 30
    server_alive_count_max: int = 4
    tailscale_ip: str | None = None
    work_dir: str | None = None
    venv_activate: str | None = None
    cloudflare_tunnel: str | None = None
    cloudflare_service_token_id: str | None = field(default=None, repr=False)
    cloudflare_service_token_secret: str | None = field(default=None, repr=False)

    name: str | None = field(default=None, kw_only=True)
    """The host's name in the inventory; health and host keys are kept under it."""
    tailscale_port: int = field(default=DEFAULT_SSH_PORT, kw_only=True)
    ssh_host_key: str | None = field(default=None, kw_only=True)
    """A pinned public key, ``ssh-ed25519 AAAA…``, or ``@cert-authority`` and that of the authority
    which certifies the host: nothing else is accepted."""
    is_ephemeral: bool = field(default=False, kw_only=True)
    """True if the host key changes at every restart: it is not pinned."""
    proxy_jump: str | None = field(default=None, kw_only=True)
    """A jump host for the direct route: an inventory name or ``user@host:port``."""
    jump_host: SSHConfig | None = field(default=None, kw_only=True, repr=False)
    """The host that ``proxy_jump`` names, if it is in the same inventory."""
    embedded: bool = field(default=False, kw_only=True)
    """True if this process serves the host, on loopback (`ringtasks.ssh.embedded`)."""
    address_family: str = field(default="any", kw_only=True)
    """``inet``, ``inet6`` or ``any`` (ssh_config(5), AddressFamily), for the direct route."""
    bind_address: str | None = field(default=None, kw_only=True)
    """The local address of the direct route (ssh_config(5), BindAddress)."""
    private_key: str | None = field(default=None, kw_only=True, repr=False)
    """A private key's text, for keys that are never written to disk."""
    shell: str = field(default="/bin/sh", kw_only=True)
    """The shell that interprets commands on the host: ``/bin/sh``, or ``bash``."""
    ssh_config_file: str | None = field(default=None, kw_only=True)
    """The file in place of ``~/.ssh/config`` and the system's, as in ``ssh -F``; ``none``: none."""

    def __setattr__(self, name: str, value: object) -> None:
        _check_field(name, value)
        super().__setattr__(name, value)

    @classmethod
    def parse(cls, address: str) -> SSHConfig:
        """Return the SSHConfig of ``[user@]host[:port]``; IPv6 with a port must be in brackets.

        :raises ValueError: there is no host, or the port is invalid.
        """
        found = re.fullmatch(
            r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@\s]+|[^@\s]*:[^@\s]*:[^@\s]*))"
            r"(?::(?P<port>\d+))?",
            address,
        )
        host = found and (found["v6"] or found["host"])
        if not found or not host or host.startswith("-"):
            raise ValueError(f"host: expected [user@]host[:port], got {address!r}")
        return cls(host, int(found["port"] or DEFAULT_SSH_PORT), found["user"])

    @classmethod
    def from_host_config(cls, host_config: Any) -> SSHConfig:
        """Return the SSHConfig of any object that has the inventory's attribute names.

        Missing attributes and None mean the default.  ``${VAR}`` in anything but the service
        token is expanded here.  In a path, any variable is expanded; in an address or user name,
        only those that ``RINGTASKS_INVENTORY_ENV`` names (globs, joined by commas), because a name
        look-up sends the name out.

        :raises InventoryError: the host's entry has a fault, a variable is not set or not allowed,
            or an expanded value is not an address.
        """
        fault = getattr(host_config, "fault", None)
        if isinstance(fault, InventoryError):
            raise fault.with_traceback(None)
        given: dict[str, Any] = {}
        for own_name, their_names in _INVENTORY_NAMES.items():
            for their_name in their_names:
                value = getattr(host_config, their_name, None)
                if value is not None:
                    given[own_name] = value
                    break
        host = given.get("name")
        for own_name, value in given.items():
            if isinstance(value, str) and "${" in value and own_name not in _SECRET_FIELDS:
                given[own_name] = _expanded(value, host, own_name)
        if "jump_host" in given:
            given["jump_host"] = cls.from_host_config(given["jump_host"])
        given.setdefault("host", "")
        return cls(**given)

    @property
    def use_cloudflare(self) -> bool:
        """True if the host has a Cloudflare Access tunnel."""
        return bool(self.cloudflare_tunnel)

    @property
    def id(self) -> str:
        """The name under which health and host keys are kept.

        It is the inventory's name, else the address (with the port if that is not 22), in the form
        of ``known_hosts`` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
        """
        if self.name:
            return self.name
        host = self.host or self.tailscale_ip or self.cloudflare_tunnel or ""
        return host if self.port == DEFAULT_SSH_PORT else f"[{host}]:{self.port}"


def is_reached_alike(one: SSHConfig, other: SSHConfig) -> bool:
    """Return True if ``one`` and ``other`` lead to the same connection."""
    return all(getattr(one, name) == getattr(other, name) for name in _REACHING)


def expand(value: str, *, host: str | None = None, field_name: str | None = None) -> str:
    """Return ``value`` with each ``${VAR}`` replaced from the environment.

    :raises InventoryError: a variable is not set; the message names it, never a value.
    """

    def replace(match: re.Match[str]) -> str:
        variable = match.group(1)
        if variable not in os.environ:
            raise InventoryError(
                f"the environment variable {variable} is not set", host=host, field_name=field_name
            )
        return os.environ[variable]

    return re.sub(_VARIABLE, replace, value) if "$" in value else value


def _expanded(value: str, host: str | None, field_name: str) -> str:
    if field_name in _PATH_FIELDS:
        return expand(value, host=host, field_name=field_name)
    allowed = re.split(r"[,\s]+", os.environ.get(ALLOWED_VARIABLES, ""))
    for variable in re.findall(_VARIABLE, value):
        if not any(fnmatch.fnmatchcase(variable, name) for name in allowed):
            raise InventoryError(
                f"${{{variable}}} is not expanded in an address, which is sent to others; "
                f"to allow it, set {ALLOWED_VARIABLES}={variable}",
                host=host,
                field_name=field_name,
            )
    expanded = expand(value, host=host, field_name=field_name)
    if field_name != "ssh_host_key" and not re.match(ADDRESS, expanded):
        raise InventoryError(
            "expected a name or an address, without spaces and no - in front, after expansion of "
            f"{value}",
            host=host,
            field_name=field_name,
        )
    return expanded


def check_port(field_name: str, port: object) -> None:
    """Check a port.

    :raises ValueError: ``port`` is not a TCP port.
    """
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise ValueError(f"{field_name}: expected a port from 1 to 65535, got {port!r}")


def state_folder() -> Path:
    """Return the state folder: ``$XDG_STATE_HOME/ringtasks``, else ``~/.local/state/ringtasks``."""
    return _state_folder(os.environ.get("XDG_STATE_HOME", ""), os.environ.get("HOME"))


@functools.lru_cache(maxsize=8)  # a run on many hosts asks for each of them
def _state_folder(base: str, _home: str | None) -> Path:
    # XDG Base Directory Specification: a relative path there must be ignored.
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "ringtasks"


def health_file() -> Path:
    """Return ``RINGTASKS_HEALTH_FILE``, else the path of ``health.json`` in the state folder."""
    given = os.environ.get("RINGTASKS_HEALTH_FILE")
    return Path(given).expanduser() if given else state_folder() / "health.json"


def known_hosts_file() -> Path:
    """Return the file of pinned host keys: OpenSSH's format, one name per host for all routes."""
    return state_folder() / "known_hosts"


_PATH_FIELDS = {"key_path", "work_dir", "venv_activate"}
_SECRET_FIELDS = {"cloudflare_service_token_id", "cloudflare_service_token_secret"}

_NOT_OF_INVENTORY = {
    *("host", "port", "user", "key_path"),  # these have other names there
    *("private_key", "shell", "ssh_config_file"),
}

#: Our field -> the inventory's attribute names, the first that is set wins.
_INVENTORY_NAMES = {
    **{f.name: (f.name,) for f in fields(SSHConfig) if f.name not in _NOT_OF_INVENTORY},
    "host": ("ssh_host",),
    "port": ("ssh_port",),
    "user": ("ssh_user",),
    "key_path": ("ssh_key",),
    "work_dir": ("work_dir", "ringrift_path"),
}

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


#: The fields that determine the connection to a host, and its user.
_REACHING = (
    "host", "port", "user", "key_path", "use_control_master", "tailscale_ip", "tailscale_port",
    "cloudflare_tunnel", "cloudflare_service_token_id", "cloudflare_service_token_secret", "name",
    "ssh_host_key", "is_ephemeral", "proxy_jump", "jump_host", "embedded", "private_key",
    "address_family", "bind_address", "ssh_config_file",
)  # fmt: skip
_FIELDS = {f.name: str(f.type) for f in fields(SSHConfig)}
_PORTS = {"port", "tailscale_port"}
_NOT_NEGATIVE = {
    "connect_timeout", "command_timeout", "control_persist", "server_alive_interval",
    "server_alive_count_max",
}  # fmt: skip


def _check_field(name: str, value: object) -> None:
    if name not in _FIELDS:
        near = near_names(name, _FIELDS)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise AttributeError(f"SSHConfig has no field {name!r}{hint}")
    if name == "jump_host":
        return
    expected = _TYPES[_FIELDS[name]]
    is_stray_bool = isinstance(value, bool) and bool not in expected
    if is_stray_bool or not isinstance(value, expected):
        raise TypeError(f"{name}: expected {_FIELDS[name]}, got {type(value).__name__}")
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{name}: has a NUL character")
    if name in _PORTS:
        check_port(name, value)
    if name in _NOT_NEGATIVE and not value >= 0:  # type: ignore[operator]  # a number, see above; also refuses NaN
        raise ValueError(f"{name}: expected a number not below 0, got {value!r}")

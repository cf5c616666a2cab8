"""The settings to reach one host: `SSHConfig`.

Durations are seconds, sizes are bytes.  Values may hold ``${VAR}``; they are expanded at use
(`expand`), so a missing variable affects only the parts that need it.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import KW_ONLY, Field, field, fields
from operator import attrgetter
from typing import Any

from ringtasks.common.light_dataclass import dataclass
from ringtasks.common.setting_checks import count, flag, seconds
from ringtasks.common.settings import setting, settings_of
from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError

from .checks import (
    ADDRESS_EXPECTED,
    address,
    host_address,
    is_address,
    jump_address,
    one_of,
    public_key,
    single_line,
    tcp_port,
    without_brackets,
)  # fmt: skip

__all__ = [
    "SSHConfig",
    "addresses",
    "changed",
    "config_or_fault",
    "error_at",
    "expand",
    "hosts_file_keys",
    "is_reached_alike",
    "secrets",
    "with_own",
]

DEFAULT_SSH_PORT = 22  # RFC 4253 section 4.1
#: Holds the text of a private key; for CI services, whose secrets are variables.
PRIVATE_KEY_VARIABLE = "RINGTASKS_SSH_KEY"

_VARIABLE = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
#: Names the variables that may stand in addresses.
ALLOWED_VARIABLES = "RINGTASKS_INVENTORY_ENV"


def _derived(default: Any, *, repr: bool = True, compare: bool = True, **metadata: Any) -> Any:
    """Return a field that is no setting of a hosts file."""
    return field(default=default, repr=repr, compare=compare, metadata=metadata)


@dataclass()
class SSHConfig:
    """The settings to reach and use one host.

    Each setting of a host is declared here, once.  Beside its check, ``keys`` are its names in a
    hosts file (else its own), ``is_reaching`` is False if it determines neither the connection
    nor the user, ``address_of`` and ``port_of`` name the kind of route (`ringtasks.ssh.routes`)
    that it is for, and ``is_path`` lets any environment variable stand in it.

    The first 16 fields may be given by position, the others by keyword only.  ``host`` is the
    public address, or ``""`` for a box that has none.  ``user`` None means the user in
    ``~/.ssh/config``, else the local user.  Durations are seconds.

    A field that is set later applies from the next connection or command on; if it changes how the
    host is reached, the next command uses a new connection.

    :raises ValueError: a port is outside 1…65535, or a duration or count is below zero.
    :raises TypeError: a field has the wrong type.
    :raises AttributeError: no field has that name.
    """

    host: str = setting(host_address, keys=("ssh_host",), address_of="direct")
    port: int = setting(tcp_port, DEFAULT_SSH_PORT, keys=("ssh_port",))
    user: str | None = setting(address, None, keys=("ssh_user",))
    key_path: str | None = setting(single_line, None, keys=("ssh_key",), is_path=True)
    connect_timeout: float = setting(seconds(above_zero=True), 10, is_reaching=False)
    command_timeout: float = setting(seconds(), 60, is_reaching=False)
    use_control_master: bool = setting(flag, True)
    control_persist: float = setting(seconds(), 300, is_reaching=False)
    server_alive_interval: float = setting(count(0), 30, is_reaching=False)
    server_alive_count_max: int = setting(count(0), 4, is_reaching=False)
    tailscale_ip: str | None = setting(address, None, address_of="tailscale")
    work_dir: str | None = setting(
        single_line, None, keys=("work_dir", "ringrift_path"), is_path=True, is_reaching=False
    )
    venv_activate: str | None = setting(single_line, None, is_path=True, is_reaching=False)
    cloudflare_tunnel: str | None = setting(address, None, address_of="cloudflare")
    cloudflare_service_token_id: str | None = setting(single_line, None, is_secret=True)
    cloudflare_service_token_secret: str | None = setting(single_line, None, is_secret=True)

    _: KW_ONLY
    name: str | None = _derived(None)
    """The host's name in the inventory; health and host keys are kept under it."""
    tailscale_port: int = setting(tcp_port, DEFAULT_SSH_PORT, port_of="tailscale")
    ssh_host_key: str | None = setting(public_key, None)
    """A pinned public key, ``ssh-ed25519 AAAA…``, or ``@cert-authority`` and that of the authority
    which certifies the host: nothing else is accepted."""
    is_ephemeral: bool = setting(flag, False)
    """True if the host key changes at every restart: it is not pinned."""
    proxy_jump: str | None = setting(jump_address, None)
    """A jump host for the direct route: an inventory name or ``user@host:port``."""
    jump_host: SSHConfig | None = _derived(None, repr=False)
    """The host that ``proxy_jump`` names, if it is in the same inventory."""
    embedded: bool = setting(flag, False)
    """True if this process serves the host, on loopback (`ringtasks.ssh.embedded`)."""
    address_family: str = setting(one_of("any", "inet", "inet6"), "any")
    """``inet``, ``inet6`` or ``any`` (ssh_config(5), AddressFamily), for the direct route."""
    bind_address: str | None = setting(address, None)
    """The local address of the direct route (ssh_config(5), BindAddress)."""
    private_key: str | None = _derived(None, keys=(), repr=False)
    """A private key's text, for keys that are never written to disk."""
    shell: str = _derived("/bin/sh", keys=(), is_reaching=False)
    """The shell that interprets commands on the host: ``/bin/sh``, or ``bash``."""
    batch_mode: bool = _derived(True, keys=(), is_reaching=False)
    """False: at a terminal, a log-in may ask for a password, a passphrase or a second factor."""
    ssh_config_host: str | None = _derived(None, keys=(), is_reaching=False)
    """The name for the look-up in ssh's files, if ``host`` is an address found there."""
    ssh_config_file: str | None = _derived(None, keys=())
    """The file in place of ``~/.ssh/config`` and the system's, as in ``ssh -F``; ``none``: none."""
    fault: str | None = _derived(None, keys=())
    """The error for which the host cannot be used: each use of it fails with this text."""
    inventory_files: tuple[str, ...] = _derived((), repr=False, compare=False, is_reaching=False)
    """The inventory whose sources are asked again if every route fails; empty: none."""
    inventory_place: tuple[tuple[str, Any], ...] = _derived(
        (), repr=False, compare=False, is_reaching=False
    )
    """The settings of its place as the inventory has them: one that differs is the caller's."""

    def __setattr__(self, name: str, value: object) -> None:
        declared = _FIELDS.get(name)
        if declared is None or value is not declared.default:  # most fields have their default
            if isinstance(value, str) and value[:1] == "[" and _is_address_field(declared):
                value = without_brackets(value)
            elif name == "key_path" and isinstance(value, os.PathLike):
                value = os.fspath(value)
            _check_field(name, value)
        object.__setattr__(self, name, value)

    @classmethod
    def parse(cls, address: str) -> SSHConfig:
        """Return the SSHConfig of ``[user@]host[:port]``; IPv6 with a port must be in brackets.

        ``ssh://`` may stand in front, as for ssh(1); and the user may have an ``@``, as with the
        accounts of a directory.

        :raises ValueError: there is no host, the port is invalid, or ssh(1) would refuse a
            character.
        """
        found = re.fullmatch(
            r"(?:ssh://)?(?:(?P<user>[^@].*)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@\s]+|[^@\s]*:[^@\s]*:[^@\s]*))"
            r"(?::(?P<port>\d+))?",
            address.removesuffix("/") if address.startswith("ssh://") else address,
        )
        host = found and (found["v6"] or found["host"])
        if not found or not host or host.startswith("-") or "://" in (found["user"] or host):
            raise ValueError(f"host: expected [user@]host[:port], got {address!r}")
        if not all(map(is_address, filter(None, (host, found["user"])))):
            raise ValueError(f"host: expected {ADDRESS_EXPECTED}, got {address!r}")
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
        for their_name, own_name, declared in _KEYS:
            value = getattr(host_config, their_name, None)
            if value is not None and own_name not in given:
                if isinstance(value, str) and "${" in value and own_name not in _SECRETS:
                    value = _expanded(value, declared, their_name, host_config)
                given[own_name] = value
        if "jump_host" in given:
            given["jump_host"] = cls._jump(host_config, given["jump_host"])
        elif "proxy_jump" in given:
            cls._check_jump_address(host_config, given["proxy_jump"])
        made = cls.__new__(cls)
        # `__init__` would look at each field, for each of maybe thousands of hosts.
        made.__dict__.update(_DEFAULTS)
        for own_name, value in given.items():
            setattr(made, own_name, value)
        if made.inventory_files:
            made.inventory_place = tuple((name, getattr(made, name)) for name in _PLACE)
        return made

    @classmethod
    def _jump(cls, host_config: Any, jump_host: Any) -> SSHConfig:
        try:
            return cls.from_host_config(jump_host)
        except InventoryError as error:
            told = f"the jump host cannot be used: {error}"
            raise error_at(host_config, told, "proxy_jump") from error

    @classmethod
    def _check_jump_address(cls, host_config: Any, address: str) -> None:
        try:
            cls.parse(address)
        except ValueError as error:
            told = f"is no host of this inventory, nor an address: {error}"
            raise error_at(host_config, told, "proxy_jump") from error

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
        host = ""
        for field_name in _ADDRESSES:  # no mapping: each command asks several times
            host = getattr(self, field_name) or ""
            if host:
                break
        return host if self.port == DEFAULT_SSH_PORT else f"[{host}]:{self.port}"

    @property
    def name_in_ssh_config(self) -> str:
        """The name for the look-up in ssh's files: that of the request."""
        return self.ssh_config_host or self.host or self.id


def _is_address_field(declared: Field[Any] | None) -> bool:
    return declared is not None and declared.metadata.get("check") in (
        address,
        host_address,
        jump_address,
    )


def hosts_file_keys(declared: Field[Any]) -> tuple[str, ...]:
    """Return the names of an `SSHConfig` field in a hosts file; the first that is set wins."""
    found: tuple[str, ...] = declared.metadata.get("keys", (declared.name,))
    return found


def addresses(config: SSHConfig) -> dict[str, str]:
    """Return the host's address for each kind of route that it has."""
    found = {}
    for name, route in _ADDRESSES.items():  # no generator: each host asks several times
        if address := getattr(config, name):
            found[route] = address
    return found


def secrets(config: SSHConfig) -> tuple[str | None, ...]:
    """Return the secrets by which the host is reached; never to be shown."""
    return tuple(getattr(config, name) for name in _SECRETS)


def is_reached_alike(one: SSHConfig, other: SSHConfig) -> bool:
    """Return True if ``one`` and ``other`` lead to the same connection."""
    return bool(_reaching(one) == _reaching(other))  # one call: each command asks


def expand(value: str) -> str:
    """Return ``value`` with each ``${VAR}`` replaced from the environment.

    :raises InventoryError: a variable is not set; the message names it, never a value.
    """

    def value_of(match: re.Match[str]) -> str:
        variable = match.group(1)
        if variable not in os.environ:
            raise InventoryError(f"the environment variable {variable} is not set")
        return os.environ[variable]

    return re.sub(_VARIABLE, value_of, value) if "$" in value else value


def changed(config: SSHConfig, **values: Any) -> SSHConfig:
    """Return a copy with these values: `dataclasses.replace` would check all fields again."""
    made = object.__new__(type(config))
    made.__dict__.update(config.__dict__)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def with_own(config: SSHConfig, **values: Any) -> SSHConfig:
    """Return ``config`` with values of the caller, which also count after the host has moved."""
    place = tuple(each for each in config.inventory_place if each[0] not in values)
    return changed(config, **values, inventory_place=place) if values else config


def config_or_fault(host_config: Any) -> SSHConfig:
    """Return the host's SSHConfig; if its entry cannot be used, one with that as its ``fault``."""
    try:
        return SSHConfig.from_host_config(host_config)
    except InventoryError as error:
        return SSHConfig("", name=host_config.name, fault=str(error))


def error_at(host_config: Any, message: str, field_name: str | None = None) -> InventoryError:
    """Return an error with the host's name and, if it has one, its place in the hosts file."""
    file = getattr(host_config, "file", None) or None
    lines = getattr(host_config, "lines", {})
    return InventoryError(
        message,
        file=file,
        line=(lines.get(field_name, host_config.line) or None) if file else None,
        host=getattr(host_config, "name", None),
        field_name=field_name,
    )


def _expanded(value: str, declared: Field[Any], field_name: str, host_config: Any) -> str:
    """Return ``value`` with its variables replaced; an error names its place in the hosts file."""
    odd = re.search(r"\$\{\w+[^\w}]+", value)
    try:
        if odd and declared.name != "venv_activate":  # which is a shell's text
            raise InventoryError(f"expected ${{NAME}} without a default, found {odd[0]}")
        if declared.metadata.get("is_path"):
            return expand(value)
        return _expanded_address(value, is_name=declared.name != "ssh_host_key")
    except InventoryError as error:
        raise error_at(host_config, error.message, field_name) from None


def _expanded_address(value: str, *, is_name: bool) -> str:
    allowed = re.split(r"[,\s]+", os.environ.get(ALLOWED_VARIABLES, ""))
    for variable in re.findall(_VARIABLE, value):
        if not any(fnmatch.fnmatchcase(variable, name) for name in allowed):
            raise InventoryError(
                f"${{{variable}}} is not expanded in an address, which is sent to others; "
                f"to allow it, set {ALLOWED_VARIABLES}={variable}"
            )
    expanded = expand(value)
    if is_name and not is_address(expanded):
        raise InventoryError(f"expected {ADDRESS_EXPECTED}, after expansion of {value}")
    return expanded


_FIELDS = {f.name: f for f in fields(SSHConfig)}
_DEFAULTS = {"host": "", **{f.name: f.default for f in fields(SSHConfig) if f.name != "host"}}
#: The fields that determine the connection to a host, and its user.
_reaching = attrgetter(*(n for n, f in _FIELDS.items() if f.metadata.get("is_reaching", True)))
_SECRETS = tuple(name for name, f in settings_of(SSHConfig).items() if f.metadata["is_secret"])
#: The setting with the address of each kind of route.
_ADDRESSES = {
    name: f.metadata["address_of"] for name, f in _FIELDS.items() if "address_of" in f.metadata
}
_KEYS = [(key, name, found) for name, found in _FIELDS.items() for key in hosts_file_keys(found)]
#: Fields whose values this module makes.
_OBJECTS = ("jump_host", "inventory_files", "inventory_place")
#: The settings that tell where a host is.
_PLACE = tuple(
    name
    for name, f in _FIELDS.items()
    if name == "port" or {"address_of", "port_of"} & {*f.metadata}
)
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


def _check_field(name: str, value: object) -> None:
    if name not in _FIELDS:
        near = near_names(name, _FIELDS)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise AttributeError(f"SSHConfig has no field {name!r}{hint}")
    declared = _FIELDS[name]
    if name in _OBJECTS or value is declared.default:
        return
    types = _TYPES[str(declared.type)]
    is_wrong_bool = isinstance(value, bool) and bool not in types
    if is_wrong_bool or not isinstance(value, types):
        raise TypeError(f"{name}: expected {declared.type}, got {type(value).__name__}")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{name}: has a NUL character")
        return
    if declared.metadata.get("check") is tcp_port:
        tcp_port(name, value)
    elif isinstance(value, (int, float)) and not value >= 0:  # also refuses NaN
        raise ValueError(f"{name}: expected a number not below 0, got {value!r}")
    # Every dial needs a limit, and OpenSSH takes 0 for none.
    if name == "connect_timeout" and not value > 0:  # type: ignore[operator]  # a number, see above
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")

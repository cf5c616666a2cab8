"""The hosts files: YAML in, HostConfigs out, with every fault told by file, line, host and field.

Two shapes are read: a ``hosts:`` mapping beside other sections, which are left alone, or the bare
mapping of host to fields.  Fields that ringtasks does not know are facts, kept as they are.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ringtasks.common.text import near_names
from ringtasks.errors import InventoryError, UnknownHostError

__all__ = [
    "HostConfig",
    "Inventory",
    "find_host",
    "load_inventory",
    "usual_inventory",
]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast

# Compiled when they are first used.
_HOST_NAME = r"[^\s,@!=\x00-\x1f\x7f][^\s,!=\x00-\x1f\x7f]*\Z"
_ADDRESS = r"[^\s\x00-\x1f\x7f-][^\s\x00-\x1f\x7f]*\Z"
_PUBLIC_KEY = r"(@cert-authority +)?[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?\Z"
_SECRETS = {"cloudflare_service_token_id", "cloudflare_service_token_secret"}


@dataclass(frozen=True)
class HostConfig:
    """One host as the hosts file describes it; None: not given there."""

    name: str
    ssh_host: str | None = None
    ssh_port: int | None = None
    ssh_user: str | None = None
    ssh_key: str | None = None
    tailscale_ip: str | None = None
    tailscale_port: int | None = None
    cloudflare_tunnel: str | None = None
    cloudflare_service_token_id: str | None = field(default=None, repr=False)
    cloudflare_service_token_secret: str | None = field(default=None, repr=False)
    work_dir: str | None = None
    ringrift_path: str | None = None
    venv_activate: str | None = None
    ssh_host_key: str | None = None
    is_ephemeral: bool = False
    proxy_jump: str | None = None
    embedded: bool = False
    connect_timeout: float | None = None
    command_timeout: float | None = None
    use_control_master: bool | None = None
    control_persist: float | None = None
    server_alive_interval: int | None = None
    server_alive_count_max: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


class Inventory(NamedTuple):
    """All hosts by name, in the order of the file, and the groups with their members."""

    hosts: Mapping[str, HostConfig]
    groups: Mapping[str, tuple[str, ...]] = {}
    files: tuple[str, ...] = ()

    def get(self, name: str) -> HostConfig:
        """The host called ``name``.

        :raises UnknownHostError: there is none; it lists near names.
        """
        if name not in self.hosts:
            raise UnknownHostError(f"unknown host {name!r}", near=near_names(name, self.hosts))
        return self.hosts[name]


def load_inventory(given: str | os.PathLike[str] | None = None) -> Inventory:
    """The inventory: ``given``, else ``RINGTASKS_HOSTS``, ``./hosts``, or the one under ~/.config.

    :raises InventoryError: there is none, or it cannot be used as it stands.
    """
    files = _find(given)
    hosts: dict[str, HostConfig] = {}
    groups: dict[str, Any] = {}
    for file in files:
        own_hosts, own_groups = _read(file)
        for name, host in own_hosts.items():
            if name in hosts:
                first = hosts[name]
                raise InventoryError(
                    f"is also in {first.file}:{first.line}; a host stands in one file",
                    file=host.file,
                    line=host.line,
                    host=name,
                )
            hosts[name] = host
        groups.update(own_groups)
    return _with_groups(hosts, groups, tuple(str(file) for file in files))


def find_host(name: str) -> HostConfig | None:
    """The host of that name, None if there is no inventory or it is not there.

    :raises InventoryError: the inventory cannot be used as it stands.
    """
    inventory = usual_inventory()
    return inventory.hosts.get(name) if inventory else None


def usual_inventory() -> Inventory | None:
    """`load_inventory`, None where there is none.

    :raises InventoryError: there is one, which cannot be used as it stands.
    """
    try:
        _find(None)
    except InventoryError:
        return None
    return load_inventory()


def _find(given: str | os.PathLike[str] | None) -> list[Path]:
    explicit = given or os.environ.get("RINGTASKS_HOSTS")
    if explicit:
        path = Path(explicit).expanduser()
        files = _in_folder(path) if path.is_dir() else [path]
        if not path.exists():
            raise InventoryError("no such file or folder", file=str(path))
        if not files:
            raise InventoryError("no *.yaml in this folder", file=str(path))
        return files
    files = _in_folder(Path("hosts"))
    own = Path("~/.config/ringtasks/hosts.yaml").expanduser()
    if not files and own.is_file():
        files = [own]
    if not files:
        raise InventoryError(
            f"no inventory: looked for hosts/*.yaml here and for {own}; write one (see "
            "hosts/distributed_hosts.example.yaml), or name one with --inventory"
        )
    return files


def _in_folder(folder: Path) -> list[Path]:
    found = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return sorted(path for path in found if not re.search(r"\.example\.ya?ml$", path.name))


class _Mapping(dict[str, Any]):
    """A YAML mapping that knows the line of each of its keys."""

    lines: dict[Any, int]


class _LineLoader(_Loader):  # type: ignore[misc]  # chosen at run time
    """Safe YAML, with line numbers, without duplicate keys."""


def _construct_mapping(loader: Any, node: Any) -> Any:
    mapping = _Mapping()
    mapping.lines = {}
    yield mapping
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key, line = key_node.value, key_node.start_mark.line + 1
        if isinstance(key, str) and key in mapping.lines:
            first = mapping.lines[key]
            raise _DuplicateKeyError(f"the key {key!r} is given twice, first in line {first}", line)
        mapping.lines[key if isinstance(key, str) else str(key)] = line
    loader.flatten_mapping(node)
    mapping.update(loader.construct_mapping(node, deep=True))


_LineLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


class _DuplicateKeyError(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _parse(file: Path) -> _Mapping:
    name = str(file)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InventoryError(f"cannot be read: {error.strerror}", file=name) from error
    try:
        document = yaml.load(text, Loader=_LineLoader)  # noqa: S506  # built on the safe loader
    except _DuplicateKeyError as error:
        raise InventoryError(str(error), file=name, line=error.line) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = error.problem or "broken"
        raise InventoryError(f"not YAML: {problem}", file=name, line=line) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InventoryError(f"not YAML: {reason}", file=name) from error
    if not isinstance(document, _Mapping) or not document:
        found = "nothing" if document is None or document == {} else type(document).__name__
        raise InventoryError(f"expected a mapping of hosts, found {found}", file=name, line=1)
    return document


def _read(file: Path) -> tuple[dict[str, HostConfig], dict[str, Any]]:
    try:
        status = file.stat()
    except OSError:
        return _read_version(file)  # which says what is wrong
    return _read_version(file, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # each host looks up its jump host by name
def _read_version(file: Path, *_version: int) -> tuple[dict[str, HostConfig], dict[str, Any]]:
    document = _parse(file)
    name = str(file)
    if "hosts" not in document:
        return _hosts(name, document, {}), {}
    hosts = _section(name, document, "hosts")
    defaults = _section(name, document, "defaults")
    return _hosts(name, hosts, defaults), _section(name, document, "groups")


def _section(file: str, document: _Mapping, key: str) -> Any:
    section = document.get(key)
    if section is None:
        return _empty()
    if not isinstance(section, _Mapping):
        raise InventoryError(
            f"expected a mapping, found {_kind(section)}",
            file=file,
            line=document.lines.get(key),
            field_name=key,
        )
    return section


def _empty() -> _Mapping:
    mapping = _Mapping()
    mapping.lines = {}
    return mapping


def _hosts(file: str, section: _Mapping, defaults: Any) -> dict[str, HostConfig]:
    hosts: dict[str, HostConfig] = {}
    for name, given in section.items():
        line = section.lines.get(str(name), 0)
        if not isinstance(name, str) or not re.match(_HOST_NAME, name):
            raise InventoryError(
                "expected a host name without spaces and ,!=@ in front", file=file, line=line,
                host=repr(name),
            )  # fmt: skip
        if not isinstance(given, (_Mapping, type(None))):
            raise InventoryError(
                f"expected a mapping of fields, found {_kind(given)}",
                file=file,
                line=line,
                host=name,
            )
        hosts[name] = _host(file, line, name, given or _empty(), defaults)
    return hosts


def _host(file: str, line: int, name: str, given: _Mapping, defaults: Any) -> HostConfig:
    known: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for key, value in {**defaults, **given}.items():
        if key not in _CHECKS or value is None:
            facts.update({} if key in _CHECKS else {str(key): value})
            continue
        problem = _CHECKS[key](value)
        if problem:
            shown = "" if key in _SECRETS else f", found {value!r}"
            at = given.lines.get(key) or getattr(defaults, "lines", {}).get(key)
            raise InventoryError(
                f"expected {problem}{shown}", file=file, line=at, host=name, field_name=key
            )
        known[key] = value
    known.setdefault("work_dir", known.get("ringrift_path"))
    host = HostConfig(name, **known, facts=facts, file=file, line=line)
    if not (host.ssh_host or host.tailscale_ip or host.cloudflare_tunnel or host.embedded):
        raise InventoryError(
            "has no address: give ssh_host, tailscale_ip or cloudflare_tunnel",
            file=file,
            line=line,
            host=name,
        )
    return host


def _with_groups(
    hosts: dict[str, HostConfig], groups: dict[str, Any], files: tuple[str, ...]
) -> Inventory:
    from .selection import select

    plain = Inventory(hosts, {}, files)
    members: dict[str, tuple[str, ...]] = {}
    for group, given in groups.items():
        wanted = given.split(",") if isinstance(given, str) else given
        if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
            raise InventoryError(
                f"expected a list of host names, found {_kind(given)}",
                file=files[0],
                field_name=f"groups: {group}",
            )
        try:
            members[str(group)] = select(",".join(wanted), plain) if wanted else ()
        except ValueError as error:
            raise InventoryError(
                str(error), file=files[0], field_name=f"groups: {group}"
            ) from error
    placed = {
        name: replace(host, groups=tuple(g for g, names in members.items() if name in names))
        for name, host in hosts.items()
    }
    _refuse_jump_loops(placed)
    return Inventory(placed, members, files)


def _refuse_jump_loops(hosts: Mapping[str, HostConfig]) -> None:
    for host in hosts.values():
        seen = [host.name]
        jump = host.proxy_jump
        while jump is not None and jump in hosts:
            if jump in seen:
                raise InventoryError(
                    f"the jump hosts go in a circle: {' -> '.join([*seen, jump])}",
                    file=host.file,
                    line=host.line,
                    host=host.name,
                    field_name="proxy_jump",
                )
            seen.append(jump)
            jump = hosts[jump].proxy_jump


def _kind(value: object) -> str:
    return {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}.get(
        type(value), repr(value)
    )


def _has_variable(value: object) -> bool:
    return isinstance(value, str) and "${" in value


def _text(value: object) -> str | None:
    ok = isinstance(value, str) and value and not re.search(r"[\x00-\x1f\x7f]", value)
    return None if ok else "text (in quotes, if it looks like a number)"


def _address(value: object) -> str | None:
    ok = isinstance(value, str) and (_has_variable(value) or re.match(_ADDRESS, value))
    return None if ok else "a name or an address, without spaces and no - in front"


def _port(value: object) -> str | None:
    ok = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535
    return None if ok else "a port from 1 to 65535"


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _seconds(value: object) -> str | None:
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    return None if ok else "seconds, not below 0"


def _count(value: object) -> str | None:
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if ok else "a whole number, not below 0"


def _public_key(value: object) -> str | None:
    ok = isinstance(value, str) and (_has_variable(value) or re.match(_PUBLIC_KEY, value))
    return (
        None
        if ok
        else "a public key such as 'ssh-ed25519 AAAA…', or '@cert-authority ssh-ed25519 AAAA…'"
    )


_CHECKS = {
    "ssh_host": _address,
    "ssh_port": _port,
    "ssh_user": _address,
    "ssh_key": _text,
    "tailscale_ip": _address,
    "tailscale_port": _port,
    "cloudflare_tunnel": _address,
    "cloudflare_service_token_id": _text,
    "cloudflare_service_token_secret": _text,
    "work_dir": _text,
    "ringrift_path": _text,
    "venv_activate": _text,
    "ssh_host_key": _public_key,
    "is_ephemeral": _flag,
    "proxy_jump": _address,
    "embedded": _flag,
    "connect_timeout": _seconds,
    "command_timeout": _seconds,
    "use_control_master": _flag,
    "control_persist": _seconds,
    "server_alive_interval": _count,
    "server_alive_count_max": _count,
}
assert set(_CHECKS) == {f.name for f in fields(HostConfig)} - {  # noqa: S101  # no field unchecked
    "name", "facts", "groups", "file", "line",
}  # fmt: skip

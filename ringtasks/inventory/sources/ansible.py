"""Ansible's dynamic inventory: ``{"_meta": {"hostvars": {…}}, "gpu": {"hosts": […], …}}``.

A group has ``hosts``, ``children`` and ``vars``, or is the list of its hosts
(docs.ansible.com, "Developing dynamic inventory").  A host's own variables win over those of its
groups, and a group's over those of the groups that contain it.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .model import Listing, PrintedHost

__all__ = ["is_inventory", "listing_of"]

_PARTS = {"hosts", "children", "vars"}
#: The settings that Ansible's variables stand for; of several, the first that is given.
_VARIABLES = {
    "ssh_host": ("ansible_host", "ansible_ssh_host"),
    "ssh_port": ("ansible_port", "ansible_ssh_port"),
    "ssh_user": ("ansible_user", "ansible_ssh_user"),
    "ssh_key": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
}
#: Groups that every host is in.
_UNIVERSAL = ("all", "ungrouped")
_MAX_DEPTH = 20  # of groups within groups


def is_inventory(document: Mapping[str, Any]) -> bool:
    """Return True if a mapping is Ansible's and not one of host to fields."""
    if "_meta" in document:
        return True
    return bool(document) and all(_is_group(value) for value in document.values())


def _is_group(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if not isinstance(value, Mapping) or not value or not set(value) <= _PARTS:
        return False
    kinds = {"hosts": (list, Mapping), "children": (list, Mapping), "vars": (Mapping,)}
    return all(isinstance(part, (*kinds[name], type(None))) for name, part in value.items())


def listing_of(document: Mapping[str, Any]) -> Listing:
    """Return the hosts of a dynamic inventory with their variables, and its groups."""
    groups = {str(name): value for name, value in document.items() if name != "_meta"}
    hostvars = _mapping(_mapping(document.get("_meta")).get("hostvars"))
    own = {str(name): values for name, values in hostvars.items()}
    malformed = [name for name, values in own.items() if not isinstance(values or {}, Mapping)]
    members = {name: _members(name, groups) for name in groups}
    variables: dict[str, dict[str, Any]] = {name: {} for name in own}
    heights = _heights(groups)
    for group in sorted(groups, key=lambda name: (heights[name], name), reverse=True):
        in_group = _mapping(_part(groups[group], "hosts"))
        for host in members[group]:
            variables.setdefault(host, {}).update(_mapping(_part(groups[group], "vars")))
            variables[host].update(_mapping(in_group.get(host)))
    for name, values in own.items():
        variables[name].update(_mapping(values))
    hosts = tuple(_host(name, each) for name, each in variables.items() if name not in malformed)
    named = {name: tuple(found) for name, found in members.items() if name not in _UNIVERSAL}
    told = "left out: expected a mapping of variables for the host"
    return Listing(hosts, named, tuple(f"{told} {name[:80]!r}" for name in malformed))


def _heights(groups: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of levels of groups below each group; ``all`` is above every group."""
    found: dict[str, int] = {}

    def height(group: str, depth: int = 0) -> int:
        if group in found or depth > _MAX_DEPTH:
            return found.get(group, 0)
        found[group] = 0  # for a group that contains itself
        below = [height(name, depth + 1) + 1 for name in _children(group, groups)]
        found[group] = max(below, default=0) + (_MAX_DEPTH if group == "all" else 0)
        return found[group]

    for group in groups:
        height(group)
    return found


def _members(group: str, groups: Mapping[str, Any]) -> dict[str, None]:
    """Return the hosts of a group and of the groups in it, each once."""
    found: dict[str, None] = {}
    seen, waiting = {group}, [group]
    while waiting:
        name = waiting.pop(0)
        value = groups.get(name)
        own = value if isinstance(value, list) else _part(value, "hosts")
        found.update(dict.fromkeys(_names(own)))
        waiting += [child for child in _children(name, groups) if child not in seen]
        seen.update(waiting)
    return found


def _children(group: str, groups: Mapping[str, Any]) -> list[str]:
    return _names(_part(groups.get(group), "children"))


def _names(value: Any) -> list[str]:
    """Return the names of a list, or the keys of a mapping; anything else has none."""
    return [*map(str, value)] if isinstance(value, list | Mapping) else []


def _part(group: Any, name: str) -> Any:
    return group.get(name) if isinstance(group, Mapping) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _host(name: str, variables: Mapping[str, Any]) -> PrintedHost:
    values = {key: value for key, value in variables.items() if not str(key).startswith("ansible_")}
    for setting, names in _VARIABLES.items():
        given = next((variables[each] for each in names if variables.get(each) is not None), None)
        if given is not None:
            values[setting] = given
    # Ansible connects to the host's name if no address is given.
    if not {"ssh_host", "tailscale_ip", "cloudflare_tunnel"} & set(values):
        values["ssh_host"] = name
    connection = variables.get("ansible_connection", "ssh")
    is_local = connection not in ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh")
    return PrintedHost(name, values, f"ansible_connection is {connection}" if is_local else "")

"""A kind of route is declared in `routes.KINDS`, its settings in `SSHConfig`; no part misses."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from ringtasks.inventory.host_settings import SSHConfig, addresses
from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.model import ADDRESS_KEYS, SETTINGS
from ringtasks.ssh.routes import KINDS, ROUTE_NAMES, RouteKind, routes_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
ADDRESS_FIELDS = {
    f.metadata["address_of"]: f.name for f in fields(SSHConfig) if "address_of" in f.metadata
}


def test_route_kinds_and_address_settings_correspond_one_to_one() -> None:
    assert sorted(ADDRESS_FIELDS) == sorted(ROUTE_NAMES)
    assert {f.metadata.get("port_of", "direct") for f in fields(SSHConfig)} <= set(ROUTE_NAMES)
    assert set(ADDRESS_KEYS) <= set(SETTINGS)


@pytest.mark.parametrize("kind", KINDS, ids=ROUTE_NAMES)
def test_host_with_the_address_of_one_route_kind_has_only_that_route(kind: RouteKind) -> None:
    config = SSHConfig(**{"host": "", ADDRESS_FIELDS[kind.name]: "box.example.com"})

    (route,) = routes_of(config, {})

    assert (route.name, route.host) == (kind.name, "box.example.com")
    assert addresses(config) == {kind.name: "box.example.com"}
    assert config.id == "box.example.com"
    assert (route.address == "box.example.com:22") == kind.has_port


@pytest.mark.parametrize("key", ADDRESS_KEYS)
def test_address_of_one_route_kind_is_enough_in_a_hosts_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(f"hosts:\n  box:\n    {key}: box.example.com\n")

    (host,) = load_inventory(path).hosts.values()

    assert host.fault is None
    assert len(routes_of(SSHConfig.from_host_config(host), {})) == 1


def test_documentation_lists_the_route_kinds_in_order() -> None:
    listed = re.search(r"use this route only: (.*)\.$", PAGE, re.MULTILINE)

    assert listed is not None
    assert tuple(re.findall(r"`(\w+)`", listed[1])) == ROUTE_NAMES


def test_settings_determine_the_connection_unless_they_are_of_its_use() -> None:
    """Changing one of them leads to another connection, and to a master of its own."""
    of_use = {f.name for f in fields(SSHConfig) if not f.metadata.get("is_reaching", True)}

    assert of_use.isdisjoint((*ADDRESS_FIELDS.values(), "user", "ssh_host_key", "proxy_jump"))
    assert of_use >= {"work_dir", "command_timeout"}

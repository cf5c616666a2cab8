"""Hosts that a program prints: the shapes, Ansible's among them, and unfit values."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.errors import InventoryError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.model import Inventory
from ringtasks.inventory.sources.checking import checked
from ringtasks.inventory.sources.command import listing_of
from ringtasks.inventory.sources.model import SourceError
from tests.support.sources import Programs

Load = Callable[..., Inventory]


@pytest.fixture
def load(tmp_path: Path, programs: Programs) -> Load:
    """Loads an inventory whose only source is a program with this output."""

    def load_printed(printed: Any, entry: str = "", hosts: str = "{}") -> Inventory:
        program = programs.prints("my-hosts", printed)
        file = tmp_path / "hosts.yaml"
        file.write_text(
            f"hosts: {hosts}\nsources: [{{from: command, command: {program}, refresh: 0{entry}}}]\n"
        )
        return load_inventory(file)

    return load_printed


@pytest.mark.parametrize(
    "printed",
    [
        "a: {ssh_host: h, ssh_port: 2222, gpu: H100}",
        "hosts:\n  a: {ssh_host: h, ssh_port: 2222, gpu: H100}\ngroups: {g: [a, unknown]}",
        '{"a": {"ssh_host": "h", "ssh_port": "2222", "gpu": "H100"}}',
        '[{"name": "a", "ssh_host": "h", "ssh_port": 2222, "gpu": "H100"}]',
        "- name: a\n  ssh_host: h\n  ssh_port: 2222\n  gpu: H100",
        '{"hosts": [{"name": "a", "ssh_host": "h", "ssh_port": 2222, "gpu": "H100"}]}',
    ],
    ids=["yaml", "sections", "json", "json list", "yaml list", "list in sections"],
)
def test_each_shape_of_hosts_is_read(load: Load, printed: str) -> None:
    host = load(printed).get("a")

    assert (host.ssh_host, host.ssh_port, host.facts) == ("h", 2222, {"gpu": "H100"})


def test_groups_of_a_program_are_groups_of_the_inventory(load: Load) -> None:
    inventory = load("hosts: {a: {ssh_host: h}, b: {ssh_host: h}}\ngroups: {web: [b, x]}")

    assert inventory.groups == {"web": ("b",)}
    assert inventory.get("b").groups == ("web",)


ANSIBLE = {
    "_meta": {
        "hostvars": {
            "box1": {
                "ansible_host": "192.0.2.1", "ansible_port": 2201, "ansible_user": "ubuntu",
                "ansible_ssh_private_key_file": "~/.ssh/team", "zone": "eu",
                "ansible_become_password": "hunter22", "api_token": "hunter33",
                "API-KEY": "hunter44", "dbPassword": "hunter55", "accessKey": "hunter66",
            },
            "box2": {"zone": "us", "nested": {"a": 1}},
        }
    },
    "all": {"children": ["gpu", "ungrouped"], "vars": {"ansible_user": "root", "tier": "all"}},
    "gpu": {"hosts": ["box1"], "children": ["big"], "vars": {"tier": "gpu"}},
    "big": {"hosts": ["box2"], "vars": {"tier": "big"}},
    "ungrouped": {"hosts": ["10.0.0.9"]},
}  # fmt: skip


def test_ansible_dynamic_inventory_is_understood(load: Load) -> None:
    inventory = load(ANSIBLE)

    box1, box2 = inventory.get("box1"), inventory.get("box2")
    assert (box1.ssh_host, box1.ssh_port, box1.ssh_user) == ("192.0.2.1", 2201, "ubuntu")
    assert (box1.ssh_key, box1.facts) == ("~/.ssh/team", {"zone": "eu", "tier": "gpu"})
    assert (box2.ssh_host, box2.ssh_user) == ("box2", "root")
    assert box2.facts == {"zone": "us", "tier": "big"}
    assert inventory.get("10.0.0.9").facts == {"tier": "all"}
    assert inventory.groups == {"gpu": ("box1", "box2"), "big": ("box2",)}
    assert "hunter" not in cache_text()


def test_groups_as_plain_lists_and_circles_are_understood(load: Load) -> None:
    old = {
        "web": ["a", "b"],
        "db": {"hosts": ["c"], "children": ["web"]},
        "loop": {"children": ["loop"]},
    }

    inventory = load(old)

    assert inventory.groups == {"web": ("a", "b"), "db": ("c", "a", "b"), "loop": ()}
    assert inventory.get("c").ssh_host == "c"


def test_local_connections_of_ansible_are_no_hosts(load: Load) -> None:
    inventory = load({"_meta": {"hostvars": {"me": {"ansible_connection": "local"}}}})

    assert inventory.hosts == {}
    assert inventory.absent == {"me": "source my-hosts: ansible_connection is local"}


def cache_text() -> str:
    folder = Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "sources"
    return "".join(file.read_text() for file in folder.glob("*.json"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"ssh_host": "-oProxyCommand=touch x"}, "ssh_host: expected plain text"),
        ({"ssh_host": "h; touch x"}, "ssh_host: expected plain text"),
        ({"ssh_host": "%h"}, "ssh_host: expected plain text"),
        ({"ssh_host": "${HOME}"}, "ssh_host: expected plain text"),
        ({"ssh_host": "h\n"}, "ssh_host: expected plain text"),
        ({"ssh_host": ""}, "ssh_host: expected plain text"),
        ({"ssh_host": ["h"]}, "ssh_host: expected a name or an address"),
        ({"ssh_host": 7}, "ssh_host: expected a name or an address"),
        ({"ssh_host": "h", "ssh_port": 0}, "ssh_port: expected a port from 1 to 65535"),
        ({"ssh_host": "h", "ssh_port": 65536}, "ssh_port: expected a port"),
        ({"ssh_host": "h", "ssh_port": "-1"}, "ssh_port: expected"),
        ({"ssh_host": "h", "ssh_port": True}, "ssh_port: expected a port"),
        ({"ssh_host": "h", "ssh_user": "-l"}, "ssh_user: expected plain text"),
        ({"ssh_host": "h", "ssh_user": "a b"}, "ssh_user: expected plain text"),
        ({"ssh_host": "h", "ssh_user": "%u"}, "ssh_user: expected plain text"),
        ({"ssh_host": "h", "ssh_key": "-x"}, "ssh_key: expected plain text"),
        ({"ssh_host": "h", "ssh_key": "%d/id"}, "ssh_key: expected plain text"),
        ({"ssh_host": "h", "work_dir": "${AWS_SECRET}"}, "work_dir: expected plain text"),
        ({"ssh_host": "h", "work_dir": "a\nb"}, "work_dir: expected text"),
        ({"ssh_host": "h", "proxy_jump": "-J"}, "proxy_jump: expected plain text"),
        ({"tailscale_ip": "-h"}, "tailscale_ip: expected plain text"),
        ({"cloudflare_tunnel": "a b"}, "cloudflare_tunnel: expected plain text"),
        ({"ssh_host": "h", "embedded": True}, "embedded can stand in a hosts file only"),
        ({"ssh_host": "h", "cloudflare_service_token_secret": "s3cr3t"}, "in a hosts file only"),
        ({"ssh_host": "h", "connect_timeout": -1}, "connect_timeout: expected"),
    ],
)  # fmt: skip
def test_unfit_value_leaves_out_its_host_only(load: Load, fields: Any, told: str) -> None:
    inventory = load(json.dumps({"bad": fields, "good": {"ssh_host": "h"}}))

    assert list(inventory.hosts) == ["good"]
    (warning,) = inventory.warnings
    assert "my-hosts: bad: left out: " in warning
    assert told in warning
    assert "s3cr3t" not in warning + cache_text()


@pytest.mark.parametrize(
    "name",
    ["a/b", "../x", "a\nb", "-x", "a b", "%h", "${X}", "@all", "a,b", "x" * 300, "", 7, None],
)
def test_unfit_name_leaves_out_its_host_only(load: Load, name: Any) -> None:
    inventory = load([{"name": name, "ssh_host": "h"}, {"name": "good", "ssh_host": "h"}])

    assert list(inventory.hosts) == ["good"]
    assert "left out: a host called" in inventory.warnings[0]
    assert "\n" not in inventory.warnings[0]


@pytest.mark.parametrize(
    "printed",
    [
        {"bad": 7, "good": {"ssh_host": "h"}, "version": "2"},
        ["bad", {"name": "good", "ssh_host": "h"}, {"ssh_host": "h"}],
        {"hosts": {"bad": [], "good": {"ssh_host": "h"}, "x": 1}},
        {"_meta": {"hostvars": {"bad": 7, "good": {"ansible_host": "h"}, "x": "y"}}},
        {"good": {"ssh_host": "h"}, "Good": {"ssh_host": "other"}, "GOOD": {"ssh_host": "h"}},
    ],
    ids=["mapping", "list", "hosts", "ansible", "only in case"],
)
def test_malformed_host_leaves_the_others(load: Load, printed: Any) -> None:
    inventory = load(printed)

    assert {name: host.ssh_host for name, host in inventory.hosts.items()} == {"good": "h"}
    assert len(inventory.warnings) == 2
    assert all("left out: " in text for text in inventory.warnings)


def test_groups_that_contain_each_other_many_times_are_read_in_time(load: Load) -> None:
    names = [f"g{n}" for n in range(24)]
    groups = {name: {"hosts": [name], "children": names[n + 1 :]} for n, name in enumerate(names)}

    inventory = load({**groups, "_meta": {"hostvars": {}}})

    assert len(inventory.groups["g0"]) == 24


def test_many_unfit_hosts_are_counted(load: Load) -> None:
    inventory = load({f"bad{n}": {"ssh_host": "-x"} for n in range(100)})

    assert len(inventory.warnings) == 6
    assert inventory.warnings[-1].endswith("and 95 more")


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1},*a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("hello", "expected a mapping or a list of hosts, found text"),
        ("[1, 2]", "expected a mapping with 'name' for each host of the list"),
        ("{a: 1}", "expected a mapping of fields for the host 'a', found 1"),
        ("{", "not YAML"),
        ("\x00\x01\x02", "not YAML"),
        ("[" * 100_000, "nested too deeply"),
        ("a: " + "[" * 100_000, "not YAML"),
        ("hosts: 7", "hosts: expected a mapping or a list, found 7"),
        ("x: " + "y" * 5_000_000, "more than 4 MiB of YAML"),
        (BOMB, "more than a million"),
    ],
    ids=["text", "list", "number", "cut", "binary", "deep", "deep YAML", "hosts", "large", "bomb"],
)  # fmt: skip
def test_rubbish_is_a_warning(load: Load, printed: str, told: str) -> None:
    inventory = load(printed, hosts="{a: {ssh_host: h}}")

    assert list(inventory.hosts) == ["a"]
    assert told in inventory.warnings[0], inventory.warnings


@pytest.mark.parametrize("printed", ["", "{}", "[]", "# none today"])
def test_no_hosts_are_no_fault(load: Load, printed: str) -> None:
    inventory = load(printed)

    assert (inventory.hosts, inventory.warnings) == ({}, ())


@pytest.mark.parametrize(
    "printed",
    [
        '{"a": {"ssh_host": "first"}, "a": {"ssh_host": "second"}}',
        "a: {ssh_host: first}\na: {ssh_host: second}",
        '[{"name": "a", "ssh_host": "first"}, {"name": "a", "ssh_host": "second"}]',
    ],
    ids=["json", "yaml", "list"],
)
def test_host_that_is_listed_twice_is_the_first_with_a_warning(load: Load, printed: str) -> None:
    inventory = load(printed)

    assert inventory.get("a").ssh_host == "first"
    assert "listed twice: the first one is used" in inventory.warnings[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(max_size=8) | st.sampled_from(
            ["_meta", "hostvars", "hosts", "children", "vars", "all", "name", "ssh_host",
             "ssh_port", "ansible_host", "groups", "ssh_user", "tailscale_ip"]
        ), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(JSON)
def test_any_json_gives_usable_hosts_or_an_error(value: Any) -> None:
    try:
        listing = checked(listing_of(json.dumps(value).encode()))
    except SourceError:
        return

    for host in listing.hosts:
        assert not set(host.name) & set("/\n -%$"[:3] + "%$")
        assert not str(host.values.get("ssh_host", "h")).startswith("-")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("azure", "from: expected one of tailscale, runpod, vast, lambda, ssh_config, command"),
        ("{form: vast}", "form is not a setting; did you mean from?"),
        ("{from: vast, refresh: soon}", "refresh: expected a duration"),
        ("{from: vast, refresh: -1}", "refresh: expected a duration"),
        ("{from: command}", "command: expected a program"),
        ("{from: command, command: []}", "command: expected a program"),
        ('{from: command, command: "a \'b"}', "command: no closing quotation"),
        ("{from: vast, command: x}", "command: vast has none"),
        ("{from: vast, url: 'http://192.0.2.1/'}", "url: expected https://"),
        ("{from: vast, url: 'https://user@h/'}", "url: expected https://"),
        ("{from: tailscale, url: 'https://h/'}", "url: expected the address of an API"),
        ("{from: vast, defaults: {ssh_port: x}}", "ssh_port: expected a port"),
        ("7", "expected a name or a mapping with 'from'"),
        ("vast, vast", "vast is given twice"),
    ],
)
def test_malformed_entry_is_named_with_its_line(tmp_path: Path, entry: str, told: str) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(f"hosts: {{}}\nsources:\n  [{entry}]\n")

    with pytest.raises(InventoryError) as caught:
        load_inventory(file)

    assert told in str(caught.value)
    assert caught.value.file == str(file)
    assert caught.value.line in (2, 3)


def test_defaults_of_a_source_and_of_the_file_fill_in(tmp_path: Path, programs: Programs) -> None:
    program = programs.prints(
        "my-hosts", {"a": {"ssh_host": "h"}, "b": {"ssh_host": "h", "ssh_user": "own"}}
    )
    file = tmp_path / "hosts.yaml"
    file.write_text(
        "defaults: {ssh_user: file, connect_timeout: 3}\nsources:\n"
        f"  - {{from: command, command: {program}, defaults: {{ssh_user: entry, team: ml}}}}\n"
    )

    hosts = load_inventory(file).hosts

    assert [host.ssh_user for host in hosts.values()] == ["entry", "own"]
    assert SSHConfig.from_host_config(hosts["a"]).connect_timeout == 3
    assert hosts["a"].facts == {"team": "ml"}


def test_program_runs_in_the_folder_of_its_hosts_file(tmp_path: Path) -> None:
    program = tmp_path / "my hosts"
    program.write_text("#!/bin/sh\necho \"a: {ssh_host: h, at: '$PWD', given: '$*'}\"\n")
    program.chmod(0o755)
    file = tmp_path / "hosts.yaml"
    file.write_text("sources: [{from: command, command: ['./my hosts', '$(touch x)', '; ls']}]\n")

    inventory = load_inventory(tmp_path)

    assert inventory.warnings == ()  # it is no second source as an executable of the folder
    assert inventory.get("a").facts == {"at": str(tmp_path), "given": "$(touch x) ; ls"}
    assert not (tmp_path / "x").exists()


def test_executable_files_of_the_folder_print_hosts(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    (hosts / "own.yaml").write_text("a: {ssh_host: h}\n")
    for name, mode in [("cloud.py", 0o755), ("notes.md", 0o755), ("lib.sh", 0o644), (".old", 0o755),
                       ("x.example.sh", 0o755)]:  # fmt: skip
        file = hosts / name
        file.write_text(
            f"#!/bin/sh\necho \"{name[:3].strip('.')}: {{ssh_host: h, given: '$*'}}\"\n"
        )
        file.chmod(mode)

    inventory = load_inventory(hosts)

    assert list(inventory.hosts) == ["a", "clo"]
    assert inventory.get("clo").facts == {"given": "--list"}
    assert list(load_inventory(hosts / "cloud.py").hosts) == ["clo"]

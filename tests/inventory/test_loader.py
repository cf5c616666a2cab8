"""Hosts files: what is read, and how each fault is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtasks.errors import InventoryError, UnknownHostError
from ringtasks.inventory.host_settings import SSHConfig, addresses
from ringtasks.inventory.loader import find_host, load_inventory
from ringtasks.inventory.model import Inventory
from ringtasks.inventory.selection import select
from tests.support.fixtures import ROOT

Load = Callable[[str], Inventory]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_text(text: str) -> Inventory:
        (tmp_path / "hosts.yaml").write_text(text)
        return load_inventory(tmp_path / "hosts.yaml")

    return load_text


def test_both_inventory_formats_are_read(load: Load) -> None:
    fields_ = "{ssh_host: h, ssh_port: 2222, gpu: H100 80GB}"

    bare = load(f"a: {fields_}").get("a")
    sectioned = load(f"training: {{x: [1]}}\nhosts:\n  a: {fields_}\nother: 3").get("a")

    for host in (bare, sectioned):
        assert (host.ssh_host, host.ssh_port) == ("h", 2222)
        assert host.facts == {"gpu": "H100 80GB"}


def test_defaults_apply_to_fields_that_a_host_omits(load: Load) -> None:
    inventory = load(
        "defaults: {ssh_user: u, connect_timeout: 3}\n"
        "hosts: {a: {ssh_host: h}, b: {ssh_host: h, ssh_user: v}}"
    )

    assert inventory.get("a").ssh_user == "u"
    assert inventory.get("b").ssh_user == "v"
    assert SSHConfig.from_host_config(inventory.get("b")).connect_timeout == 3


def test_group_members_use_the_selector_grammar(load: Load) -> None:
    inventory = load(
        "hosts: {gpu01: {ssh_host: h}, gpu02: {ssh_host: h}, mac: {ssh_host: h}}\n"
        "groups: {gpu: ['gpu[01-02]'], rest: 'mac'}"
    )

    assert inventory.groups == {"gpu": ("gpu01", "gpu02"), "rest": ("mac",)}
    assert inventory.get("gpu01").groups == ("gpu",)


def test_ringrift_path_is_an_alias_of_work_dir(load: Load) -> None:
    inventory = load("{a: {ssh_host: h, ringrift_path: ~/app}, b: {ssh_host: h, work_dir: /w}}")

    assert SSHConfig.from_host_config(inventory.get("a")).work_dir == "~/app"
    assert SSHConfig.from_host_config(inventory.get("b")).work_dir == "/w"


def test_unknown_fields_of_a_host_become_facts(load: Load) -> None:
    host = load(
        "a: {ssh_host: h, memory_gb: 64, cpus: 8, nat_blocked: true, note: 'x: y',"
        " storage_paths: {data: /d}, runpod_id: abc, region: null}"
    ).get("a")

    assert host.facts["storage_paths"] == {"data": "/d"}
    assert host.facts["nat_blocked"] is True


def test_variables_are_expanded_on_use(
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = load("a: {ssh_host: '${ADDRESS}', cloudflare_tunnel: c.example}").get("a")

    monkeypatch.setenv("RINGTASKS_INVENTORY_ENV", "OTHER,ADDR*")
    with pytest.raises(InventoryError, match=r":1: a: ssh_host: .*ADDRESS is not set"):
        SSHConfig.from_host_config(host)
    monkeypatch.setenv("ADDRESS", "192.0.2.7")

    assert SSHConfig.from_host_config(host).host == "192.0.2.7"


def test_yaml_anchors_and_merge_keys_are_supported(load: Load) -> None:
    inventory = load(
        "common: &c {ssh_user: u, ssh_port: 2}\nhosts:\n  a: {<<: *c, ssh_host: h, ssh_port: 3}\n"
    )

    assert (inventory.get("a").ssh_user, inventory.get("a").ssh_port) == ("u", 3)


def use_all(inventory: Inventory) -> None:
    for host in inventory.hosts.values():
        SSHConfig.from_host_config(host)


FAULTS = {
    "duplicate host": (
        "a: {ssh_host: h}\na: {ssh_host: h}",
        2,
        "'a' is given twice, first in line 1",
    ),
    "duplicate field": ("a:\n  ssh_host: h\n  ssh_host: i", 3, "'ssh_host' is given twice"),
    "duplicate in a fact": ("a:\n  ssh_host: h\n  x: {k: 1, k: 2}", 3, "'k' is given twice"),
    "port": ("a:\n  ssh_host: h\n  ssh_port: 0", 3, "a: ssh_port: expected a port from 1 to 65535"),
    "port as text": (
        "a:\n  ssh_host: h\n  ssh_port: '22'",
        3,
        "ssh_port: expected a port from 1 to 65535, without quotes, found '22'",
    ),
    "default of a variable": (
        "a:\n  ssh_host: h\n  ssh_key: '${KEY:-~/.ssh/x}'",
        3,
        "ssh_key: expected ${NAME} without a default, found ${KEY:-",
    ),
    "number for a name": ("a:\n  ssh_host: h\n  ssh_user: 1000", 3, "ssh_user: expected"),
    "flag": (
        "a:\n  ssh_host: h\n  is_ephemeral: maybe",
        3,
        "expected true or false, found 'maybe'",
    ),
    "seconds": ("a:\n  ssh_host: h\n  connect_timeout: -1", 3, "expected seconds, above 0"),
    "option as address": ("a:\n  ssh_host: -oProxyCommand=x", 2, "ssh_host: expected"),
    "space in address": ("a:\n  ssh_host: h i", 2, "ssh_host: expected"),
    "host key": ("a:\n  ssh_host: h\n  ssh_host_key: abc", 3, "expected a public key"),
    "no address": ("a:\n  ssh_user: u", 1, "a: has no address"),
    "host no mapping": ("a: 3", 1, "a: expected a mapping of fields, found 3"),
    "user in an address": ("a: {ssh_host: root@h}", 1, "an address alone: ssh_user"),
    "port in an address": ("a: {ssh_host: 'h:22'}", 1, "an address alone: ssh_user"),
    "host name": ("a b: {ssh_host: h}", 1, "expected a host name without"),
    "control in a name": ('"a\\x9b2J": {ssh_host: h}', 1, "expected a host name without"),
    "direction in a name": ('"a\\u202eb": {ssh_host: h}', 1, "expected a host name without"),
    "control in an address": ('a:\n  ssh_host: "h\\x9b2J"', 2, "ssh_host: expected a name"),
    "space of no width": ('a:\n  ssh_host: h\n  ssh_user: "u\\u200b"', 3, "ssh_user: expected"),
    "default": ("defaults:\n  ssh_port: x\nhosts: {a: {ssh_host: h}}", 2, "ssh_port: expected"),
    "broken": ("a: {ssh_host: h\nb:", 2, "not YAML"),
    "empty": ("", 1, "found nothing"),
    "comment only": ("# nothing", 1, "found nothing"),
    "list": ("- a", 1, "expected a mapping of hosts"),
    "no jump host": ("a: {ssh_host: h, proxy_jump: none}", 1, "proxy_jump: expected a jump host"),
    "jump hosts": ("a: {ssh_host: h, proxy_jump: 'b,c'}", 1, "proxy_jump: expected one jump host"),
    "jump circle": (
        "a: {ssh_host: h, proxy_jump: b}\nb: {ssh_host: h, proxy_jump: a}",
        1,
        "in a circle: a -> b -> a",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_inventory_error_names_file_line_host_and_field(
    load: Load,
    tmp_path: Path,
    case: str,
) -> None:
    text, line, expected = FAULTS[case]

    with pytest.raises(InventoryError) as caught:
        use_all(load(text))

    assert str(caught.value).startswith(f"{tmp_path}/hosts.yaml:{line}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_error_in_a_token_does_not_show_its_value(load: Load) -> None:
    with pytest.raises(InventoryError) as caught:
        use_all(load("a: {cloudflare_tunnel: h, cloudflare_service_token_secret: 12345678}"))

    assert "12345678" not in str(caught.value)


def test_unknown_group_member_is_skipped_with_a_warning(load: Load) -> None:
    inventory = load("hosts: {runpod-1: {ssh_host: h}}\ngroups: {g: [runpod], h: [runpod-1]}")

    assert inventory.groups == {"g": (), "h": ("runpod-1",)}
    (warning,) = inventory.warnings
    assert "hosts.yaml:2: groups: g: unknown host 'runpod'; did you mean runpod-1" in warning


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("group: {g: [a]}", "hosts.yaml:2: group: not a section, left out; did you mean groups?"),
        ("Defaults: {}", "hosts.yaml:2: Defaults: not a section, left out; did you mean defaults?"),
        ("groups: {all: [a]}", "hosts.yaml:2: groups: all: left out: '@all' has a meaning of its"),
        ("groups: {embedded: [a]}", "hosts.yaml:2: groups: embedded: left out"),
        ("groups: {g: [h], h: [a]}", "groups: g: unknown host 'h'; did you mean @h?"),
    ],
)
def test_part_of_a_file_that_does_not_count_is_warned_of(
    load: Load, text: str, warning: str
) -> None:
    inventory = load(f"hosts: {{a: {{ssh_host: h}}, b: {{ssh_host: h}}}}\n{text}\nx-own: 1\n")

    (told,) = inventory.warnings
    assert warning in told
    assert select("@all", inventory) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("host: {a: {ssh_host: h}}", "host: expected the fields of a host, found entries; did you"),
        ("Hosts: {a: {ssh_host: h}}", "Hosts: expected the fields of a host, found entries; did"),
        ("all: {hosts: {a: {ansible_host: h}}}", "all: is a group of Ansible's"),
        ("web: {children: {x: }}", "web: is a group of Ansible's"),
    ],
)
def test_section_in_the_place_of_a_host_is_named(load: Load, text: str, fault: str) -> None:
    (host,) = load(text).hosts.values()

    assert fault in str(host.fault)


def test_group_of_groups_has_the_members_of_all(load: Load) -> None:
    inventory = load(
        "hosts: {a1: {ssh_host: h}, a2: {ssh_host: h}, h1: {ssh_host: h}}\n"
        "groups: {gpu: ['@a100', '@h100', '!a2'], a100: ['a*'], h100: [h1]}"
    )

    assert inventory.groups["gpu"] == ("a1", "h1")


@pytest.mark.parametrize(
    ("groups", "faults", "warning"),
    [
        ("x: ['@x']", ["x"], r"hosts.yaml:2: groups: x: .*: x -> x"),
        ("x: ['@y'], y: ['@x']", ["y", "x"], r"hosts.yaml:2: groups: y: .*: x -> y -> x"),
        ("z: ['@x', a], x: ['@x']", ["x", "z"], r"groups: x: .*: x -> x"),
        ("x: 5", ["x"], r"hosts.yaml:2: groups: x: expected a list of host names, found 5"),
        ("x: [[a]]", ["x"], r"groups: x: expected a list of host names, found a list"),
        ("x: ['a[']", ["x"], r"groups: x: selector 'a\[': "),
        ("x: [a], x: [a]", ["x"], r"groups: x: the key 'x' is given twice"),
    ],
)
def test_group_that_cannot_be_used_affects_only_selectors_with_it(
    load: Load, groups: str, faults: list[str], warning: str
) -> None:
    inventory = load(f"hosts: {{a: {{ssh_host: h}}}}\ngroups: {{{groups}, ok: [a]}}")

    assert inventory.groups == {"ok": ("a",)}
    assert select("a,@ok", inventory) == ("a",)
    assert list(inventory.group_faults) == faults
    (told,) = inventory.warnings
    assert re.search(warning, told)
    for group in faults:
        with pytest.raises(InventoryError, match=f"groups: {group}: "):
            select(f"@{group}", inventory)


def test_group_with_a_fault_in_one_of_its_files_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("hosts: {a: {ssh_host: h}}\ngroups: {gpu: [a]}")
    (tmp_path / "two.yaml").write_text("hosts: {b: {ssh_host: h}}\ngroups: {gpu: 1}")

    inventory = load_inventory(tmp_path)

    assert "two.yaml:2" in str(inventory.group_faults["gpu"])


def test_a_group_whose_glob_matches_no_host_is_empty(load: Load) -> None:
    inventory = load("hosts: {a: {ssh_host: h}}\ngroups: {vast: ['vast-*'], none: []}")

    assert inventory.groups == {"vast": (), "none": ()}
    assert inventory.warnings == ()


def test_group_defined_in_two_files_has_the_members_of_both(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("hosts: {a: {ssh_host: h}}\ngroups: {gpu: [a]}")
    (tmp_path / "two.yaml").write_text("hosts: {b: {ssh_host: h}}\ngroups: {gpu: [b]}")

    assert load_inventory(tmp_path).groups == {"gpu": ("a", "b")}


@pytest.mark.parametrize("name", ["no", "010", "~", "1.0", "true"])
def test_host_name_that_yaml_parses_as_a_non_string_affects_that_host_only(
    load: Load, name: str
) -> None:
    inventory = load(f"good: {{ssh_host: h}}\n{name}: {{ssh_host: h}}")

    assert SSHConfig.from_host_config(inventory.get("good")).host == "h"
    with pytest.raises(InventoryError) as caught:
        SSHConfig.from_host_config(inventory.get(name))
    assert caught.value.line == 2
    assert f"put it in quotes: '{name}'" in str(caught.value)


@pytest.mark.parametrize(
    "port", ["02471", "22:30", "0x16", "1_000", "+22"], ids=lambda port: f"port {port}"
)
def test_port_must_be_plain_digits(load: Load, port: str) -> None:
    host = load(f"a:\n  ssh_host: h\n  ssh_port: {port}").get("a")

    with pytest.raises(InventoryError, match=r"hosts.yaml:3: a: ssh_port: expected"):
        SSHConfig.from_host_config(host)


def test_values_that_are_equal_in_python_are_checked_as_written(load: Load) -> None:
    written = {"1": True, "true": False, "01": False, "1.0": True, "'1'": False}
    hosts = (f"h{n}: {{ssh_host: h, connect_timeout: {text}}}\n" for n, text in enumerate(written))

    inventory = load("".join(hosts))

    assert [host.fault is None for host in inventory.hosts.values()] == [*written.values()]


def test_misspelled_setting_is_kept_as_a_fact_with_a_warning(load: Load) -> None:
    inventory = load("a:\n  ssh_host: h\n  ssh_prt: 2222\n  price: 2\n  spot_price_gb: 3")

    (warning,) = inventory.warnings
    assert warning.endswith(
        "hosts.yaml:3: a: ssh_prt: not a setting, kept as a fact; did you mean ssh_port?"
    )


@pytest.mark.parametrize(
    ("text", "line", "advice"),
    [
        ("a:\n\tssh_host: h", 2, "the line begins with a TAB: indent with spaces"),
        ("a:\n  ssh_host: h\n \tssh_user: u", 3, "the line begins with a TAB: indent"),
        ("a:\n  ssh_host:h\n  ssh_user: u", 3, "after the colon of a key comes a space"),
        ("a: {ssh_host: ${IP}}", 1, r"put a value that holds \$\{...\} in quotes"),
        ("a: {ssh_host: h}\n---\nb: {ssh_host: h}", 2, "a hosts file has one document"),
    ],
)
def test_usual_mistake_in_yaml_is_named(load: Load, text: str, line: int, advice: str) -> None:
    with pytest.raises(InventoryError, match=f"hosts.yaml:{line}: not YAML: .*: {advice}"):
        load(text)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("port", "ssh_port"), ("user", "ssh_user"), ("HostName", "ssh_host"),
        ("identity_file", "ssh_key"), ("IdentityFile", "ssh_key"), ("jump", "proxy_jump"),
        ("ansible_host", "ssh_host"), ("ProxyJump", "proxy_jump"), ("key", "ssh_key"),
        ("ServerAliveInterval", "server_alive_interval"), ("workdir", "work_dir"),
    ],
)  # fmt: skip
def test_name_of_another_tool_is_warned_of_unless_the_setting_is_there(
    load: Load, key: str, meant: str
) -> None:
    alone = load(f"a:\n  tailscale_ip: 100.64.0.1\n  {key}: 22")
    value = "22" if meant in ("ssh_port", "server_alive_interval") else "x"
    beside = load(f"defaults: {{{meant}: {value}}}\nhosts:\n  a:\n    {key}: 22")

    told = f"hosts.yaml:3: a: {key}: not a setting, kept as a fact; did you mean {meant}?"
    assert [warning.rpartition("/")[2] for warning in alone.warnings] == [told]
    assert not any("not a setting" in warning for warning in beside.warnings)


def test_password_in_a_hosts_file_is_warned_of_as_unused(load: Load) -> None:
    inventory = load("a: {ssh_host: h, ansible_password: p}\nb: {ssh_host: h, Passphrase: p}")

    for warning, key in zip(inventory.warnings, ("ansible_password", "Passphrase"), strict=True):
        assert f": {key}: not used: log-ins are with keys" in warning


def test_missing_named_inventory_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(tmp_path / "nope.yaml"))

    with pytest.raises(InventoryError, match="no such file"):
        find_host("m1")


@pytest.mark.parametrize("field", ["ssh_host", "ssh_user", "tailscale_ip", "cloudflare_tunnel"])
def test_address_may_use_only_permitted_variables(
    load: Load, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    host = load(f"a: {{{field}: '${{SECRET}}.evil.example', embedded: true}}").get("a")
    monkeypatch.setenv("SECRET", "hunter2")

    with pytest.raises(InventoryError, match="RINGTASKS_INVENTORY_ENV=SECRET") as caught:
        SSHConfig.from_host_config(host)
    assert "hunter2" not in str(caught.value)


def test_an_address_is_checked_after_expansion(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    host = load("a: {ssh_host: '${ADDRESS}'}").get("a")
    monkeypatch.setenv("RINGTASKS_INVENTORY_ENV", "ADDRESS")
    monkeypatch.setenv("ADDRESS", "-oProxyCommand=touch x")

    with pytest.raises(InventoryError, match="no - in front"):
        SSHConfig.from_host_config(host)


def test_exponentially_expanding_yaml_aliases_are_refused(load: Load) -> None:
    lines = ["x0: &x0 [1,2,3,4,5,6,7,8,9]"]
    lines += [f"x{n}: &x{n} [{', '.join(['*x' + str(n - 1)] * 9)}]" for n in range(1, 9)]

    with pytest.raises(InventoryError, match="more than a million values"):
        load("\n".join(["a: {ssh_host: h}", *lines]))


def test_inventory_is_found_by_flag_then_variable_then_directory_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {
        "flag": tmp_path / "flag.yaml",
        "variable": tmp_path / "variable" / "hosts.yaml",
        "folder": tmp_path / "hosts" / "cluster_hosts.yaml",
        "home": Path.home() / ".config" / "ringtasks" / "hosts.yaml",
    }
    for name, path in places.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}: {{ssh_host: h}}")
    (tmp_path / "hosts" / "x.example.yaml").write_text("example: {ssh_host: h}")

    assert list(load_inventory().hosts) == ["folder"]
    places["folder"].unlink()
    assert list(load_inventory().hosts) == ["home"]
    monkeypatch.setenv("RINGTASKS_HOSTS", str(tmp_path / "variable"))
    assert list(load_inventory().hosts) == ["variable"]
    assert list(load_inventory(tmp_path / "flag.yaml").hosts) == ["flag"]


def test_missing_inventory_error_lists_the_searched_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        InventoryError, match=r"looked for hosts/\*\.yaml here and for .*hosts.yaml"
    ):
        load_inventory()
    assert find_host("a") is None


def test_host_defined_in_two_files_is_unusable_and_others_are_usable(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"a: {{ssh_host: h}}\n{name}: {{ssh_host: h}}")

    inventory = load_inventory(tmp_path)

    with pytest.raises(InventoryError, match=r"two.yaml:1: a: is also in .*one.yaml:1"):
        SSHConfig.from_host_config(inventory.get("a"))
    assert [name for name, host in inventory.hosts.items() if host.fault is None] == ["one", "two"]


def test_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("hosts: {Box: {ssh_host: h}, other: {ssh_host: h}}")
    (tmp_path / "b.yaml").write_text("hosts: {box: {ssh_host: h}}")

    hosts = load_inventory(tmp_path).hosts
    found = find_host("box", tmp_path)

    assert [name for name, host in hosts.items() if host.fault] == ["box"]
    assert found is not None
    assert "differs only in case from Box" in str(found.fault)
    assert str(found.fault) == str(hosts["box"].fault)


@pytest.mark.parametrize("field", ["ssh_host", "tailscale_ip"])
def test_brackets_around_an_ipv6_address_are_dropped(load: Load, field: str) -> None:
    host = load(f"hosts: {{a: {{{field}: '[fd7a::1]'}}}}").get("a")

    config = SSHConfig.from_host_config(host)

    assert list(addresses(config).values()) == ["fd7a::1"]
    assert SSHConfig("[::1]").host == "::1"


def test_duplicate_key_makes_only_its_host_unusable(load: Load) -> None:
    inventory = load(
        "a: {ssh_host: h, tags: {x: 1, x: 2}}\nb: {ssh_host: h}\nb: {ssh_host: i}\nc: {ssh_host: h}"
    )

    faults = {name: str(host.fault) for name, host in inventory.hosts.items() if host.fault}
    assert set(faults) == {"a", "b"}
    assert ":1: a: the key 'x' is given twice" in faults["a"]
    assert ":3: b: the key 'b' is given twice, first in line 2" in faults["b"]


@pytest.mark.parametrize("name", ["no", "010", "~", "2024-01-01", "1.0", "12:30", "0x1F"])
def test_host_with_an_unquoted_yaml_keyword_as_name_fails_alone(load: Load, name: str) -> None:
    inventory = load(f"{name}: {{ssh_host: h}}\nb: {{ssh_host: h}}\n")

    assert list(inventory.hosts) == [name, "b"]
    assert f":1: {name}: YAML reads this name as" in str(inventory.get(name).fault)
    assert f"put it in quotes: '{name}'" in str(inventory.get(name).fault)
    assert inventory.get("b").fault is None


@pytest.mark.parametrize(
    "field", ["ssh_host: no", "ssh_user: 010", "ssh_host: 1_000", "ssh_key: 7"]
)
def test_value_with_an_unexpected_yaml_type_must_be_quoted(load: Load, field: str) -> None:
    inventory = load(f"a:\n  tailscale_ip: h\n  {field}\nb: {{ssh_host: h}}\n")

    written = field.partition(": ")[2]
    assert str(inventory.get("a").fault).endswith(f"put it in quotes: '{written}'")
    assert inventory.get("b").fault is None


def test_group_members_are_read_as_written(load: Load) -> None:
    inventory = load(
        "hosts: {'no': {ssh_host: h}, '010': {ssh_host: h}}\ngroups: {g: [no, 010], empty: []}\n"
    )

    assert inventory.groups == {"g": ("no", "010"), "empty": ()}
    assert inventory.warnings == ()


def test_unknown_host_error_lists_similar_names(load: Load) -> None:
    inventory = load("{runpod-h100: {ssh_host: h}, mac: {ssh_host: h}}")

    with pytest.raises(UnknownHostError) as caught:
        inventory.get("runpod-h10")

    assert caught.value.near == ("runpod-h100",)


@pytest.mark.parametrize("name", ["gpu", "broken", "all", "embedded"])
def test_unknown_host_with_the_name_of_a_group_is_told_the_group(load: Load, name: str) -> None:
    inventory = load("hosts: {gpu1: {ssh_host: h}}\ngroups: {gpu: [gpu1], broken: 5}")

    with pytest.raises(UnknownHostError, match=f"unknown host '{name}'; did you mean @{name}"):
        inventory.get(name)


def test_example_inventory_loads_and_every_setting_in_it_is_recognised() -> None:
    inventory = load_inventory(ROOT / "hosts" / "distributed_hosts.example.yaml")

    facts = {name for host in inventory.hosts.values() for name in host.facts}
    assert facts == {"role", "gpu", "gpu_vram_gb", "status", "training_enabled"}
    assert inventory.warnings == ()
    assert inventory.get("runpod-h100").facts["gpu"] == "H100 80GB"


@settings(max_examples=50, deadline=None)
@given(text=st.one_of(st.text(max_size=80), st.binary(max_size=80)))
def test_any_inventory_file_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "hosts.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)

    try:
        load_inventory(path)
    except InventoryError as error:
        assert "\n" not in str(error)


def test_long_chains_of_jump_hosts_and_groups_are_faults_of_their_first_ones(
    load: Load,
) -> None:
    hosts = [f"  h{n}: {{ssh_host: 127.0.0.1, proxy_jump: h{n + 1}}}" for n in range(1500)]
    groups = [f"  g{n}: ['@g{n + 1}']" for n in range(1500)]
    end_of_hosts, end_of_groups = "  h1500: {ssh_host: 127.0.0.1}", "  g1500: [h1499]"
    text = "\n".join(["hosts:", *hosts, end_of_hosts, "groups:", *groups, end_of_groups])

    found = load(text)

    assert "more than 16 jump hosts" in str(found.hosts["h0"].fault)
    assert found.hosts["h1499"].fault is None
    assert "more than 50 levels" in str(found.group_faults["g0"])
    assert found.groups["g1500"] == ("h1499",)

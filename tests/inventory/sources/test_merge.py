"""Hosts that stand in a file and in a source, or in two sources, are one host each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks.errors import InventoryError, UnknownHostError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.model import Inventory
from tests.support.sources import Programs

Load = Callable[[str], Inventory]
PEER = {"DNSName": "box.t.ts.net.", "OS": "linux", "TailscaleIPs": ["100.64.0.1"]}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load_text(text: str) -> Inventory:
        file = tmp_path / "hosts.yaml"
        file.write_text(text)
        return load_inventory(file)

    return load_text


def test_file_says_what_a_host_is_and_the_source_where(load: Load, programs: Programs) -> None:
    pod = {
        "id": "p", "name": "box", "desiredStatus": "RUNNING", "publicIp": "192.0.2.2",
        "portMappings": {"22": 2202}, "costPerHr": 2, "gpu": {"displayName": "H100"},
    }  # fmt: skip
    programs.prints("runpodctl", [pod])

    inventory = load(
        "hosts:\n  box: {ssh_host: 192.0.2.1, ssh_port: 1, ssh_key: ~/k, work_dir: ~/app,"
        " gpu: mine, role: train, tailscale_ip: 100.64.0.1}\n  other: {ssh_host: h}\n"
        "sources: [runpod]\n"
    )

    box = inventory.get("box")
    assert list(inventory.hosts) == ["box", "other"]
    assert (box.ssh_host, box.ssh_port, box.ssh_user) == ("192.0.2.2", 2202, "root")
    assert (box.ssh_key, box.work_dir, box.tailscale_ip) == ("~/k", "~/app", "100.64.0.1")
    assert box.facts == {
        "gpu": "mine", "role": "train", "price_per_hour": 2.0, "status": "RUNNING", "id": "p",
    }  # fmt: skip
    assert box.origins["ssh_port"].startswith("source runpod, asked ")
    assert "ssh_key" not in box.origins


def test_defaults_have_their_own_lines_and_count_for_hosts_of_the_file_too(
    load: Load, programs: Programs
) -> None:
    program = programs.prints("p", {"box": {"ssh_host": "h"}, "new": {"ssh_host": "i"}})
    text = (
        "defaults:\n  connect_timeout: 7\nhosts: {box: {}}\nsources:\n"
        f"  - from: command\n    command: {program}\n    defaults:\n      ssh_user: u\n"
        "      ringrift_path: /app\n      role: train\n"
    )

    for _ in ("read", "kept"):
        inventory = load(text)
        box, new = inventory.get("box"), inventory.get("new")
        assert (box.facts, new.facts) == ({"role": "train"}, {"role": "train"})
        assert (box.work_dir, new.work_dir) == ("/app", "/app")
        file = new.file
        assert new.origins["connect_timeout"] == f"{file}:2"
        assert new.origins["ssh_user"] == box.origins["ssh_user"] == f"{file}:8"
        assert new.origins["ringrift_path"] == f"{file}:9"


def test_folder_of_the_file_wins_under_either_name(load: Load, programs: Programs) -> None:
    program = programs.prints("p", {"box": {"ssh_host": "h"}})
    source = f"{{from: command, command: {program}, defaults: {{work_dir: /theirs}}}}"

    box = load(f"hosts: {{box: {{ringrift_path: /mine}}}}\nsources: [{source}]\n").get("box")

    assert box.work_dir == "/mine"


def test_user_of_the_file_wins(load: Load, programs: Programs) -> None:
    program = programs.prints("p", {"box": {"ssh_host": "h", "ssh_user": "theirs"}})
    source = f"sources: [{{from: command, command: {program}}}]\n"

    own = load(f"hosts: {{box: {{ssh_host: x, ssh_user: mine}}}}\n{source}").get("box")
    common = load(f"defaults: {{ssh_user: mine}}\nhosts: {{box: }}\n{source}").get("box")
    none = load(f"hosts: {{box: }}\n{source}").get("box")

    assert [host.ssh_user for host in (own, common, none)] == ["mine", "mine", "theirs"]


def test_host_of_the_file_needs_no_address_if_a_source_gives_one(
    load: Load, programs: Programs
) -> None:
    program = programs.prints("p", {"box": {"ssh_host": "192.0.2.7"}})

    hosts = load(
        f"hosts: {{box: {{role: x}}, lost: {{role: x}}}}\n"
        f"sources: [{{from: command, command: {program}}}]\n"
    ).hosts

    assert SSHConfig.from_host_config(hosts["box"]).host == "192.0.2.7"
    with pytest.raises(InventoryError, match="lost: has no address: give"):
        SSHConfig.from_host_config(hosts["lost"])


def test_stopped_pod_of_the_file_is_told(load: Load, programs: Programs) -> None:
    programs.prints("runpodctl", [{"id": "p", "name": "box", "desiredStatus": "EXITED"}])

    host = load("hosts: {box: {role: x}}\nsources: [runpod]\n").get("box")

    with pytest.raises(InventoryError, match="has no address: source runpod: its status is EXITED"):
        SSHConfig.from_host_config(host)


def test_first_of_two_sources_counts_with_a_warning(load: Load, programs: Programs) -> None:
    one = programs.prints("one", {"box": {"ssh_host": "first"}, "a": {"ssh_host": "h"}})
    two = programs.prints("two", {"box": {"ssh_host": "second"}, "b": {"ssh_host": "h"}})

    inventory = load(
        f"sources:\n- {{from: command, command: {one}}}\n- {{from: command, command: {two}}}\n"
    )

    assert list(inventory.hosts) == ["box", "a", "b"]
    assert inventory.get("box").ssh_host == "first"
    (warning,) = inventory.warnings
    assert "hosts.yaml:3: source two: box: is also a host of" in warning
    assert "hosts.yaml:2: source one, which comes first: left out" in warning


def test_routes_of_two_sources_add_up(load: Load, programs: Programs) -> None:
    programs.prints("tailscale", {"Peer": {"k": PEER}})
    program = programs.prints("p", {"box": {"ssh_host": "192.0.2.7"}})
    sources = f"sources: [tailscale, {{from: command, command: {program}}}]\n"

    alone = load(sources)
    confirmed = load(f"hosts: {{box: {{role: x}}}}\n{sources}")

    for inventory in (alone, confirmed):
        box = inventory.get("box")
        assert (box.tailscale_ip, box.ssh_host) == ("100.64.0.1", "192.0.2.7")
    assert "taken for one host with two routes" in alone.warnings[0]
    assert confirmed.warnings == ()


def test_machine_of_the_tailnet_is_the_host_with_its_address(
    load: Load, programs: Programs
) -> None:
    programs.prints("tailscale", {"Peer": {"k": PEER}})

    inventory = load("hosts: {trainer: {tailscale_ip: 100.64.0.1}}\nsources: [tailscale]\n")

    assert list(inventory.hosts) == ["trainer"]
    assert inventory.get("trainer").facts["status"] == "online"


def test_host_that_its_source_lists_no_more_says_so(load: Load, programs: Programs) -> None:
    program = programs.prints("p", {name: {"ssh_host": "192.0.2.1"} for name in ("box", "own")})
    text = (
        "hosts: {box: {ssh_host: h}, lost: {ssh_host: h}}\n"
        f"sources: [{{from: command, command: {program}, refresh: 0}}]\n"
    )
    assert load(text).get("box").absence == ""
    programs.prints("p", {"other": {"ssh_host": "192.0.2.2"}})

    for _ in range(2):  # it is remembered
        inventory = load(text)

        assert list(inventory.hosts) == ["box", "lost", "other"]
        assert inventory.get("box").ssh_host == "h"
        assert inventory.get("box").absence.startswith("source p has not listed it for ")
        assert inventory.get("lost").absence == ""
        with pytest.raises(UnknownHostError, match="'own' cannot be reached now: source p has not"):
            inventory.get("own")
    programs.prints("p", {"box": {"ssh_host": "192.0.2.3"}})
    assert (load(text).get("box").absence, load(text).get("box").ssh_host) == ("", "192.0.2.3")


def test_host_of_a_source_without_an_address_is_left_out(load: Load, programs: Programs) -> None:
    program = programs.prints("p", {"a": None, "b": {"role": "x"}, "c": {"ssh_host": "h"}})

    inventory = load(f"hosts: {{}}\nsources: [{{from: command, command: {program}}}]\n")

    assert list(inventory.hosts) == ["c"]
    assert [text.partition(": source p: ")[2] for text in inventory.warnings] == [
        "a: left out: it has no address",
        "b: left out: it has no address",
    ]


def test_fact_that_is_null_in_the_file_is_that_of_the_source(
    load: Load, programs: Programs
) -> None:
    fields = {"ssh_host": "h", "role": "train", "gpu": None, "tags": ["x", None]}
    program = programs.prints("p", {"a": fields})

    host = load(
        "hosts: {a: {role: null, gpu: mine}}\n"
        f"sources: [{{from: command, command: {program}}}]\n"
    ).get("a")

    assert host.facts == {"role": "train", "gpu": "mine", "tags": ["x"]}


def test_name_that_differs_only_in_case_from_a_host_of_the_file_is_left_out(
    load: Load, programs: Programs
) -> None:
    source = programs.prints("p", {"BOX": {"ssh_host": "192.0.2.1"}})

    inventory = load(
        f"hosts: {{box: {{ssh_host: h}}}}\nsources: [{{from: command, command: {source}}}]\n"
    )

    assert list(inventory.hosts) == ["box"]
    assert "BOX: left out: the name differs only in case from box" in inventory.warnings[0]


def test_groups_and_jump_hosts_reach_hosts_of_sources(load: Load, programs: Programs) -> None:
    program = programs.prints(
        "p", {"gate": {"ssh_host": "g"}, "box": {"ssh_host": "h", "proxy_jump": "gate"}}
    )

    inventory = load(
        f"hosts: {{}}\ngroups: {{all-boxes: ['box*']}}\n"
        f"sources: [{{from: command, command: {program}}}]\n"
    )

    box = inventory.get("box")
    assert inventory.groups == {"all-boxes": ("box",)}
    assert box.jump_host is not None
    assert box.jump_host.ssh_host == "g"


def test_fault_of_an_entry_stays_a_fault(load: Load, programs: Programs) -> None:
    program = programs.prints("p", {"box": {"ssh_host": "h"}})

    host = load(
        f"hosts: {{box: {{ssh_port: x}}}}\nsources: [{{from: command, command: {program}}}]\n"
    ).get("box")

    with pytest.raises(InventoryError, match="ssh_port: expected a port"):
        SSHConfig.from_host_config(host)

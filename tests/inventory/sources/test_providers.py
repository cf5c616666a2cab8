"""Sources of rental services: their programs and APIs, with the shapes of their documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringtasks.inventory.loader import load_inventory
from ringtasks.inventory.model import Inventory
from tests.support.sources import Api, Programs

KEY = "rpa_SECRET0123456789"

Load = Callable[..., Inventory]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads an inventory with these sources and hosts."""

    def load_with(sources: str, hosts: str = "{}") -> Inventory:
        file = tmp_path / "hosts.yaml"
        file.write_text(f"hosts: {hosts}\nsources: {sources}\n")
        return load_inventory(file)

    return load_with


TAILNET = {
    "BackendState": "Running",
    "Self": {"HostName": "laptop", "DNSName": "laptop.t.ts.net.", "TailscaleIPs": ["100.64.0.9"]},
    "Peer": {
        "nodekey:1": {
            "HostName": "Trainer", "DNSName": "trainer.t.ts.net.", "OS": "linux", "Online": True,
            "TailscaleIPs": ["100.64.0.1", "fd7a:115c::1"],
        },
        "nodekey:2": {
            "HostName": "phone", "DNSName": "phone.t.ts.net.", "OS": "iOS", "Online": True,
            "TailscaleIPs": ["100.64.0.2"],
        },
        "nodekey:3": {
            "HostName": "mac", "DNSName": "mac-mini.t.ts.net.", "OS": "macOS", "Online": False,
            "TailscaleIPs": ["100.64.0.3"],
        },
    },
}  # fmt: skip


def test_tailscale_lists_machines_that_may_run_sshd(programs: Programs, load: Load) -> None:
    programs.prints("tailscale", TAILNET)

    hosts = load("[tailscale]").hosts

    assert {name: host.tailscale_ip for name, host in hosts.items()} == {
        "trainer": "100.64.0.1",
        "mac-mini": "100.64.0.3",
    }
    assert [host.facts["status"] for host in hosts.values()] == ["online", "offline"]
    assert programs.calls("tailscale") == ["status --json"]


def test_stopped_tailscale_is_reported(programs: Programs, load: Load) -> None:
    programs.prints("tailscale", {"BackendState": "Stopped", "Peer": None})

    inventory = load("[tailscale]", "{a: {ssh_host: h}}")

    assert list(inventory.hosts) == ["a"]
    assert "source tailscale: Tailscale is Stopped" in inventory.warnings[0]


POD = {
    "id": "xedezhzb9la3ye", "name": "runpod-h100", "desiredStatus": "RUNNING", "costPerHr": "2.39",
    "publicIp": "203.0.113.10", "portMappings": {"22": 30178, "8888": 30179},
    "gpu": {"id": "NVIDIA H100 80GB HBM3", "count": 2, "displayName": "H100 SXM"},
    "env": {"WANDB_API_KEY": "another-secret"},
}  # fmt: skip
STOPPED = {**POD, "id": "b", "name": "asleep", "desiredStatus": "EXITED", "publicIp": ""}


def check_pod(inventory: Inventory) -> None:
    pod = inventory.get("runpod-h100")
    assert (pod.ssh_host, pod.ssh_port, pod.ssh_user) == ("203.0.113.10", 30178, "root")
    assert pod.facts == {
        "gpu": "H100 SXM", "gpu_count": 2, "price_per_hour": 2.39, "status": "RUNNING",
        "id": "xedezhzb9la3ye",
    }  # fmt: skip


def test_runpodctl_lists_pods(programs: Programs, load: Load) -> None:
    programs.prints("runpodctl", [POD], arguments="'pod list'")

    check_pod(load("[runpod]"))


def test_addresses_that_pod_list_leaves_out_are_asked_for(programs: Programs, load: Load) -> None:
    # The shapes of runpodctl 2: `pod list` and `pod get`.
    short = {
        "id": "p1", "name": "a", "desiredStatus": "RUNNING", "gpuId": "NVIDIA L4", "gpuCount": 1,
        "costPerHr": 0.43,
    }  # fmt: skip
    listed = programs.folder / "list.json"
    programs.prints("list", [short, {**short, "id": "p2", "name": "b"}])
    get = '{"id":"p1","name":"a","ssh":{"ip":"198.51.100.7","port":22022}}'
    not_ready = '{"id":"p2","ssh":{"error":"pod not ready"}}'
    programs.install(
        "runpodctl",
        f"case \"$*\" in 'pod list') cat {listed};; 'pod get p1') echo '{get}';; "
        f"'pod get p2') echo '{not_ready}';; esac",
    )

    inventory = load("[runpod]")

    host = inventory.get("a")
    assert (host.ssh_host, host.ssh_port, host.facts["gpu"]) == ("198.51.100.7", 22022, "NVIDIA L4")
    assert list(inventory.hosts) == ["a"]
    with pytest.raises(
        LookupError, match=r"cannot be reached now: source runpod: .*no public port"
    ):
        inventory.get("b")


def test_runpod_api_is_asked_with_key_from_environment(
    programs: Programs, api: Api, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    api.answers["/v1/pods"] = (200, [POD, STOPPED])

    inventory = load(f"[{{from: runpod, url: '{api.url}/v1'}}]")

    check_pod(inventory)
    assert "asleep" not in inventory.hosts
    assert "EXITED" in inventory.absent["asleep"]
    path, headers = api.requests[0]
    assert (path, headers["Authorization"]) == ("/v1/pods", f"Bearer {KEY}")


INSTANCE = {
    "id": 312, "label": "ML Training", "actual_status": "running", "image_runtype": "ssh_direc",
    "ssh_host": "ssh4.vast.ai", "ssh_port": 10600, "public_ipaddr": "192.0.2.45 ",
    "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "33526"}]},
    "gpu_name": "RTX 4090", "num_gpus": 4, "dph_total": 1.61234567, "jupyter_token": "0f0f0f0f",
}  # fmt: skip


def test_vastai_lists_instances_with_their_direct_port(programs: Programs, load: Load) -> None:
    programs.prints("vastai", [INSTANCE], arguments="'show instances --raw'")

    host = load("[vast]").get("ML-Training")

    assert (host.ssh_host, host.ssh_port, host.ssh_user) == ("192.0.2.45", 33526, "root")
    assert host.facts == {
        "gpu": "RTX 4090", "gpu_count": 4, "price_per_hour": 1.6123, "status": "running",
        "id": "312",
    }  # fmt: skip


@pytest.mark.parametrize(("runtype", "port"), [("ssh_proxy", 10600), ("jupyter_proxy", 10601)])
def test_vast_instance_without_direct_port_has_that_of_the_proxy(
    programs: Programs, load: Load, runtype: str, port: int
) -> None:
    instance = {**INSTANCE, "label": None, "ports": {}, "image_runtype": runtype}
    programs.prints("vastai", [instance, {**instance, "id": 9, "actual_status": "exited"}])

    inventory = load("[vast]")

    host = inventory.get("vast-312")
    assert (host.ssh_host, host.ssh_port) == ("ssh4.vast.ai", port)
    assert inventory.absent == {"vast-9": "source vast: its status is exited"}


def test_pages_of_the_vast_api_are_all_read(
    programs: Programs, api: Api, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", KEY)
    pages: list[tuple[int, Any]] = [
        (200, {"instances": [{**INSTANCE, "label": "a"}], "next_token": "n+1"}),
        (200, {"instances": [{**INSTANCE, "label": "b", "id": 4}], "next_token": None}),
    ]
    api.answers["/api/v1/instances/"] = pages

    inventory = load(f"[{{from: vast, url: '{api.url}/api/v1/'}}]")

    assert list(inventory.hosts) == ["a", "b"]
    assert "after_token=n%2B1" in api.requests[1][0]


def test_lambda_api_lists_instances(api: Api, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    instance = {
        "id": "0920582c", "name": "node 1", "ip": "192.0.2.9", "status": "active",
        "instance_type": {
            "name": "gpu_1x_a100_sxm4", "gpu_description": "A100 (40 GB SXM4)",
            "price_cents_per_hour": 129, "specs": {"gpus": 1},
        },
        "region": {"name": "us-tx-3"}, "jupyter_token": "secret-of-jupyter",
    }  # fmt: skip
    api.answers["/instances"] = (200, {"data": [instance]})

    host = load(f"[{{from: lambda, url: '{api.url}'}}]").get("node-1")

    assert (host.ssh_host, host.ssh_port, host.ssh_user) == ("192.0.2.9", None, "ubuntu")
    assert host.facts == {
        "gpu": "A100 (40 GB SXM4)", "gpu_count": 1, "price_per_hour": 1.29, "status": "active",
        "region": "us-tx-3", "id": "0920582c",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("tailscale", "the program tailscale is not on PATH"),
        ("runpod", "runpodctl is not on PATH, and RUNPOD_API_KEY is not set"),
        ("vast", "vastai is not on PATH, and VAST_API_KEY is not set"),
        ("lambda", "LAMBDA_API_KEY is not set"),
    ],
)
def test_missing_program_and_key_are_named(
    programs: Programs, load: Load, source: str, told: str
) -> None:
    warnings = load(f"[{source}]", "{a: {ssh_host: h}}").warnings

    assert [told in text for text in warnings] == [True], warnings


def test_api_is_asked_if_the_program_fails(
    programs: Programs, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A version without the command; the real API is beyond a proxy that does not exist.
    programs.install("vastai", "echo 'unknown command' >&2; exit 2")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")

    without = load("[vast]").warnings
    monkeypatch.setenv("VAST_API_KEY", KEY)
    with_key = load("[vast]").warnings

    assert "vastai ended with exit status 2: unknown command" in without[0]
    assert "console.vast.ai: " in with_key[0]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, {"error": f"bad key {KEY}"}, "HTTP status 401"),
        (500, b"<html>oops</html>", "HTTP status 500: <html>oops</html>"),
        (302, b"http://127.0.0.1:9/stolen", "HTTP status 302"),
        (200, b"<html>", "not JSON"),
        (200, {"data": 1}, "expected a list of pods, found a mapping"),
        (200, [1], "expected a mapping for each of the pods"),
        (200, b"[" * 200_000, "nested too deeply"),
        (200, b" " * (33 * 1024 * 1024), "more than 32 MiB"),
    ],
    ids=["key refused", "failure", "redirect", "html", "mapping", "numbers", "deep", "large"],
)
def test_bad_answer_of_the_api_is_a_warning_without_the_key(
    programs: Programs, api: Api, load: Load, monkeypatch: pytest.MonkeyPatch,
    status: int, body: Any, told: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    api.answers["/pods"] = (status, body)

    inventory = load(f"[{{from: runpod, url: '{api.url}'}}]", "{a: {ssh_host: h}}")

    assert list(inventory.hosts) == ["a"]
    assert told in inventory.warnings[0], inventory.warnings
    assert KEY not in str(inventory)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "ключ"])
def test_key_that_no_header_can_hold_is_not_shown(
    api: Api, load: Load, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", key)

    warnings = load(f"[{{from: lambda, url: '{api.url}'}}]").warnings

    assert "LAMBDA_API_KEY: expected printable characters" in warnings[0]
    assert key not in warnings[0]
    assert api.requests == []


def test_hosts_of_one_name_get_their_ids(programs: Programs, load: Load) -> None:
    pods = [{**POD, "id": number, "name": "box"} for number in ("zz", "aa")]
    programs.prints("runpodctl", pods)

    inventory = load("[runpod]")

    assert list(inventory.hosts) == ["box-aa", "box-zz"]
    assert "2 pods are called 'box': each has its id behind the name" in inventory.warnings[0]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("my box", "my-box"),
        ("my/box", "my-box"),
        (" a  b! ", "a-b"),
        ("Büro_1.x", "Buro_1.x"),
        ("-oProxyCommand=x", "oProxyCommand-x"),
        ("../up\nHost *", "up-Host"),
        ("工作站", "{kind}-i1"),
        ("", "{kind}-i1"),
        (None, "{kind}-i1"),
        ("x" * 300, "x" * 200),
    ],
)
def test_labels_of_providers_become_plain_names(
    programs: Programs, load: Load, label: str | None, name: str
) -> None:
    programs.prints("runpodctl", [{**POD, "id": "i1", "name": label}])
    programs.prints("vastai", [{**INSTANCE, "id": "i1", "label": label}])

    for kind in ("runpod", "vast"):
        inventory = load(f"[{kind}]")

        assert list(inventory.hosts) == [name.format(kind=kind)]
        warnings = [text for text in inventory.warnings if "has no letter or digit" in text]
        assert len(warnings) == (label == "工作站")


def test_labels_that_become_one_name_get_their_ids(programs: Programs, load: Load) -> None:
    labels = {"i1": "my box", "i2": "my/box", "i3": "My-Box"}
    programs.prints("vastai", [{**INSTANCE, "id": n, "label": text} for n, text in labels.items()])

    assert list(load("[vast]").hosts) == ["My-Box-i3", "my-box-i1", "my-box-i2"]


def test_malformed_entry_leaves_the_others(
    programs: Programs, api: Api, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    programs.prints("runpodctl", [7, {**POD, "name": "pod"}])
    programs.prints("vastai", {"instances": [None, {**INSTANCE, "label": "instance"}]})
    peers = {**TAILNET["Peer"], "nodekey:9": "x"}  # type: ignore[dict-item]
    programs.prints("tailscale", {**TAILNET, "Peer": peers})
    api.answers["/instances"] = (200, {"data": [[], {"name": "lambda", "ip": "192.0.2.7"}]})

    inventory = load(f"[runpod, vast, tailscale, {{from: lambda, url: '{api.url}'}}]")

    assert list(inventory.hosts) == ["pod", "instance", "trainer", "mac-mini", "lambda"]
    assert len(inventory.warnings) == 4
    assert all("left out: expected a mapping for each" in text for text in inventory.warnings)


def test_names_that_ssh_config_of_ringtasks_gives_are_no_hosts(load: Load) -> None:
    folder = Path("~/.ssh").expanduser()
    folder.mkdir()
    (folder / "config").write_text(
        "Include boxes\nHost own\n  User x\n"
        "Host pasted\n  proxycommand=exec 'a b/ringtasks' connect -- pasted\nHost mac\n"
    )
    (folder / "boxes").write_text(
        "Host box-a\n    ProxyCommand /v/bin/ringtasks connect --inventory /h --fdpass -- a\n"
        "    User x\nHost jump\n  ProxyCommand ssh -W %h:%p ringtasks\nHost box-b\n"
        "    ProxyCommand /v/bin/ringtasks connect --inventory /h --fdpass -- b\n"
    )

    assert list(load("[ssh_config]").hosts) == ["jump", "own", "mac"]


def test_names_of_ssh_config_are_hosts(load: Load, tmp_path: Path) -> None:
    file = Path("~/.ssh/config").expanduser()
    file.parent.mkdir()
    file.write_text("Host box gpu-*\n  HostName 203.0.113.9\nHost mac\n")

    hosts = load("[ssh_config]", "{mac: {ssh_host: 192.0.2.1}}").hosts

    assert {name: host.ssh_host for name, host in hosts.items()} == {
        "mac": "192.0.2.1",  # an alias tells no address
        "box": "box",
    }

"""The fake fleet: its hosts, and the surroundings that it replaces and restores."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ringtasks
from ringtasks import HostConfig, SSHClient, SSHConfig, get_cluster_nodes, get_ssh_client
from ringtasks.errors import Reason, UnknownHostError, UnreachableError, UsageError
from ringtasks.inventory.loader import load_inventory
from ringtasks.testing import Answer, Call, FakeFleet, fake_fleet
from tests.support.sshd import Sshd


def test_a_fake_host_answers_and_records(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("nvidia-smi*", stdout="H100\n")

    result = get_ssh_client("gpu1").run(
        "nvidia-smi -L", cwd="~/app", env={"A": "it's"}, stdin=io.BytesIO(b"in")
    )

    assert (result.stdout, result.success, result.transport_used) == ("H100\n", True, "direct")
    assert fleet["gpu1"].calls == [Call("nvidia-smi -L", "~/app", {"A": "it's"}, b"in")]
    assert fleet["gpu1"].commands == ["nvidia-smi -L"]
    assert fleet["gpu2"].calls == []


def test_fake_fleet_imports_no_network_module() -> None:
    code = (
        "import sys; from ringtasks.testing import fake_fleet\n"
        "from ringtasks import get_ssh_client\n"
        "with fake_fleet('a'): assert get_ssh_client('a').run('x')\n"
        "print([name for name in ('fabric', 'paramiko', 'asyncssh') if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_fake_hosts_can_be_added_by_name_as_objects_and_with_facts() -> None:
    lab = HostConfig(
        "lab", ssh_host="10.0.0.1", ssh_port=2222, tailscale_ip="100.64.0.1", facts={"gpu": "A100"}
    )

    with fake_fleet("plain", lab, box={"role": "training", "groups": ["rented"]}) as fleet:
        late = fleet.add("gpu-4", work_dir="/data", groups=["rented"])

        assert list(get_cluster_nodes("@all")) == ["plain", "lab", "box", "gpu-4"]
        assert list(get_cluster_nodes("@rented")) == ["box", "gpu-4"]
        assert list(get_cluster_nodes("gpu=A*,role=training")) == ["lab", "box"]
        assert get_ssh_client("lab").config.port == 2222
        assert get_ssh_client("lab").run("x").transport_used == "tailscale"
        get_ssh_client("gpu-4").run("x")
        assert late.calls[0].cwd == "/data"
        assert [host.name for host in fleet] == ["plain", "lab", "box", "gpu-4"]


@pytest.mark.parametrize(
    "config",
    [
        SSHConfig("10.0.0.1", 2222, name="other"),
        SSHConfig("", tailscale_ip="100.64.0.1"),
        SSHConfig("ignored", name="lab"),
        SSHConfig("lab", 2200, "me"),
    ],
    ids=["address", "tailscale address", "name", "name as address"],
)
def test_a_client_finds_its_host_by_name_or_address(config: SSHConfig) -> None:
    lab = HostConfig("lab", ssh_host="10.0.0.1", ssh_port=2222, tailscale_ip="100.64.0.1")

    with fake_fleet("x", lab) as fleet, SSHClient(config) as client:
        assert client.run("here").success
        assert fleet["lab"].commands == ["here"]


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [("gpu1", {}, "in the fake fleet already"), ("new", {"ssh_port": "x"}, "expected a port")],
)
def test_host_that_cannot_be_added_leaves_the_fake_fleet_unchanged(
    fleet: FakeFleet, name: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        fleet.add(name, **given)

    assert list(get_cluster_nodes()) == ["gpu1", "gpu2"]


def test_unknown_name_in_a_fake_fleet_lists_similar_names(fleet: FakeFleet) -> None:
    with pytest.raises(UnknownHostError, match=r"'gpu'.*did you mean gpu"):
        fleet["gpu"]


@pytest.mark.parametrize("address", ["gpu9", "root@127.0.0.1:1", "100.64.0.9"])
def test_host_outside_the_fake_fleet_is_unreachable_and_never_dialled(
    fleet: FakeFleet, address: str
) -> None:
    client = get_ssh_client(address)

    result = client.run("rm -rf /")

    assert (result.returncode, result.transport_used) == (255, None)
    assert "it is not in the fake fleet (gpu1, gpu2)" in str(result.error)
    with pytest.raises(UnreachableError) as caught:
        client.link()
    assert [failure.reason for failure in caught.value.failures] == [Reason.NO_ROUTE]


def test_embedded_host_is_unreachable_in_a_fake_fleet(fleet: FakeFleet) -> None:
    with SSHClient(SSHConfig("", name="demo", embedded=True)) as client:
        assert "unreachable" in str(client.run("x").error)


def test_fake_fleet_restores_the_environment_and_inventory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(tmp_path / "mine.yaml"))
    before = dict(os.environ)

    with pytest.raises(RuntimeError, match="the test's own"), fake_fleet("a"):
        assert load_inventory().hosts.keys() == {"a"}
        get_ssh_client("a").run("x")
        files = [os.environ[name] for name in ("RINGTASKS_HOSTS", "RINGTASKS_HEALTH_FILE")]
        assert all(Path(file).exists() for file in files)
        raise RuntimeError("the test's own")

    assert dict(os.environ) == before
    assert not any(Path(file).exists() for file in files)


def test_fleets_can_be_nested() -> None:
    with fake_fleet("a") as outer:
        client = get_ssh_client("a")
        with fake_fleet("a", "b") as inner:
            get_ssh_client("a").run("inner")
            client.run("outer")
            assert get_ssh_client("a") is not client
        assert get_ssh_client("a") is client
        assert client.is_connected()
        client.run("outer again")

    assert inner["a"].commands == ["inner"]
    assert outer["a"].commands == ["outer", "outer again"]


def test_clients_made_inside_a_fake_fleet_are_unusable_afterwards() -> None:
    with fake_fleet("new") as fleet:
        registered, own = get_ssh_client("new"), SSHClient(SSHConfig("new"))
        assert registered.run("1")
        assert own.run("2")

    assert not registered.is_connected()
    assert not own.is_connected()
    assert get_ssh_client("new") is not registered
    for client in (registered, own):
        with pytest.raises(UsageError, match="fake fleet that is over"):
            client.run("x")
    assert fleet["new"].commands == ["1", "2"]
    ringtasks.close_all_clients_sync()


def test_clients_made_before_a_fake_fleet_are_unchanged_afterwards(
    sshd: Sshd, client_key: Path
) -> None:
    real = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="real")
    with SSHClient(real) as open_before, SSHClient(real) as closed_before:
        open_before.run("true")
        known = open_before.health
        registered = get_ssh_client("127.0.0.1")
        with fake_fleet("real") as fleet:
            assert get_ssh_client("127.0.0.1") is not registered
            assert closed_before.run("inside").success
            ringtasks.close_all_clients_sync()

        assert fleet["real"].commands == ["inside"]
        assert get_ssh_client("127.0.0.1") is registered
        assert open_before.is_connected()
        assert open_before.health == known
        assert closed_before.run("echo $((6 * 7))").stdout == "42\n"
    ringtasks.close_all_clients_sync()


def test_many_calls_at_once_are_all_answered_and_recorded(fleet: FakeFleet) -> None:
    fleet.on_call("*", lambda call: Answer(f"{call.command} {call.env['N']}", delay=0.05))

    async def run_all() -> list[str]:
        calls = [
            get_ssh_client(host.name).run_async(f"job {n}", env={"N": str(n)})
            for n in range(60)
            for host in fleet
        ]
        return [result.stdout for result in await asyncio.gather(*calls)]

    results = asyncio.run(run_all())

    expected = [f"job {n}" for n in range(60)]
    assert results == [f"job {n} {n}" for n in range(60) for _ in range(2)]
    for host in fleet:
        assert sorted(host.commands) == sorted(expected)
        assert host.logins == 1
    ringtasks.close_all_clients_sync()


def test_fake_fleet_records_real_health_that_starts_empty(fleet: FakeFleet) -> None:
    client = get_ssh_client("gpu1")
    fleet["gpu1"].down(reason="refused")

    for _ in range(3):
        client.run("x")

    assert (client.health.total_failures, client.health.is_healthy) == (3, False)
    assert client.health.last_reason == "direct: refused"
    assert client.health.transports["direct"].last_reason == "refused"
    assert get_ssh_client("gpu2").health.total_failures == 0

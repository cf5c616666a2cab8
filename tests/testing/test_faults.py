"""Faults that a fake host was told to have."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import ringtasks
from ringtasks import HostConfig, SSHClient, SSHConfig, get_ssh_client
from ringtasks.errors import Reason, UsageError
from ringtasks.testing import Call, FakeFleet, fake_fleet


def test_fake_route_that_is_down_is_skipped() -> None:
    both = HostConfig("box", ssh_host="10.0.0.1", tailscale_ip="100.64.0.1")
    opened = []
    with fake_fleet(both) as fleet:
        fleet["box"].down("tailscale", reason=Reason.AUTHENTICATION, evidence="user root")

        config = SSHConfig.from_host_config(both)
        with SSHClient(config, on_open=opened.append) as client:
            assert client.run("x").transport_used == "direct"
        with SSHClient(config, transport="tailscale") as only:
            result = only.run("x")

        assert "tailscale (100.64.0.1:22): authentication refused: user root" in str(result.error)
        assert [(r.route, r.success) for r in opened[0].routes] == [
            ("tailscale", False),
            ("direct", True),
        ]
        fleet["box"].up("tailscale")
        with SSHClient(config, transport="tailscale") as only:
            assert only.run("x").success
    assert fleet["box"].logins == 2


def test_an_unknown_route_is_refused(fleet: FakeFleet) -> None:
    with pytest.raises(UsageError, match="unknown route 'direkt'"):
        fleet["gpu1"].down("direkt")


def test_fake_host_that_goes_down_ends_its_commands(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    fleet.hang("train", stdout="up")
    seen = threading.Event()
    threading.Thread(target=lambda: seen.wait(10) and gpu1.down(), daemon=True).start()

    result = client.run("train", on_output=lambda stream, chunk: seen.set())

    assert "outcome unknown: the link over direct was lost (the host is down" in str(result.error)
    assert "unreachable" in str(client.run("train").error)
    gpu1.up()
    assert client.run("ls").success


def test_connection_lost_before_the_start_is_replaced(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.lose_link(after="login")
    assert client.run("once").success
    assert (gpu1.commands, gpu1.logins) == (["once"], 2)

    gpu1.lose_link(after="login", times=3)
    assert "unreachable" in str(client.run("never").error)
    assert gpu1.commands == ["once"]


def test_connection_lost_after_the_start_gives_an_unknown_outcome(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.lose_link()

    result = client.run("once")

    assert (result.returncode, gpu1.commands) == (255, ["once"])
    assert "outcome unknown" in str(result.error)
    assert client.run("twice").success
    with pytest.raises(ValueError, match="after: expected 'login' or 'start'"):
        gpu1.lose_link(after="never")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["put", "get"])
def test_connection_lost_during_a_fake_copy_gives_an_unknown_outcome(
    fleet: FakeFleet, tmp_path: Path, way: str
) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    (tmp_path / "x").write_bytes(b"new")
    gpu1.files["/x"] = b"old"

    def copy() -> ringtasks.SSHResult:
        if way == "put":
            return client.scp_to(tmp_path / "x", "/x")
        return client.scp_from("/x", tmp_path / "y")

    gpu1.lose_link(after="start")
    assert "outcome unknown" in str(copy().error)
    assert gpu1.files["/x"] == b"old"
    gpu1.lose_link(after="login")
    assert copy().success


@pytest.mark.parametrize("is_stoppable", [True, False])
def test_a_hanging_command_is_stopped_and_recorded(fleet: FakeFleet, is_stoppable: bool) -> None:
    gpu1 = fleet["gpu1"]
    gpu1.hang("train*", stdout=b"epoch \xff1\n", is_stoppable=is_stoppable)

    result = get_ssh_client("gpu1").run("train.py", env={"A": "1"}, timeout=0.2)

    assert (result.returncode, result.timed_out) == (124, True)
    assert result.stdout_bytes == b"epoch \xff1\n"
    assert ("terminated (verified)" in str(result.error)) == is_stoppable
    assert ("STILL RUNNING" in str(result.error)) != is_stoppable
    assert (result.elapsed_ms < 1000) <= is_stoppable  # else its last output is waited for
    assert gpu1.stopped == gpu1.calls == [Call("train.py", None, {"A": "1"})]

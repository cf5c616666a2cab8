"""Failures during a deploy: every host stays on one whole release."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ringtasks.common.interruption import REPEAT_TIME
from tests.support.deploys import Fleet
from tests.support.faulty import Wire
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    "moments",
    [2, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(400)])],
    ids=["twice", "50 times"],
)
def test_killed_deploy_leaves_complete_releases_and_the_next_deploy_succeeds(
    fleet: Fleet, moments: int
) -> None:
    chance = random.Random(7)
    fleet.configure(serial=1)
    fleet.commit("v0")
    assert fleet.inv("deploy").returncode == 0
    for moment in range(moments):
        fleet.commit(f"v{moment + 1}")
        deploying = fleet.start("deploy")
        _kill_after(deploying, chance.uniform(0.2, 1.2))
        _assert_whole(fleet)

    fleet.commit("last")
    done = fleet.inv("deploy")

    assert done.returncode == 0, done.stderr
    assert "is it still there?" not in done.stderr  # who died on this machine is not waited for
    assert fleet.served() == ["last/last"]
    for host in fleet.hosts:
        assert not (fleet.root(host) / "lock").is_symlink()


def _kill_after(deploying: subprocess.Popen[str], seconds: float) -> None:
    try:
        deploying.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        deploying.send_signal(signal.SIGKILL)
        deploying.communicate()


def _assert_whole(fleet: Fleet) -> None:
    """Each host has one release that is whole, and serves one."""
    for host in fleet.hosts:
        current = fleet.current(host)
        assert (current / ".ringtasks-release").exists()
        assert (current / "one").read_text() == (current / "two").read_text()
    for served in fleet.served():
        first, second = served.split("/")
        assert first == second


@pytest.mark.parametrize("fleet_size", [3], ids=["three hosts"])
def test_two_signals_in_a_row_during_activation_revert_every_host(fleet: Fleet) -> None:
    restart = "kill -HUP $(cat ../../shared/pid); sleep 0.5"  # only a slow revert is announced
    fleet.configure(serial=1, check_timeout=20, restart=restart)
    fleet.commit("v1")
    assert fleet.inv("deploy").returncode == 0
    first = fleet.current("web2")
    fleet.commit("v2", bad_on="web2")  # whose check goes on for 20 s
    deploying = fleet.start("deploy")
    eventually(lambda: fleet.current("web2") != first)

    deploying.send_signal(signal.SIGINT)
    deploying.send_signal(signal.SIGTERM)  # two equal ones may arrive as one
    _, told = deploying.communicate(timeout=30)

    assert deploying.returncode in (130, 143), told  # they come in either order
    assert fleet.served() == ["v1/v1"]
    assert "reverted; current release:" in told
    assert told.count(" of 3 hosts in ") == 1
    assert told.count("interrupted: Ctrl-C again leaves everything as it is\n") == 1
    assert "web3: built, not switched" in told
    for host in fleet.hosts:
        assert not (fleet.root(host) / "lock").is_symlink()


def test_ctrl_c_during_a_build_ends_it_on_the_hosts(fleet: Fleet) -> None:
    fleet.configure(build=["echo $$ > ../../shared/building; sleep 600"])
    fleet.commit("v1")
    deploying = fleet.start("deploy")
    noted = [fleet.root(host) / "shared" / "building" for host in fleet.hosts]
    eventually(lambda: all(note.exists() and note.read_text() for note in noted))

    deploying.send_signal(signal.SIGINT)
    _, told = deploying.communicate(timeout=30)

    assert deploying.returncode == 130, told
    for note in noted:
        assert not _is_running(int(note.read_text()))
    assert not (fleet.root("web1") / "current").is_symlink()


def _is_running(pid: int) -> bool:
    """Zombies do not count: in a container, no process may reap them."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_terminated_ci_job_releases_its_deploy_locks(fleet: Fleet) -> None:
    host = yaml.safe_load((fleet.folder / "hosts" / "hosts.yaml").read_text())["hosts"]["web2"]
    fleet.configure(build=["touch ../../shared/building; sleep 600"])
    fleet.commit("v1")
    locks = [fleet.root(host) / "lock" for host in fleet.hosts]
    with Wire(host["ssh_host"], host["ssh_port"]) as wire:
        own = {**host, "ssh_host": wire.address, "ssh_port": wire.port, "use_control_master": False}
        fleet.reach("web2", own)
        deploying = fleet.start("deploy")
        eventually((fleet.root("web2") / "shared" / "building").exists)

        deploying.send_signal(signal.SIGTERM)
        eventually(lambda: not any(lock.is_symlink() for lock in locks))
        wire.freeze()
        time.sleep(REPEAT_TIME)  # else the second signal counts as the first
        deploying.send_signal(signal.SIGTERM)  # all is done, but not reported
        _, told = deploying.communicate(timeout=30)

    assert deploying.returncode == 143
    assert "deploy.status" in told
    assert "left as it is" not in told
    assert "stays as it is" not in told


@pytest.mark.parametrize("moments", [3, pytest.param(12, marks=pytest.mark.long)])
def test_connection_lost_at_any_point_leaves_the_host_on_a_complete_release(
    fleet: Fleet, moments: int
) -> None:
    host = yaml.safe_load((fleet.folder / "hosts" / "hosts.yaml").read_text())["hosts"]["web2"]
    fleet.configure(hosts="web1,web2", build=["sleep 0.05"])
    outcomes = []
    with Wire(host["ssh_host"], host["ssh_port"]) as wire:
        own = {**host, "ssh_host": wire.address, "ssh_port": wire.port, "use_control_master": False}
        fleet.reach("web2", own)
        fleet.commit("v0")
        assert fleet.inv("deploy").returncode == 0
        whole = wire.bytes_from_client
        for moment in range(moments):
            fleet.commit(f"v{moment + 1}")
            # After the log-in, which is told as any host that cannot be reached.
            wire.cut_after(3000 + (whole - 3000) * moment // moments)
            done = fleet.inv("deploy")
            outcomes.append(done.returncode)
            end_state = {fleet.services[name].get() for name in ("web1", "web2")}
            assert len(end_state) == 1, done.stderr  # both are new, or both were reverted
            for name in ("web1", "web2"):
                assert (fleet.current(name) / ".ringtasks-release").exists()
                assert not (fleet.root(name) / "lock").is_symlink()
    assert 0 in outcomes


@pytest.mark.long
def test_expired_lock_of_a_dead_deploy_on_another_machine_is_taken_over(fleet: Fleet) -> None:
    fleet.commit("v1")
    token = "0123456789abcdef"
    for host in fleet.hosts:
        locks = fleet.root(host) / ".locks"
        locks.mkdir()
        note = "token=%s\nwho=ann\nhost=laptop\nrevision=abc\nlink=\nsince=1\nuntil=2\n"
        (locks / token).write_text(note % token)
        (fleet.root(host) / "lock").symlink_to(f".locks/{token}")

    done = fleet.inv("deploy")

    assert done.returncode == 0, done.stderr
    assert fleet.served() == ["v1/v1"]


def test_host_whose_lock_was_removed_is_not_touched_and_the_others_are_reverted(
    fleet: Fleet,
) -> None:
    fleet.configure(build=["while ! [ -e ../../shared/go ]; do sleep 0.05; done"])
    fleet.commit("v1")
    deploying = fleet.start("deploy")
    eventually(lambda: all((fleet.root(host) / "lock").is_symlink() for host in fleet.hosts))

    unlocked = fleet.inv("deploy.unlock", "--host", "web2", "--reason", "the laptop is gone")
    for host in fleet.hosts:
        (fleet.root(host) / "shared" / "go").touch()
    _, told = deploying.communicate(timeout=60)

    assert unlocked.returncode == 0
    assert "web2: removed the lock of" in unlocked.stderr
    reasons = [event[-1] for event in fleet.history("web2") if event[0] == "unlocked"]
    assert reasons == ["the laptop is gone"]
    assert deploying.returncode == 75, told
    assert "the lock was removed: nothing more was done" in told
    assert not (fleet.root("web1") / "current").is_symlink()

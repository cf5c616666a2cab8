"""Live conditions in ``--host``: one probe, by the tasks that may ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, WriteHosts, gpu_server
from tests.support.nvidia import Gpus
from tests.support.sshd import Sshd

server = gpu_server
WARM = {"use_control_master": True}


@pytest.fixture
def gpus(tmp_path: Path) -> Gpus:
    return Gpus(tmp_path / "gpus", count=2)


@pytest.fixture
def fleet(write_hosts: WriteHosts, server: Sshd) -> None:
    """One host with two GPUs, one without, and one that is down."""
    write_hosts(
        box={"ssh_port": server.port, **WARM},
        plain=WARM,
        down={"ssh_port": 9, "connect_timeout": 2},
    )


def test_run_reaches_the_hosts_that_meet_the_condition(inv: Inv, fleet: None) -> None:
    done = inv("run", "--host", "@all&free_gpus>=2", "--cmd", "printf reached")

    assert (done.returncode, done.stdout) == (0, b"reached"), done.stderr
    assert "left out, not asked: down: unreachable" in done.stderr.decode()


def test_status_and_start_take_conditions(inv: Inv, fleet: None) -> None:
    free = "box&free_gpus>=1,plain&free_gpus>=1"

    status = inv("status", "--host", "@all&disk_gb>0.001", "--json")
    started = inv("start", "--host", free, "--gpus", "1", "--cmd", "true")

    assert {json.loads(line)["host_id"] for line in status.stdout.splitlines()} == {"box", "plain"}
    assert started.returncode == 0, started.stderr
    assert inv("jobs", "--host", "box", "--all", "--json").stdout.count(b'"host_id"') == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hosts", "--host", "free_gpus>1"], "asks the hosts, which --host of run, start, train"),
        (["put", "--host", "idle>1h", "/etc/hosts", "/tmp/x"], "asks the hosts"),
        (["--dry", "run", "--host", "free_gpus>1", "--cmd", "true"], "--dry asks no host"),
        (["run", "--host", "free_gpus>1", "--cmd", "true", "--dry-run"], "asks the hosts"),
        (["run", "--host", "free_gpus>x", "--cmd", "true"], "expected a number, found 'x'"),
        (["run", "--host", "box&free_gpus>64", "--cmd", "true"], "no host matches"),
    ],
    ids=["hosts", "put", "dry", "dry run", "malformed", "unmet"],
)
def test_condition_that_cannot_be_used_is_a_usage_error(
    inv: Inv, fleet: None, words: list[str], told: str
) -> None:
    done = inv(*words)

    assert done.returncode == 2
    assert told in done.stderr.decode()

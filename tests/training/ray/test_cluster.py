"""``inv ray.up`` and its kin on the real Ray: a cluster of two hosts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.training import needs

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]

PROGRAM = """
import ray, time
ray.init()
@ray.remote(num_cpus=1)
def where():
    time.sleep(2)  # so that both nodes are needed
    return ray.util.get_node_ip_address()
ran_on = set(ray.get([where.remote() for _ in range(4)]))
print(len(ray.nodes()), "nodes, ran on", len(ran_on))
"""


@pytest.fixture
def two_hosts(make_sshd: MakeSshd, write_hosts: WriteHosts) -> None:
    needs("ray")
    write_hosts(
        **{
            name: {
                "ssh_host": address,
                "ssh_port": make_sshd(addresses=[address]).port,
                "tailscale_ip": address,
                "tailscale_port": 9,
                "venv_activate": sys.prefix,
            }
            for name, address in (("a", "127.0.0.2"), ("b", "127.0.0.3"))
        }
    )


def test_cluster_of_two_hosts_runs_a_job_on_both_and_leaves_no_process(
    inv: Inv, two_hosts: None, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "where.py").write_text(PROGRAM)
    options = ["--options", "--num-cpus=1 --object-store-memory=80000000"]

    up = inv("ray.up", "--host", "a,b", *options, timeout=200)
    try:
        again = inv("ray.up", "--host", "a,b", timeout=60)
        status = inv("ray.status", timeout=60)
        ran = inv("ray.submit", "--cmd", "python where.py", "--working-dir", "app", timeout=120)
        failed = inv("ray.submit", "--cmd", "python -c 'raise SystemExit(3)'", timeout=120)
    finally:
        down = inv("ray.down", timeout=60)
    listed = [json.loads(line) for line in inv("jobs", "--json").stdout.splitlines()]

    assert up.returncode == 0, up.stderr
    assert b"cluster is up (2 nodes)" in up.stderr
    assert again.returncode == 2
    assert b"there is a Ray cluster 'ray' on these hosts" in again.stderr
    assert status.returncode == 0, status.stderr
    assert b"0.0/2.0 CPU" in status.stdout
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert b"2 nodes, ran on 2" in ran.stdout
    assert failed.returncode == 1
    assert down.returncode == 0, down.stderr
    assert [job["state"] for job in listed] == ["stopped", "stopped"]
    assert inv("ray.status").returncode == 2

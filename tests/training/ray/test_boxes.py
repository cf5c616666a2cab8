"""A real Ray cluster on two machines of their own: death of its head, cut cables, power cuts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.boxes import Box, boxes
from tests.support.fixtures import Inv, WriteHosts
from tests.support.training import needs
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

OPTIONS = ("--options", "--num-cpus=1 --object-store-memory=80000000")
TIMEOUT = 300.0


@pytest.fixture
def two_boxes(client_key: Path, write_hosts: WriteHosts) -> Iterator[dict[str, Box]]:
    needs("ray")
    with boxes(client_key, "a", "b") as made:
        write_hosts(
            **{
                name: {
                    "ssh_host": box.address,
                    "ssh_port": box.port,
                    "connect_timeout": 5,
                    "venv_activate": sys.prefix,
                }
                for name, box in made.items()
            }
        )
        yield made


def test_ray_cluster_reports_the_loss_of_members_correctly(
    inv: Inv, two_boxes: dict[str, Box]
) -> None:
    a, b = two_boxes["a"], two_boxes["b"]
    up = inv("ray.up", "--host", "a,b", *OPTIONS, timeout=TIMEOUT)
    assert up.returncode == 0, up.stderr
    b.unplug()
    cut = inv("ray.status", timeout=TIMEOUT)
    b.plug_in()
    a.kill("gcs_server")
    eventually(lambda: not a.processes("ray"), 60)

    dead = inv("ray.status", timeout=TIMEOUT)
    submit = inv("ray.submit", "--cmd", "true", timeout=TIMEOUT)
    b.unplug()
    down = inv("ray.down", timeout=TIMEOUT)
    b.plug_in()
    left = b.processes("raylet")
    b.power_off()
    b.power_on()
    rebooted = inv("ray.status", timeout=TIMEOUT)
    down_again = inv("ray.down", timeout=TIMEOUT)
    nothing = inv("ray.status", timeout=TIMEOUT)

    assert cut.returncode == 255
    assert re.search(rb"^b +\S+ +unknown", cut.stdout, re.MULTILINE)
    assert dead.returncode == 1
    assert b"the head does not run, so Ray was not asked" in dead.stderr
    assert re.search(rb"^a +head +failed", dead.stdout, re.MULTILINE)
    assert re.search(rb"^b +worker +running", dead.stdout, re.MULTILINE)
    assert submit.returncode == 255
    assert b"the head of the Ray cluster 'ray' is not running" in submit.stderr
    assert down.returncode == 255
    assert b"b: unknown: " in down.stderr
    assert left
    assert rebooted.returncode == 1
    assert re.search(rb"^b +worker +lost the host was rebooted", rebooted.stdout, re.MULTILINE)
    assert down_again.returncode == 0, down_again.stderr
    assert nothing.returncode == 2
    assert a.processes("ray") == b.processes("ray") == {}
    for box in (a, b):
        assert list((box.home / ".ringtasks" / "ray").iterdir()) == []


@pytest.mark.long
def test_job_uses_its_own_cluster_if_another_was_started_later_on_the_host(
    inv: Inv, two_boxes: dict[str, Box]
) -> None:
    a = two_boxes["a"]
    for name in ("one", "two"):
        up = inv("ray.up", "--host", "a", "--name", name, *OPTIONS, timeout=TIMEOUT)
        assert up.returncode == 0, up.stderr

    program = "import ray; ray.init(); print(ray.get_runtime_context().gcs_address)"
    found = [
        inv("ray.submit", "--name", name, "--cmd", f"python -c '{program}'", timeout=TIMEOUT)
        for name in ("one", "two")
    ]
    downs = [inv("ray.down", "--name", name, timeout=TIMEOUT) for name in ("one", "two")]

    assert [done.returncode for done in found] == [0, 0], found[0].stdout
    one, two = (done.stdout.splitlines()[-1] for done in found)
    assert one != two
    assert [done.returncode for done in downs] == [0, 0]
    assert list(a.tmp.glob("ray-*")) == []

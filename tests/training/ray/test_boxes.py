"""A real Ray cluster on two machines of their own.

The tests share the cluster in the order in which they stand here; the last one ends it: the death
of its head, cut cables, a power cut.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.boxes import Box, boxes, fields_of
from tests.support.fixtures import Inv, Start, WriteHosts
from tests.support.training import needs
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

OPTIONS = ("--options", "--num-cpus=1 --object-store-memory=80000000")
TIMEOUT = 300.0
#: Needs both nodes, and the files of its folder.
PROGRAM = """
import os, ray, time
ray.init()
@ray.remote(num_cpus=1)
def where():
    time.sleep(2)
    return ray.util.get_node_ip_address()
ran_on = set(ray.get([where.remote() for _ in range(4)]))
print(len(ray.nodes()), "nodes, ran on", len(ran_on), sorted(os.listdir()))
"""


@pytest.fixture(scope="module")
def both(client_key: Path) -> Iterator[dict[str, Box]]:
    needs("ray")
    with boxes(client_key, "a", "b") as made:
        yield made


@pytest.fixture
def two_boxes(both: dict[str, Box], write_hosts: WriteHosts) -> dict[str, Box]:
    write_hosts(**fields_of(both, venv_activate=sys.prefix))
    return both


@pytest.fixture
def cluster(inv: Inv, two_boxes: dict[str, Box]) -> dict[str, Box]:
    """The boxes with a cluster, whose head is ``b``; the first test starts it."""
    if not two_boxes["b"].processes("gcs_server"):
        up = inv("ray.up", "--host", "b,a", *OPTIONS, timeout=TIMEOUT)
        assert up.returncode == 0, up.stderr
        assert b"the head is b, " in up.stderr
        assert b"cluster is up (2 nodes)" in up.stderr
    return two_boxes


def test_job_runs_on_both_hosts_with_the_files_of_its_folder(
    inv: Inv, cluster: dict[str, Box], tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "where.py").write_text(PROGRAM)
    (app / ".gitignore").write_text("*.bin\n")
    (app / "large.bin").touch()
    (tmp_path / "outside").touch()
    (app / "link").symlink_to("../outside")

    again = inv("ray.up", "--host", "a,b", timeout=60)
    status = inv("ray.status", timeout=60)
    ran = inv("ray.submit", "--cmd", "python where.py", "--working-dir", "app", timeout=120)
    failed = inv("ray.submit", "--cmd", "python -c 'raise SystemExit(3)'", timeout=120)

    assert again.returncode == 2
    assert b"there is a Ray cluster 'ray' on these hosts" in again.stderr
    assert status.returncode == 0, status.stderr
    assert b"0.0/2.0 CPU" in status.stdout
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert b"2 nodes, ran on 2 ['.gitignore', 'link', 'where.py']" in ran.stdout
    assert b"left out of app: large.bin" in ran.stderr
    assert failed.returncode == 1


def test_ctrl_c_leaves_a_live_job_that_can_be_followed_and_stopped_again(
    inv: Inv, start: Start, cluster: dict[str, Box]
) -> None:
    program = "import time; [(print('tick', n), time.sleep(1)) for n in range(99)]"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start("ray.submit", "--cmd", f'python -c "{program}"', **pipes)
    assert any(line == b"tick 0\n" for line in process.stdout)  # while the job runs
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    attach, stop = (shlex.split(hint) for hint in re.findall(r"'inv (ray\.[^']*)'", err.decode()))

    stopped = inv(*stop, timeout=TIMEOUT)
    again = inv(*attach, timeout=TIMEOUT)

    assert process.returncode == 130, err
    assert stopped.returncode == 0, stopped.stderr
    assert again.returncode == 1
    assert b"tick 0\ntick 1\n" in again.stdout
    assert b"Ray: job STOPPED" in again.stderr


@pytest.mark.long
def test_job_uses_its_own_cluster_if_another_was_started_later_on_the_host(
    inv: Inv, cluster: dict[str, Box]
) -> None:
    up = inv("ray.up", "--host", "b", "--name", "two", *OPTIONS, timeout=TIMEOUT)
    assert up.returncode == 0, up.stderr

    program = "import ray; ray.init(); print(ray.get_runtime_context().gcs_address)"
    found = [
        inv("ray.submit", "--name", name, "--cmd", f"python -c '{program}'", timeout=TIMEOUT)
        for name in ("ray", "two")
    ]
    down = inv("ray.down", "--name", "two", timeout=TIMEOUT)

    assert [done.returncode for done in found] == [0, 0], found[0].stdout
    one, two = (done.stdout.splitlines()[-1] for done in found)
    assert one != two
    assert down.returncode == 0
    assert len(list(cluster["b"].tmp.glob("ray-*"))) == 1


def test_loss_of_members_is_reported_correctly_and_down_ends_the_rest(
    inv: Inv, cluster: dict[str, Box]
) -> None:
    a, b = cluster["a"], cluster["b"]
    a.unplug()
    cut = inv("ray.status", timeout=TIMEOUT)
    a.plug_in()
    b.kill("gcs_server")
    eventually(lambda: not b.processes("ray"), 60)

    dead = inv("ray.status", timeout=TIMEOUT)
    submit = inv("ray.submit", "--cmd", "true", timeout=TIMEOUT)
    a.unplug()
    down = inv("ray.down", timeout=TIMEOUT)
    a.plug_in()
    left = a.processes("raylet")
    a.power_off()
    a.power_on()
    rebooted = inv("ray.status", timeout=TIMEOUT)
    down_again = inv("ray.down", timeout=TIMEOUT)
    nothing = inv("ray.status", timeout=TIMEOUT)

    assert cut.returncode == 255
    assert re.search(rb"^a +\S+ +unknown", cut.stdout, re.MULTILINE)
    assert dead.returncode == 1
    assert b"the head does not run, so Ray was not asked" in dead.stderr
    assert re.search(rb"^b +head +failed", dead.stdout, re.MULTILINE)
    assert re.search(rb"^a +worker +running", dead.stdout, re.MULTILINE)
    assert submit.returncode == 255
    assert b"the head of the Ray cluster 'ray' is not running" in submit.stderr
    assert down.returncode == 255
    assert b"a: unknown: " in down.stderr
    assert left
    assert rebooted.returncode == 1
    assert re.search(rb"^a +worker +lost the host was rebooted", rebooted.stdout, re.MULTILINE)
    assert down_again.returncode == 0, down_again.stderr
    assert nothing.returncode == 2
    for box in (a, b):
        assert box.processes("ray") == {}
        assert list((box.home / ".ringtasks" / "ray").iterdir()) == []
        assert list(box.tmp.glob("ray-*")) == []

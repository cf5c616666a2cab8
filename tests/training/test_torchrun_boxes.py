"""Torchrun over two machines of their own: a power cut, and cables that are cut."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.boxes import Box, boxes
from tests.support.fixtures import Inv, WriteHosts
from tests.support.training import WriteSettings, needs, run_of, start_train
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

#: All ranks add up a number in each epoch, and stay in the third one until there is a file "go".
PROGRAM = """
import pathlib, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
for epoch in range(1, 5):
    total = torch.ones(1)
    dist.all_reduce(total)
    print(f"epoch {epoch}/4 loss={total.item() / epoch:.3f}", flush=True)
    while epoch == 3 and not pathlib.Path("go").exists():
        time.sleep(0.1)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture
def run(
    inv: Inv,
    client_key: Path,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
) -> Iterator[tuple[Box, Box, subprocess.Popen[bytes]]]:
    """The two boxes of a run whose ranks are in the third epoch, and the process that follows."""
    needs("torch")
    with boxes(client_key, "a", "b") as made:
        write_hosts(
            **{
                name: {"ssh_host": box.address, "ssh_port": box.port, "connect_timeout": 3}
                for name, box in made.items()
            }
        )
        write_settings(
            command="python3 sum.py",
            nodes=2,
            venv=sys.prefix,
            env={"OMP_NUM_THREADS": "1"},
            lost_after=60,
            grace=2,
            fetch=[],
        )
        (tmp_path / "src" / "sum.py").write_text(PROGRAM)
        process = start_train(tmp_path)
        eventually(lambda: _in_epoch_3(tmp_path) or process.poll() is not None, 120)
        assert process.poll() is None, process.communicate()
        yield made["a"], made["b"], process


def _in_epoch_3(folder: Path) -> bool:
    logs = list(folder.glob("runs/*/attempt-1*.log"))
    return len(logs) == 2 and all("epoch 3/4" in log.read_text() for log in logs)


@pytest.mark.parametrize("lost", [0, 1], ids=["first", "second"])
@pytest.mark.matrix(1)
def test_power_cut_of_one_torchrun_host_ends_the_run_on_the_other(
    inv: Inv,
    run: tuple[Box, Box, subprocess.Popen[bytes]],
    tmp_path: Path,
    lost: int,
) -> None:
    box, other, process = run[lost], run[1 - lost], run[2]

    box.power_off()
    box.power_on()
    _, err = process.communicate(timeout=120)
    listed = [json.loads(line) for line in inv("jobs", "--all", "--json").stdout.splitlines()]

    said = err.decode()
    assert process.returncode not in (0, None), said
    assert f"{box.name}: lost the host was rebooted" in said
    assert other.processes("sum.py") == box.processes("sum.py") == {}
    states = {own["host_id"]: own["state"] for own in listed}
    assert states[box.name] == "lost"
    assert states[other.name] in ("stopped", "failed")
    assert run_of(tmp_path)[1]["state"] in ("lost", "failed")


def test_torchrun_goes_on_after_a_cable_was_cut_for_a_moment(
    run: tuple[Box, Box, subprocess.Popen[bytes]],
) -> None:
    a, b, process = run

    b.unplug()
    for box in (a, b):
        (box.home / "run" / "go").touch()
    eventually(lambda: a.processes("sum.py"))
    b.plug_in()
    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    for host in (b"a", b"b"):
        assert len(re.findall(rb"^%s: .*epoch 4/4 loss=0.500$" % host, out, re.MULTILINE)) == 1

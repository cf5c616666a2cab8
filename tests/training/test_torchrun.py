"""``inv train --nodes 2`` on the real torchrun: two machines of their own, gloo between them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.boxes import Box
from tests.support.fixtures import Inv
from tests.support.training import WriteSettings, needs, run_of, start_train
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(480)]

#: Each rank learns the same line from points of its own; the gradients are averaged over all. In
#: the third epoch the ranks wait for a file "go".
PROGRAM = """
import pathlib, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(rank)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
for epoch in range(1, 21):
    x = torch.rand(32, 1)
    loss = ((model(x) - (3 * x + 1)) ** 2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    print(f"epoch {epoch}/20 loss={loss.item():.4f} rank={rank} world={world}", flush=True)
    if sys.argv[1:] == ["fail"] and rank == world - 1:
        sys.exit(5)
    while epoch == 3 and not pathlib.Path("go").exists():
        time.sleep(0.1)
    pathlib.Path(f"after-{epoch}").touch()
slope = model.module.weight.item()
sums = [torch.zeros(1) for _ in range(world)]
dist.all_gather(sums, model.module.weight.detach().view(1))
assert len({value.item() for value in sums}) == 1
dist.barrier()  # gloo may abort where another rank is gone while this one still ends its group
del model, optimizer
dist.destroy_process_group()
"""

#: Starts a run of the program with arguments, so many ranks a host, after a check that imports
#: modules. PyTorch takes seconds to import, so one test alone has it checked.
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(
    inv: Inv, two_boxes: dict[str, Box], write_settings: WriteSettings, tmp_path: Path
) -> Start:
    needs("torch")

    def begin(
        *arguments: str, ranks: int = 1, imports: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        write_settings(
            command=" ".join(["python3 net.py", *arguments]),
            nodes=2,
            nproc_per_node=ranks,
            venv=sys.prefix,
            env={"OMP_NUM_THREADS": "1"},
            preflight={"imports": list(imports)},
            lost_after=60,
            grace=2,
            fetch=[],
        )
        (tmp_path / "src" / "net.py").write_text(PROGRAM)
        return start_train(tmp_path)

    return begin


def await_epoch_3(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until a rank of each host waits for "go"."""

    def is_there() -> bool:
        logs = [log.read_text() for log in folder.glob("runs/*/attempt-1*.log")]
        return len(logs) == 2 and all("epoch 3/20" in log for log in logs)

    eventually(lambda: is_there() or process.poll() is not None, 240)
    assert process.poll() is None, process.communicate()


def test_two_hosts_train_one_model_although_a_cable_was_cut_for_a_moment(
    inv: Inv, start: Start, two_boxes: dict[str, Box], tmp_path: Path
) -> None:
    a, b = two_boxes["a"], two_boxes["b"]
    process = start(ranks=2, imports=["torch"])
    await_epoch_3(process, tmp_path)

    b.unplug()
    for box in (a, b):
        (box.home / "run" / "go").touch()
    eventually(lambda: all((box.home / "run" / "after-3").exists() for box in (a, b)))
    b.plug_in()
    out, err = process.communicate(timeout=200)
    plotted = inv("plot", "last", "--metric", "loss", "--json")

    assert process.returncode == 0, err
    assert b"the hosts meet at " in err
    for rank in range(4):
        assert out.count(b"[rank %d]: epoch 20/20 loss=" % rank) == 1
    assert {line.partition(b":")[0] for line in out.splitlines()} == {b"a", b"b"}
    assert b"world=4" in out
    folder, record = run_of(tmp_path)
    assert {job["host_id"] for job in record["attempts"][0]["jobs"]} == {"a", "b"}
    assert plotted.returncode == 0, plotted.stderr
    logs = [(folder / f"attempt-1{n}.log").read_text() for n in ("", "-2")]
    assert [log.count("loss=") for log in logs] == [40, 40]
    points = [json.loads(line) for line in plotted.stdout.splitlines()]
    assert [point["epoch"] for point in points] == list(range(1, 21))  # of one of the ranks


@pytest.mark.parametrize("lost", ["a", "b"])
@pytest.mark.matrix(1)
def test_power_cut_of_one_torchrun_host_ends_the_run_on_the_other(
    inv: Inv, start: Start, two_boxes: dict[str, Box], tmp_path: Path, lost: str
) -> None:
    box, other = two_boxes[lost], two_boxes["b" if lost == "a" else "a"]
    process = start()
    await_epoch_3(process, tmp_path)

    box.power_off()
    box.power_on()
    _, err = process.communicate(timeout=120)
    listed = [json.loads(line) for line in inv("jobs", "--all", "--json").stdout.splitlines()]

    said = err.decode()
    assert process.returncode not in (0, None), said
    state = run_of(tmp_path)[1]["state"]
    # The rank on the other host may end before the power cut is seen.
    told = {"lost": f"{lost}: lost the host was rebooted", "failed": f"{other.name}: failed (1)"}
    assert told[state] in said
    assert other.processes("net.py") == box.processes("net.py") == {}
    states = {own["host_id"]: own["state"] for own in listed}
    assert states[lost] == "lost"
    assert states[other.name] in ("stopped", "failed")


def test_failure_of_one_rank_stops_torchrun_on_all_hosts(
    start: Start, two_boxes: dict[str, Box]
) -> None:
    process = start("fail")

    _, err = process.communicate(timeout=200)

    assert process.returncode == 1, err
    assert b"stopping the other hosts" in err
    assert [box.processes("net.py") for box in two_boxes.values()] == [{}, {}]


@pytest.mark.long
def test_one_stop_ends_torchrun_on_all_hosts(
    inv: Inv, start: Start, two_boxes: dict[str, Box], tmp_path: Path
) -> None:
    process = start(ranks=2)
    await_epoch_3(process, tmp_path)

    stopped = inv("stop", run_of(tmp_path)[1]["id"], "--grace", "5", timeout=60)
    process.communicate(timeout=60)
    listed = [json.loads(line) for line in inv("jobs", "--all", "--json").stdout.splitlines()]

    assert stopped.returncode == 0, stopped.stderr
    assert [box.processes("net.py") for box in two_boxes.values()] == [{}, {}]
    assert [job["state"] for job in listed] == ["stopped", "stopped"]
    assert process.returncode not in (0, 255)

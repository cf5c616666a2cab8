"""``inv train --nodes 2`` on the real torchrun: two hosts, gloo between them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fixtures import Inv, MakeSshd, WriteHosts
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.training import WriteSettings, await_job, needs, run_of, start_train
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(240)]

#: Each rank learns the same line from points of its own; the gradients are averaged over all.
PROGRAM = """
import os, sys, time
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
    if sys.argv[1:] == ["fail", str(rank)]:
        sys.exit(5)
    if sys.argv[1:] == ["stay"] and epoch == 3:
        time.sleep(600)
slope = model.module.weight.item()
sums = [torch.zeros(1) for _ in range(world)]
dist.all_gather(sums, model.module.weight.detach().view(1))
assert len({value.item() for value in sums}) == 1
if rank == 0:
    open("model", "w").write(str(slope))
dist.barrier()  # gloo may abort where another rank is gone while this one still ends its group
del model, optimizer
dist.destroy_process_group()
"""


@pytest.fixture
def two_nodes(
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
) -> Callable[..., dict[str, Sshd]]:
    """Two hosts at addresses of their own, and settings for the program over both."""
    needs("torch")

    def prepare(*arguments: str) -> dict[str, Sshd]:
        servers = {"a": make_sshd(addresses=["127.0.0.2"]), "b": make_sshd(addresses=["127.0.0.3"])}
        write_hosts(
            **{
                name: {"ssh_host": server.address, "ssh_port": server.port}
                for name, server in servers.items()
            }
        )
        write_settings(
            command=" ".join(["python3 net.py", *arguments]),
            nodes=2,
            nproc_per_node=2,
            venv=sys.prefix,
            env={"OMP_NUM_THREADS": "1"},
            preflight={"imports": ["torch"]},
        )
        (tmp_path / "src" / "net.py").write_text(PROGRAM)
        return servers

    return prepare


def processes_of(*words: str) -> list[int]:
    """The processes that have these arguments one after the other.

    Other tests of this module may be running at the same time.
    """
    part = b"\0%s\0" % "\0".join(words).encode()
    return [int(path.parent.name) for path in proc_files("cmdline") if part in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_two_hosts_train_one_model_and_their_ranks_are_labelled(
    inv: Inv, two_nodes: Callable[..., dict[str, Sshd]], tmp_path: Path
) -> None:
    two_nodes()

    done = inv("train", timeout=200)
    plotted = inv("plot", "last", "--metric", "loss", "--json")

    said, out = done.stderr.decode(), done.stdout.decode()
    assert done.returncode == 0, said + out
    assert "the hosts meet at " in said
    for rank in range(4):
        assert f"[rank {rank}]: epoch 20/20 loss=" in out
    assert {line.partition(":")[0] for line in out.splitlines()} == {"a", "b"}
    assert "world=4" in out
    folder, record = run_of(tmp_path)
    assert {job["host_id"] for job in record["attempts"][0]["jobs"]} == {"a", "b"}
    assert plotted.returncode == 0, plotted.stderr
    logs = [(folder / f"attempt-1{n}.log").read_text() for n in ("", "-2")]
    assert [log.count("loss=") for log in logs] == [40, 40]
    points = [json.loads(line) for line in plotted.stdout.splitlines()]
    assert [point["epoch"] for point in points] == list(range(1, 21))  # of one of the ranks


def test_failure_of_one_torchrun_host_stops_the_rest(
    inv: Inv, two_nodes: Callable[..., dict[str, Sshd]], tmp_path: Path
) -> None:
    two_nodes("fail", "3")

    done = inv("train", timeout=200)

    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert "stopping the other hosts" in said
    run_id = run_of(tmp_path)[1]["id"]
    assert processes_of(f"--rdzv-id={run_id}") == []


def test_one_stop_ends_torchrun_on_all_hosts(
    inv: Inv, two_nodes: Callable[..., dict[str, Sshd]], tmp_path: Path
) -> None:
    two_nodes("stay")
    process = start_train(tmp_path)
    await_job(tmp_path)
    run_id = run_of(tmp_path)[1]["id"]
    # Two agents, and two ranks each; one that is being forked has its agent's command line.
    eventually(lambda: len(processes_of("net.py", "stay")) == 6, timeout=120)

    stopped = inv("stop", run_id, "--grace", "5", timeout=60)
    process.communicate(timeout=60)
    listed = [json.loads(line) for line in inv("jobs", "--json").stdout.splitlines()]

    assert stopped.returncode == 0, stopped.stderr
    assert processes_of("net.py", "stay") == []
    assert [job["state"] for job in listed if job["group"] == run_id] == ["stopped", "stopped"]
    assert process.returncode not in (0, 255)

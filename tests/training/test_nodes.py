"""Runs over several hosts: where they meet, what each runs, and that one's failure stops the rest.

What stands in for torchrun tells how it was called; the real one is in ``test_heavy_torchrun``.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks.client.ssh_client import SSHClient
from ringtasks.errors import RendezvousError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.jobs import JobState, JobStatus
from ringtasks.jobs.names import pick_all
from ringtasks.training import rendezvous_probe
from ringtasks.training.rendezvous import Node, Rendezvous, find_rendezvous
from ringtasks.training.torchrun import commands
from tests.support.fixtures import Inv, MakeSshd, Start, WriteHosts
from tests.support.sshd import Sshd
from tests.support.training import WriteSettings, await_job, run_of

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

RUN = "-m torch.distributed.run"
RENDEZVOUS = Rendezvous(
    "100.64.0.1", 4711, (Node("a", "100.64.0.1", "ts0"), Node("b", "100.64.0.2", ""))
)

STAND_IN = """
import os, sys, time
print("flags", " ".join(sys.argv[1:]), flush=True)
print("[rank 0]: epoch 1/1 loss=0.5", os.environ.get("GLOO_SOCKET_IFNAME"), flush=True)
print("[rank 1]: epoch 1/1 loss=0.5", flush=True)
fate = sys.argv[-1]
role = "store" if "--rdzv-conf=is_host=true" in sys.argv else "other"
if fate == "fail-" + role:
    sys.exit(9)
if fate != "well":
    time.sleep(60)
"""


def test_each_node_gets_the_rendezvous_its_own_address_and_the_store_host() -> None:
    first, second = commands("python3 train.py --lr '1 2'", RENDEZVOUS, "run-1", 8, {})

    start = "python3 -m torch.distributed.run --nnodes='2' --nproc-per-node='8' "
    store = "--rdzv-backend='c10d' --rdzv-endpoint='100.64.0.1:4711' --rdzv-id='run-1' "
    end = "--max-restarts='0' --tee='3' train.py --lr '1 2'"
    assert first.command == (
        f"{start}{store}--rdzv-conf='is_host=true' --local-addr='100.64.0.1' {end}"
    )
    assert second.command == (
        f"{start}{store}--rdzv-conf='is_host=false' --local-addr='100.64.0.2' {end}"
    )
    assert first.env["NCCL_SOCKET_IFNAME"] == first.env["GLOO_SOCKET_IFNAME"] == "ts0"
    assert "NCCL_SOCKET_IFNAME" not in second.env


def test_network_interface_variable_set_by_the_run_is_kept() -> None:
    first, _ = commands("python t.py", RENDEZVOUS, "r", 1, {"NCCL_SOCKET_IFNAME": "eth1"})

    assert "NCCL_SOCKET_IFNAME" not in first.env
    assert first.env["GLOO_SOCKET_IFNAME"] == "ts0"


@pytest.mark.parametrize(
    ("command", "launcher", "rest"),
    [
        ("python train.py", f"python {RUN}", "train.py"),
        ("python3 -u train.py -x", f"python3 {RUN}", "train.py -x"),
        (
            "~/v/bin/python3.11 -m app.train --all",
            f"~/v/bin/python3.11 {RUN}",
            "-m app.train --all",
        ),
        ("torchrun train.py", f"python3 {RUN}", "train.py"),
        ("torchrun --master-port 1 t.py", f"python3 {RUN}", "--master-port 1 t.py"),
        ("$V/bin/torchrun t.py --tee 1", "$V/bin/torchrun", "t.py --tee 1"),
        (
            "torchrun --log-dir --x -m app --nnodes 2",
            f"python3 {RUN}",
            "--log-dir --x -m app --nnodes 2",
        ),
        ("python -m torch.distributed.run t.py", f"python {RUN}", "t.py"),
        ("python3 $HOME/t.py # it's", f"python3 {RUN}", "$HOME/t.py # it's"),
        ("torchrun --no-python t.sh", f"python3 {RUN}", "--no-python t.sh"),
        ("torchrun --mod app --nnodes 2", f"python3 {RUN}", "--mod app --nnodes 2"),
    ],
)
def test_interpreter_is_kept_and_the_program_is_passed_to_torchrun(
    command: str, launcher: str, rest: str
) -> None:
    (found, _) = commands(command, RENDEZVOUS, "r", 1, {})

    assert found.command.startswith(f"{launcher} --nnodes=")
    assert found.command.endswith(f" --tee='3' {rest}")


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("torchrun --standalone t.py", "standalone"),
        ("torchrun --nnodes 1 t.py", "nnodes"),
        ("torchrun --nnodes=1:2 t.py", "nnodes"),
        ("torchrun \\\n  --nnodes 1 \\\n  t.py", "nnodes"),
        ("torchrun --shutdown-timeout 5 --nnodes 1 t.py", "nnodes"),
        ("torchrun --log_d logs --nnodes 1 t.py", "nnodes"),
        ("torchrun --nproc_per_node=8 t.py", "nproc-per-node"),
        ("torchrun --nproc 8 t.py", "nproc-per-node"),
        ("torchrun --master-port 1 --stand t.py", "standalone"),
        ("torchrun --rdzv_endpoint=a:1 t.py", "rdzv-endpoint"),
        ("torchrun --rdzv-id x t.py", "rdzv-id"),
        ("torchrun -t 1 t.py", "tee"),
        ("python3 -m torch.distributed.run --nnodes 1 t.py", "nnodes"),
        ("~/venv/bin/torchrun --max_restarts=3 -m app", "max-restarts"),
    ],
)
def test_torchrun_flags_set_by_ringtasks_are_refused(command: str, flag: str) -> None:
    with pytest.raises(UsageError, match=f"torchrun's --{flag} is set by ringtasks"):
        commands(command, RENDEZVOUS, "r", 1, {})


@pytest.mark.parametrize(
    "command",
    [
        "python3 prepare.py && torchrun --standalone t.py",
        "python3 prepare.py; A=1 exec ~/v/bin/torchrun t.py",
        "python3 prepare.py && python3 -m torch.distributed.launch t.py",
        "python3 -m accelerate.commands.launch --num_machines 1 t.py",
        "python3 -m deepspeed.launcher.runner t.py",
        "python3 ~/v/bin/accelerate launch t.py",
        "torchrun mpirun t.py",
    ],
)
def test_another_launcher_of_ranks_in_the_command_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="would start ranks again"):
        commands(command, RENDEZVOUS, "r", 1, {})


@pytest.mark.parametrize(
    "program",
    ["$(which torchrun) --standalone", "`which torchrun`", '"$RUN"', "${ARGS} t.py", "-m $APP"],
)
@pytest.mark.parametrize(
    "start", ["python3", "torchrun --role x", "python3 -m torch.distributed.run"]
)
def test_program_that_only_the_shell_of_the_host_knows_is_refused(start: str, program: str) -> None:
    with pytest.raises(UsageError, match="expected the program's name, found"):
        commands(f"{start} {program}", RENDEZVOUS, "r", 1, {})


def test_arguments_that_name_a_launcher_are_passed_to_the_program() -> None:
    command = "python3 t.py --strategy deepspeed --launcher torchrun >log 2>&1"

    (found, _) = commands(command, RENDEZVOUS, "r", 1, {})

    assert found.command.endswith(" t.py --strategy deepspeed --launcher torchrun >log 2>&1")


def test_variable_that_would_make_each_node_train_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="PET_STANDALONE"):
        commands("torchrun t.py", RENDEZVOUS, "r", 1, {"PET_STANDALONE": "1"})


@pytest.mark.parametrize(
    "command", ["./train.sh", "python3 -c 'x'", "cd x && python3 t.py", "pythonx"]
)
def test_a_command_that_torchrun_cannot_start_is_a_usage_error(command: str) -> None:
    with pytest.raises(UsageError, match="expected 'python3 FILE …'"):
        commands(command, RENDEZVOUS, "r", 1, {})


def test_rendezvous_uses_an_address_of_the_first_host_that_the_others_reached(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    servers = {"a": make_sshd(), "b": make_sshd(), "c": make_sshd()}
    clients = [
        SSHClient(
            SSHConfig(
                server.address, server.port, server.user, str(client_key),
                name=name, tailscale_ip="127.0.0.9" if name == "a" else None,
                use_control_master=False,
            )
        )
        for name, server in servers.items()
    ]  # fmt: skip

    found = find_rendezvous(clients)

    assert found.address == "127.0.0.9"  # the tailnet's first
    assert [node.host for node in found.nodes] == ["a", "b", "c"]
    assert {node.interface for node in found.nodes} == {"lo"}
    assert 20_000 <= found.port < 32_768  # no connection takes it before the program starts
    for client in clients:
        client.close_link()


def test_hosts_that_cannot_reach_each_other_are_reported_with_the_attempts(
    sshd: Sshd, client_key: Path
) -> None:
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="a")
    away = SSHConfig("127.0.0.1", 9, name="b", use_control_master=False)

    with SSHClient(config) as first, pytest.raises(RendezvousError) as caught:
        find_rendezvous([first, SSHClient(away)])

    assert "a: the other hosts cannot reach it: b reaches none of " in str(caught.value)
    assert "put them into one tailnet" in str(caught.value)


def test_first_host_that_cannot_listen_is_reported() -> None:
    away = SSHConfig("127.0.0.1", 9, name="a", use_control_master=False)

    with pytest.raises(RendezvousError, match=r"it cannot listen: .*refused"):
        find_rendezvous([SSHClient(away), SSHClient(away)])


def test_port_in_use_is_replaced_by_a_free_one_for_the_rendezvous() -> None:
    with socket.create_server(("", 0)) as server:
        used = str(server.getsockname()[1])
        command = [sys.executable, rendezvous_probe.__file__, "listen", "word", used]
        only, other = (
            subprocess.run([*command, *more], capture_output=True, stdin=subprocess.DEVNULL)
            for more in ([], ["0"])
        )

    assert only.returncode == 1
    assert f"port {used}: ".encode() in only.stderr
    assert other.returncode == 0, other.stderr
    assert other.stdout.split()[1] != used.encode()


def test_address_where_another_program_answers_is_not_used_for_rendezvous() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].send(b"another word")).start()
        port = str(server.getsockname()[1])
        command = [sys.executable, rendezvous_probe.__file__, "connect", "the word", port]
        printed = subprocess.run([*command, "127.0.0.1"], capture_output=True, check=True)

    assert printed.stdout == b""


def test_group_name_selects_its_running_jobs_or_else_all() -> None:
    def job(job_id: str, state: JobState, group: str | None = "run-1") -> JobStatus:
        return JobStatus(job_id, f"host-{job_id}", state, name=group, group=group)

    one, two = job("1", JobState.RUNNING), job("2", JobState.RUNNING)
    ended, failed = job("3", JobState.SUCCEEDED), job("4", JobState.FAILED)
    other = job("5", JobState.RUNNING, None)

    assert pick_all("run-1", [one, two, ended, other]) == [one, two]
    assert pick_all("run-1", [ended, failed, other]) == [ended, failed]
    assert pick_all("2", [one, two, other]) == [two]
    assert pick_all("5", [one, two, other]) == [other]


@pytest.fixture
def two_nodes(
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
) -> Callable[[str], None]:
    """Two hosts, and settings for a run over both with the stand-in, which meets its fate."""

    def prepare(fate: str) -> None:
        servers = {"a": make_sshd(), "b": make_sshd()}
        write_hosts(**{name: {"ssh_port": server.port} for name, server in servers.items()})
        write_settings(command=f"python3 train.py {fate}", nodes=2, fetch=[], grace=1)
        package = tmp_path / "src" / "torch" / "distributed"
        package.mkdir(parents=True)
        (package.parent / "__init__.py").touch()
        (package / "__init__.py").touch()
        (package / "run.py").write_text(STAND_IN)

    return prepare


def test_run_on_two_hosts_starts_one_program_on_both_and_labels_the_logs(
    inv: Inv, two_nodes: Callable[[str], None], tmp_path: Path
) -> None:
    two_nodes("well")

    done = inv("train")

    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    flags = dict(re.findall(r"^([ab]): flags (.*)$", out, re.MULTILINE))
    endpoints = {re.search(r"--rdzv-endpoint=(\S+)", line)[1] for line in flags.values()}  # type: ignore[index]
    assert len(endpoints) == 1
    assert "--rdzv-conf=is_host=true" in flags["a"]
    assert "--rdzv-conf=is_host=false" in flags["b"]
    assert re.search(r"^a: \[rank 0\]: epoch 1/1 loss=0.5 (lo|e)\w*$", out, re.MULTILINE)
    logs = [(run_of(tmp_path)[0] / f"attempt-1{n}.log").read_bytes() for n in ("", "-2")]
    assert [log.count(b"loss=") for log in logs] == [2, 2]


@pytest.mark.matrix(1)
@pytest.mark.parametrize("role", ["store", "other"])
def test_failure_of_one_node_stops_the_other(
    inv: Inv, two_nodes: Callable[[str], None], role: str
) -> None:
    two_nodes(f"fail-{role}")

    done = inv("train")
    listed = [json.loads(line) for line in inv("jobs", "--json").stdout.splitlines()]

    said = done.stderr.decode()
    assert done.returncode == 9, said
    # The less loaded host holds the store; both are this machine.
    [bad] = [job["host_id"] for job in listed if job["state"] == "failed"]
    [other] = [job["host_id"] for job in listed if job["state"] == "stopped"]
    assert f"{bad}: failed (9); stopping the other hosts" in said
    assert f"ringtasks: {other}: terminated (verified)" in said


def test_stop_by_run_name_frees_every_host(
    inv: Inv, two_nodes: Callable[[str], None], tmp_path: Path, start: Start
) -> None:
    two_nodes("stay")
    process = start("train", **PIPES)
    await_job(tmp_path)

    stopped = inv("stop", run_of(tmp_path)[1]["id"], "--grace", "1")
    process.communicate(timeout=30)
    listed = [json.loads(line) for line in inv("jobs", "--json").stdout.splitlines()]

    assert stopped.returncode == 0, stopped.stderr
    assert [job["state"] for job in listed] == ["stopped", "stopped"]
    assert process.returncode not in (0, 255)


def test_torchrun_flag_set_by_ringtasks_is_refused_before_connecting(
    inv: Inv, write_hosts: Callable[..., Path], write_settings: WriteSettings
) -> None:
    write_hosts(box={"ssh_port": 9})
    write_settings(nodes=2, command="torchrun --standalone train.py")

    done = inv("train")

    assert done.returncode == 2
    assert b"torchrun's --standalone is set by ringtasks" in done.stderr
    assert b"FAIL" not in done.stderr


def test_too_few_hosts_for_the_nodes_end_the_run_with_1(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    write_hosts(box={})
    write_settings(nodes=2)

    done = inv("train")

    assert done.returncode == 1
    assert b"only 1 of 2 hosts can take the run" in done.stderr
    assert b"box: eligible" in done.stderr

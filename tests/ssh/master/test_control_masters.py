"""Connections that outlive a run, as users meet them: `inv`, the client, real ssh and sshd."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.health.store import HealthStore
from ringtasks.ssh.master import processes
from ringtasks.ssh.master.folder import control_folder
from ringtasks.ssh.master.records import Master, current
from tests.support.faulty import Wire
from tests.support.fixtures import Inv, MakeSshd, WriteHosts, own_server
from tests.support.inv_program import InvProgram
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

server = own_server


@pytest.fixture
def hosts(server: Sshd, write_hosts: WriteHosts) -> Callable[..., Path]:
    """Hosts of a server that only this test logs in to, with control masters."""

    def write(*names: str, **fields: Any) -> Path:
        own = {"ssh_port": server.port, "use_control_master": True, **fields}
        return write_hosts(**dict.fromkeys(names, own))

    return write


def test_second_run_needs_no_login(inv: Inv, hosts: Callable[..., Path], server: Sshd) -> None:
    hosts("box")

    runs = [inv("run", "--host", "box", "--cmd", "echo hi; exit 3") for _ in range(3)]

    assert [(run.stdout, run.returncode) for run in runs] == [(b"hi\n", 3)] * 3
    assert server.accepted_logins() == 1
    assert HealthStore().get("box").total_successes == 3


def test_run_over_a_master_imports_no_heavy_module(inv: Inv, hosts: Callable[..., Path]) -> None:
    hosts("box")
    assert inv("run", "--host", "box", "--cmd", "true").returncode == 0

    run = inv("run", "--host", "box", "--cmd", "true", PYTHONVERBOSE="1")

    loaded = {
        line.split()[1].strip("'")
        for line in run.stderr.decode().splitlines()
        if line.startswith("import ")
    }
    assert "ringtasks.ssh.master.session" in loaded
    assert not loaded & {
        *{"fabric", "paramiko", "cryptography", "rich", "asyncssh", "ClusterShell"},
        *{"ringtasks.ssh.dialing", "ringtasks.ssh.master.start"},
    }


def test_concurrent_runs_share_one_master(
    inv: Inv, hosts: Callable[..., Path], make_sshd: MakeSshd
) -> None:
    server = make_sshd(config=["MaxSessions 500", "MaxStartups 500"])
    hosts("box", ssh_port=server.port)

    def run(number: int) -> tuple[bytes, int]:
        done = inv("run", "--host", "box", "--cmd", f"echo {number}", timeout=100)
        return done.stdout, done.returncode

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(run, range(32)))

    assert answers == [(f"{number}\n".encode(), 0) for number in range(32)]
    assert server.accepted_logins() == 1
    assert len(masters()) == 1


def test_many_runs_succeed_on_a_host_with_a_low_session_limit(
    inv: Inv, hosts: Callable[..., Path], make_sshd: MakeSshd
) -> None:
    server = make_sshd(config=["MaxSessions 2"])
    hosts("box", ssh_port=server.port)

    with ThreadPoolExecutor(12) as threads:
        runs = list(
            threads.map(
                lambda _: inv("run", "--host", "box", "--cmd", "sleep 0.2", timeout=60), range(12)
            )
        )

    assert [(run.returncode, run.stderr) for run in runs] == [(0, b"")] * 12
    assert server.accepted_logins() == 1


def test_connections_are_listed_and_closed_by_host(
    inv: Inv, hosts: Callable[..., Path], server: Sshd
) -> None:
    hosts("a", "b")
    for name in "ab":
        inv("run", "--host", name, "--cmd", "true")

    table = inv("connections").stdout.decode()
    rows = [json.loads(line) for line in inv("connections", "--json").stdout.splitlines()]
    closed = inv("disconnect", "--host", "a")
    left = [json.loads(line) for line in inv("connections", "--json").stdout.splitlines()]

    assert "direct" in table
    assert {row["host_id"] for row in rows} == {"a", "b"}
    assert {row["pid"] for row in rows} == {pid for pid, _ in running_before(rows)}
    assert (closed.returncode, closed.stderr) == (0, b"ringtasks: 1 connection closed\n")
    assert [row["host_id"] for row in left] == ["b"]


def running_before(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(row["pid"], row["route"]) for row in rows]


def test_disconnect_leaves_no_process_or_socket(inv: Inv, hosts: Callable[..., Path]) -> None:
    hosts("a", "b")
    for name in "ab":
        inv("run", "--host", name, "--cmd", "true")
    assert len(masters()) == 2

    assert inv("disconnect").returncode == 0

    assert list(processes.masters_in(control_folder())) == []
    assert left_behind() == []
    assert inv("connections", "--json").stdout == b""


def test_no_process_or_socket_is_left_after_control_persist(
    inv: Inv, hosts: Callable[..., Path]
) -> None:
    hosts("box", control_persist=1)
    run = inv("run", "--host", "box", "--cmd", "true")
    assert (run.returncode, run.stderr) == (0, b"")

    eventually(lambda: not list(processes.masters_in(control_folder())))
    inv("connections")

    assert left_behind() == []


def test_master_that_expires_before_its_first_use_is_restarted(
    inv: Inv, hosts: Callable[..., Path], tmp_path: Path
) -> None:
    hosts("box", control_persist=1)
    slow = tmp_path / "slow"
    slow.mkdir()
    wait = "case $* in *' -M '*|'-M '*) sleep 1.5 ;; esac"  # as a busy machine would
    (slow / "ssh").write_text(f'#!/bin/sh\n{shutil.which("ssh")} "$@"\ns=$?\n{wait}\nexit $s\n')
    (slow / "ssh").chmod(0o755)

    run = inv("run", "--host", "box", "--cmd", "echo hi", PATH=f"{slow}:{os.environ['PATH']}")

    assert (run.stdout, run.returncode) == (b"hi\n", 0), run.stderr
    assert len(masters()) == 1


@pytest.mark.parametrize("accident", ["killed", "stopped", "socket removed"])
def test_next_run_works_after_an_idle_master_fails(
    inv: Inv, hosts: Callable[..., Path], accident: str
) -> None:
    hosts("box")
    inv("run", "--host", "box", "--cmd", "true")
    (before,) = masters()
    happen(accident, before)

    run = inv("run", "--host", "box", "--cmd", "echo hi", timeout=20)
    (after,) = masters()

    assert (run.stdout, run.returncode) == (b"hi\n", 0)
    assert after.pid != before.pid


@pytest.mark.parametrize("accident", ["killed", "stopped"])
def test_master_failure_during_a_command_gives_an_unknown_outcome(
    config: SSHConfig, server: Sshd, accident: str
) -> None:
    client = SSHClient(replace(config, server_alive_interval=1, server_alive_count_max=1))

    def strike(stream: int, chunk: bytes) -> None:
        happen(accident, masters()[0])

    with client:
        result = client.run("echo up; sleep 30", on_output=strike)
        again = client.run("echo again")

    assert result.is_unknown
    assert result.returncode == 255
    assert again.stdout == "again\n"
    assert server.accepted_logins() == 2


def test_control_socket_removed_during_a_command_does_not_affect_it(client: SSHClient) -> None:
    result = client.run("echo up; sleep 0.3; echo down", on_output=None)
    assert result

    def strike(stream: int, chunk: bytes) -> None:
        masters()[0].socket.unlink(missing_ok=True)

    result = client.run("echo up; sleep 0.3; exit 4", on_output=strike)

    assert (result.returncode, result.error) == (4, None)
    assert client.run("true")


@pytest.mark.parametrize("accident", ["killed", "stopped"])
@pytest.mark.parametrize("way", ["put", "get"])
@pytest.mark.matrix(1)
def test_master_failure_during_a_transfer_leaves_no_partial_file(
    config: SSHConfig, tmp_path: Path, server: Sshd, way: str, accident: str
) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
    source, copied = (
        (near / "large", far / "new") if way == "put" else (far / "large", near / "new")
    )
    source.write_bytes(os.urandom(80_000_000))
    client = SSHClient(replace(config, server_alive_interval=1, server_alive_count_max=1))

    def copy() -> Any:
        if way == "put":
            return client.scp_to(near / "large", f"{far}/new")
        return client.scp_from(f"{far}/large", near / "new")

    with client, ThreadPoolExecutor(1) as thread:
        assert client.run("true")
        copying = thread.submit(copy)
        eventually(lambda: list((far if way == "put" else near).glob(".*.part")))
        happen(accident, masters()[0])
        result = copying.result(30)
        again = copy()

    assert result.returncode == 255
    assert "outcome unknown" in str(result.error)
    assert again, again.error
    assert copied.read_bytes() == source.read_bytes()


def test_timeout_ends_a_command_over_a_master(client: SSHClient, tmp_path: Path) -> None:
    result = client.run(f"sleep 61 & echo $! > {tmp_path}/pid; wait", timeout=0.3)

    assert (result.returncode, result.timed_out) == (124, True)
    assert "terminated (verified)" in str(result.error)
    command_line = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/cmdline")
    eventually(lambda: not command_line.exists() or not command_line.read_bytes())


def test_fresh_check_reports_a_host_reachable_only_via_an_open_master(
    inv: Inv, hosts: Callable[..., Path], server: Sshd
) -> None:
    with Wire(server.address, server.port) as wire:
        hosts("box", ssh_port=wire.port)
        assert inv("run", "--host", "box", "--cmd", "true").returncode == 0
        wire.block()

        usual, fresh = inv("check"), inv("check", "--fresh")
        listed = json.loads(inv("check", "--fresh", "--json").stdout)

    assert usual.returncode == 0
    assert b"over the open connection" in usual.stdout
    assert fresh.returncode == 255
    assert b"ALIVE ONLY THROUGH AN OLD CONNECTION" in fresh.stderr
    assert [(route["ok"], route["is_old"]) for route in listed["routes"]] == [
        (False, False),
        (True, True),
    ]


def test_fresh_connectivity_check_ignores_an_open_master(config: SSHConfig, server: Sshd) -> None:
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, port=wire.port)) as first,
        SSHClient(replace(config, port=wire.port)) as second,
    ):
        assert first.run("true")
        wire.block()
        is_connected, why = asyncio.run(second.check_connectivity(fresh=True))

        assert not is_connected
        assert "alive only through an old connection" in why
        assert second.run("true")


def test_check_connectivity_makes_its_own_login(client: SSHClient, server: Sshd) -> None:
    assert client.run("true")

    assert asyncio.run(client.check_connectivity(fresh=True))[0]

    assert server.accepted_logins() == 2
    assert len(masters()) == 1


def test_changed_pin_prevents_reuse_of_an_open_master(
    inv: Inv, hosts: Callable[..., Path], server: Sshd, tmp_path: Path
) -> None:
    hosts("box")
    assert inv("run", "--host", "box", "--cmd", "true").returncode == 0
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKgYf9v1b0m4yTLm3zXzTqcGJXRmVbPBCB3tTCDmyqCk"
    hosts("box", ssh_host_key=other)

    run = inv("run", "--host", "box", "--cmd", "echo hi")

    assert (run.stdout, run.returncode) == (b"", 255)
    assert b"impostor" in run.stderr


def test_connection_works_in_process_without_an_ssh_program(
    config: SSHConfig, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with SSHClient(config) as client:
        assert client.run("echo hi").stdout == "hi\n"

    assert masters() == []


def test_control_directory_accessible_to_others_is_not_used(client: SSHClient) -> None:
    folder = Path(os.environ["XDG_RUNTIME_DIR"]) / "ringtasks"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)

    assert client.run("echo hi").stdout == "hi\n"
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("trouble", ["full", "no inodes", "read-only"])
@pytest.mark.parametrize("is_there", [False, True], ids=["no master yet", "a master is there"])
@pytest.mark.matrix(2)
def test_full_or_read_only_disk_does_not_prevent_commands(
    small_disk: Path, inv: Inv, hosts: Callable[..., Path], trouble: str, is_there: bool
) -> None:
    hosts("box")
    if is_there:
        assert inv("run", "--host", "box", "--cmd", "true").returncode == 0
    fill(small_disk, trouble)

    runs = [inv("run", "--host", "box", "--cmd", "echo hi") for _ in range(2)]
    listed = inv("connections")
    closed = inv("disconnect")

    assert [(run.returncode, run.stdout, run.stderr) for run in runs] == [(0, b"hi\n", b"")] * 2
    assert (listed.returncode, b"box" in listed.stdout) == (0, is_there)
    assert closed.returncode == 0, closed.stderr
    assert list(processes.masters_in(control_folder())) == []


@pytest.fixture
def small_disk(own_masters: None) -> Iterator[Path]:
    """A disk of 64 KiB that holds the files of control masters."""
    folder = Path(os.environ["XDG_RUNTIME_DIR"])
    options = "mode=700,size=64k,nr_inodes=40"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)
    (folder / "ringtasks").mkdir(mode=0o700)
    yield folder
    for pid, _ in processes.masters_in(folder / "ringtasks"):
        os.kill(pid, signal.SIGKILL)
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, trouble: str) -> None:
    if trouble == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        return
    with pytest.raises(OSError, match="No space"):
        for number in range(1000):
            (disk / f"filler-{number}").write_bytes(b"x" * (4096 if trouble == "full" else 0))


def test_ctrl_c_does_not_end_the_masters(
    inv: Inv, inv_program: InvProgram, hosts: Callable[..., Path]
) -> None:
    folder = hosts("box").parents[1]
    running = inv_program.start(  # in a process group of its own
        ["inv", "run", "--host", "box", "--cmd", "echo up; sleep 60"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert running.stdout is not None
    with running.stdout as stdout:
        assert stdout.readline() == b"up\n"
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(20) == 130

    assert len(masters()) == 1


def happen(accident: str, master: Master) -> None:
    if accident == "socket removed":
        master.socket.unlink()
    else:
        os.kill(master.pid, signal.SIGKILL if accident == "killed" else signal.SIGSTOP)


def masters() -> list[Master]:
    return list(current(control_folder()))


def left_behind() -> list[str]:
    return sorted(path.name for path in control_folder().iterdir())

"""``inv ray.up``, ``ray.status`` and ``ray.down``, with a stand-in for Ray."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringtasks.errors import UsageError
from ringtasks.training.ray import commands, port_guard
from ringtasks.training.ray.prepare import ray_python
from ringtasks.training.rendezvous import Node, Rendezvous
from tests.support.fake_ray import FakeRay
from tests.support.fixtures import Inv, MakeSshd, Start, WriteHosts
from tests.support.processes import proc_files
from tests.support.ray_hosts import RayHosts, command_line
from tests.support.waiting import eventually

#: Without the time in which a test waits for the ports, which others use.
pytestmark = pytest.mark.timeout(func_only=True)


def test_cluster_starts_and_stops_without_leaving_processes_or_files(
    inv: Inv, cluster: RayHosts, fake_ray: FakeRay
) -> None:
    up = inv("ray.up", "--host", "a,b")
    again = inv("ray.up", "--host", "a,b")
    status = inv("ray.status")
    narrow = inv("ray.status", COLUMNS="60", FORCE_COLOR="1").stdout.decode()
    tokens = [cluster.servers[host].home.glob(".ringtasks/ray/*/token") for host in "ab"]
    modes = {file.stat().st_mode & 0o777 for files in tokens for file in files}
    assert up.returncode == 0, up.stderr
    (sessions,) = fake_ray.temp.glob("ray-*")
    mode = sessions.stat().st_mode & 0o777
    down = inv("ray.down")
    after = inv("ray.status")

    assert up.returncode == 0, up.stderr
    assert b"cluster is up (2 nodes)" in up.stderr
    assert again.returncode == 2
    assert b"there is a Ray cluster 'ray' on these hosts: a: head running; b: worker running" in (
        again.stderr
    )
    assert status.returncode == 0, status.stderr
    assert modes == {0o600}
    assert mode == 0o700
    assert not sessions.exists()
    ids = re.findall(rb"^[ab] .* (\S+)$", status.stdout, re.MULTILINE)
    assert len(ids) == 2
    assert all(job.decode() in narrow for job in ids)
    assert narrow.count("running") == 2
    assert "\N{HORIZONTAL ELLIPSIS}" not in narrow
    assert max(map(len, re.sub(r"\x1b\[\w*m", "", narrow).splitlines())) <= 60
    assert down.returncode == 0, down.stderr
    assert down.stderr.count(b"terminated (verified): ") == 2
    assert cluster.files("a") == cluster.files("b") == []
    assert after.returncode == 2
    assert b"there is no Ray cluster 'ray' on these hosts" in after.stderr


@pytest.mark.parametrize("dead", ["a", "b"])
@pytest.mark.matrix(1)
def test_dead_cluster_member_is_reported_and_the_others_are_stopped(
    inv: Inv, cluster: RayHosts, dead: str
) -> None:
    inv("ray.up", "--host", "a,b")
    cluster.kill(dead)

    status = inv("ray.status")
    again = inv("ray.up", "--host", "a,b")
    down = inv("ray.down")

    role = {"a": "head", "b": "worker"}
    assert status.returncode == 1
    assert f"{dead}     {role[dead]}" in status.stdout.decode()
    assert b"killed (SIGKILL)" in status.stdout
    assert (b"the head does not run, so Ray was not asked" in status.stderr) == (dead == "a")
    assert again.returncode == 2
    assert b"'inv ray.down' ends it" in again.stderr
    assert down.returncode == 0, down.stderr
    assert f"{dead}: it was not running" in down.stderr.decode()
    assert cluster.processes("a", "") == cluster.processes("b", "") == []
    assert cluster.files("a") == cluster.files("b") == []
    assert inv("ray.down").returncode == 2


@pytest.mark.parametrize("away", ["a", "b"])
@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.matrix(1)
def test_unreachable_cluster_member_is_unknown_and_stopped_later(
    inv: Inv, cluster: RayHosts, tmp_path: Path, away: str, is_remembered: bool
) -> None:
    inv("ray.up", "--host", "a,b")
    if not is_remembered:  # as on another machine
        for file in (tmp_path / "own-home" / "state").rglob("*.json"):
            file.unlink()
    cluster.reach(away)
    other = "ab".replace(away, "")

    status = inv("ray.status")
    submit = inv("ray.submit", "--cmd", "true")
    down = inv("ray.down")
    left = cluster.processes(away, "ray start")
    cluster.reach()
    status_later = inv("ray.status")
    down_later = inv("ray.down")

    assert status.returncode == 255
    assert b"unknown" in status.stdout
    assert "there is no Ray cluster" not in (status.stderr + down.stderr).decode()
    assert down.returncode == 255
    assert f"{other}: terminated (verified)" in down.stderr.decode()
    assert f"{away}: unknown: " in down.stderr.decode()
    assert f"'inv ray.down --host {away}'" in down.stderr.decode()
    assert left
    assert status_later.returncode == 1
    assert down_later.returncode == 0, down_later.stderr
    assert f"{away}: terminated (verified)" in down_later.stderr.decode()
    if away == "a":
        assert b"it is unknown whether the head runs, so Ray was not asked" in status.stderr
        assert submit.returncode == 255
        assert b"unknown" in submit.stderr


def test_cluster_state_is_unknown_if_no_host_is_reachable(inv: Inv, cluster: RayHosts) -> None:
    cluster.reach("a", "b")

    for command in (["ray.status"], ["ray.down"], ["ray.submit", "--cmd", "true"]):
        done = inv(*command)

        assert done.returncode == 255, command
        assert b"unknown" in done.stdout + done.stderr
        assert b"there is no Ray cluster" not in done.stderr
    assert inv("ray.up", "--host", "a,b").returncode == 255


@pytest.mark.long
def test_host_outside_the_cluster_does_not_affect_its_state(
    inv: Inv, cluster: RayHosts, write_hosts: WriteHosts
) -> None:
    hosts: dict[str, dict[str, Any]] = {
        name: {"ssh_port": server.port} for name, server in cluster.servers.items()
    }
    write_hosts(**hosts, other={"ssh_port": 9})
    inv("ray.up", "--host", "a,b")

    assert inv("ray.status").returncode == 0
    assert inv("ray.down").returncode == 0


def test_state_that_ray_does_not_tell_is_unknown(inv: Inv, cluster: RayHosts) -> None:
    inv("ray.up", "--host", "a")
    (token,) = (cluster.servers["a"].home / ".ringtasks" / "ray").glob("*/token")
    token.write_text("another")

    status = inv("ray.status")

    assert status.returncode == 255
    assert b"InvalidAuthToken\nringtasks: a: Ray did not tell its state" in status.stderr
    assert b"head  running" in status.stdout
    assert b"InvalidAuthToken" not in status.stdout


@pytest.mark.long
def test_stopping_some_hosts_of_a_cluster_names_the_others(inv: Inv, cluster: RayHosts) -> None:
    inv("ray.up", "--host", "a,b")

    down = inv("ray.down", "--host", "b")

    assert down.returncode == 0, down.stderr
    assert b"not among the hosts given, and so not asked: a" in down.stderr
    assert cluster.processes("a", "ray start")


def test_unmarked_processes_of_a_killed_ray_node_are_ended(inv: Inv, cluster: RayHosts) -> None:
    inv("ray.up", "--host", "a", "--options", "--leave=4711.5")
    assert _sleeping("4711.5")

    cluster.kill("a")

    eventually(lambda: not _sleeping("4711.5"))
    assert inv("ray.down").returncode == 0


def _sleeping(seconds: str) -> list[Path]:
    return [
        file
        for file in proc_files("cmdline")
        if command_line(int(file.parent.name)).strip() == f"sleep {seconds}"
    ]


@pytest.mark.long
def test_two_clusters_on_the_same_hosts_share_no_port_token_or_session_folder(
    inv: Inv, cluster: RayHosts, fake_ray: FakeRay
) -> None:
    one = inv("ray.up", "--host", "a,b")
    two = inv("ray.up", "--host", "b,a", "--name", "second")
    tokens = {file.read_text() for file in cluster.servers["a"].home.glob(".ringtasks/ray/*/token")}
    sessions = list(fake_ray.temp.glob("ray-*/ray/session"))
    both = [inv("ray.status"), inv("ray.status", "--name", "second")]
    ports = re.findall(rb"(?:agent-listen|server|--)-?port='?(\d+)", inv("jobs", "--json").stdout)
    down = inv("ray.down", "--name", "second")
    first_left = inv("ray.status")

    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert b"the head is a, " in one.stderr
    assert b"the head is b, " in two.stderr  # the first that was named
    assert b"inv ray.submit --name second --cmd" in two.stderr
    assert len(tokens) == len(sessions) == 2
    assert [done.returncode for done in both] == [0, 0]
    assert len(ports) == 8
    assert all(20_000 <= int(port) < 32_768 for port in ports)  # no connection takes them meanwhile
    assert down.returncode == 0
    assert first_left.returncode == 0, first_left.stderr


@pytest.mark.parametrize("flag", ["--port", "--dashboard-port"])
@pytest.mark.matrix(1)
def test_requested_port_in_use_is_detected_before_anything_is_sent(
    inv: Inv, cluster: RayHosts, flag: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        done = inv("ray.up", "--host", "a,b", flag, port)

    assert done.returncode == 2
    assert f"port {port}" in done.stderr.decode()
    assert b"Address already in use" in done.stderr
    assert cluster.files("a") == cluster.files("b") == []


@pytest.mark.long
def test_default_dashboard_port_in_use_is_replaced_by_another_one(
    inv: Inv, cluster: RayHosts
) -> None:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # it is in use already
            stack.enter_context(socket.create_server(("127.0.0.1", 8265)))
        done = inv("ray.up", "--host", "a")

    assert done.returncode == 0, done.stderr
    assert b"--port " in done.stderr
    assert b"--port 8265" not in done.stderr


def test_ray_token_is_sent_only_to_the_port_of_the_own_job() -> None:
    marks = {"RINGTASKS_RUN_ID": "0123456789abcdef"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        checks = {
            "stranger": commands.guarded("echo sent", port, "0123456789abcdef"),
            "silent": commands.guarded("echo sent", 9, "0123456789abcdef"),
        }
        found = {
            name: subprocess.run(["sh", "-c", check], capture_output=True, check=False)
            for name, check in checks.items()
        }
    own = subprocess.Popen(
        [sys.executable, "-c", LISTENER],
        env={**os.environ, **marks},
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    assert own.stdout is not None
    check = commands.guarded("echo sent", int(own.stdout.readline()), "0123456789abcdef")
    ours = subprocess.run(["sh", "-c", check], capture_output=True, check=False)
    own.communicate(b"")

    assert found["stranger"].returncode == port_guard.STRANGER
    assert f"is that of process {os.getpid()}".encode() in found["stranger"].stderr
    assert found["silent"].returncode == port_guard.SILENT
    assert b"sent" not in found["stranger"].stdout + found["silent"].stdout
    assert ours.stdout == b"sent\n", ours.stderr


#: Listens in a child without the mark, as a program does that has changed its name.
LISTENER = """
import socket, subprocess, sys
server = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen(["sleep", "30"], env={"PATH": "/usr/bin:/bin"}, pass_fds=[server.fileno()])
print(server.getsockname()[1], flush=True)
server.close()
sys.stdin.read()
child.kill()
"""


def test_different_ray_versions_are_reported_and_nothing_is_started(
    inv: Inv,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    fake_ray: FakeRay,
    tmp_path: Path,
) -> None:
    older = FakeRay(tmp_path / "older", "2.40.0")
    hosts = {
        "a": make_sshd(environ=fake_ray.environ(os.environ["PATH"])),
        "b": make_sshd(environ=older.environ(os.environ["PATH"])),
    }
    write_hosts(**{name: {"ssh_port": server.port} for name, server in hosts.items()})

    done = inv("ray.up", "--host", "a,b")
    alone = inv("ray.up", "--host", "b")
    inv("ray.down")

    assert done.returncode == 2
    assert b"the versions differ: a: Ray 2.60.0 on Python 3" in done.stderr
    assert b"b: Ray 2.40.0 on Python 3" in done.stderr
    assert b"b: Ray 2.40.0 knows no tokens" in alone.stderr


@pytest.mark.usefixtures("ray_ports")
def test_another_cluster_in_the_environment_of_a_host_is_ignored(
    inv: Inv, make_sshd: MakeSshd, write_hosts: WriteHosts, fake_ray: FakeRay
) -> None:
    environ = fake_ray.environ(os.environ["PATH"])
    servers = {
        "a": make_sshd(environ={**environ, "RAY_ADDRESS": "192.0.2.1:6379"}),
        "b": make_sshd(environ={**environ, "RAY_AUTH_TOKEN": "another"}),
    }
    cluster = RayHosts(servers, write_hosts)

    up = inv("ray.up", "--host", "a,b")
    done = inv("ray.submit", "--cmd", "echo done")
    inv("ray.down", "--host", "a,b")

    assert up.returncode == 0, up.stderr
    assert done.stdout == b"done\n", done.stderr
    assert cluster.processes("a", "") == []


@pytest.mark.parametrize("quote", ['"', "'"])
def test_python_of_ray_is_found_behind_a_path_with_spaces(tmp_path: Path, quote: str) -> None:
    python, ray = tmp_path / "my env" / "python3.11", tmp_path / "ray"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho own "$@"\n')
    ray.write_text(f"#!/bin/sh\n'''exec' {quote}{python}{quote} \"$0\" \"$@\"\n' '''\n")
    for file in (python, ray):
        file.chmod(0o755)

    run = subprocess.run(
        ["sh", "-c", ray_python("x", "y")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
    )

    assert run.stdout == b"own -c x y\n", run.stderr


def test_host_without_ray_is_reported(
    inv: Inv, make_sshd: MakeSshd, write_hosts: WriteHosts
) -> None:
    write_hosts(a={"ssh_port": make_sshd(environ={"PATH": "/usr/bin:/bin"}).port})

    done = inv("ray.up", "--host", "a")

    assert done.returncode == 2
    assert b"a: there is no program 'ray': pip install 'ray[default]'" in done.stderr


def test_node_that_fails_to_start_leaves_no_process(
    inv: Inv, cluster: RayHosts, tmp_path: Path
) -> None:
    done = inv("ray.up", "--host", "a,b", "--options", "--fail=worker")

    assert done.returncode == 255
    assert b"b: Ray failed (3): broken" in done.stderr
    for host in "ab":
        assert cluster.processes(host, "") == []
        assert cluster.files(host) == []


def test_ctrl_c_during_cluster_start_leaves_no_process(start: Start, cluster: RayHosts) -> None:
    (cluster.servers["b"].home / ".ringtasks").mkdir()
    process = start("ray.up", "--host", "a,b", stderr=subprocess.PIPE)
    eventually(lambda: cluster.processes("a", "ray start"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    if process.returncode == 0:
        pytest.skip("it was up before the signal came")
    assert process.returncode == 130, err
    assert b"interrupted" in err
    for host in "ab":
        assert cluster.processes(host, "") == []
        assert cluster.files(host) == []


MEETING = Rendezvous(
    "10.0.0.1", 4000, (Node("a", "10.0.0.1", "e"), Node("it's b", "10.0.0.2", "e"))
)
PORTS = [{"agent": 1, "dashboard": 8266, "client": 3}, {"agent": 4}]


def test_cluster_is_read_back_from_its_start_command_lines() -> None:
    found = [commands.read(each) for each in commands.starts("ray-0a1b2c3d", MEETING, PORTS, "--x")]

    head, worker = found
    assert head is not None
    assert worker is not None
    assert (head.cluster_id, head.is_head, head.hosts) == ("ray-0a1b2c3d", True, ("a", "it's b"))
    assert (worker.cluster_id, worker.is_head) == ("ray-0a1b2c3d", False)
    assert head.address == worker.address == "10.0.0.1:4000"
    assert (head.dashboard_port, worker.dashboard_port) == (8266, 0)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ("--num-cpus=1", '"${TMPDIR:-/tmp}"'),
        ("--temp-dir=/x/y --num-cpus 1", "'/x/y'"),
        ("--num-cpus 1 --temp_dir '/of us'", "'/of us'"),
        ("--temp-dir ~/x", "\"$HOME\"/'x'"),
    ],
)
def test_each_cluster_has_a_session_folder_of_its_own(options: str, place: str) -> None:
    head, worker = commands.starts("ray-0a1b2c3d", MEETING, PORTS, options)

    assert commands.temp_of("ray-0a1b2c3d", options) == f"{place}/ray-0a1b2c3d"
    assert head.endswith(f"{options} --temp-dir={place}/ray-0a1b2c3d/ray")
    assert worker.endswith(options)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "ray start --head",
        "python train.py 'unbalanced",
        'env RAY_AUTH_TOKEN_PATH="$HOME/.ringtasks/ray/../../x/token" ray start --head',
        'env RAY_AUTH_TOKEN_PATH="$HOME/.ringtasks/ray/a-0a1b2c3d;x/token" ray start --head',
    ],
)
def test_job_with_another_command_line_is_not_part_of_a_cluster(command: str) -> None:
    assert commands.read(command) is None


@pytest.mark.parametrize(
    "options",
    ["--port 6379", "--port=6379", "--num-cpus=1 --head", "--node_ip_address=x", "--block"],
)
def test_ray_options_set_by_ringtasks_are_refused(options: str) -> None:
    with pytest.raises(UsageError, match="is set by ringtasks"):
        commands.check_options(options)


def test_other_ray_options_are_accepted() -> None:
    commands.check_options("--num-cpus=1 --resources '{\"port\": 1}' --temp-dir=/x/head")

"""`ringtasks.testing`: it answers as told, and like a real host where that is what matters."""

from __future__ import annotations

import asyncio
import io
import os
import posixpath
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringtasks
from ringtasks import HostConfig, SSHClient, SSHConfig, get_cluster_nodes, get_ssh_client
from ringtasks.errors import Reason, UnknownHostError, UnreachableError, UsageError
from ringtasks.inventory.loader import load_inventory
from ringtasks.remote.launcher import launch_script
from ringtasks.remote.marks import Mark
from ringtasks.remote.script import Script, encode, exec_line, stop_script
from ringtasks.ssh.link import Exited, Terminal
from ringtasks.testing import Answer, Call, FakeFleet, fake_fleet
from ringtasks.testing.decoding import (
    bootstrap_mark,
    decode_line,
    decode_payload,
    launch_in,
    stop_in,
)
from ringtasks.testing.links import FakeSession, Step
from tests.support.faulty import Wire
from tests.support.sshd import Sshd

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
AWKWARD = 'it\'s "$HOME" `x` \\ \\\\ !! %s\n\t*?[a]{b,c}~#& é \udcff'

# Every text that can be sent: any bytes but NUL, those that are not UTF-8 as surrogate escapes.
any_text = st.one_of(
    st.binary(max_size=60).map(
        lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    ),
    st.text(st.sampled_from("'\"\\$`!~/. \n;a"), max_size=30),
)
any_command = any_text.filter(str.strip)
any_env = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), any_text)
any_venv = st.one_of(
    st.sampled_from(["~/venv", "source ~/a/bin/activate", ". x/env", "conda activate 'a b'"]),
    any_command,
)
any_run_id = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with fake_fleet("gpu1", "gpu2") as fleet:
        yield fleet


# The fleet


def test_a_fake_host_answers_and_records(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("nvidia-smi*", stdout="H100\n")

    result = get_ssh_client("gpu1").run(
        "nvidia-smi -L", cwd="~/app", env={"A": "it's"}, stdin=io.BytesIO(b"in")
    )

    assert (result.stdout, result.success, result.transport_used) == ("H100\n", True, "direct")
    assert fleet["gpu1"].calls == [Call("nvidia-smi -L", "~/app", {"A": "it's"}, b"in")]
    assert fleet["gpu1"].commands == ["nvidia-smi -L"]
    assert fleet["gpu2"].calls == []


def test_nothing_of_the_network_is_loaded() -> None:
    code = (
        "import sys; from ringtasks.testing import fake_fleet\n"
        "from ringtasks import get_ssh_client\n"
        "with fake_fleet('a'): assert get_ssh_client('a').run('x')\n"
        "print([name for name in ('fabric', 'paramiko', 'asyncssh') if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_hosts_come_by_name_as_objects_and_with_facts() -> None:
    lab = HostConfig("lab", "10.0.0.1", 2222, tailscale_ip="100.64.0.1", facts={"gpu": "A100"})

    with fake_fleet("plain", lab, box={"role": "training", "groups": ["rented"]}) as fleet:
        late = fleet.add("gpu-4", work_dir="/data", groups=["rented"])

        assert [host.name for host in get_cluster_nodes("@all")] == ["plain", "lab", "box", "gpu-4"]
        assert [host.name for host in get_cluster_nodes("@rented")] == ["box", "gpu-4"]
        assert [host.name for host in get_cluster_nodes("gpu=A*,role=training")] == ["lab", "box"]
        assert get_ssh_client("lab").config.port == 2222
        assert get_ssh_client("lab").run("x").transport_used == "tailscale"
        get_ssh_client("gpu-4").run("x")
        assert late.calls[0].cwd == "/data"
        assert [host.name for host in fleet] == ["plain", "lab", "box", "gpu-4"]


@pytest.mark.parametrize(
    "config",
    [
        SSHConfig("10.0.0.1", 2222, name="other"),
        SSHConfig("", tailscale_ip="100.64.0.1"),
        SSHConfig("ignored", name="lab"),
        SSHConfig("lab", 2200, "me"),
    ],
    ids=["address", "tailscale address", "name", "name as address"],
)
def test_a_client_finds_its_host_by_name_or_address(config: SSHConfig) -> None:
    lab = HostConfig("lab", "10.0.0.1", 2222, tailscale_ip="100.64.0.1")

    with fake_fleet("x", lab) as fleet, SSHClient(config) as client:
        assert client.run("here").success
        assert fleet["lab"].commands == ["here"]


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [("gpu1", {}, "in the fake fleet already"), ("new", {"ssh_port": "x"}, "expected a port")],
)
def test_a_host_that_cannot_be_added_leaves_the_fleet_as_it_was(
    fleet: FakeFleet, name: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        fleet.add(name, **given)

    assert [host.name for host in get_cluster_nodes()] == ["gpu1", "gpu2"]


def test_an_unknown_name_of_the_fleet_lists_near_ones(fleet: FakeFleet) -> None:
    with pytest.raises(UnknownHostError, match=r"'gpu'.*did you mean gpu"):
        fleet["gpu"]


@pytest.mark.parametrize("address", ["gpu9", "root@127.0.0.1:1", "100.64.0.9"])
def test_a_host_that_is_not_in_the_fleet_is_unreachable_and_never_dialled(
    fleet: FakeFleet, address: str
) -> None:
    client = get_ssh_client(address)

    result = client.run("rm -rf /")

    assert (result.returncode, result.transport_used) == (255, None)
    assert "it is not in the fake fleet (gpu1, gpu2)" in str(result.error)
    with pytest.raises(UnreachableError) as caught:
        client.link()
    assert [failure.reason for failure in caught.value.failures] == [Reason.NO_ROUTE]


def test_an_embedded_host_is_not_served(fleet: FakeFleet) -> None:
    with SSHClient(SSHConfig("", name="demo", embedded=True)) as client:
        assert "unreachable" in str(client.run("x").error)


def test_surroundings_are_restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(tmp_path / "mine.yaml"))
    before = dict(os.environ)

    with pytest.raises(RuntimeError, match="the test's own"), fake_fleet("a"):
        assert load_inventory().hosts.keys() == {"a"}
        get_ssh_client("a").run("x")
        files = [os.environ[name] for name in ("RINGTASKS_HOSTS", "RINGTASKS_HEALTH_FILE")]
        assert all(Path(file).exists() for file in files)
        raise RuntimeError("the test's own")

    assert dict(os.environ) == before
    assert not any(Path(file).exists() for file in files)


def test_fleets_can_be_nested() -> None:
    with fake_fleet("a") as outer:
        client = get_ssh_client("a")
        with fake_fleet("a", "b") as inner:
            get_ssh_client("a").run("inner")
            client.run("outer")
            assert get_ssh_client("a") is not client
        assert get_ssh_client("a") is client
        assert client.is_alive()
        client.run("outer again")

    assert inner["a"].commands == ["inner"]
    assert outer["a"].commands == ["outer", "outer again"]


def test_clients_made_inside_are_closed_and_lead_nowhere_afterwards() -> None:
    with fake_fleet("new") as fleet:
        registered, own = get_ssh_client("new"), SSHClient(SSHConfig("new"))
        assert registered.run("1")
        assert own.run("2")

    assert not registered.is_alive()
    assert not own.is_alive()
    assert get_ssh_client("new") is not registered
    for client in (registered, own):
        with pytest.raises(UsageError, match="fake fleet that is over"):
            client.run("x")
    assert fleet["new"].commands == ["1", "2"]
    ringtasks.close_all_clients()


def test_clients_from_before_are_as_they_were(sshd: Sshd, client_key: Path) -> None:
    real = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key), name="real")
    with SSHClient(real) as open_before, SSHClient(real) as closed_before:
        open_before.run("true")
        known = open_before.health
        registered = get_ssh_client("127.0.0.1")
        with fake_fleet("real") as fleet:
            assert get_ssh_client("127.0.0.1") is not registered
            assert closed_before.run("inside").success
            ringtasks.close_all_clients()

        assert fleet["real"].commands == ["inside"]
        assert get_ssh_client("127.0.0.1") is registered
        assert open_before.is_alive()
        assert open_before.health == known
        assert closed_before.run("echo $((6 * 7))").stdout == "42\n"
    ringtasks.close_all_clients()


def test_many_calls_at_once_are_all_answered_and_recorded(fleet: FakeFleet) -> None:
    fleet.on_call("*", lambda call: Answer(f"{call.command} {call.env['N']}", delay=0.05))

    async def run_all() -> list[str]:
        calls = [
            get_ssh_client(host.name).run_async(f"job {n}", env={"N": str(n)})
            for n in range(60)
            for host in fleet
        ]
        return [result.stdout for result in await asyncio.gather(*calls)]

    results = asyncio.run(run_all())

    expected = [f"job {n}" for n in range(60)]
    assert results == [f"job {n} {n}" for n in range(60) for _ in range(2)]
    for host in fleet:
        assert sorted(host.commands) == sorted(expected)
        assert host.logins == 1
    ringtasks.close_all_clients()


def test_health_is_real_and_starts_empty(fleet: FakeFleet) -> None:
    client = get_ssh_client("gpu1")
    fleet["gpu1"].down(reason="refused")

    for _ in range(3):
        client.run("x")

    assert (client.health.total_failures, client.health.is_healthy) == (3, False)
    assert client.health.last_reason == "direct: refused"
    assert client.health.transports["direct"].last_reason == "refused"
    assert get_ssh_client("gpu2").health.total_failures == 0


# Answers


def test_rules_are_globs_patterns_and_judges(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.on("make *", stdout="glob")
    gpu1.on(re.compile(r"\brm\b"), stdout="pattern")
    gpu1.on(lambda call: call.cwd == "/data", stdout="judge")
    gpu1.on("[ -f x ]", stdout="as it is")

    def answer(command: str, cwd: str | None = None) -> str:
        return client.run(command, cwd=cwd).stdout

    assert answer("make all") == "glob"
    assert answer("cd /; rm x") == "pattern"
    assert answer("ls", "/data") == "judge"
    assert answer("[ -f x ]") == "as it is"
    assert answer("remake all") == ""


def test_the_latest_rule_answers_and_the_hosts_own_go_first(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("up*", stdout="own")
    fleet.on("*", stdout="all")
    fleet.on("uptime", stdout="latest")
    fleet.add("gpu3")

    results = [
        get_ssh_client(host).run(command).stdout
        for host, command in [
            ("gpu1", "uptime"), ("gpu1", "x"), ("gpu2", "uptime"), ("gpu3", "x"),
        ]
    ]  # fmt: skip

    assert results == ["own", "all", "latest", "all"]


def test_a_rule_can_be_used_up(fleet: FakeFleet) -> None:
    client = get_ssh_client("gpu1")
    fleet["gpu1"].on("job", stdout="done")
    fleet["gpu1"].on("job", returncode=3, times=2)

    result = asyncio.run(client.run_async_with_retry("job", retry_delay=0))

    assert result.stdout == "done"
    assert fleet["gpu1"].commands == ["job"] * 3


def test_a_function_answers_what_it_likes(fleet: FakeFleet) -> None:
    fleet.on_call("wc -c", lambda call: Answer(f"{len(call.stdin)}\n"))
    fleet["gpu1"].on_call("fail*", lambda call: pytest.fail(f"{call.command} was run"))
    client = get_ssh_client("gpu1")

    assert client.run("wc -c", stdin=io.BytesIO(b"x" * 100_000)).stdout == "100000\n"
    with pytest.raises(pytest.fail.Exception, match="fail now was run"):
        client.run("fail now")


def test_an_answer_takes_its_time(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("slow", stdout="late", delay=0.3)
    client = get_ssh_client("gpu1")

    assert client.run("slow", timeout=0.1).timed_out
    assert fleet["gpu1"].stopped == [Call("slow")]
    worked = time.thread_time()
    result = client.run("slow")

    assert result.stdout == "late"
    assert result.elapsed_ms >= 300
    assert time.thread_time() - worked < 0.1  # it waits, and does not spin


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"returncode": 256}, "returncode"),
        ({"returncode": -9}, "returncode"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"stdout": 3}, "stdout"),
        ({"times": 0}, "times"),
        ({"matcher": 3}, "matcher"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_by_name(
    fleet: FakeFleet, fields: dict[str, Any], names: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{names}: "):
        fleet["gpu1"].on(**{"matcher": "*", **fields})


def test_a_strict_fleet_fails_what_has_no_rule() -> None:
    with fake_fleet("gpu1", strict=True) as fleet:
        fleet["gpu1"].on("known", stdout="yes")
        client = get_ssh_client("gpu1")

        assert client.run("known").stdout == "yes"
        assert asyncio.run(client.check_connectivity())[0]
        unknown = client.run("unknown")
        job = asyncio.run(client.run_background("unknown job"))

    assert (unknown.returncode, unknown.error) == (127, None)
    assert "gpu1: no rule for 'unknown'" in unknown.stderr
    assert (job.returncode, job.stdout) == (127, "")
    assert "no rule for 'unknown job'" in job.stderr
    assert fleet["gpu1"].commands == ["known", "true", "unknown"]


# Faults


def test_a_route_that_is_down_is_passed_over() -> None:
    both = HostConfig("box", "10.0.0.1", tailscale_ip="100.64.0.1")
    opened = []
    with fake_fleet(both) as fleet:
        fleet["box"].down("tailscale", reason=Reason.AUTHENTICATION, evidence="user root")

        config = SSHConfig.from_host_config(both)
        with SSHClient(config, on_open=opened.append) as client:
            assert client.run("x").transport_used == "direct"
        with SSHClient(config, transport="tailscale") as only:
            result = only.run("x")

        assert "tailscale (100.64.0.1:22): authentication refused: user root" in str(result.error)
        assert [(r.route, r.success) for r in opened[0].routes] == [
            ("tailscale", False),
            ("direct", True),
        ]
        fleet["box"].up("tailscale")
        with SSHClient(config, transport="tailscale") as only:
            assert only.run("x").success
    assert fleet["box"].logins == 2


def test_an_unknown_route_is_refused(fleet: FakeFleet) -> None:
    with pytest.raises(UsageError, match="unknown route 'direkt'"):
        fleet["gpu1"].down("direkt")


def test_a_host_that_goes_down_takes_its_commands_along(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.hang("train", stdout="up")
    seen = threading.Event()
    threading.Thread(target=lambda: seen.wait(10) and gpu1.down(), daemon=True).start()

    result = client.run("train", on_output=lambda stream, chunk: seen.set())

    assert "outcome unknown: the link over direct was lost (the host is down" in str(result.error)
    assert "unreachable" in str(client.run("train").error)
    gpu1.up()
    assert client.run("ls").success


def test_a_link_that_is_lost_before_the_start_is_replaced(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.lose_link(after="login")
    assert client.run("once").success
    assert (gpu1.commands, gpu1.logins) == (["once"], 2)

    gpu1.lose_link(after="login", times=3)
    assert "unreachable" in str(client.run("never").error)
    assert gpu1.commands == ["once"]


def test_a_link_that_is_lost_after_the_start_leaves_an_unknown_outcome(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.lose_link()

    result = client.run("once")

    assert (result.returncode, gpu1.commands) == (255, ["once"])
    assert "outcome unknown" in str(result.error)
    assert client.run("twice").success
    with pytest.raises(ValueError, match="after: expected 'login' or 'start'"):
        gpu1.lose_link(after="never")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_link_that_is_lost_in_a_copy_leaves_an_unknown_outcome(
    fleet: FakeFleet, tmp_path: Path, way: str
) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    (tmp_path / "x").write_bytes(b"new")
    gpu1.files["/x"] = b"old"

    def copy() -> ringtasks.SSHResult:
        if way == "put":
            return client.scp_to(tmp_path / "x", "/x")
        return client.scp_from("/x", tmp_path / "y")

    gpu1.lose_link(after="start")
    assert "outcome unknown" in str(copy().error)
    assert gpu1.files["/x"] == b"old"
    gpu1.lose_link(after="login")
    assert copy().success


@pytest.mark.parametrize("is_stoppable", [True, False])
def test_a_hanging_command_is_stopped_and_recorded(fleet: FakeFleet, is_stoppable: bool) -> None:
    gpu1 = fleet["gpu1"]
    gpu1.hang("train*", stdout=b"epoch \xff1\n", is_stoppable=is_stoppable)

    result = get_ssh_client("gpu1").run("train.py", env={"A": "1"}, timeout=0.2)

    assert (result.returncode, result.timed_out) == (124, True)
    assert result.stdout_bytes == b"epoch \xff1\n"
    assert ("seen to be gone" in str(result.error)) == is_stoppable
    assert ("STILL RUNNING" in str(result.error)) != is_stoppable
    assert (result.elapsed_ms < 1000) == is_stoppable  # else its last output is waited for
    assert gpu1.stopped == gpu1.calls == [Call("train.py", None, {"A": "1"})]


# Jobs and processes


def test_a_job_is_recorded_by_the_users_command_and_started_once(fleet: FakeFleet) -> None:
    gpu1, client = fleet["gpu1"], get_ssh_client("gpu1")
    gpu1.on("python*", stdout="out\n", stderr="err\n", returncode=1)
    gpu1.lose_link(after="start")

    first = asyncio.run(client.run_background("python train.py", "logs/x", "~/app", {"A": "1"}))
    second = asyncio.run(client.run_background("python train.py"))

    assert first.success
    assert int(first.stdout) != int(second.stdout)
    assert gpu1.calls == [
        Call("python train.py", "~/app", {"A": "1"}, is_background=True),
        Call("python train.py", is_background=True),
    ]
    assert gpu1.files["~/app/logs/x"] == b"out\nerr\n"
    own_log = next(path for path in gpu1.files if path.endswith("/log"))
    assert re.fullmatch("/home/user/.ringtasks/jobs/[0-9a-f]{16}/log", own_log)


def test_the_memory_of_processes_is_as_told(fleet: FakeFleet) -> None:
    client = get_ssh_client("gpu1")
    fleet["gpu1"].memory[4711] = (1536.5, "python")

    assert asyncio.run(client.get_process_memory(4711)) == (1536.5, "python")
    assert asyncio.run(client.get_process_memory(4712)) is None
    assert fleet["gpu1"].calls == []


# Files


def test_files_are_bytes_by_path_whatever_the_spelling(fleet: FakeFleet) -> None:
    files = fleet["gpu1"].files
    files["~/a/b"] = b"1"

    assert files["a/b"] == files["/home/user/a/./b"] == b"1"
    assert files == {"/home/user/a/b": b"1"}
    assert (files.mode("a/b"), files.mode("a")) == (0o644, 0o755)
    assert {"/home/user/a", "/tmp"} <= set(files.folders)
    del files["~/a/b"]
    assert "a/b" not in files
    with pytest.raises(KeyError):
        files["~/a"]
    with pytest.raises(TypeError, match="expected bytes, got str"):
        files["x"] = "text"  # type: ignore[assignment]
    with pytest.raises(IsADirectoryError):
        files["~/a"] = b""
    files["~/a/b"] = b""
    with pytest.raises(NotADirectoryError):
        files["~/a/b/c"] = b""


def test_permissions_count(fleet: FakeFleet, tmp_path: Path) -> None:
    files, client = fleet["gpu1"].files, get_ssh_client("gpu1")
    (tmp_path / "x").write_bytes(b"")
    files["/closed/x"] = files["/shut/x"] = files["/secret"] = b""
    files.set_mode("/closed", 0o500)
    files.set_mode("/shut", 0o600)
    files.set_mode("/secret", 0o200)

    put, shut = client.scp_to(tmp_path / "x", "/closed/y"), client.scp_from("/shut/x", tmp_path)
    secret = client.scp_from("/secret", tmp_path)

    assert all("Permission denied" in str(result.error) for result in (put, shut, secret))
    assert put.returncode == 1


def test_a_large_file_can_be_put(fleet: FakeFleet, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(20_000_000)

    assert get_ssh_client("gpu1").scp_to(tmp_path / "large", "~/large").success
    assert len(fleet["gpu1"].files["~/large"]) == 20_000_000


# What is sent, read back


@settings(max_examples=300, deadline=None)
@given(any_command, st.none() | any_text, any_env, st.none() | any_venv, any_run_id, st.booleans())
def test_any_script_on_stdin_is_read_back(
    command: str, cwd: str | None, env: dict[str, str], venv: str | None, run_id: str, is_own: bool
) -> None:
    script = Script(command, cwd, env, venv, run_id, is_own=is_own)

    found = decode_payload(script.payload(), script.mark)

    assert found is not None
    assert (found.command, found.cwd, found.run_id) == (command, cwd, run_id)
    assert found.env == env
    assert found.payload() == script.payload()


@settings(max_examples=300, deadline=None)
@given(any_command, st.none() | any_text, st.none() | any_venv, any_run_id, st.booleans())
def test_any_script_in_the_exec_request_is_read_back(
    command: str, cwd: str | None, venv: str | None, run_id: str, is_own: bool
) -> None:
    script = Script(command, cwd, venv=venv, run_id=run_id, is_own=is_own)
    line = script.line("busybox ash")
    assert line is not None

    found = decode_line(line)

    assert found is not None
    assert (found.command, found.cwd, found.run_id) == (command, cwd, run_id)
    assert found.line("busybox ash") == line


@settings(max_examples=100, deadline=None)
@given(any_command, st.none() | any_text.filter(bool), any_run_id, st.sampled_from(["sh", "bash"]))
def test_any_job_is_read_back(command: str, log_file: str | None, job: str, shell: str) -> None:
    script = Script(launch_script(job, command, log_file, shell), run_id=job)

    found = launch_in(script, shell)

    assert found is not None
    assert found.command == command.rstrip("\n")
    assert (found.job_id, found.log_file) == (job, log_file)


@given(st.integers(1, 2**22), any_run_id, st.floats(0, 100))
def test_any_stop_is_read_back(pid: int, run_id: str, grace: float) -> None:
    assert stop_in(Script(stop_script(pid, run_id, grace))) == (pid, run_id)


@given(any_text)
def test_what_is_no_script_of_ours_is_not_taken_for_one(text: str) -> None:
    assert decode_line(text) is None
    assert decode_payload(encode(text), Mark.new()) is None
    assert bootstrap_mark(text) is None


def test_a_script_with_something_behind_it_is_not_read_back() -> None:
    script = Script("ls")
    line = script.line()
    assert line is not None

    found = decode_line(line)

    assert found is not None
    assert vars(found) == vars(script)
    assert decode_line(line.removesuffix("'") + "; rm -rf /'") is None
    assert decode_payload(script.payload().rstrip() + b"; rm -rf /\n", script.mark) is None


@pytest.mark.parametrize("is_pty", [False, True])
def test_a_bootstrap_is_known(is_pty: bool) -> None:
    mark = Mark.new()

    assert bootstrap_mark(exec_line(mark, "busybox ash", pty=is_pty)) == mark


def test_a_command_over_the_bare_link_is_answered_and_recorded(fleet: FakeFleet) -> None:
    fleet["gpu1"].on("ls", stdout="x", returncode=4)
    link = get_ssh_client("gpu1").link()

    session = link.open_session("ls")
    assert session.receive(0) is None
    session.send_eof()

    assert [session.receive(1), session.receive(1)] == [(1, b"x"), Exited(4)]
    assert link.await_session_end(0.01)
    session.close()
    assert not link.await_session_end(0.01)


def test_stdin_that_ends_while_the_program_looks_is_not_missed(fleet: FakeFleet) -> None:
    link = fleet["gpu1"].log_in("direct")

    class Program:
        def step(self, stdin: bytearray, *, is_at_eof: bool) -> Step | None:
            if is_at_eof:
                return Step(status=0)
            session.send_eof()
            return None

        def due_in(self) -> float | None:
            return None

    session = FakeSession(link, Program(), None)
    started = time.monotonic()

    assert session.receive(5) == Exited(0)
    assert time.monotonic() - started < 4


# The contract: the same behaviour over a real server and over the fake


class Host(Protocol):
    """A host for the contract, real or not."""

    client: SSHClient
    top: str
    """An empty folder there."""

    def on(self, command: str, answer: Callable[[Call], Answer]) -> None:
        """What the fake is told of a command that a real host understands by itself."""

    def cut(self) -> None:
        """Break the connections there are; new ones work."""

    def tree(self, path: str) -> dict[str, tuple[int, bytes | None]]:
        """Modes and contents below ``top/path``."""


class RealHost:
    def __init__(self, sshd: Sshd, key: Path, folder: Path, *, use_control_master: bool) -> None:
        self._wire = Wire(sshd.address, sshd.port)
        config = SSHConfig(
            self._wire.address, self._wire.port, sshd.user, str(key), name="box",
            ssh_host_key=sshd.host_public_key, use_control_master=use_control_master,
        )  # fmt: skip
        self.client = SSHClient(config)
        self.top = str(folder)
        folder.mkdir()

    def on(self, command: str, answer: Callable[[Call], Answer]) -> None:
        pass

    def cut(self) -> None:
        self._wire.cut()

    def tree(self, path: str) -> dict[str, tuple[int, bytes | None]]:
        return local_tree(Path(self.top, path))

    def close(self) -> None:
        self.client.close_link()
        self._wire.close()


class FakedHost:
    top = "/far"

    def __init__(self, fleet: FakeFleet) -> None:
        self._host = fleet.add("box")
        self._host.files.make_folder(self.top)
        self.client = SSHClient(SSHConfig("box", name="box"))

    def on(self, command: str, answer: Callable[[Call], Answer]) -> None:
        self._host.on_call(lambda call: call.command == command, answer)

    def cut(self) -> None:
        self._host.down()
        self._host.up()

    def tree(self, path: str) -> dict[str, tuple[int, bytes | None]]:
        files, start = self._host.files, posixpath.normpath(f"{self.top}/{path}") + "/"
        return {
            name[len(start) :]: (files.mode(name), files.get(name))
            for name in sorted([*files, *files.folders])
            if name.startswith(start)
        }


def local_tree(top: Path) -> dict[str, tuple[int, bytes | None]]:
    return {
        str(path.relative_to(top)): (
            stat.S_IMODE(path.stat().st_mode),
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(top.rglob("*"))
    }


@pytest.fixture(params=["in process", "control master", "fake"])
def host(
    request: pytest.FixtureRequest, sshd: Sshd, client_key: Path, tmp_path: Path
) -> Iterator[Host]:
    if request.param == "fake":
        with fake_fleet() as fleet:
            yield FakedHost(fleet)
        return
    is_master = request.param == "control master"
    real = RealHost(sshd, client_key, tmp_path / "far", use_control_master=is_master)
    yield real
    real.close()


@pytest.fixture
def near(tmp_path: Path) -> Path:
    folder = tmp_path / "near"
    (folder / "tree" / "sub" / "empty").mkdir(parents=True)
    (folder / "tree" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (folder / "tree" / "run.sh").chmod(0o750)
    (folder / "tree" / "sub" / "data é").write_bytes(bytes(range(256)) * 1000)
    (folder / "tree" / "sub").chmod(0o700)
    return folder


def test_contract_status_and_streams(host: Host) -> None:
    command = "echo out; echo err >&2; exit 3"
    host.on(command, lambda call: Answer("out\n", "err\n", 3))

    result = host.client.run(command)

    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert (result.success, result.error, result.timed_out) == (False, None, False)
    assert (result.host, result.transport_used) == ("box", "direct")
    assert host.client.is_alive()


def test_contract_a_command_that_a_signal_kills(host: Host) -> None:
    host.on("kill -9 $$", lambda call: Answer(returncode=128 + 9))

    result = host.client.run("kill -9 $$")

    assert (result.returncode, result.error) == (137, None)


@pytest.mark.parametrize("env", [{}, {"V": "x"}], ids=["exec request", "stdin"])
@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_contract_stdin_arrives_whole(host: Host, env: dict[str, str], size: int) -> None:
    sent = os.urandom(size)
    host.on("cat", lambda call: Answer(call.stdin))

    result = host.client.run("cat", stdin=io.BytesIO(sent), env=env)

    assert result.stdout_bytes == sent


def test_contract_big_output_comes_whole_or_bounded(host: Host) -> None:
    command = "seq 400000"
    everything = "".join(f"{n}\n" for n in range(1, 400_001))
    host.on(command, lambda call: Answer(everything))
    seen: list[bytes] = []

    host.client.run(command, on_output=lambda stream, chunk: seen.append(chunk))

    assert b"".join(seen).decode() == everything
    assert len(seen) > 1


def test_contract_output_that_is_no_text(host: Host) -> None:
    command = r"printf '\377\000a'; printf '\376' >&2"
    host.on(command, lambda call: Answer(b"\xff\0a", b"\xfe"))

    result = host.client.run(command)

    assert (result.stdout_bytes, result.stderr_bytes) == (b"\xff\0a", b"\xfe")
    assert (result.stdout, result.stderr) == ("\N{REPLACEMENT CHARACTER}\0a", "\ufffd")


def test_contract_a_command_of_any_length(host: Host) -> None:
    command = f": {'x' * 100_000}; echo done"
    host.on(command, lambda call: Answer("done\n"))

    assert host.client.run(command).stdout == "done\n"


def test_contract_environment_and_folder(host: Host, near: Path) -> None:
    host.client.scp_to(near / "tree", f"{host.top}/it's $HOME é")
    host.on('printf %s "$V"', lambda call: Answer(call.env["V"]))
    host.on("pwd", lambda call: Answer(f"{call.cwd}\n"))

    value = host.client.run('printf %s "$V"', env={"V": AWKWARD})
    folder = host.client.run("pwd", cwd=f"{host.top}/it's $HOME é")

    assert value.stdout_bytes == encode(AWKWARD)
    assert folder.stdout == f"{host.top}/it's $HOME é\n"


def test_contract_a_time_limit(host: Host) -> None:
    command = "echo up; sleep 60"
    host.on(command, lambda call: Answer("up\n", is_hanging=True))
    host.client.run("true")

    result = host.client.run(command, timeout=0.5)

    assert (result.returncode, result.timed_out, result.stdout) == (124, True, "up\n")
    assert result.error == (
        "box: the command's time limit of 0.5 s passed; "
        "the remote processes were ended and seen to be gone"
    )
    assert 500 <= result.elapsed_ms < 5000


def test_contract_a_cancelled_task_ends_the_command(host: Host) -> None:
    mark = f"{host.top}/mark"
    began = f"{host.top}/began"
    command = f"trap 'echo > {mark}; exit' TERM; echo > {began}; while :; do sleep 0.05; done"
    stopped = threading.Event()
    host.on(command, lambda call: Answer(is_hanging=True))
    host.on(f"test -e {began}", lambda call: Answer())
    host.on(f"test -e {mark}", lambda call: Answer(returncode=not stopped.is_set()))

    async def cancelled() -> None:
        task = asyncio.create_task(host.client.run_async(command))
        while not (await host.client.run_async(f"test -e {began}")).success:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    stopped.set()

    deadline = time.monotonic() + 10
    while not host.client.run(f"test -e {mark}").success:
        assert time.monotonic() < deadline
    ringtasks.close_all_clients()


def test_contract_a_terminal(host: Host) -> None:
    command = "echo out; echo err >&2; exit 4"
    host.on(command, lambda call: Answer("out\n", "err\n", 4))

    for env in ({}, {"V": "x"}):
        result = host.client.run(command, env=env, terminal=Terminal("dumb", 80, 24))
        assert (result.stdout, result.stderr) == ("out\r\nerr\r\n", "")
        assert result.returncode == 4


def test_contract_a_link_lost_during_a_command(host: Host) -> None:
    command = "echo up; sleep 60"
    host.on(command, lambda call: Answer("up\n", is_hanging=True))
    host.on("echo on", lambda call: Answer("on\n"))
    seen: list[bytes] = []

    def cut_once_it_runs(stream: int, chunk: bytes) -> None:
        seen.append(chunk)
        host.cut()

    result = host.client.run(command, timeout=20, on_output=cut_once_it_runs)

    assert (result.returncode, result.timed_out, seen) == (255, False, [b"up\n"])
    assert str(result.error).startswith("box: outcome unknown: the link over direct was lost")
    assert host.client.run("echo on").stdout == "on\n"
    health = host.client.health
    assert (health.total_failures, health.total_successes) == (1, 1)


def test_contract_a_job_and_its_memory(host: Host) -> None:
    async def start() -> tuple[ringtasks.SSHResult, Any]:
        job = await host.client.run_background("sleep 30", f"{host.top}/log", host.top)
        if isinstance(host, FakedHost):
            host._host.memory[int(job.stdout)] = (1.0, "sleep")
        memory = None
        while memory is None or memory[1] != "sleep":  # at first it is the shell that becomes it
            memory = await host.client.get_process_memory(int(job.stdout))
        return job, memory

    job, memory = asyncio.run(start())

    assert (job.command, job.success, job.stderr) == ("sleep 30", True, "")
    assert re.fullmatch(r"[0-9]+\n", job.stdout)
    assert memory[0] > 0
    assert host.client.run(f"kill {int(job.stdout)}").success


@pytest.mark.parametrize("fresh", [False, True])
def test_contract_connectivity(host: Host, fresh: bool) -> None:
    is_connected, message = asyncio.run(host.client.check_connectivity(fresh=fresh))

    assert is_connected
    assert message.startswith("box: ")
    assert message.endswith(" over direct")


def test_contract_a_file_goes_there_and_back(host: Host, near: Path) -> None:
    (near / "x").write_bytes(os.urandom(300_000))
    (near / "x").chmod(0o640)

    for _ in range(2):  # the second time it is there already
        assert host.client.scp_to(near / "x", f"{host.top}/y").success
    assert host.client.scp_from(f"{host.top}/y", near / "back").success

    assert host.tree(".") == {"y": (0o640, (near / "x").read_bytes())}
    assert (near / "back").read_bytes() == (near / "x").read_bytes()
    assert stat.S_IMODE((near / "back").stat().st_mode) == 0o640


def test_contract_a_folder_goes_into_a_folder(host: Host, near: Path) -> None:
    assert host.client.scp_to(near / "tree", f"{host.top}/new").success
    assert host.client.scp_to(near / "tree", f"{host.top}/new").success  # into it
    assert host.tree("new") == {
        **local_tree(near / "tree"),
        "tree": (stat.S_IMODE((near / "tree").stat().st_mode), None),
        **{f"tree/{name}": entry for name, entry in local_tree(near / "tree").items()},
    }

    assert host.client.scp_from(f"{host.top}/new/tree", near / "got").success
    assert host.client.scp_from(f"{host.top}/new/tree", near / "got").success
    assert local_tree(near / "got" / "tree") == local_tree(near / "tree")


def test_contract_what_cannot_be_copied(host: Host, near: Path) -> None:
    client, top = host.client, host.top
    client.scp_to(near / "tree", f"{top}/tree")
    file = near / "tree" / "run.sh"

    errors = [
        client.scp_from(f"{top}/missing", near).error,
        client.scp_to(file, f"{top}/no/such").error,
        client.scp_to(file, f"{top}/tree/run.sh/x").error,
        client.scp_to(near / "tree", f"{top}/tree/run.sh").error,
        client.scp_from(f"{top}/tree/run.sh/x", near / "z").error,
    ]

    assert errors == [
        f"box: {top}/missing: No such file",
        f"box: {top}/no/such: No such file",
        f"box: {top}/tree/run.sh/x: No such file",
        f"box: {top}/tree/run.sh: Failure",
        f"box: {top}/tree/run.sh/x: No such file",
    ]


SFTP_ERRORS: dict[str, tuple[Callable[[Any, str], Any], type[OSError], str]] = {
    "stat of nothing": (lambda s, top: s.stat(f"{top}/no"), FileNotFoundError, "No such file"),
    "list of nothing": (lambda s, top: s.listdir_attr(f"{top}/no"), FileNotFoundError, "No such"),
    "list of a file": (lambda s, top: s.listdir_attr(f"{top}/f"), FileNotFoundError, "No such"),
    "a folder twice": (lambda s, top: s.mkdir(f"{top}/d"), OSError, "Failure"),
    "a folder in none": (lambda s, top: s.mkdir(f"{top}/no/d"), FileNotFoundError, "No such file"),
    "reading nothing": (lambda s, top: s.open(f"{top}/no", "rb"), FileNotFoundError, "No such"),
    "a file twice": (lambda s, top: s.open(f"{top}/f", "wx"), OSError, "Failure"),
    "writing a folder": (lambda s, top: s.open(f"{top}/d", "wb"), OSError, "Failure"),
    "reading a folder": (lambda s, top: s.open(f"{top}/d", "rb").read(9), OSError, "Failure"),
    "removing a folder": (lambda s, top: s.remove(f"{top}/d"), OSError, "Failure"),
    "removing nothing": (lambda s, top: s.remove(f"{top}/no"), FileNotFoundError, "No such file"),
    "a full folder": (lambda s, top: s.rmdir(f"{top}/d"), OSError, "Failure"),
    "a name that is taken": (lambda s, top: s.rename(f"{top}/f", f"{top}/d/f"), OSError, "Failure"),
    "renaming nothing": (
        lambda s, top: s.posix_rename(f"{top}/no", f"{top}/x"), FileNotFoundError, "No such file",
    ),
    "a file over a folder": (
        lambda s, top: s.posix_rename(f"{top}/f", f"{top}/e"), OSError, "Failure",
    ),
    "a folder over a file": (
        lambda s, top: s.posix_rename(f"{top}/e", f"{top}/f"), FileNotFoundError, "No such file",
    ),
    "a folder over a full one": (
        lambda s, top: s.posix_rename(f"{top}/e", f"{top}/d"), OSError, "Failure",
    ),
    "a mode of nothing": (lambda s, top: s.chmod(f"{top}/no", 0o600), FileNotFoundError, "No such"),
}  # fmt: skip


@pytest.mark.parametrize("name", SFTP_ERRORS)
def test_contract_sftp_errors(host: Host, name: str) -> None:
    operate, expected, said = SFTP_ERRORS[name]
    sftp = host.client.link().open_sftp()
    with sftp.open(f"{host.top}/f", "wb") as file:
        file.write(b"x")
    sftp.mkdir(f"{host.top}/d")
    sftp.mkdir(f"{host.top}/e")
    with sftp.open(f"{host.top}/d/f", "wx"):
        pass

    with pytest.raises(OSError, match=said) as caught:
        operate(sftp, host.top)

    assert type(caught.value) is expected
    assert list(host.tree(".")) == ["d", "d/f", "e", "f"]


def test_contract_sftp_files(host: Host) -> None:
    sftp = host.client.link().open_sftp()
    at = f"{host.top}/f"
    for text in (b"longer than that", b"hello "):
        with sftp.open(at, "wb") as file:
            file.write(text)
    with sftp.open(at, "ab") as file:
        file.write(b"world")
    with sftp.open(at, "r+b") as file:
        file.seek(1)
        file.write(b"E")
        file.seek(6)
        assert (file.read(3), file.read(), file.read()) == (b"wor", b"ld", b"")
    sftp.chmod(at, 0o600)
    sftp.rename(at, f"{host.top}/g")
    for name in ("d", "d/sub", "e"):
        sftp.mkdir(f"{host.top}/{name}")
    sftp.posix_rename(f"{host.top}/d", f"{host.top}/e")

    found = sftp.stat(f"{host.top}/e/../g")

    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (11, 0o600)
    assert sftp.open(f"{host.top}/g", "rb").read() == b"hEllo world"
    assert sorted(sftp.listdir(host.top)) == ["e", "g"]
    assert sftp.listdir(f"{host.top}/e") == ["sub"]
    assert sftp.normalize(f"{host.top}/./e/..") == host.top
    sftp.rmdir(f"{host.top}/e/sub")
    sftp.rmdir(f"{host.top}/e")
    sftp.remove(f"{host.top}/g")
    assert sftp.listdir(host.top) == []
    sftp.close()
    with pytest.raises(OSError, match="Socket is closed"):
        sftp.stat(host.top)


# The plugin and the docs


def test_the_plugin_gives_a_fleet_to_each_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        NAMES = ("fabric", "paramiko", "ringtasks.client.ssh_client")
        HEAVY = [m for m in NAMES if m in sys.modules]

        def test_it_loads_nothing_by_itself():
            assert HEAVY == []

        def test_one(ringtasks_fleet):
            from ringtasks import get_ssh_client
            ringtasks_fleet.add("gpu1").on("x", stdout="y")
            assert get_ssh_client("gpu1").run("x").stdout == "y"

        def test_two(ringtasks_fleet):
            assert list(ringtasks_fleet) == []
        """
    )

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=3)


def test_the_examples_in_the_docs_work(pytester: pytest.Pytester) -> None:
    text = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    pytester.makepyfile(**{f"test_{n}": block for n, block in enumerate(blocks)})

    result = pytester.runpytest_subprocess("-W", "error")

    assert len(blocks) == 5
    result.assert_outcomes(passed=5)

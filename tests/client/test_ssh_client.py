"""`SSHClient` against a real server: what it answers, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import ringtasks
from ringtasks import SSHClient, SSHConfig, close_all_clients_sync, get_ssh_client
from ringtasks.common.cancellation import Cancellation
from ringtasks.health.model import SSHHealth
from tests.support.faulty import Wire
from tests.support.fixtures import MakeSshd, WriteHosts, use_control_master
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

over_master = use_control_master  # each test of `client` runs over both kinds of link


def config_of(server: Sshd, key: Path) -> SSHConfig:
    return SSHConfig(server.address, server.port, server.user, str(key), name="box")


@pytest.fixture
def wire(sshd: Sshd) -> Iterator[Wire]:
    with Wire(sshd.address, sshd.port) as wire:
        yield wire


def test_result_has_all_documented_fields(client: SSHClient) -> None:
    result = client.run("echo out; echo err >&2; exit 3")

    assert not result
    assert (result.success, result.returncode) == (False, 3)
    assert (result.stdout, result.stderr, result.output) == ("out\n", "err\n", "out\n\nerr")
    assert (result.host, result.transport_used) == ("box", "direct")
    assert (result.timed_out, result.error) == (False, None)
    assert result.command == "echo out; echo err >&2; exit 3"
    assert 0 < result.elapsed_ms < 30_000


def test_working_directory_and_environment_apply_to_the_command(
    client: SSHClient, sshd: Sshd
) -> None:
    (sshd.home / "a b").mkdir(exist_ok=True)

    result = client.run('pwd; echo "$X"', cwd="~/a b", env={"X": "it's"})

    assert result.stdout == f"{sshd.home}/a b\nit's\n"


def test_bytes_that_are_not_text_pass_unchanged_in_both_directions(client: SSHClient) -> None:
    result = client.run(r"printf 'a\377b'; printf '\200' >&2")

    assert (result.stdout, result.stdout_bytes) == ("a\N{REPLACEMENT CHARACTER}b", b"a\xffb")
    assert (result.stderr, result.stderr_bytes) == ("\N{REPLACEMENT CHARACTER}", b"\x80")


def test_endless_output_is_bounded(config: SSHConfig) -> None:
    with SSHClient(config, max_output_bytes=1000) as client:
        result = client.run("yes | head -c 200000; echo the end; yes e | head -c 5000 >&2")

    assert len(result.stdout) < 1100
    assert result.stdout.startswith("y\ny\n")
    assert result.stdout.endswith("the end\n")
    assert "[ringtasks: 199008 bytes dropped here]" in result.stdout
    assert "bytes dropped here]" in result.stderr


def test_timeout_ends_the_processes_and_keeps_the_received_output(client: SSHClient) -> None:
    result = client.run("echo $$; sleep 61 & sleep 62", timeout=0.5)

    assert (result.timed_out, result.returncode, result.success) == (True, 124, False)
    assert "the command's time limit of 0.5 s passed" in str(result.error)
    assert "terminated (verified)" in str(result.error)
    assert not is_group_alive(int(result.stdout))


def test_command_timeout_of_the_host_is_the_default(config: SSHConfig) -> None:
    with SSHClient(replace(config, command_timeout=0.4)) as client:
        assert client.run("sleep 30").timed_out
        assert client.run("sleep 0.6", timeout=0).success  # 0: no limit


def test_one_connection_serves_many_calls(make_sshd: MakeSshd, client_key: Path) -> None:
    server = make_sshd()

    with SSHClient(config_of(server, client_key)) as client:
        assert all(client.run("true") for _ in range(5))

    assert server.accepted_logins() == 1


def test_a_connection_lost_between_calls_is_opened_again(config: SSHConfig, wire: Wire) -> None:
    with SSHClient(replace(config, host=wire.address, port=wire.port)) as client:
        assert client.run("true")
        wire.cut()

        assert client.run("echo again").stdout == "again\n"


def test_a_connection_lost_during_a_command_is_an_unknown_outcome(
    config: SSHConfig, wire: Wire, tmp_path: Path
) -> None:
    with SSHClient(replace(config, host=wire.address, port=wire.port)) as client:
        threading.Thread(target=cut_when_there, args=(wire, tmp_path / "ran")).start()
        result = client.run(f"echo x >> {tmp_path}/ran; sleep 2")
        again = client.run("true")

    assert (result.returncode, result.transport_used) == (255, "direct")
    assert "outcome unknown" in str(result.error)
    assert (tmp_path / "ran").read_text() == "x\n"  # once
    assert again.success


def cut_when_there(wire: Wire, path: Path) -> None:
    eventually(path.exists)
    wire.cut()


def test_unreachable_host_gives_a_failed_result(config: SSHConfig) -> None:
    with SSHClient(replace(config, port=9)) as client:
        result = client.run("true")
        is_connected, message = asyncio.run(client.check_connectivity())

    assert (result.returncode, result.transport_used) == (255, None)
    assert "direct" in str(result.error)
    assert "refused" in str(result.error)
    assert not is_connected
    assert "refused" in message


def test_retries_stop_at_the_first_success(client: SSHClient, tmp_path: Path) -> None:
    command = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) -ge 3 ]"

    result = asyncio.run(client.run_async_with_retry(command, max_retries=5, retry_delay=0.01))

    assert result.success
    assert (tmp_path / "tries").read_text() == "x\nx\nx\n"


def test_retries_stop_at_their_limit(client: SSHClient, tmp_path: Path) -> None:
    command = f"echo x >> {tmp_path}/tries; exit 4"

    result = asyncio.run(client.run_async_with_retry(command, max_retries=2, retry_delay=0))

    assert result.returncode == 4
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_retried_result_reports_an_earlier_unknown_outcome(
    config: SSHConfig, wire: Wire, tmp_path: Path
) -> None:
    command = f"echo x >> {tmp_path}/ran; [ $(wc -l < {tmp_path}/ran) -ge 2 ] || sleep 5"
    with SSHClient(replace(config, host=wire.address, port=wire.port)) as client:
        threading.Thread(target=cut_when_there, args=(wire, tmp_path / "ran")).start()
        result = asyncio.run(client.run_async_with_retry(command, retry_delay=0.01))

    assert result.returncode == 0
    assert "attempt 1" in str(result.error)
    assert "outcome unknown" in str(result.error)


def test_client_health_includes_outcomes_of_other_processes(client: SSHClient) -> None:
    program = (
        "from ringtasks.health.store import HealthStore\n"
        "from ringtasks.health.model import HostOutcome\n"
        "HealthStore().record([HostOutcome('box', False, 'refused')] * 3)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

    assert client.health.consecutive_failures == 3
    assert not client.health.is_healthy

    assert client.run("exit 1").returncode == 1  # a success of the connection
    assert isinstance(client.health, SSHHealth)
    assert (client.health.is_healthy, client.health.total_successes) == (True, 1)


def test_fresh_connectivity_check_fails_if_new_logins_are_refused(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd()

    async def check() -> list[tuple[bool, str]]:
        async with SSHClient(config_of(server, client_key)) as client:
            answers = [await client.check_connectivity(fresh=True)]
            answers.append(await client.check_connectivity())
            server.revoke_all()
            answers.append(await client.check_connectivity())
            answers.append(await client.check_connectivity(fresh=True))
            return answers

    well, open_link, still, fresh = asyncio.run(check())

    assert well == (True, "box: a new log-in works over direct")
    assert open_link == still == (True, "box: connected over direct")
    assert not fresh[0]
    assert "alive only through an old connection" in fresh[1]


def test_commands_beyond_the_hosts_session_limit_wait(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(config=["MaxSessions 3"])

    async def run() -> list[str]:
        async with SSHClient(config_of(server, client_key)) as client:
            calls = (client.run_async(f"sleep 0.1; echo {n}") for n in range(12))
            return [result.stdout for result in await asyncio.gather(*calls)]

    assert asyncio.run(run()) == [f"{n}\n" for n in range(12)]
    assert server.accepted_logins() == 1


def test_waiting_for_a_free_session_counts_towards_the_command_timeout(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(config=["MaxSessions 1"])

    with SSHClient(config_of(server, client_key)) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(client.run, "echo up; sleep 3", on_output=lambda *_: started.set())
        started = threading.Event()
        assert started.wait(10)
        second = client.run("echo never", timeout=0.4)

        assert second.timed_out
        assert second.stdout == ""
        assert first.result(20).success


def test_processes_are_ended_if_the_host_has_no_session_left(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(config=["MaxSessions 1"])

    with SSHClient(config_of(server, client_key)) as client:
        result = client.run("echo $$; sleep 63", timeout=0.5)

    assert "terminated (verified)" in str(result.error)
    assert not is_group_alive(int(result.stdout))


def test_cancelling_ends_the_command_and_frees_its_thread(
    client: SSHClient, tmp_path: Path
) -> None:
    async def cancel_many() -> None:
        calls = [
            asyncio.create_task(client.run_async(f"echo $$ > {tmp_path}/{n}.pid; exec sleep 64"))
            for n in range(4)
        ]
        while len(pids(tmp_path)) < 4:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
        assert (await client.run_async("echo free")).stdout == "free\n"

    asyncio.run(cancel_many())

    eventually(lambda: not any(is_group_alive(pid) for pid in pids(tmp_path)))


def test_cancelling_ends_a_command_that_has_just_started(
    sshd: Sshd, config: SSHConfig, tmp_path: Path
) -> None:
    with Wire(sshd.address, sshd.port, delay=0.1) as far:
        away = replace(config, host=far.address, port=far.port, name="away")
        cancellation = Cancellation()

        def cancel_soon() -> None:
            eventually(lambda: pids(tmp_path) != [])
            cancellation.cancel()  # before its first words have come here

        with SSHClient(away) as client:
            client.run("true")
            threading.Thread(target=cancel_soon).start()
            command = f"echo $$ > {tmp_path}/1.pid; exec sleep 64"
            result = client.run(command, cancellation=cancellation)

    assert result.returncode == 130
    assert "terminated (verified)" in (result.error or "")
    assert not any(is_group_alive(pid) for pid in pids(tmp_path))


def test_call_cancelled_while_it_waits_never_runs(client: SSHClient, tmp_path: Path) -> None:
    async def cancel_at_once() -> None:
        call = asyncio.create_task(client.run_async(f"touch {tmp_path}/ran"))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.run_async("true")

    asyncio.run(cancel_at_once())

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("hosts", [20, pytest.param(50, marks=pytest.mark.long)])
def test_many_calls_on_many_hosts_return_in_order(
    make_sshd: MakeSshd, client_key: Path, hosts: int
) -> None:
    server = make_sshd(addresses=[f"127.0.1.{n}" for n in range(10)])
    clients = [
        SSHClient(replace(config_of(server, client_key), host=f"127.0.1.{n % 10}", name=f"box{n}"))
        for n in range(1, hosts + 1)
    ]

    async def run() -> list[tuple[str, str]]:
        calls = [client.run_async(f"echo {n}", timeout=60) for n in range(10) for client in clients]
        results = await asyncio.gather(*calls)
        await asyncio.gather(*(client.close() for client in clients))
        return [(result.host, result.stdout) for result in results]

    answers = asyncio.run(run())

    assert answers == [(f"box{k}", f"{n}\n") for n in range(10) for k in range(1, hosts + 1)]
    assert server.accepted_logins() == hosts


def test_several_loops_and_threads_share_a_client(client: SSHClient) -> None:
    async def several(name: str) -> list[str]:
        calls = (client.run_async(f"echo {name}{n}") for n in range(5))
        return [result.stdout for result in await asyncio.gather(*calls)]

    with ThreadPoolExecutor(8) as pool:
        loops = [pool.submit(asyncio.run, several(f"loop{k}-")) for k in range(4)]
        threads = [pool.submit(client.run, f"echo thread{k}") for k in range(4)]

    for k, loop in enumerate(loops):
        assert loop.result() == [f"loop{k}-{n}\n" for n in range(5)]
    assert [thread.result().stdout for thread in threads] == [f"thread{k}\n" for k in range(4)]


def test_closed_client_leaves_no_thread_process_or_socket(
    sshd: Sshd, client_key: Path, write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(write_hosts(box={}, box2={})))
    asyncio.run(use_everything())  # what is loaded and made once, is
    close_all_clients_sync()
    before = belongings()

    for _ in range(3):
        asyncio.run(use_everything())
        close_all_clients_sync()

    eventually(lambda: belongings() <= before)


async def use_everything() -> None:
    async with get_ssh_client("box") as client:
        await asyncio.gather(*(client.run_async("echo x") for _ in range(10)))
        await client.run_async("sleep 30", timeout=0.2)
        await client.check_connectivity(fresh=True)
        await client.put_async(__file__, "~/copied")
    assert get_ssh_client("box2").run("true")  # not closed but by close_all_clients_sync


def belongings() -> tuple[int, int, int]:
    """Threads, open files and child processes of this process."""
    children = sum(stat_field(path, 1) == os.getpid() for path in proc_files("stat"))
    return threading.active_count(), len([*Path("/proc/self/fd").iterdir()]), children


def test_same_name_returns_the_same_client_until_all_are_closed(
    write_hosts: WriteHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_HOSTS", str(write_hosts(box={})))

    first = get_ssh_client("box")
    assert get_ssh_client("box") is first
    assert asyncio.run(ringtasks.run_ssh_command("box", "echo hi")).stdout == "hi\n"
    assert ringtasks.run_ssh_command_sync("box", "pwd", cwd="/").stdout == "/\n"
    assert asyncio.run(ringtasks.run_ssh_command_async("box", "echo a")).stdout == "a\n"
    assert list(ringtasks.get_cluster_nodes()) == ["box"]
    close_all_clients_sync()

    assert not first.is_connected()
    assert get_ssh_client("box") is not first
    close_all_clients_sync()


@pytest.mark.parametrize(
    ("arguments", "error", "names"),
    [
        ({"command": ""}, ValueError, "command"),
        ({"command": "a\0b"}, ValueError, "command"),
        ({"command": 3}, TypeError, "command"),
        ({"command": ["ls"]}, TypeError, "command"),
        ({"command": "a", "timeout": -1}, ValueError, "timeout"),
        ({"command": "a", "timeout": float("nan")}, ValueError, "timeout"),
        ({"command": "a", "timeout": "5"}, TypeError, "timeout"),
        ({"command": "a", "timeout": True}, TypeError, "timeout"),
        ({"command": "a", "cwd": "a\0b"}, ValueError, "cwd"),
        ({"command": "a", "cwd": 1}, TypeError, "cwd"),
        ({"command": "a", "env": {"A B": "x"}}, ValueError, "env"),
        ({"command": "a", "env": {"A": [1]}}, TypeError, "env: A"),
        ({"command": "a", "env": {1: "x"}}, TypeError, "env"),
        ({"command": "a", "env": "A=1"}, TypeError, "env"),
    ],
)
def test_a_bad_argument_is_refused_by_name_before_anything_is_sent(
    client: SSHClient, arguments: dict[str, object], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        client.run(**arguments)
    with pytest.raises(error, match=names):
        asyncio.run(client.run_async(**arguments))

    assert not client.is_connected()
    assert client.health == SSHHealth()


def test_bad_argument_of_other_methods_is_refused_too(client: SSHClient) -> None:
    async def refused(call: object, error: type[Exception], names: str) -> None:
        with pytest.raises(error, match=names):
            await call

    async def try_all() -> None:
        retry = client.run_async_with_retry
        await refused(retry("a", max_retries=0), ValueError, "max_retries")
        await refused(retry("a", max_retries="2"), TypeError, "max_retries")
        await refused(retry("a", max_retries=1.5), TypeError, "max_retries")
        await refused(retry("a", max_retries=float("inf")), TypeError, "max_retries")
        await refused(retry("a", retry_delay=-1), ValueError, "retry_delay")
        await refused(client.run_background(""), ValueError, "command")
        await refused(client.run_background("a", log_file="\0"), ValueError, "log_file")
        await refused(client.run_background("a", log_file=5), TypeError, "log_file")
        await refused(client.get_process_memory(0), ValueError, "pid")
        await refused(client.get_process_memory("7"), TypeError, "pid")

    asyncio.run(try_all())
    with pytest.raises(TypeError, match="config"):
        SSHClient("box")
    with pytest.raises(ValueError, match="max_output_bytes"):
        SSHClient(client.config, max_output_bytes=-1)
    with pytest.raises(ValueError, match="host"):
        get_ssh_client("")
    assert not client.is_connected()


def test_a_result_can_be_written_as_json(client: SSHClient) -> None:
    result = client.run("echo hi")

    assert json.loads(json.dumps(result.to_dict())) == {
        "success": True,
        "returncode": 0,
        "stdout": "hi\n",
        "stderr": "",
        "elapsed_ms": result.elapsed_ms,
        "command": "echo hi",
        "host": "box",
        "transport_used": "direct",
        "timed_out": False,
        "error": None,
    }


def pids(folder: Path) -> list[int]:
    return [int(text) for file in folder.glob("*.pid") if (text := file.read_text().strip())]


def is_group_alive(group: int) -> bool:
    return any(
        stat_field(path, 2) == group and stat_field(path, 0) not in ("Z", None)
        for path in proc_files("stat")
    )


def stat_field(stat: Path, index: int) -> int | str | None:
    """A field after the command's name (proc(5)): 0 the state, 1 the parent, 2 the group."""
    try:
        field = stat.read_text().rpartition(")")[2].split()[index]
    except OSError:
        return None
    return field if index == 0 else int(field)

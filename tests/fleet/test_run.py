"""`ringtasks.fleet`: one command on many hosts, fake ones and real ones."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ringtasks
from ringtasks import SSHClient, SSHConfig, fleet
from ringtasks.errors import UnknownHostError, UsageError
from ringtasks.fleet import FleetState
from ringtasks.health.store import HealthStore
from ringtasks.ssh.master.running_masters import MOST_MASTERS, listing
from ringtasks.testing import FakeFleet
from ringtasks.testing.rules import Answer, Call
from tests.support.faulty import Blackhole, Refusing, Silent, Wire
from tests.support.fixtures import MakeSshd, WriteHosts
from tests.support.runs import is_running
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

_DEADLINE = 20.0  # seconds


@pytest.fixture
def gpus(ringtasks_fleet: FakeFleet) -> FakeFleet:
    """Five hosts, gpu1 to gpu5, that answer with success."""
    for n in range(1, 6):
        ringtasks_fleet.add(f"gpu{n}", groups=["gpu"])
    return ringtasks_fleet


def states(result: fleet.FleetResult) -> dict[str, FleetState]:
    return {found.host: found.state for found in result}


def stop_when(condition: Callable[[], bool], running: fleet.FleetRun) -> None:
    def wait_and_stop() -> None:
        eventually(condition)
        running.stop()

    threading.Thread(target=wait_and_stop, daemon=True).start()


def test_fleet_results_are_in_inventory_order(gpus: FakeFleet) -> None:
    gpus["gpu1"].on("*", stdout="slow\n", delay=0.2)
    gpus["gpu2"].on("*", stdout="quick\n")

    result = fleet.run("gpu[2,1],!gpu3", "hostname")

    assert [(found.host, found.result.stdout) for found in result] == [
        ("gpu1", "slow\n"), ("gpu2", "quick\n"),
    ]  # fmt: skip
    assert result
    assert result.elapsed_ms >= 200


def test_stream_yields_results_in_order_of_arrival(gpus: FakeFleet) -> None:
    gpus["gpu1"].on("*", delay=0.5)

    assert [found.host for found in fleet.stream(["gpu1", "gpu2"], "true")] == ["gpu2", "gpu1"]


def test_every_requested_host_has_a_result(gpus: FakeFleet) -> None:
    gpus["gpu2"].on("*", returncode=3)
    gpus["gpu3"].down(reason="refused")
    gpus["gpu4"].hang()
    gpus["gpu5"].lose_link()

    result = fleet.run("@gpu", "job", timeout=2)

    assert states(result) == {
        "gpu1": FleetState.SUCCEEDED,
        "gpu2": FleetState.FAILED,
        "gpu3": FleetState.UNREACHABLE,
        "gpu4": FleetState.TIMED_OUT,
        "gpu5": FleetState.UNKNOWN,
    }
    assert result["gpu2"].reason == "exit status 3"
    assert result["gpu3"].reason == "direct: refused"
    assert "time limit of 2 s passed" in result["gpu4"].reason
    assert result.returncode == 1


def test_concurrent_hosts_never_exceed_the_fanout(gpus: FakeFleet) -> None:
    under_way: list[int] = []
    at_once = 0

    def count(call: Call) -> Answer:
        nonlocal at_once
        under_way.append(1)
        at_once = max(at_once, len(under_way))
        time.sleep(0.02)
        under_way.pop()
        return Answer()

    gpus.on_call("*", count)

    assert fleet.run("@gpu", "true", fanout=2)
    assert at_once == 2


def test_batch_starts_when_the_previous_batch_has_ended(gpus: FakeFleet) -> None:
    order: list[str] = []
    gpus["gpu1"].on("*", delay=0.3)

    for found in fleet.stream("@gpu", "true", serial=2):
        order.append(found.host)

    assert set(order[:2]) == {"gpu1", "gpu2"}
    assert set(order[2:4]) == {"gpu3", "gpu4"}
    assert order[4] == "gpu5"


def test_no_host_is_started_after_too_many_failures(gpus: FakeFleet) -> None:
    gpus.on("*", returncode=1)

    result = fleet.run("@gpu", "true", fanout=1, max_failures="40%")

    assert [str(state) for state in states(result).values()] == ["failed"] * 2 + ["skipped"] * 3
    assert gpus["gpu3"].logins == 0
    assert result["gpu3"].reason == "not started: 2 failures before"
    assert result.returncode == 1


def test_unhealthy_hosts_are_skipped_and_the_healthiest_are_picked(gpus: FakeFleet) -> None:
    gpus["gpu2"].down(reason="refused")
    for _ in range(3):
        fleet.run(["gpu2"], "true")
    fleet.run(["gpu4"], "true")

    result = fleet.run("@gpu", "true", skip_unhealthy=True, pick=1)

    assert states(result) == {"gpu2": FleetState.SKIPPED, "gpu4": FleetState.SUCCEEDED}
    assert result["gpu2"].reason == "direct: refused"
    assert result.returncode == 0


def test_failed_command_is_retried_the_requested_number_of_times(gpus: FakeFleet) -> None:
    gpus["gpu1"].on("*", returncode=1, times=1)
    gpus["gpu2"].on("*", returncode=1)

    result = fleet.run(["gpu1", "gpu2"], "true", retries=1)

    assert states(result) == {"gpu1": FleetState.SUCCEEDED, "gpu2": FleetState.FAILED}
    assert len(gpus["gpu2"].calls) == 2


def test_stdin_reaches_every_host(sshd: Sshd, client_key: Path) -> None:
    sent = bytes(range(256)) * 2000

    result = fleet.run(real_hosts(sshd, client_key, 3), "cat", stdin=io.BytesIO(sent))

    assert [found.result.stdout_bytes == sent for found in result] == [True] * 3


def test_retried_command_receives_the_whole_stdin_again(
    sshd: Sshd, client_key: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "again"
    command = f"cat; [ -e {mark} ] || {{ touch {mark}; exit 1; }}"

    (found,) = fleet.run(
        real_hosts(sshd, client_key, 1), command, stdin=io.BytesIO(b"all of it"), retries=1
    )

    assert (found.state, found.result.stdout) == (FleetState.SUCCEEDED, "all of it")


def test_success_after_an_unknown_outcome_reports_it(gpus: FakeFleet) -> None:
    gpus["gpu1"].lose_link()

    (found,) = fleet.run(["gpu1"], "true", retries=1)

    assert found.state is FleetState.SUCCEEDED
    assert "attempt 1: gpu1: outcome unknown" in (found.result.error or "")


def test_closing_the_result_stream_ends_the_run(gpus: FakeFleet) -> None:
    gpus["gpu1"].on("*")
    for name in ("gpu2", "gpu3"):
        gpus[name].hang()

    for found in fleet.stream("gpu[1-4]", "job", fanout=3):
        if found.host == "gpu1":
            eventually(lambda: all(gpus[name].calls for name in ("gpu2", "gpu3")))
            break

    assert [len(gpus[name].stopped) for name in ("gpu2", "gpu3")] == [1, 1]


def test_stop_ends_running_commands_and_skips_hosts_not_started(gpus: FakeFleet) -> None:
    gpus.on_call("*", lambda call: Answer(is_hanging=True))
    running = fleet.FleetRun("@gpu", fleet.FleetRequest("job", fanout=2))
    stop_when(lambda: bool(gpus["gpu2"].calls and gpus["gpu1"].calls), running)

    result = running.wait()

    assert [str(state) for state in states(result).values()] == ["failed"] * 2 + ["skipped"] * 3
    assert result["gpu1"].result.returncode == 130
    assert "terminated (verified)" in result["gpu1"].reason
    assert result["gpu5"].reason == "interrupted before it was started"


def test_unreachable_host_does_not_delay_a_stop() -> None:
    with Silent() as silent:
        config = SSHConfig(silent.address, silent.port, "u", connect_timeout=30, name="a")
        running = fleet.FleetRun([config], fleet.FleetRequest("true"))
        stop_when(lambda: silent.connections > 0, running)
        result = running.wait()

    assert states(result) == {"a": FleetState.SKIPPED}
    assert result["a"].reason == "interrupted before it was reached"


def test_async_run_gives_equal_results_and_cancelling_ends_the_commands(gpus: FakeFleet) -> None:
    gpus["gpu2"].hang()

    async def both() -> fleet.FleetResult:
        waiting = asyncio.create_task(fleet.run_async(["gpu2"], "job"))
        result = await fleet.run_async(["gpu1"], "true")
        while not gpus["gpu2"].calls:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return result

    assert asyncio.run(both())
    ringtasks.close_all_clients_sync()  # waits for the calls under way
    assert len(gpus["gpu2"].stopped) == 1


def test_health_is_written_once_at_the_end_of_the_run(gpus: FakeFleet) -> None:
    gpus["gpu2"].down()

    seen = [HealthStore().path.exists() for _ in fleet.stream("@gpu", "true")]

    assert seen == [False] * 5
    known = HealthStore().load()
    assert {name: health.total_successes for name, health in known.items()} == {
        "gpu1": 1, "gpu2": 0, "gpu3": 1, "gpu4": 1, "gpu5": 1,
    }  # fmt: skip
    assert known["gpu2"].total_failures == 1


def test_client_passed_by_the_caller_counts_towards_the_fanout(
    gpus: FakeFleet,
) -> None:
    gpus["gpu1"].on("*", delay=1.5)  # longer than it takes for a host to be parked
    with SSHClient(SSHConfig("gpu1.invalid", name="gpu1")) as client:
        arrived = [found.host for found in fleet.stream([client, "gpu2"], "true", fanout=1)]

    assert arrived == ["gpu1", "gpu2"]


def test_client_passed_by_the_caller_stays_open(gpus: FakeFleet) -> None:
    with SSHClient(SSHConfig("gpu1.invalid", name="gpu1")) as client:
        assert fleet.run([client, "gpu2"], "true")
        assert fleet.run([client], "true")

        assert client.is_alive()
        assert gpus["gpu1"].logins == 1


@pytest.mark.parametrize(
    ("hosts", "error", "text"),
    [
        ("nobody", UnknownHostError, "unknown host 'nobody'"),
        ("gpu*,!gpu*", UsageError, "no host matches"),
        ([], UsageError, "there is none"),
        (["a b"], ValueError, "host: expected"),
        ([7], TypeError, "expected a name"),
        ([SSHConfig("h", name="x"), SSHConfig("i", name="x")], UsageError, "two different ones"),
        ([SSHConfig("h", key_path="/no/such/key", name="x")], UsageError, "no such file"),
    ],
    ids=["unknown", "no match", "none", "no address", "no host", "one name", "no key"],
)
def test_invalid_host_list_is_refused_before_anything_is_sent(
    gpus: FakeFleet, hosts: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        fleet.run(hosts, "true")  # type: ignore[arg-type]  # some are wrong on purpose
    assert [host.logins for host in gpus] == [0] * 5


def test_a_host_named_twice_runs_once(gpus: FakeFleet) -> None:
    assert len(fleet.run(["gpu1", "gpu1"], "true")) == 1
    assert len(gpus["gpu1"].calls) == 1


@pytest.mark.parametrize("options", [{"fanout": 0}, {"serial": "0%"}, {"max_failures": "many"}])
def test_invalid_fleet_numbers_are_refused(gpus: FakeFleet, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        fleet.run("@gpu", "true", **options)


def test_fleet_module_is_an_attribute_of_the_package() -> None:
    assert ringtasks.fleet.run is fleet.run


def real_hosts(sshd: Sshd, key: Path, count: int, **fields: object) -> list[SSHConfig]:
    return [
        SSHConfig(
            f"127.0.0.{n + 1}", sshd.port, sshd.user, str(key), name=f"h{n}",
            use_control_master=False, **fields,
        )
        for n in range(count)
    ]  # fmt: skip


def test_logins_dropped_by_max_startups_are_retried_until_all_hosts_are_served(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(config=["MaxStartups 2:50:4"], addresses=["0.0.0.0"])
    hosts = [
        SSHConfig(
            f"127.0.2.{n + 1}", server.port, server.user, str(client_key), name=f"h{n}",
            connect_timeout=60,  # for as long, a dropped log-in is tried again
        )
        for n in range(30)
    ]  # fmt: skip

    result = fleet.run(hosts, "echo hi")

    assert [found.result.stdout for found in result] == ["hi\n"] * 30
    assert "Exceeded MaxStartups" in server.log or "past MaxStartups" in server.log
    assert {health.total_failures for health in HealthStore().load().values()} == {0}


def test_logins_dropped_by_a_jump_host_are_retried_until_all_hosts_are_served(
    make_sshd: MakeSshd, sshd: Sshd, client_key: Path, write_hosts: WriteHosts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bastion = make_sshd(config=["MaxStartups 2:50:4"])
    inside = {f"g{n}": {"ssh_host": f"127.0.0.{n + 1}", "proxy_jump": "bastion"} for n in range(4)}
    path = write_hosts(bastion={"ssh_port": bastion.port}, **inside)
    monkeypatch.setenv("RINGTASKS_HOSTS", str(path))

    result = fleet.run("g*", "echo hi", jump_fanout=4)

    assert [found.result.stdout for found in result] == ["hi\n"] * 4
    eventually(lambda: not [t for t in threading.enumerate() if "paramiko" in type(t).__module__])


def test_host_that_keeps_dropping_logins_is_reported_within_its_timeout(client_key: Path) -> None:
    with Wire("127.0.0.1", 9) as wire:
        wire.block()
        config = SSHConfig(wire.address, wire.port, "u", str(client_key), connect_timeout=1)
        (found,) = fleet.run([config], "true")

    assert (found.state, found.reason) == (FleetState.UNREACHABLE, "direct: reset")
    assert wire.connections > 1
    (health,) = HealthStore().load().values()
    assert health.total_failures == 1


def test_unreachable_hosts_do_not_hold_up_the_others(sshd: Sshd, client_key: Path) -> None:
    with Blackhole() as hole, Silent() as silent, Refusing() as refusing:
        dead = [
            SSHConfig(server.address, server.port, "u", name=f"{n}-{i}", connect_timeout=6)
            for i, server in enumerate((hole, silent, refusing))
            for n in range(3)
        ]
        arrived = [
            found.host
            for found in fleet.stream([*dead, *real_hosts(sshd, client_key, 4)], "true", fanout=2)
        ]

    alive = [arrived.index(f"h{n}") for n in range(4)]
    waiting = [arrived.index(f"{n}-{i}") for i in (0, 1) for n in range(3)]
    assert max(alive) < min(waiting)


def test_stopping_ends_the_processes_on_real_hosts(sshd: Sshd, client_key: Path) -> None:
    pids: list[int] = []
    running = fleet.FleetRun(
        real_hosts(sshd, client_key, 3), fleet.FleetRequest("echo $$; sleep 61 & echo $!; wait")
    )

    def note(host: str, stream: int, chunk: bytes) -> None:
        pids.extend(map(int, chunk.split()))
        if len(pids) == 6:
            threading.Thread(target=running.stop).start()

    running.on_output = note
    result = running.wait()

    assert {found.result.returncode for found in result} == {130}
    assert [pid for pid in pids if is_running(pid)] == []


def test_reached_host_waiting_for_a_slot_does_not_start_after_a_stop(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd()
    with Wire(server.address, server.port, delay=0.1) as wire:  # reached late, so parked before
        hosts = [
            SSHConfig(
                place.address, place.port, server.user, str(client_key), name=name,
                use_control_master=False,
            )
            for name, place in (("late", wire), ("quick", server))
        ]  # fmt: skip
        running = fleet.FleetRun(hosts, fleet.FleetRequest("echo $$; exec sleep 61", fanout=1))
        started: list[str] = []
        running.on_output = lambda host, stream, chunk: started.append(host)
        stop_when(lambda: bool(started) and server.accepted_logins() == 2, running)
        result = running.wait()

    assert states(result) == {"late": FleetState.SKIPPED, "quick": FleetState.FAILED}
    assert started == ["quick"]


def test_run_on_many_hosts_reuses_live_masters_and_starts_none(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(addresses=["0.0.0.0"])
    hosts = [
        SSHConfig(
            f"127.0.3.{n + 1}", server.port, server.user, str(client_key), name=f"h{n}",
            connect_timeout=60,
        )
        for n in range(MOST_MASTERS + 1)
    ]  # fmt: skip
    with SSHClient(hosts[7]) as client:
        assert client.run("true")
    before = server.accepted_logins()

    assert fleet.run(hosts, "true")

    assert server.accepted_logins() - before == MOST_MASTERS
    assert [found.master.host for found in listing()] == ["h7"]


def test_run_on_a_few_hosts_leaves_masters_running_for_the_next_run(
    make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(addresses=["0.0.0.0"])
    hosts = [
        SSHConfig(f"127.0.3.{n + 1}", server.port, server.user, str(client_key), name=f"h{n}")
        for n in range(3)
    ]
    assert fleet.run(hosts, "true")
    before = server.accepted_logins()

    result = fleet.run(hosts, "exit 3")

    assert server.accepted_logins() == before
    assert states(result) == dict.fromkeys(("h0", "h1", "h2"), FleetState.FAILED)

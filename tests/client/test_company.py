"""Many calls over one connection share a processor; nothing else in the process does."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import paramiko
import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.common import thread_pool
from tests.support.fixtures import MakeSshd
from tests.support.waiting import eventually

CALLS = 16
#: Calls that may begin while fewer than eight are under way.
FIRST = 7

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two processors",
)


@pytest.fixture
def many(make_sshd: MakeSshd, client_key: Path) -> SSHClient:
    sshd = make_sshd(client_key, config=[f"MaxSessions {2 * CALLS}"])
    config = SSHConfig(sshd.address, sshd.port, sshd.user, str(client_key))
    client = SSHClient(config, transport="direct")
    client.config.use_control_master = False
    assert client.run("true")
    return client


def test_many_calls_over_a_connection_stay_on_one_processor_while_they_run(
    many: SSHClient, tmp_path: Path
) -> None:
    every = os.sched_getaffinity(0)
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    async def burst() -> None:
        calls = [
            asyncio.create_task(many.run_async(f"touch {tmp_path}/begun.{n}; read go < {gate}"))
            for n in range(CALLS)
        ]
        await asyncio.to_thread(
            eventually, lambda: len(list(tmp_path.glob("begun.*"))) == CALLS, 20
        )
        used.extend(processors_of("ringtasks-call"))
        used.extend(readers())
        assert os.sched_getaffinity(0) == every
        with gate.open("r+b", buffering=0) as opened:
            opened.write(b"\n" * CALLS)
            assert all(await asyncio.gather(*calls))

    used: list[set[int]] = []
    asyncio.run(burst())

    shared = [each for each in used if each != every]
    assert len(shared) >= CALLS - FIRST + 1, used
    assert all(len(each) == 1 and each == shared[0] for each in shared), used
    assert all(each == every for each in readers())
    assert asyncio.run(seen_by_other_calls()) == [every] * CALLS


def test_connection_that_one_of_many_calls_opens_anew_may_use_all_processors(
    many: SSHClient,
) -> None:
    async def burst() -> None:
        assert all(await asyncio.gather(*(many.run_async("true") for _ in range(CALLS))))

    asyncio.run(burst())
    many.run("(sleep 0.1; kill -9 $PPID) >/dev/null 2>&1 &")
    eventually(lambda: not many.is_connected(), 20)

    asyncio.run(burst())

    assert many.is_connected()
    assert [each for each in readers() if len(each) == 1] == []


def readers() -> list[set[int]]:
    threads = [each for each in threading.enumerate() if isinstance(each, paramiko.Transport)]
    return [os.sched_getaffinity(each.native_id or 0) for each in threads]


def processors_of(name: str) -> list[set[int]]:
    threads = [each for each in threading.enumerate() if each.name.startswith(name)]
    return [os.sched_getaffinity(each.native_id or 0) for each in threads]


async def seen_by_other_calls() -> list[set[int]]:
    def look() -> set[int]:
        together.wait(20)  # so that each call has a thread of its own
        return os.sched_getaffinity(0)

    together = threading.Barrier(CALLS)
    calls = (thread_pool.call(look, together.abort) for _ in range(CALLS))
    return list(await asyncio.gather(*calls))

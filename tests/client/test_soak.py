"""Thousands of short commands over a line that keeps breaking: the books must balance."""

from __future__ import annotations

import collections
import gc
import os
import random
import threading
import time
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig, SSHResult
from tests.support.faulty import Wire
from tests.support.sshd import Sshd

CUT_EVERY = 50
#: Seconds within which a cut comes: before, during or after a command of a few milliseconds.
CUT_WITHIN = 0.008
SEED = os.environ.get("RINGTASKS_TEST_SEED", "20")


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(150, marks=pytest.mark.timeout(300)),
        pytest.param(50_000, marks=[pytest.mark.long, pytest.mark.timeout(3_600)]),
    ],
)
def test_soak_runs_no_command_twice_and_reports_each_correctly(
    sshd: Sshd, client_key: Path, tmp_path: Path, commands: int
) -> None:
    ran = tmp_path / "ran"
    print(f"RINGTASKS_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    answers = {}
    with Wire(sshd.address, sshd.port) as wire:
        config = SSHConfig(wire.address, wire.port, sshd.user, str(client_key))
        config_kept_in_process = SSHConfig(**{**vars(config), "use_control_master": False})
        with SSHClient(config_kept_in_process) as client:
            for number in range(4 * commands):
                if number >= commands and any(map(is_unknown, answers.values())):
                    break  # on a busy machine the first cuts may all come between commands
                if number == commands // 5:
                    early = belongings()
                if chance.random() < 1 / CUT_EVERY:
                    threading.Timer(chance.random() * CUT_WITHIN, wire.cut).start()
                answers[number] = client.run(f"echo {number} >> {ran}; echo {number}")
            late = belongings()

    times = collections.Counter(map(int, ran.read_text().split()))
    good = [number for number, answer in answers.items() if answer.success]
    lost = {number: str(answer.error) for number, answer in answers.items() if not answer.success}
    unknown = [number for number in lost if is_unknown(answers[number])]
    assert set(times.values()) == {1}  # none twice
    assert all(times[number] == 1 and answers[number].stdout == f"{number}\n" for number in good)
    # Where the cut hit the log-in, the host is unreachable: nothing can have run.
    assert [number for number in lost.keys() - unknown if times[number]] == []
    assert unknown, "no cut hit a command: the test is blind"
    assert late.threads <= early.threads + 1
    assert late.open_files <= early.open_files + 4  # sockets of the last connection
    assert late.resident_megabytes < early.resident_megabytes + 10


def is_unknown(answer: SSHResult) -> bool:
    return "outcome unknown" in str(answer.error)


class Belongings(collections.namedtuple("Belongings", "threads open_files resident_megabytes")):
    """Return the resources that this process holds."""


def belongings() -> Belongings:
    deadline = time.monotonic() + 2  # threads of connections that were cut are on their way out
    while threading.active_count() > 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Belongings(
        threading.active_count(), len([*Path("/proc/self/fd").iterdir()]), pages * 4096 / 2**20
    )

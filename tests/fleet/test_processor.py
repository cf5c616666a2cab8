"""The threads of a run share a processor; the programs that they start do not."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest

from ringtasks import SSHConfig, fleet
from ringtasks.common import processor
from ringtasks.ssh.embedded import server
from ringtasks.ssh.master import running_masters
from tests.support.sshd import Sshd

LOOK = "grep Cpus_allowed_list: /proc/self/status"

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two processors",
)


@pytest.mark.parametrize("use_control_master", [True, False])
def test_programs_of_a_run_may_use_all_processors(
    sshd: Sshd, client_key: Path, tmp_path: Path, use_control_master: bool
) -> None:
    seen = tmp_path / "seen"
    script = tmp_path / "look"
    script.write_text(f"{LOOK} >> {seen}\n")
    carrier = tmp_path / "carry"
    carrier.write_text(f"{script.read_text()}exec nc {sshd.address} {sshd.port}\n")
    (Path.home() / ".ssh").mkdir(exist_ok=True, mode=0o700)
    (Path.home() / ".ssh" / "config").write_text(
        f'Match host box.invalid exec "sh {script}"\n  IdentityFile {client_key}\n'
        f"  ProxyCommand sh {carrier}\n"
        f"  KnownHostsCommand /bin/sh {script}\n"
    )
    used: list[set[int]] = []
    seen_by_user: list[set[int]] = []

    def look(*_: object) -> None:
        threads = {each.name: each.native_id for each in threading.enumerate()}
        used.append(os.sched_getaffinity(threads["ringtasks-fleet"] or 0))
        seen_by_user.append(os.sched_getaffinity(0))

    run = fleet.FleetRun(
        [SSHConfig("box.invalid", use_control_master=use_control_master)],
        fleet.FleetRequest("echo hi", timeout=20),
    )
    run.on_output = look

    result = run.wait()

    assert result, list(result)
    every = os.sched_getaffinity(0)
    assert {len(each) for each in used} == {1}
    assert all(each == every for each in seen_by_user)
    looks = seen.read_text().splitlines()
    assert len(looks) >= 3
    assert set(looks) == {allowed("self")}
    masters = [each.master.pid for each in running_masters.listing()]
    assert len(masters) == use_control_master
    assert all(os.sched_getaffinity(pid) == every for pid in masters)


def test_embedded_hosts_that_a_run_has_started_use_all_processors() -> None:
    """Their server outlives the run, and starts the programs."""
    server.stop_all()

    result = fleet.run([SSHConfig("", name="demo", embedded=True)], LOOK, timeout=20)

    assert result["demo"].result.stdout == f"{allowed('self')}\n"


def test_program_starts_if_no_processor_can_be_chosen_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They may be taken offline, or from the container, while the run is under way."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def start() -> None:
        processor.stay_on(processor.current())
        monkeypatch.setattr(os, "sched_setaffinity", refuse)
        with processor.anywhere():
            started.append(subprocess.run(["true"], check=True))

    started: list[object] = []
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert started


def test_programs_of_a_run_keep_to_the_processors_of_the_thread_that_started_it() -> None:
    def look() -> None:
        os.sched_setaffinity(0, chosen)
        processor.stay_on(processor.current())
        with processor.anywhere():
            seen.append(os.sched_getaffinity(0))

    chosen = {max(os.sched_getaffinity(0))}
    seen: list[set[int]] = []
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    assert seen == [chosen]


def allowed(process: str) -> str:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("Cpus_allowed_list:"))

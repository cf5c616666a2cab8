"""The threads of a run share a processor; the programs that they start do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringtasks import SSHConfig, fleet
from tests.support.sshd import Sshd

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
    script.write_text(f"grep Cpus_allowed_list: /proc/self/status >> {seen}\n")
    carrier = tmp_path / "carry"
    carrier.write_text(f"{script.read_text()}exec nc {sshd.address} {sshd.port}\n")
    (Path.home() / ".ssh").mkdir(exist_ok=True, mode=0o700)
    (Path.home() / ".ssh" / "config").write_text(
        f'Match host box.invalid exec "sh {script}"\n  IdentityFile {client_key}\n'
        f"  ProxyCommand sh {carrier}\n"
        f"  KnownHostsCommand /bin/sh {script}\n"
    )
    used: list[set[int]] = []
    run = fleet.FleetRun(
        [SSHConfig("box.invalid", use_control_master=use_control_master)],
        fleet.FleetRequest("echo hi", timeout=20),
    )
    run.on_output = lambda *_: used.append(os.sched_getaffinity(0))

    result = run.wait()

    assert result, list(result)
    assert {len(each) for each in used} == {1}
    own = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("Cpus_allowed_list:")
    )
    looks = seen.read_text().splitlines()
    assert len(looks) >= 3
    assert set(looks) == {own}

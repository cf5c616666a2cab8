"""Little memory, and a full disk, on this machine: a clear error of the hosts it concerns."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_hosts import fill
from tests.support.fixtures import ROOT, Inv, MakeSshd, WriteHosts

#: Too few bytes for the output of the first host, enough for all else.
MEMORY_BYTES = 150 * 1024 * 1024
SHARED = {"use_control_master": True}
PRINT = '[ "$HOST" != a ] || head -c 70000000 /dev/zero | tr "\\0" x; echo hi'


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def hosts(make_sshd: MakeSshd, write_hosts: WriteHosts) -> None:
    """Host ``a``, whose key the inventory has, and ``b``; a file ``big``."""
    for_a, for_b = (make_sshd(environ={"HOST": name}) for name in "ab")
    for server in (for_a, for_b):
        (server.home / "big").write_bytes(bytes(700_000))
    write_hosts(
        a={"ssh_port": for_a.port, "ssh_host_key": for_a.host_public_key, **SHARED},
        b={"ssh_port": for_b.port, **SHARED},
    )


def test_host_whose_output_is_larger_than_the_memory_fails_alone(
    hosts: None, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "tasks.py", tmp_path)
    command = ["-m", "invoke", "run", "--host", "a,b", "--json", "--cmd", PRINT]

    done = subprocess.run(
        ["prlimit", f"--as={MEMORY_BYTES}", sys.executable, *command],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip

    assert b"Traceback" not in done.stderr
    found = {line["host_id"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert "outcome unknown: this machine allows no more memory" in found["a"]["error"]
    assert (found["b"]["success"], found["b"]["stdout"]) == (True, "hi\n")


def test_state_file_on_a_full_disk_fails_only_hosts_that_need_it(
    hosts: None, inv: Inv, small_disk: Path
) -> None:
    fill(small_disk, 0)

    done = inv("run", "--host", "a,b", "--cmd", "echo hi", XDG_STATE_HOME=str(small_disk))

    said = done.stderr.decode()
    assert done.stdout == b"a: hi\n"
    assert "known_hosts: cannot be written: No space left on device; free space there" in said


def test_output_files_on_a_full_disk_end_no_run(hosts: None, inv: Inv, small_disk: Path) -> None:
    fill(small_disk, 8192)
    command = "head -c 50000 /dev/zero"

    done = inv("run", "--host", "a,b", "--fold", "--outdir", str(small_disk), "--cmd", command)

    said = done.stderr.decode()
    assert done.returncode == 2
    assert "2 hosts in" in said
    assert f"--outdir: these files are incomplete: {small_disk}/" in said
    assert "No space left on device" in said


def test_files_of_several_hosts_on_a_full_disk_are_an_error_of_this_disk(
    hosts: None, inv: Inv, small_disk: Path
) -> None:
    done = inv("get", "big", str(small_disk), "--host", "a,b")

    said = done.stderr.decode()
    failed = [name for name in "ab" if f"ringtasks: {name}: {small_disk}/{name}" in said]
    assert done.returncode == 1
    assert failed, said
    assert all((small_disk / name / "big").exists() != (name in failed) for name in "ab")
    assert "no space: " in said or "full meanwhile" in said

"""Memory of processes: the output of ``ps`` on several systems, and of real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.client.process_memory import PS_COMMAND, memory_of
from tests.support.fixtures import Require
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

PROC_COMMAND = PS_COMMAND.partition("|| {")[2].rpartition("}")[0]

# procps-ng 4.0.2: ps -A -ww -o pid,ppid,stat,rss,comm
LINUX = """\
    PID    PPID STAT   RSS COMMAND
      1       0 Ss   12964 systemd
      2       0 S        0 kthreadd
     19       2 I        0 kworker/0:1-events
   4242       1 Ss    2048 sh
   4243    4242 Sl  102400 python3
   4250    4243 S    51200 tmux: server
   4251    4243 Z        0 python3 <defunct>
   4260       1 S    99999 python3
   4243000 4260 R     1024 ps
"""
# macOS 14, ps(1): comm is the path of the program, with its blanks.
MACOS = """\
  PID  PPID STAT    RSS COMM
    1     0 Ss    21456 /sbin/launchd
  501     1 S    524288 /Applications/Google Chrome.app/Contents/MacOS/Google Chrome
  502   501 S     65536 /Applications/Google Chrome.app/Contents/Frameworks/Google Chrome Helper
  777     1 Ss+    2048 -zsh
  778   777 R+     1024 ./train
  779   777 Z         0 <defunct>
"""
# BusyBox 1.35: ps -o pid,ppid,stat,rss,comm
BUSYBOX = """\
PID   PPID  STAT RSS  COMMAND
    1     0 S     12m init
    2     0 SW      0 kthreadd
  100     1 S    2048 sh
  101   100 S N  1.5g python3
  102   100 S <  9.8m worker 2
  103   100 Z       0 true
"""
# FreeBSD 14: ps -A -ww -o pid,ppid,stat,rss,comm
FREEBSD = """\
 PID PPID STAT   RSS COMMAND
   0    0 DLs   1312 kernel
   1    0 ILs   1168 init
 900    1 Is    4096 sshd
 901  900 S     8192 python3.11
"""
# Linux 6.6, proc_pid_status(5), the lines that are asked for; a kernel thread has no VmRSS.
PROC = """\
Name:\tkworker/0:1-events
State:\tI (idle)
Pid:\t19
PPid:\t2
Name:\tmy program: x
State:\tS (sleeping)
Pid:\t100
PPid:\t1
VmRSS:\t    2048 kB
Name:\tpython3
State:\tR (running)
Pid:\t101
PPid:\t100
VmRSS:\t  102400 kB
Name:\tsh
State:\tZ (zombie)
Pid:\t102
PPid:\t100
Name:\tended meanwhi
"""


@pytest.mark.parametrize(
    ("output", "pid", "expected"),
    [
        pytest.param(LINUX, 4242, ((2048 + 102400 + 51200) / 1024, "sh"), id="a tree"),
        pytest.param(LINUX, 4250, (50.0, "tmux: server"), id="a name with a blank"),
        pytest.param(LINUX, 4251, None, id="a zombie"),
        pytest.param(LINUX, 19, (0.0, "kworker/0:1-events"), id="a name with a slash"),
        pytest.param(LINUX, 424, None, id="no such process"),
        pytest.param(LINUX, 4260, (101023 / 1024, "python3"), id="a large process id"),
        pytest.param(MACOS, 501, (576.0, "Google Chrome"), id="macOS: a path with blanks"),
        pytest.param(MACOS, 777, (3.0, "-zsh"), id="macOS: a login shell"),
        pytest.param(MACOS, 778, (1.0, "train"), id="macOS: a relative path"),
        pytest.param(MACOS, 779, None, id="macOS: a zombie"),
        pytest.param(BUSYBOX, 1, (12 + 2 + 1536 + 9.8, "init"), id="BusyBox: short numbers"),
        pytest.param(BUSYBOX, 101, (1536.0, "python3"), id="BusyBox: a nice process"),
        pytest.param(BUSYBOX, 102, (9.8, "worker 2"), id="BusyBox: a name with a number"),
        pytest.param(BUSYBOX, 103, None, id="BusyBox: a zombie"),
        pytest.param(FREEBSD, 900, (12.0, "sshd"), id="FreeBSD"),
        pytest.param(
            FREEBSD, 0, ((1312 + 1168 + 4096 + 8192) / 1024, "kernel"), id="its own parent"
        ),
        pytest.param(PROC, 100, (102.0, "my program: x"), id="/proc"),
        pytest.param(PROC, 19, (0.0, "kworker/0:1-events"), id="/proc: a kernel thread"),
        pytest.param(PROC, 102, None, id="/proc: a zombie"),
        pytest.param("", 1, None, id="nothing"),
    ],
)
def test_process_memory_is_parsed_from_any_ps_output(
    output: str, pid: int, expected: tuple[float, str] | None
) -> None:
    found = memory_of(pid, output)

    assert found == (expected and (pytest.approx(expected[0]), expected[1]))


def test_descendants_of_process_1_exclude_kernel_threads() -> None:
    own = 12964 + 2048 + 102400 + 51200 + 99999 + 1024

    assert memory_of(1, LINUX) == (own / 1024, "systemd")


def test_descendants_adopted_by_process_1_are_not_counted() -> None:
    assert memory_of(4243, LINUX) == ((102400 + 51200) / 1024, "python3")


def test_cyclic_process_list_is_measured_in_finite_time() -> None:
    # ps(1) takes no snapshot: a process id may be used anew while it looks.
    output = " 10 12 S 1024 a\n 11 10 S 1024 b\n 12 11 S 1024 c\n 13 13 S 1024 d\n"

    assert memory_of(10, output) == (3.0, "a")
    assert memory_of(13, output) == (1.0, "d")


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
block = bytearray(b"x") * (80 << 20)
print("ready", child.pid, flush=True)
child.wait()
"""
CHILD = """
block = bytearray(b"x") * (50 << 20)
print("ready", flush=True)
__import__("time").sleep(60)
"""


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process that takes 80 MB, and its child that takes 50 MB."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline().split()[1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture
def config(config: SSHConfig) -> SSHConfig:
    return replace(config, work_dir="~/missing")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(PS_COMMAND, id="as it is"),
        pytest.param("busybox " + PS_COMMAND.split("|| ")[1], id="BusyBox"),
        pytest.param(PROC_COMMAND, id="/proc"),
    ],
)
def test_a_process_is_measured_with_its_descendants(
    family: tuple[int, int], command: str, require: Require
) -> None:
    require("busybox")
    parent, child = family

    output = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True
    ).stdout

    own_megabytes = 20  # of two interpreters
    measured, name = memory_of(parent, output) or (0.0, "")
    assert measured == pytest.approx(130 + own_megabytes, rel=0.15)
    assert name.startswith("python")
    below, _ = memory_of(child, output) or (0.0, "")
    assert below == pytest.approx(50 + own_megabytes / 2, rel=0.15)


@pytest.mark.parametrize("missing", [["ps"], ["ps", "grep"]], ids=" and ".join)
def test_host_without_ps_is_measured_through_proc(
    family: tuple[int, int], tmp_path: Path, missing: list[str]
) -> None:
    for name in {"grep", "ps"} - set(missing):
        (tmp_path / name).symlink_to(str(shutil.which(name)))

    done = subprocess.run(
        ["/bin/sh", "-c", PS_COMMAND], capture_output=True, text=True, env={"PATH": str(tmp_path)}
    )

    found = memory_of(family[0], done.stdout)
    assert (found is None) is ("grep" in missing)
    assert done.stderr == ""


def test_client_measures_a_job_until_it_ends(client: SSHClient, family: tuple[int, int]) -> None:
    parent, _ = family

    measured, name = asyncio.run(client.get_process_memory(parent)) or (0.0, "")
    os.killpg(parent, signal.SIGKILL)
    eventually(lambda: state(parent) == "Z")

    assert measured == pytest.approx(150, rel=0.15)
    assert name.startswith("python")
    assert asyncio.run(client.get_process_memory(parent)) is None
    os.waitpid(parent, 0)
    assert asyncio.run(client.get_process_memory(parent)) is None


def test_missing_virtual_environment_does_not_prevent_measuring_memory(
    sshd: Sshd, client_key: Path
) -> None:
    config = SSHConfig(
        sshd.address, sshd.port, sshd.user, str(client_key), use_control_master=False
    )
    with SSHClient(replace(config, venv_activate="source /no/such/venv")) as client:
        assert asyncio.run(client.get_process_memory(os.getpid())) is not None


def test_memory_of_an_unreachable_host_is_none() -> None:
    with SSHClient(SSHConfig("127.0.0.1", 9, connect_timeout=1)) as client:
        assert asyncio.run(client.get_process_memory(1)) is None


@pytest.mark.parametrize(
    ("pid", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("nan"), (TypeError, ValueError)),
        ("12", TypeError),
        (1.5, TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_invalid_process_id_is_refused_by_name(
    pid: object, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    client = SSHClient(SSHConfig("127.0.0.1", 9))

    with pytest.raises(error, match="pid: expected"):
        asyncio.run(client.get_process_memory(pid))  # type: ignore[arg-type]


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

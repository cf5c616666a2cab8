"""Few threads and processes on this machine (``ulimit -u``): a line, and other hosts go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import ROOT, MakeSshd, WriteHosts
from tests.support.processes import proc_files

#: The limit does not apply to root: root's tests run the program as another user, who may read all.
#: No other process has this user id.
OTHER_ID = 100_000 + os.getpid()
Limited = Callable[..., "subprocess.CompletedProcess[str]"]


def threads_of(uid: int) -> int:
    found = 0
    for status in proc_files("status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        fields = dict(line.partition(":")[::2] for line in text.splitlines())
        if int(fields["Uid"].split()[0]) == uid:
            found += int(fields.get("Threads", "0"))
    return found


@pytest.fixture
def limited(
    make_sshd: MakeSshd, write_hosts: WriteHosts, client_key: Path, tmp_path: Path
) -> Iterator[Limited]:
    """Run ``inv`` with so many threads and processes, itself included, and six hosts."""
    server = make_sshd()
    key = Path(shutil.copy(client_key, tmp_path / "key"))
    hosts = {f"h{n}": {"ssh_port": server.port, "ssh_key": str(key)} for n in range(6)}
    write_hosts(**hosts)
    shutil.copy(ROOT / "tasks.py", tmp_path)
    runtime = Path(tempfile.mkdtemp(prefix="rt-"))
    uid = os.getuid() or OTHER_ID
    as_user = []
    if os.getuid() == 0:
        for path in (runtime, tmp_path, *tmp_path.rglob("*")):
            os.chown(path, uid, -1)
        rights = "-all,+dac_override"  # to read the interpreter and this repository
        as_user = ["setpriv", f"--reuid={uid}", "--clear-groups", f"--inh-caps={rights}",
                   f"--ambient-caps={rights}", f"--bounding-set={rights}"]  # fmt: skip

    def run(threads: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        limit = threads_of(uid) + threads
        return subprocess.run(
            ["prlimit", f"--nproc={limit}", *as_user, sys.executable, "-m", "invoke", *arguments],
            cwd=tmp_path, env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "LOGNAME": "x"},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, text=True, check=False,
        )  # fmt: skip

    yield run
    shutil.rmtree(runtime)


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    ("task", "threads"),
    [
        ("run --host @all --cmd true", 1),
        ("run --host @all --cmd true", 4),
        ("status", 2),
        ("status", 8),
        ("put tasks.py x --host @all", 4),
    ],
)
def test_few_threads_are_reported_in_a_line_for_each_host(
    limited: Limited, task: str, threads: int
) -> None:
    done = limited(threads, *task.split())

    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2, 255), done.stderr
    assert done.returncode == 0 or "ulimit -u" in done.stdout + done.stderr, done.stderr


def test_hosts_for_which_there_are_threads_are_reached(limited: Limited) -> None:
    done = limited(9, "run", "--host", "@all", "--cmd", "echo hi")

    reached = done.stdout.count(": hi\n")
    assert reached >= 1, done.stderr
    assert reached == 6 or "ulimit -u" in done.stderr, done.stderr

"""Two transfers to one target at the same time: the target is one of the two files, whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig, SSHResult
from tests.support.fixtures import Inv, WriteHosts
from tests.support.waiting import eventually

SIZE = 24 * 1024 * 1024


@pytest.fixture
def sources(near: Path) -> list[Path]:
    paths = [near / "one", near / "two"]
    for path in paths:
        path.write_bytes(os.urandom(SIZE))
    return paths


def test_two_concurrent_puts_leave_one_complete_file(
    config: SSHConfig, sources: list[Path], far: Path
) -> None:
    def put(source: Path) -> SSHResult:
        with SSHClient(config) as client:
            return client.scp_to(str(source), str(far / "target"))

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(put, sources))

    assert any(result.success for result in results)
    for result in results:
        assert result.success or "another transfer to this name" in str(result.error)
    assert (far / "target").read_bytes() in [path.read_bytes() for path in sources]
    assert [path.name for path in far.iterdir()] == ["target"]


def test_put_concurrent_with_a_killed_one_leaves_a_complete_file(
    config: SSHConfig, sources: list[Path], far: Path
) -> None:
    program = (
        "import sys; from ringtasks import SSHClient, SSHConfig; h, p, u, k, a, b = sys.argv[1:]; "
        "SSHClient(SSHConfig(h, int(p), u, k)).scp_to(a, b)"
    )
    target = str(far / "target")
    first = [config.host, str(config.port), str(config.user), str(config.key_path)]
    killed = subprocess.Popen([sys.executable, "-c", program, *first, str(sources[0]), target])
    eventually(lambda: list(far.iterdir()))  # under way, or over
    with ThreadPoolExecutor(1) as threads, SSHClient(config) as client:
        second = threads.submit(client.scp_to, str(sources[0]), target)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        result = second.result(60)

    assert result.success, result
    assert (far / "target").read_bytes() == sources[0].read_bytes()


def test_put_task_concurrent_with_a_killed_one_leaves_a_complete_file(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path, sources: list[Path], far: Path
) -> None:
    write_hosts(box={})
    arguments = ["put", str(sources[0]), f"{far}/target", "--host", "box"]
    killed = subprocess.Popen([sys.executable, "-m", "invoke", *arguments], cwd=tmp_path)
    eventually(lambda: list(far.iterdir()))  # under way, or over
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(inv, *arguments)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        done = second.result(60)

    assert done.returncode == 0, done
    assert (far / "target").read_bytes() == sources[0].read_bytes()

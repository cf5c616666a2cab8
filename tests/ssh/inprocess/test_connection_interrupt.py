"""Ctrl-C during `Connection.run` ends the remote process, however the command was sent."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import is_running
from tests.support.sshd import Sshd

PROGRAM = """\
import sys
from ringtasks import Connection
host, port, user, key, options = sys.argv[1:]
with Connection(host, port=int(port), user=user, connect_kwargs={"key_filename": key}) as c:
    c.run("echo $$; sleep 61 & echo $!; wait", in_stream=False, **eval(options))
"""


@pytest.mark.parametrize("options", ["{}", "{'env': {'A': 'b'}}", "{'timeout': 60}"])
@pytest.mark.matrix(1)
def test_ctrl_c_ends_the_remote_processes(
    sshd: Sshd, client_key: Path, tmp_path: Path, options: str
) -> None:
    place = [sshd.address, str(sshd.port), sshd.user, str(client_key), options]
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *place],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert running.stdout is not None
    pids = [int(running.stdout.readline()) for _ in range(2)]

    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=20)

    assert b"KeyboardInterrupt" in said
    assert [pid for pid in pids if is_running(pid)] == []

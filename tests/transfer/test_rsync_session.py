"""The hand-over of the remote shell's streams, which another program may end at any point."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ringtasks import SSHClient
from ringtasks.transfer.rsync_session import REMOTE_SHELL, Piped
from tests.support.fixtures import in_process

over_master = in_process

#: Gives its streams away with the beginning of a message, and ends.
_HALF = """
import array, socket, sys
with socket.socket(fileno=int(sys.argv[1].split()[-1])) as channel:
    streams = array.array("i", [0, 1][: int(sys.argv[2])])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
    channel.sendmsg([(100).to_bytes(4, "big") + b"half"], rights)
"""


@pytest.mark.parametrize("streams", [1, 2])
def test_remote_shell_that_ends_within_the_hand_over_ends_the_transfer(
    client: SSHClient, tmp_path: Path, streams: int
) -> None:
    program = tmp_path / "half.py"
    program.write_text(_HALF)
    argv = [sys.executable, str(program), REMOTE_SHELL, str(streams)]
    piped = Piped(argv, lambda arguments: "true", "/bin/sh", lambda line: None)
    began, used = time.monotonic(), os.times()

    ending = piped.run(client.link(), 20)

    assert ending.status == 0
    assert time.monotonic() - began < 4
    assert os.times().user - used.user < 2

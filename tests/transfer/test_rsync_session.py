"""The hand-over of the remote shell's streams, which another program may end at any point."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.common.threads import start_thread
from ringtasks.ssh.execution import Ending
from ringtasks.ssh.link import STDOUT, LinkLostError, Output
from ringtasks.transfer import Options, fd_session, get, put
from ringtasks.transfer.fd_session import FdSession
from ringtasks.transfer.rsync_session import REMOTE_SHELL, Piped
from tests.support.fixtures import MakeSshd, in_process
from tests.support.runs import is_running
from tests.support.waiting import eventually

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


#: Ends as rsync does if all went well on this side.
_SUCCEEDS = ["/bin/sh", "-c", 'eval "$0 host" >/dev/null; exit 0', REMOTE_SHELL]


def test_failure_on_the_host_alone_fails_the_transfer(client: SSHClient) -> None:
    piped = Piped(_SUCCEEDS, lambda arguments: "exit 7", "/bin/sh", lambda line: None)

    assert piped.run(client.link(), 20).status == 7


def test_transfer_whose_host_does_not_end_can_be_cancelled(
    client: SSHClient, tmp_path: Path
) -> None:
    script = f"echo > {tmp_path}/begun; exec sleep 60"
    piped = Piped(_SUCCEEDS, lambda arguments: script, "/bin/sh", lambda line: None)
    endings: list[Ending] = []
    running = start_thread(lambda: endings.append(piped.run(client.link(), 30)), name="test-run")
    eventually((tmp_path / "begun").exists)

    piped.cancel()

    running.join(10)
    assert endings == [Ending(interrupted=True)]


def test_host_that_does_not_end_fails_the_transfer(client: SSHClient) -> None:
    piped = Piped(_SUCCEEDS, lambda arguments: "exec sleep 60", "/bin/sh", lambda lines: None)
    piped.end_timeout = 0.1

    ending = piped.run(client.link(), None)

    assert ending.status == 1
    assert "ended here, but not on the host" in str(ending.error)


def test_program_that_waits_for_a_link_ends_with_its_block(tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    script = f"echo $$ > {noted}; exec sleep 60"

    with Piped(["/bin/sh", "-c", script], "".join, "/bin/sh", lambda line: None):
        eventually(lambda: noted.exists() and noted.read_text().endswith("\n"))

    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()), 0)


def test_program_that_ended_before_there_was_a_link_starts_again(
    client: SSHClient, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    argv = ["/bin/sh", "-c", f"echo $$ >> {starts}"]
    with Piped(argv, "".join, "/bin/sh", lambda line: None) as piped:
        eventually(
            lambda: starts.exists() and not is_running(int(starts.read_text() or os.getpid()))
        )

        ending = piped.run(client.link(), 20)

    assert ending.status == 0
    assert len(starts.read_text().split()) == 2


#: Writes a piece when the one before was read.
_IN_PIECES = """
import fcntl, os, struct, sys, termios, time
for piece in sys.argv[1:]:
    os.write(1, os.fsencode(piece))
    while struct.unpack("i", fcntl.ioctl(1, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.001)
"""


def test_lines_that_come_in_pieces_are_read_whole(client: SSHClient) -> None:
    pieces = ["one\ntw", "o ", "\udcc3", "\udca9\r", "three", "\n\nfour\nnot ended"]
    read: list[str] = []
    argv = [sys.executable, "-I", "-S", "-c", _IN_PIECES, *pieces]

    ending = Piped(argv, "".join, "/bin/sh", read.append).run(client.link(), 20)

    assert ending.status == 0
    assert read == ["one", "two é", "three\n\nfour"]


def test_output_ends_although_no_session_can_be_opened(config: SSHConfig) -> None:
    """rsync waits for the end of its remote shell's output, whatever the shell's exit status."""
    with SSHClient(replace(config, use_control_master=True)) as client:
        link = client.link()
        link.close()
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb", buffering=0) as output:
            with pytest.raises(LinkLostError):
                FdSession(link, print).run("true", "/bin/sh", os.open(os.devnull, 0), writer)

            assert select.select([output], [], [], 10)[0]
            assert output.read(1) == b""


def test_output_that_is_not_read_holds_up_no_other_command(config: SSHConfig) -> None:
    """ssh writes the output to a pipe, which splice(2) can lock while the reader has no room."""
    size = 10_000_000  # more than the buffers of pipes and sockets hold
    with SSHClient(replace(config, use_control_master=True)) as client:
        link = client.link()
        link.login_is_silent = False  # so that the output passes through the pipe
        unread, target = socket.socketpair()
        passed, stdin = os.dup(target.fileno()), os.open(os.devnull, os.O_RDONLY)
        arguments = (f"head -c {size} /dev/zero", "/bin/sh", stdin, passed)
        start_thread(FdSession(link, print).run, *arguments, name="test-copy")
        eventually(lambda: not select.select([], [target], [], 0)[1])

        for _ in range(10):  # some while more output arrives
            with contextlib.closing(link.open_session("echo other")) as other:
                assert other.receive(10) == Output(STDOUT, b"other\n")

        target.close()
        assert sum(iter(lambda: len(unread.recv(1 << 16)), 0)) == size
        unread.close()


def test_login_file_that_reads_stdin_is_named_as_the_cause_of_a_failed_copy(
    make_sshd: MakeSshd,
    client_key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use_control_master: bool,
) -> None:
    monkeypatch.setattr(fd_session, "_MARK_TIMEOUT", 1.0)
    shell = tmp_path / "login shell"
    shell.write_text('#!/bin/sh\nread line\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
    shell.chmod(0o755)
    server = make_sshd(config=[f"ForceCommand '{shell}'"])
    (tmp_path / "data").mkdir()
    config = SSHConfig(server.address, server.port, server.user, str(client_key))
    config.use_control_master = use_control_master
    with SSHClient(config) as client:
        [moved] = get(str(tmp_path / "data"), tmp_path / "copy", [client], Options(timeout=20))
        [sent] = put(Path(__file__), str(tmp_path / "file"), [client])

    assert "differs from the file's: a login file there may read stdin" in str(sent.error)
    assert "ran something else: (no start in 1 s: login files may wait for" in str(moved.error)
    assert str(moved.error).endswith(", in terminals only")

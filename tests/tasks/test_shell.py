"""``inv shell`` in a real terminal: signals, and the escape characters of ssh."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.client.typed_input import Escape, EscapeFilter
from tests.support.fixtures import Inv, MakeSshd, Start, WriteHosts
from tests.support.sshd import Sshd
from tests.support.terminal import at_terminal


class Shell:
    """The task in a terminal of its own."""

    def __init__(self, start: Start, *arguments: str) -> None:
        self.ours, self.theirs = pty.openpty()
        self.modes = termios.tcgetattr(self.theirs)
        terminal = dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs)
        self.process = start(*arguments, "--host", "box", **terminal)
        self.shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def shows(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += os.read(self.ours, 4096)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def box(make_sshd: MakeSshd, write_hosts: WriteHosts, inv: Inv) -> Sshd:
    server = make_sshd()
    write_hosts(box={"ssh_port": server.port, "use_control_master": True})
    inv("hosts")  # puts tasks.py there
    return server


@pytest.fixture
def shell(box: Sshd, start: Start) -> Iterator[Shell]:
    opened = Shell(start, "shell")
    opened.type(b"echo be''gun\n")
    opened.shows(b"begun")
    yield opened
    opened.close()


@pytest.fixture
def run(box: Sshd, start: Start) -> Iterator[Shell]:
    opened = Shell(start, "run", "--pty", "--cmd", "echo be''gun; exec cat")
    opened.shows(b"begun")
    yield opened
    opened.close()


def test_shell_without_a_terminal_is_refused_before_any_connection(
    inv: Inv, write_hosts: WriteHosts
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write_hosts(box={"ssh_port": silent.getsockname()[1]})

        refused = inv("shell", "--host", "box")

        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert refused.returncode == 2
    assert b"needs a terminal; to run commands from a script use 'inv run'" in refused.stderr


@pytest.mark.matrix(4)
@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGQUIT, 131),
        (signal.SIGUSR1, 138),
        (signal.SIGINT, 130),
        (signal.SIGABRT, 134),
        (signal.SIGALRM, 142),
        (signal.SIGXCPU, 152),
        (signal.SIGRTMIN + 3, 128 + signal.SIGRTMIN + 3),
    ],
)
def test_a_signal_ends_a_shell_and_restores_the_terminal(
    shell: Shell, number: int, status: int
) -> None:
    assert termios.tcgetattr(shell.theirs) != shell.modes

    shell.process.send_signal(number)

    assert shell.process.wait(10) == status
    assert termios.tcgetattr(shell.theirs) == shell.modes


def test_escape_characters_end_a_frozen_shell(box: Sshd, shell: Shell) -> None:
    shell.type(b"~?")
    shell.shows(b"end the connection")
    box.freeze()
    shell.type(b"\r~.")

    assert shell.process.wait(10) == 255
    assert termios.tcgetattr(shell.theirs) == shell.modes
    box.thaw()


@pytest.mark.matrix(1)
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM, signal.SIGPROF])
def test_a_signal_ends_a_run_with_a_terminal_and_restores_ours(run: Shell, number: int) -> None:
    assert termios.tcgetattr(run.theirs) != run.modes

    run.process.send_signal(number)

    assert run.process.wait(20) == 128 + number
    assert termios.tcgetattr(run.theirs) == run.modes


@pytest.mark.parametrize("is_frozen", [True, False])
def test_escape_characters_end_a_run_with_a_terminal(
    box: Sshd, run: Shell, is_frozen: bool
) -> None:
    run.type(b"~?")
    run.shows(b"end the connection")
    if is_frozen:
        box.freeze()
    run.type(b"\r~.")

    run.shows(b"may still be running" if is_frozen else b"interrupted")
    assert run.process.wait(10) == 255
    assert termios.tcgetattr(run.theirs) == run.modes
    box.thaw()


@pytest.mark.parametrize(
    ("typed", "sent", "escapes"),
    [
        ([b"~."], b"", [Escape.LEAVE]),
        ([b"~", b"."], b"", [Escape.LEAVE]),
        ([b"a~.\r"], b"a~.\r", []),
        ([b"a\r~", b"?~."], b"a\r", [Escape.HELP, Escape.LEAVE]),
        ([b"~~.\n"], b"~.\n", []),
        ([b"~x~."], b"~x~.", []),
        ([b"~\r~."], b"~\r", [Escape.LEAVE]),
        ([b"ls ~\n~/bin"], b"ls ~\n~/bin", []),
        ([b"~.rest"], b"", [Escape.LEAVE]),
    ],
)
def test_escape_characters_are_recognised_only_at_the_start_of_a_line(
    typed: list[bytes], sent: bytes, escapes: list[Escape]
) -> None:
    keys = EscapeFilter()

    found = [keys.feed(piece) for piece in typed]

    assert b"".join(piece for piece, _ in found) == sent
    assert [escape for _, own in found for escape in own] == escapes


@pytest.mark.matrix(2)
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('RemoteCommand echo "at %p of %n as %r"; exit 3', "no terminal"),
        ('RemoteCommand echo "at %p of %n as %r"; tty; exit 3\nRequestTTY yes', "/dev/pts"),
        ('RemoteCommand echo "at %p of %n as %r"; tty; exit 3\nRequestTTY no', "not a tty"),
    ],
    ids=["command", "with a terminal", "without a terminal"],
)
def test_remote_command_of_ssh_config_replaces_the_shell(
    box: Sshd, inv: Inv, client_key: Path, tmp_path: Path, lines: str, expected: str
) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "config").write_text(f"Host {box.address}\n{lines}\n")
    options = ["-F", str(folder / "config"), "-p", str(box.port), "-i", str(client_key),
               "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
               "-o", "LogLevel=ERROR"]  # fmt: skip
    expected_text = f"at {box.port} of {box.address} as {box.user}".encode()

    by_ssh = at_terminal([*options, box.address], {}, tmp_path, ["ssh"])
    ours = at_terminal(["shell", "--host", "box"], {}, tmp_path)
    command = inv("run", "--host", "box", "--cmd", "echo only this")

    assert (by_ssh[0], ours[0]) == (3, 3), (by_ssh, ours)
    assert expected_text in by_ssh[1]
    assert expected_text in ours[1]
    if expected != "no terminal":
        assert expected.encode() in by_ssh[1]
        assert expected.encode() in ours[1]
    assert (command.returncode, command.stdout) == (0, b"only this\n")

"""Control masters below the client: sessions, links, masters; real ssh, real sshd."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks import SSHConfig
from ringtasks.errors import Reason, StateFileError, UnreachableError
from ringtasks.inventory.state_files import state_folder
from ringtasks.ssh.host_keys import HostKey
from ringtasks.ssh.inprocess.connection import find_way
from ringtasks.ssh.link import (
    STDERR,
    STDOUT,
    Exited,
    LinkLostError,
    NotStartedError,
    SessionRefusedError,
    Terminal,
)
from ringtasks.ssh.master import folder, lookup, processes, records, running_masters, usage
from ringtasks.ssh.master.control import Control
from ringtasks.ssh.master.identity import control_name
from ringtasks.ssh.master.link import MuxLink
from ringtasks.ssh.master.open import open_link
from ringtasks.ssh.pins import KnownHosts
from ringtasks.ssh.session_limit import when_there_is_room
from tests.support.faulty import Silent, Wire
from tests.support.fixtures import MakeSshd
from tests.support.masters import Masters, finish, masters, output
from tests.support.sshd import Sshd, make_key
from tests.support.waiting import eventually, interrupted

__all__ = ["masters"]  # a fixture


@pytest.fixture
def link(masters: Masters) -> Iterator[MuxLink]:
    with contextlib.closing(masters.link()) as link:
        yield link


# Sessions


@pytest.mark.parametrize("status", [0, 1, 255])
def test_mux_session_reports_the_exit_status_of_the_program(link: MuxLink, status: int) -> None:
    assert finish(link.open_session(f"exit {status}"))[0] == status


def test_program_ended_by_a_signal_is_reported_as_killed(link: MuxLink) -> None:
    assert finish(link.open_session("kill -TERM $$"))[0] == 137


def test_stdout_and_stderr_arrive_complete_and_separate(link: MuxLink) -> None:
    command = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero | tr '\\0' x >&2"

    status, stdout, stderr = finish(link.open_session(command), timeout=30)

    assert (status, stdout, stderr) == (0, bytes(3_000_000), b"x" * 2_000_000)


def test_stdin_reaches_a_program_that_starts_reading_late(link: MuxLink) -> None:
    sent = os.urandom(6_000_000)  # more than any buffer on the way holds
    session = link.open_session("sleep 0.5; cat")

    def send() -> None:
        session.send(sent)
        session.send_eof()

    sender = threading.Thread(target=send)
    sender.start()
    status, stdout, _ = finish(session, timeout=30)
    sender.join()

    assert (status, stdout == sent) == (0, True)


def test_sender_is_notified_when_the_program_closes_its_stdin(link: MuxLink) -> None:
    session = link.open_session("exec <&-; echo closed; sleep 30")
    assert session.receive(5) is not None

    with pytest.raises(LinkLostError, match="stdin"):
        for _ in range(1000):
            session.send(bytes(100_000))

    session.close()


def test_terminal_has_the_requested_size_and_follows_changes(link: MuxLink) -> None:
    command = 'stty size; while [ "$(stty size)" = "37 91" ]; do sleep 0.01; done; stty size'
    session = link.open_session(command, Terminal("xterm", 91, 37))
    seen = b""
    while b"37 91" not in seen:
        happened = session.receive(10)
        assert happened is not None
        assert not isinstance(happened, Exited)
        seen += happened.chunk

    session.resize(120, 50)

    assert b"50 120" in finish(session)[1]


def test_waiting_reader_is_woken(link: MuxLink) -> None:
    session = link.open_session("sleep 30")
    threading.Timer(0.1, session.wake).start()

    assert session.receive(20) is None

    session.close()


def test_closing_a_session_ends_its_waiting_readers(link: MuxLink) -> None:
    session = link.open_session("sleep 30")
    threading.Timer(0.1, session.close).start()

    with pytest.raises(LinkLostError, match="closed"):
        while session.receive(20) is None:
            pass


def test_wait_for_session_data_ends_at_its_timeout(link: MuxLink) -> None:
    session = link.open_session("sleep 30")

    started = time.monotonic()
    assert session.receive(0.2) is None

    assert time.monotonic() - started >= 0.2
    session.close()


def test_command_refused_by_the_host_is_reported_as_not_started(
    masters: Masters, make_sshd: MakeSshd, client_key: Path
) -> None:
    server = make_sshd(config=["PermitTTY no"])
    config = replace(masters.config, host=server.address, port=server.port)
    with contextlib.closing(masters.link(config)) as link, pytest.raises(LinkLostError):
        finish(link.open_session("true", Terminal("xterm", 80, 24)))


@pytest.mark.long
def test_many_sessions_leave_no_process_or_descriptor(link: MuxLink) -> None:
    output(link, "true")
    descriptors, threads = len(open_descriptors()), threading.active_count()

    for _ in range(500):
        output(link, "true")

    # What other tests left to be closed in the background may have gone meanwhile.
    assert len(open_descriptors()) <= descriptors
    assert threading.active_count() <= threads
    eventually(lambda: usage.count(link.master.socket) == 0)


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


# Links


@pytest.mark.parametrize("most", [1, 3])
def test_sessions_beyond_the_host_limit_wait_for_a_free_one(
    masters: Masters, make_sshd: MakeSshd, most: int, tmp_path: Path
) -> None:
    server = make_sshd(config=[f"MaxSessions {most}"])
    config = replace(masters.config, host=server.address, port=server.port)
    go = tmp_path / "go"
    with contextlib.closing(masters.link(config)) as link:
        waiting = f"until [ -e {go} ]; do sleep 0.05; done"
        running = [link.open_session(waiting) for _ in range(most)]
        with pytest.raises(SessionRefusedError):
            link.open_session("true")

        with ThreadPoolExecutor(most) as threads:
            ends = [threads.submit(finish, session) for session in running]
            threading.Timer(0.3, go.touch).start()
            assert in_time(link, "echo room") == b"room\n"

        assert [end.result()[0] for end in ends] == [0] * most


def in_time(link: MuxLink, command: str) -> bytes:
    """The output of a command that waits for room."""
    deadline = time.monotonic() + 10
    session = when_there_is_room(
        link, functools.partial(link.open_session, command), deadline=deadline
    )
    return finish(session)[1]


def test_link_detects_that_its_master_has_ended(link: MuxLink) -> None:
    assert link.is_alive()

    os.kill(link.master.pid, signal.SIGKILL)

    eventually(lambda: not link.is_alive())
    with pytest.raises(LinkLostError):
        link.open_session("true")


def test_closing_a_link_keeps_the_master_for_other_clients(masters: Masters, link: MuxLink) -> None:
    other = masters.link()
    link.close()

    assert not link.is_alive()
    with pytest.raises(LinkLostError, match="closed"):
        link.open_session("true")
    assert output(other, "echo on") == b"on\n"
    other.close()


def test_session_without_a_status_is_a_lost_link_if_the_master_ended(
    link: MuxLink,
) -> None:
    session = link.open_session("echo up; sleep 30")
    assert session.receive(10) is not None

    os.kill(link.master.pid, signal.SIGKILL)

    with pytest.raises(LinkLostError, match="gone"):
        while not isinstance(session.receive(10), Exited):
            pass


# Masters


def test_running_control_master_is_reused(masters: Masters, sshd: Sshd) -> None:
    logins = sshd.accepted_logins()

    first, second = masters.start(), masters.start()

    assert first.pid == second.pid
    assert sshd.accepted_logins() == logins + 1
    assert masters.running() == [first.pid]


@pytest.mark.parametrize("processes", [6, pytest.param(30, marks=pytest.mark.long)])
def test_processes_that_start_concurrently_share_one_master(
    masters: Masters, make_sshd: MakeSshd, client_key: Path, processes: int
) -> None:
    server = make_sshd()  # whose MaxStartups is the usual one
    program = (
        "import sys; from ringtasks import SSHConfig; "
        "from ringtasks.ssh.dialing import KnownWay; "
        "from ringtasks.ssh.master.open import open_link; "
        "config = SSHConfig(*sys.argv[1:2], int(sys.argv[2]), sys.argv[3], sys.argv[4]); "
        "find_way = lambda config, _: KnownWay(config); "
        "print(open_link(config, None, lambda _: None, find_way).master.pid)"
    )
    arguments = (server.address, str(server.port), server.user, str(client_key))

    def run(_: int) -> str:
        argv = [sys.executable, "-c", program, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(processes) as threads:
        pids = set(threads.map(run, range(processes)))

    assert len(pids) == 1
    assert server.accepted_logins() == 1


@pytest.mark.parametrize(
    "field", ["user", "port", "key_path", "ssh_host_key", "proxy_jump", "bind_address"]
)
def test_different_connection_settings_give_different_control_paths(
    masters: Masters, tmp_path: Path, field: str
) -> None:
    key = make_key(tmp_path / "other")
    other = {
        "user": "nobody",
        "port": 2222,
        "key_path": str(key),
        "ssh_host_key": f"ssh-ed25519 {'A' * 40}",
        "proxy_jump": "jump.example",
        "bind_address": "127.0.0.9",
    }
    changed = replace(masters.config, **{field: other[field]})

    names = {control_name(config, None, {}) for config in (masters.config, changed)}

    assert len(names) == 2


def test_regenerated_key_gives_another_control_path(tmp_path: Path) -> None:
    config = SSHConfig("h", key_path=str(make_key(tmp_path / "key")))
    before = control_name(config, None, {})

    for name in ("key", "key.pub"):
        (tmp_path / name).unlink()
    make_key(tmp_path / "key")

    assert control_name(config, None, {}) != before


def test_master_that_accepted_another_key_than_the_pin_is_not_used(
    masters: Masters, sshd: Sshd
) -> None:
    trusted = masters.start()
    known = KnownHosts()
    known.path.write_text(known.path.read_text().replace(sshd.host_public_key.split()[1], "AAAA"))

    assert lookup.find(masters.config) is None
    eventually(lambda: trusted.pid not in masters.running())


def test_socket_of_another_listening_process_is_not_trusted(masters: Masters) -> None:
    real = masters.start()
    os.kill(real.pid, signal.SIGKILL)
    real.socket.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(real.socket))
        listening.listen()

        again = masters.start()

    assert again.pid != real.pid


def test_masters_are_listed_oldest_first_with_their_session_counts(masters: Masters) -> None:
    first = masters.link()
    second = masters.link(replace(masters.config, name="other"))
    session = second.open_session("sleep 30")

    listed = running_masters.listing()

    assert [(known.master.pid, known.sessions) for known in listed] == [
        (first.master.pid, 0),
        (second.master.pid, 1),
    ]
    session.close()
    first.close()
    second.close()


def test_masters_idle_longest_are_ended_beyond_the_cap_and_none_in_use(
    masters: Masters,
) -> None:
    configs = [replace(masters.config, name=f"host-{n}") for n in range(4)]
    links = [masters.link(config) for config in configs]
    session = links[0].open_session("sleep 30")
    for link in links[2:]:
        output(link, "true")

    ended = running_masters.cap(limit=3)

    assert ended == 1
    eventually(lambda: links[1].master.pid not in masters.running())
    assert {link.master.pid for link in (links[0], *links[2:])} == set(masters.running())
    session.close()
    for link in links:
        link.close()


def test_usage_mark_of_a_dead_process_is_ignored(masters: Masters) -> None:
    held = masters.start()
    program = (
        "import sys, os; from pathlib import Path; from ringtasks.ssh.master.usage import Mark; "
        "mark = Mark(Path(sys.argv[1])); print(flush=True); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(held.socket)], check=False, timeout=30)

    assert usage.count(held.socket) == 0


def test_retiring_a_master_ends_its_process_and_removes_its_files(masters: Masters) -> None:
    held = masters.start()

    assert running_masters.retire(held)

    assert masters.running() == []
    assert not [path for path in masters.folder.iterdir() if path.suffix not in (".lock", ".now")]
    assert running_masters.retire(held)


def test_stopped_master_process_is_retired_too(masters: Masters) -> None:
    held = masters.start()
    os.kill(held.pid, signal.SIGSTOP)

    assert running_masters.retire(held)
    assert masters.running() == []


def test_control_sockets_are_accessible_to_the_owner_only(masters: Masters) -> None:
    held = masters.start()

    assert stat.S_IMODE(masters.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(held.socket.stat().st_mode) & 0o077 == 0
    masters.folder.chmod(0o755)
    with pytest.raises(StateFileError, match="others can get in"):
        folder.control_folder()


def test_symbolic_link_in_place_of_the_control_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    place = state_folder() / "ctl"
    place.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    if len(os.fsencode(place)) > 60:
        monkeypatch.setattr(folder, "_LONGEST_FOLDER", 4096)  # pytest's folders have long names

    with pytest.raises(StateFileError, match="not a folder"):
        folder.control_folder()


def test_control_path_with_the_ssh_suffix_fits_a_macos_socket_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("XDG_STATE_HOME", str(deep))

    place = records.new_socket(folder.control_folder(), "0" * 20)

    assert len(os.fsencode(place)) + 17 < 104


# Log-ins


def test_master_connects_through_a_jump_host(
    masters: Masters, make_sshd: MakeSshd, client_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bastion = make_sshd()
    hosts = Path.home() / "hosts.yaml"
    hosts.write_text(
        f"bastion: {{ssh_host: {bastion.address}, ssh_port: {bastion.port}, "
        f"ssh_user: {bastion.user}, ssh_key: {client_key}}}\n"
    )
    monkeypatch.setenv("RINGTASKS_HOSTS", str(hosts))

    link = masters.link(replace(masters.config, proxy_jump="bastion"))

    assert output(link, "echo hi") == b"hi\n"
    assert bastion.accepted_logins() >= 1
    link.close()


@pytest.mark.timeout(60)
def test_encrypted_key_is_reported_without_a_passphrase_prompt(
    masters: Masters, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "locked", "-t", "ed25519", "-N", "open sesame")
    server = make_sshd(key)
    config = replace(masters.config, host=server.address, port=server.port, key_path=str(key))

    with pytest.raises(UnreachableError, match="ssh-add"):
        open_link(config, None, lambda _: None, find_way)


def test_failed_master_reports_its_reason_and_leaves_no_file(
    masters: Masters, make_sshd: MakeSshd, tmp_path: Path
) -> None:
    server = make_sshd(make_key(tmp_path / "another"))
    config = replace(masters.config, host=server.address, port=server.port)

    with pytest.raises(UnreachableError) as caught:
        open_link(config, None, lambda _: None, find_way)

    assert [failure.reason for failure in caught.value.failures] == [Reason.AUTHENTICATION]
    assert masters.running() == []
    assert masters.sockets() == []


def test_server_without_any_preferred_algorithm_is_reached(
    masters: Masters, make_sshd: MakeSshd
) -> None:
    server = make_sshd(config=["KexAlgorithms sntrup761x25519-sha512@openssh.com"])

    link = masters.link(replace(masters.config, host=server.address, port=server.port))

    assert output(link, "echo hi") == b"hi\n"
    link.close()


def test_master_refuses_an_impostor(masters: Masters, sshd: Sshd) -> None:
    pinned = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKgYf9v1b0m4yTLm3zXzTqcGJXRmVbPBCB3tTCDmyqCk"
    KnownHosts().pin(masters.config, HostKey.parse(pinned))

    with pytest.raises(UnreachableError) as caught:
        open_link(masters.config, None, lambda _: None, find_way)

    (failure,) = caught.value.failures
    assert failure.reason is Reason.HOST_KEY
    assert "impostor" in failure.evidence
    assert masters.running() == []


def test_signals_do_not_prolong_the_wait_for_a_silent_master(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "master"))
        silent.listen()
        control = Control.connect(tmp_path / "master", 10)

        with interrupted(), pytest.raises(TimeoutError):
            control.alive(0.2)

        control.close()


def test_server_that_falls_silent_during_login_times_out(masters: Masters, sshd: Sshd) -> None:
    with Wire(sshd.address, sshd.port) as wire:
        config = replace(masters.config, port=wire.port, connect_timeout=1)
        wire.freeze_after(100)  # the client's banner, and part of its first message
        with pytest.raises(UnreachableError) as caught:
            open_link(config, None, lambda _: None, find_way)
        wire.thaw()

    assert caught.value.failures[0].reason is Reason.TIMED_OUT
    assert masters.running() == []


def test_processes_waiting_for_a_failed_login_share_its_error(masters: Masters) -> None:
    with Silent() as silent, ThreadPoolExecutor(5) as threads:
        config = replace(masters.config, host=silent.address, port=silent.port, connect_timeout=1.5)

        def fail(_: int) -> None:
            with pytest.raises(UnreachableError):
                open_link(config, None, lambda _: None, find_way)

        list(threads.map(fail, range(5)))

        assert silent.connections == 1


def test_master_logs_in_over_the_dialled_connection(masters: Masters, sshd: Sshd) -> None:
    with Wire(sshd.address, sshd.port) as wire:
        link = masters.link(replace(masters.config, port=wire.port))
        assert output(link, "true") == b""
        link.close()

        assert wire.connections == 1


def test_ssh_opens_no_connection_of_its_own_if_the_master_has_ended(
    masters: Masters, sshd: Sshd
) -> None:
    with Wire(sshd.address, sshd.port) as wire:  # sshd logs a log-in only after it has let us in
        link = masters.link(replace(masters.config, port=wire.port))
        os.kill(link.master.pid, signal.SIGKILL)
        eventually(lambda: not processes.is_master(link.master.pid, link.master.socket))

        # A process that ends loses its command line first, and its sockets a moment later: a
        # request may have been written by then, and the session reports the loss.
        with pytest.raises((LinkLostError, NotStartedError)):
            link.open_session("true").receive(20)

        assert wire.connections == 1


def test_stream_numbers_are_1_and_2() -> None:
    assert (STDOUT, STDERR) == (1, 2)

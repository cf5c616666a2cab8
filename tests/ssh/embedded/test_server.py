"""Embedded hosts: what OpenSSH's sshd does they do too, and they leave nothing behind."""

from __future__ import annotations

import base64
import contextlib
import gc
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from ringtasks.errors import UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.state_files import state_folder
from ringtasks.ssh.embedded import server
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

TIMEOUT = 10.0

Clients = Callable[..., paramiko.SSHClient]


@pytest.fixture(autouse=True)
def stop_embedded_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scratch folders go to the test's folder; every test ends with nothing running."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    server.stop_all()


@pytest.fixture
def log_in() -> Iterator[Clients]:
    """Logs in to a configuration's direct route, with its own key unless another is given."""
    clients = []

    def make(config: SSHConfig, key: paramiko.PKey | None = None) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        clients.append(client)
        _, _, encoded = (config.ssh_host_key or "").partition(" ")
        client.get_host_keys().add(
            f"[{config.host}]:{config.port}",
            "ssh-ed25519",
            paramiko.Ed25519Key(data=base64.b64decode(encoded)),
        )
        client.connect(
            config.host,
            config.port,
            config.user,
            pkey=key or paramiko.Ed25519Key.from_private_key(io.StringIO(config.private_key)),
            allow_agent=False,
            look_for_keys=False,
            timeout=TIMEOUT,
        )
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def embedded(log_in: Clients) -> paramiko.SSHClient:
    return log_in(server.serve(host_named("demo")))


@pytest.fixture(params=["embedded", "sshd"])
def client(request: pytest.FixtureRequest, log_in: Clients) -> paramiko.SSHClient:
    """A client of an embedded host, and of OpenSSH's sshd: the same must hold for both."""
    if request.param == "embedded":
        return log_in(server.serve(host_named("demo")))
    sshd: Sshd = request.getfixturevalue("sshd")
    key: Path = request.getfixturevalue("client_key")
    return log_in(
        SSHConfig(
            sshd.address,
            sshd.port,
            sshd.user,
            ssh_host_key=sshd.host_public_key,
            private_key=key.read_text(),
        )
    )


def host_named(name: str) -> SSHConfig:
    return SSHConfig("", name=name, embedded=True)


def start(client: paramiko.SSHClient, command: str, *, pty: bool = False) -> paramiko.Channel:
    channel = client.get_transport().open_session(timeout=TIMEOUT)
    channel.settimeout(TIMEOUT)
    if pty:
        channel.get_pty("vt220", width=91, height=33)
    channel.exec_command(command)
    return channel


def read_all(channel: paramiko.Channel) -> tuple[int, bytes, bytes]:
    out = channel.makefile("rb").read()
    err = channel.makefile_stderr("rb").read()
    assert channel.status_event.wait(TIMEOUT)
    return channel.recv_exit_status(), out, err


def run(client: paramiko.SSHClient, command: str, *, pty: bool = False) -> tuple[int, bytes, bytes]:
    return read_all(start(client, command, pty=pty))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # no process may reap orphans here: a zombie has ended


def read_until(channel: paramiko.Channel, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        more = channel.recv(4096)
        assert more, f"the channel ended after {seen!r}"
        seen += more
    return seen


# As sshd does it.


def test_embedded_server_returns_the_exit_status_of_the_command(client: paramiko.SSHClient) -> None:
    assert run(client, "exit 37")[0] == 37


def test_exit_status_255_of_a_command_is_reported_as_such(client: paramiko.SSHClient) -> None:
    assert run(client, "exit 255")[0] == 255


def test_stdout_and_stderr_arrive_apart_and_byte_for_byte(client: paramiko.SSHClient) -> None:
    status, out, err = run(client, r"printf '\000\377\r\n\303'; printf '\376err' >&2")

    assert (status, out, err) == (0, b"\0\xff\r\n\xc3", b"\xfeerr")


def test_command_is_read_by_the_login_shell(client: paramiko.SSHClient) -> None:
    assert run(client, 'a="é; x"; echo "$a" | cat')[1] == "é; x\n".encode()


def test_stdin_and_its_end_reach_the_command(client: paramiko.SSHClient) -> None:
    sent = os.urandom(1_000_000)
    channel = start(client, "cat")

    writing = threading.Thread(target=lambda: (channel.sendall(sent), channel.shutdown_write()))
    writing.start()
    status, out, _ = read_all(channel)
    writing.join()

    assert status == 0
    assert out == sent


def test_stdin_can_be_opened_by_its_name(client: paramiko.SSHClient) -> None:
    channel = start(client, "cat /dev/stdin")
    channel.sendall(b"by name")
    channel.shutdown_write()

    assert read_all(channel)[:2] == (0, b"by name")


def test_command_that_never_reads_its_stdin_is_not_blocked(client: paramiko.SSHClient) -> None:
    channel = start(client, "echo done")
    with contextlib.suppress(OSError):  # it may have ended, and the channel closed, before
        channel.sendall(b"x" * 200_000)

    assert read_all(channel)[:2] == (0, b"done\n")


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_command_ended_by_a_signal_is_reported_as_such(
    client: paramiko.SSHClient, name: str
) -> None:
    told: list[bytes] = []
    transport = client.get_transport()
    handler = paramiko.Channel._handle_request

    def listen(channel: paramiko.Channel, message: paramiko.Message) -> None:
        if message.get_text() == "exit-signal":
            message.get_boolean()
            told.append(message.get_string())
        message.rewind()
        message.get_int()  # the channel's number, which the transport has read before
        handler(channel, message)

    transport._channel_handler_table = {
        **transport._channel_handler_table,
        paramiko.common.MSG_CHANNEL_REQUEST: listen,
    }

    status = run(client, f"ulimit -c 0; kill -{name} $$")[0]

    assert told == [name.encode()]
    assert status == -1  # Paramiko's word for "no exit status"


def test_closing_the_channel_breaks_the_pipe_and_kills_no_process(
    client: paramiko.SSHClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = tmp_path / "done"
    loop = "trap '' PIPE; while echo up; do sleep 0.01; done 2>/dev/null"
    channel = start(client, f"{loop}; sleep 0.1; echo > {done}")
    read_until(channel, b"up")

    channel.close()

    eventually(done.exists)  # its output broke, and it went on
    server.stop_all()
    gc.collect()
    assert not [each for each in caplog.records if each.name == "asyncio"]


def test_unread_input_is_accepted_up_to_the_window_size(
    client: paramiko.SSHClient,
) -> None:
    channel = start(client, "exec sleep 60")
    channel.settimeout(1)
    sent = 0

    with pytest.raises(TimeoutError):
        while sent < 32_000_000:
            sent += channel.send(b"x" * 30_000)


def test_unread_output_blocks_the_program(client: paramiko.SSHClient, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    start(client, f"echo $$ > {pid_file}; exec head -c 64000000 /dev/zero")
    eventually(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    pid = int(pid_file.read_text())
    progress = [-1, -2]

    def has_stopped() -> bool:
        progress.append(written(pid))
        return progress[-1] > 0 and len(set(progress[-20:])) == 1

    eventually(lambda: has_stopped() or not is_running(pid))

    assert is_running(pid)
    assert progress[-1] < 32_000_000


def written(pid: int) -> int:
    """Bytes a process has written; 0 once it is gone (proc_pid_io(5))."""
    try:
        fields = Path(f"/proc/{pid}/io").read_text().split()
    except OSError:
        return 0
    return int(fields[fields.index("wchar:") + 1])


def test_unread_output_flood_pauses_and_ends_with_the_connection(
    client: paramiko.SSHClient, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    start(client, f"echo $$ > {pid_file}; exec yes")
    eventually(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    pid = int(pid_file.read_text())

    client.close()

    eventually(lambda: not is_running(pid))


def test_argument_list_too_long_is_reported_with_status_1(client: paramiko.SSHClient) -> None:
    status, out, err = run(client, "echo " + "x" * 140_000)

    assert (status, out) == (1, b"")
    assert b"Argument list too long" in err


def test_terminal_is_a_pty_with_size_and_type(client: paramiko.SSHClient) -> None:
    status, out, err = run(client, "tty -s && stty size && echo $TERM; exit 4", pty=True)

    assert (status, out, err) == (4, b"33 91\r\nvt220\r\n", b"")


def test_terminal_is_the_controlling_terminal_and_ctrl_c_interrupts(
    client: paramiko.SSHClient,
) -> None:
    command = "trap 'echo caught > /dev/tty; exit 6' INT; echo up; sleep 60 & wait"
    channel = start(client, command, pty=True)
    read_until(channel, b"up")

    channel.sendall(b"\x03")

    assert read_all(channel)[0] == 6


def test_terminal_is_resized(client: paramiko.SSHClient) -> None:
    channel = start(client, "trap 'stty size; exit' WINCH; echo up; sleep 60 & wait", pty=True)
    read_until(channel, b"up")

    channel.resize_pty(width=120, height=50)

    read_until(channel, b"50 120")


def test_terminal_hangup_ends_its_session(client: paramiko.SSHClient) -> None:
    channel = start(client, "echo $$; exec sleep 60", pty=True)
    pid = int(read_until(channel, b"\n"))

    channel.close()

    eventually(lambda: not is_running(pid))


def test_full_terminal_input_does_not_block_other_sessions(client: paramiko.SSHClient) -> None:
    channel = start(client, "stty raw -echo; echo up; sleep 60", pty=True)
    read_until(channel, b"up")

    channel.sendall(b"x" * 200_000)

    assert run(client, "echo other")[1] == b"other\n"


def test_shell_request_starts_a_login_shell(client: paramiko.SSHClient) -> None:
    channel = client.invoke_shell()
    channel.settimeout(TIMEOUT)
    channel.sendall(b'echo "[${0#-}|${0%%[!-]*}]"; exit 9\n')

    seen = channel.makefile("rb").read()

    assert b"|-]" in seen
    assert channel.recv_exit_status() == 9


def test_keepalive_request_is_answered(client: paramiko.SSHClient) -> None:
    transport = client.get_transport()

    transport.global_request("keepalive@openssh.com", wait=True)

    assert transport.is_active()
    assert transport.completion_event.is_set()


def test_port_on_loopback_is_forwarded(client: paramiko.SSHClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        channel = client.get_transport().open_channel(
            "direct-tcpip", listener.getsockname(), ("127.0.0.1", 1), timeout=TIMEOUT
        )
        channel.settimeout(TIMEOUT)
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"through")

            assert channel.recv(7) == b"through"


def test_relative_sftp_paths_start_in_the_home_directory(client: paramiko.SSHClient) -> None:
    sftp = client.open_sftp()
    start_folder = sftp.normalize(".")
    folder = f"{start_folder}/ringtasks-test-{os.getpid()}"
    relative = Path(folder).name
    sent = os.urandom(300_000)

    sftp.mkdir(relative)
    sftp.putfo(io.BytesIO(sent), f"{relative}/file")
    sftp.symlink("file", f"{relative}/link")
    received = io.BytesIO()
    sftp.getfo(f"{folder}/link", received)

    assert received.getvalue() == sent
    assert sftp.readlink(f"{relative}/link") == "file"
    assert Path(folder, "file").stat().st_size == len(sent)
    assert run(client, f"rm -r {folder}")[0] == 0


# The embedded host's own.


def test_home_and_working_folder_are_the_scratch_folder(embedded: paramiko.SSHClient) -> None:
    home = embedded.open_sftp().normalize(".")

    assert run(embedded, 'pwd; echo "$HOME"; cd; pwd')[1].decode().split() == [home] * 3
    assert embedded.open_sftp().normalize("~/a") == f"{home}/a"


def test_python3_on_path_is_the_interpreter_of_this_environment(
    embedded: paramiko.SSHClient,
) -> None:
    assert run(embedded, "command -v python3")[1].decode() == (
        f"{Path(sys.executable).parent}/python3\n"
    )


def test_environment_has_only_the_named_variables(
    embedded: paramiko.SSHClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_SSH_KEY", "secret")
    monkeypatch.setenv("LC_PARENT", "secret")

    names = {line.split(b"=")[0].decode() for line in run(embedded, "env")[1].splitlines()}

    own = {"PATH", "HOME", "USER", "LOGNAME", "SHELL"}
    assert names - own <= {"PWD", "OLDPWD", "SHLVL", "_"}  # the shell's
    assert own <= names


def test_only_locale_variables_are_accepted_from_the_client(
    embedded: paramiko.SSHClient,
) -> None:
    channel = embedded.get_transport().open_session(timeout=TIMEOUT)
    for name in ("LANG", "LC_TIME", "LANGUAGE", "LD_PRELOAD", "HOME"):
        channel.set_environment_variable(name, "sent")
    channel.exec_command('echo $LANG,$LC_TIME,$LANGUAGE,$LD_PRELOAD; [ "$HOME" = sent ]')

    assert read_all(channel) == (1, b"sent,sent,,\n", b"")


def test_signal_from_the_client_reaches_the_whole_process_group(
    embedded: paramiko.SSHClient,
) -> None:
    """As sshd does where it may: not for root, whose sessions it does not run apart."""
    channel = start(embedded, "trap 'echo caught; exit 5' TERM; echo up; sleep 60 & wait; wait")
    read_until(channel, b"up\n")
    channel.shutdown_write()  # an ended stdin is in no signal's way

    request = paramiko.Message()
    request.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    request.add_int(channel.remote_chanid)
    request.add_string("signal")
    request.add_boolean(False)
    request.add_string("TERM")
    embedded.get_transport()._send_user_message(request)

    assert read_all(channel)[:2] == (5, b"caught\n")


def test_signal_without_an_ssh_name_ends_the_channel(
    embedded: paramiko.SSHClient,
) -> None:
    assert run(embedded, f"ulimit -c 0; kill -{signal.SIGRTMIN + 1} $$")[0] == -1


def test_command_with_a_nul_is_refused(embedded: paramiko.SSHClient) -> None:
    with pytest.raises(paramiko.SSHException):
        start(embedded, "echo a\0b")

    assert run(embedded, "echo still here")[1] == b"still here\n"


def test_other_subsystems_are_refused(embedded: paramiko.SSHClient) -> None:
    channel = embedded.get_transport().open_session(timeout=TIMEOUT)

    with pytest.raises(paramiko.SSHException):
        channel.invoke_subsystem("netconf")


def test_ports_of_other_hosts_are_not_forwarded(embedded: paramiko.SSHClient) -> None:
    for address in ("192.0.2.1", "0.0.0.0", "example.com"):
        with pytest.raises(paramiko.ChannelException) as refused:
            embedded.get_transport().open_channel(
                "direct-tcpip", (address, 22), ("127.0.0.1", 1), timeout=TIMEOUT
            )

        assert refused.value.code == 1  # administratively prohibited


def test_remote_forwarding_is_refused(embedded: paramiko.SSHClient) -> None:
    with pytest.raises(paramiko.SSHException):
        embedded.get_transport().request_port_forward("127.0.0.1", 0)


def test_another_key_is_refused(log_in: Clients, client_key: Path) -> None:
    config = server.serve(host_named("demo"))
    stranger = paramiko.Ed25519Key.from_private_key_file(str(client_key))

    with pytest.raises(paramiko.AuthenticationException):
        log_in(config, stranger)


def test_key_of_one_host_does_not_open_another(log_in: Clients) -> None:
    first, second = server.serve(host_named("demo")), server.serve(host_named("demo-2"))
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(first.private_key))

    with pytest.raises(paramiko.AuthenticationException):
        log_in(second, key)


def test_only_public_key_authentication_is_offered() -> None:
    config = server.serve(host_named("demo"))
    with socket.create_connection((config.host, config.port), TIMEOUT) as connection:
        transport = paramiko.Transport(connection)
        transport.start_client(timeout=TIMEOUT)

        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_none("demo")

        transport.close()
    assert refused.value.allowed_types == ["publickey"]


def test_embedded_server_listens_on_loopback_only() -> None:
    port = server.serve(host_named("demo")).port

    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    addresses = [line.split()[3] for line in listening.splitlines()]

    assert [a for a in addresses if a.endswith(f":{port}")] == [f"127.0.0.1:{port}"]


def test_served_configuration_changes_only_the_connection_settings() -> None:
    config = SSHConfig("", name="demo", embedded=True, tailscale_ip="127.0.0.1", tailscale_port=9)

    served = server.serve(config)

    assert (served.host, served.user, served.use_control_master) == ("127.0.0.1", "demo", False)
    assert (served.name, served.tailscale_ip, served.tailscale_port) == ("demo", "127.0.0.1", 9)
    assert served.ssh_host_key is not None
    assert served.ssh_host_key.startswith("ssh-ed25519 AAAA")
    assert "PRIVATE" not in repr(served)


def test_concurrent_threads_share_one_embedded_server() -> None:
    together = threading.Barrier(16)

    def ask(_: int) -> SSHConfig:
        together.wait(TIMEOUT)
        return server.serve(host_named("demo"))

    with ThreadPoolExecutor(16) as pool:
        served = {config.port for config in pool.map(ask, range(16))}

    assert len(served) == 1
    assert len(listening_sockets()) == 1


@pytest.mark.parametrize("names", [("demo", "demo-2"), ("a/../b", "a_.._b"), ("", "..")])
def test_two_embedded_hosts_have_separate_directories(
    log_in: Clients, names: tuple[str, str]
) -> None:
    homes = [
        log_in(server.serve(host_named(name) if name else SSHConfig(""))).open_sftp().normalize(".")
        for name in names
    ]

    assert len(set(homes)) == 2
    for home in homes:
        assert Path(home).is_dir()
        assert Path(home).parent == state_folder() / "embedded"


def test_home_is_kept_for_the_next_process(log_in: Clients) -> None:
    for count in (b"1\n", b"2\n"):
        client = log_in(server.serve(host_named("demo")))
        assert run(client, "echo x >> kept; wc -l < kept")[1] == count
        server.stop_all()


def test_home_is_scratch_if_the_state_folder_cannot_be_written(
    log_in: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc")
    home = log_in(server.serve(host_named("demo"))).open_sftp().normalize(".")

    assert Path(home).is_relative_to(tempfile.gettempdir())


def test_missing_asyncssh_is_a_usage_error_that_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)  # as if it were not installed

    with pytest.raises(UsageError) as missing:
        server.serve(host_named("demo"))

    assert str(missing.value) == "embedded hosts need asyncssh: pip install 'ringtasks[demo]'"
    assert not embedded_threads()


def test_importing_the_module_does_not_load_asyncssh() -> None:
    code = "import sys, ringtasks.ssh.embedded.server; sys.exit('asyncssh' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Nothing is left behind.


def listening_sockets() -> list[int]:
    """Inodes of this process's listening TCP sockets."""
    own = {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [int(row[9]) for row in rows if row[3] == "0A" and any(row[9] in name for name in own)]


def embedded_threads() -> list[str]:
    ours = ("ringtasks-demo", "asyncio_", "waitpid-", "asyncssh")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(ours)]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_stop_all_leaves_no_thread_process_socket_or_folder(log_in: Clients) -> None:
    server.serve(host_named("warm-up"))  # whatever is opened once in a process is open now
    server.stop_all()
    files_before = open_files()
    client = log_in(server.serve(host_named("demo")))
    pids = [
        int(read_until(start(client, command, pty=pty), b"\n"))
        for command, pty in (
            ("echo $$; exec sleep 60", False),
            ("trap '' HUP TERM; echo $$; while :; do sleep 1; done", True),
            ("trap '' HUP; set -m; sleep 60 & echo $!; wait", True),  # a group of its own
            ("sleep 60 >/dev/null 2>&1 & echo $!", False),  # its shell has ended
        )
    ]
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        # A name, so that the server looks it up. Without /etc/hosts there is no such name.
        contextlib.suppress(paramiko.ChannelException),
    ):
        client.get_transport().open_channel(
            "direct-tcpip", ("localhost", listener.getsockname()[1]), ("127.0.0.1", 1)
        ).close()
    client.open_sftp().putfo(io.BytesIO(b"x"), "file")

    server.stop_all()
    client.close()

    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    assert listening_sockets() == []
    eventually(lambda: not any(map(is_running, pids)))
    eventually(lambda: not embedded_threads())
    eventually(lambda: open_files() <= files_before)


def test_stop_all_returns_quickly_with_a_connected_client(log_in: Clients) -> None:
    client = log_in(server.serve(host_named("demo")))
    run(client, "true")

    started = time.monotonic()
    server.stop_all()

    assert time.monotonic() - started < 4  # not its limit of 5 s


def test_stop_all_can_be_repeated_and_a_host_restarted(log_in: Clients) -> None:
    first = server.serve(host_named("demo"))

    server.stop_all()
    server.stop_all()
    second = server.serve(host_named("demo"))

    assert second.ssh_host_key != first.ssh_host_key
    assert run(log_in(second), "echo again")[1] == b"again\n"


def test_end_of_the_process_leaves_no_process_socket_or_folder(tmp_path: Path) -> None:
    # Paramiko logs it if the server resets the connection, because data of the client was unread.
    code = """
import io, logging, paramiko
logging.getLogger("paramiko").addHandler(logging.NullHandler())
from ringtasks.ssh.embedded import server
from ringtasks.inventory.host_settings import SSHConfig
config = server.serve(SSHConfig("", name="demo"))
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
key = paramiko.Ed25519Key.from_private_key(io.StringIO(config.private_key))
client.connect("127.0.0.1", config.port, "demo", pkey=key, allow_agent=False, look_for_keys=False)
print(client.exec_command("echo $$; exec sleep 60")[1].readline().strip())
"""
    temporary = tmp_path / "child"
    temporary.mkdir()

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
    eventually(lambda: not is_running(int(ended.stdout)))
    assert list(temporary.iterdir()) == []


def test_forked_child_does_not_stop_the_parents_host(log_in: Clients) -> None:
    client = log_in(server.serve(host_named("demo")))

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(TIMEOUT))  # a child that hangs ends, and fails the test
        server.stop_all()
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert run(client, "cd && echo there")[1] == b"there\n"

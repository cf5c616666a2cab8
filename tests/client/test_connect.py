"""``ringtasks connect``, as the ProxyCommand of a real ssh."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ringtasks.client.route_plan import load
from ringtasks.client.route_planning import plan_ahead
from ringtasks.health.store import HealthStore
from tests.support.blackhole import blackhole
from tests.support.cloudflared import Cloudflared
from tests.support.fixtures import MakeSshd, WriteHosts
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

PROGRAM = str(Path(sys.executable).with_name("ringtasks"))

Ssh = Callable[..., Sequence[str]]


@pytest.fixture
def ssh(sshd: Sshd, client_key: Path, tmp_path: Path) -> Ssh:
    """The arguments of an ssh that goes through ``ringtasks connect``."""

    def words(host: str, *command: str, hosts: Path | None = None) -> Sequence[str]:
        inventory = hosts or tmp_path / "hosts" / "hosts.yaml"
        proxy = f"{PROGRAM} connect --inventory {inventory} -- {host}"
        options = {
            "ProxyCommand": proxy, "IdentityFile": client_key, "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR", "User": sshd.user,
        }  # fmt: skip
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", *flags, "any-name", *command]

    return words


def run(words: Sequence[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def connect(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return run([PROGRAM, "connect", *arguments])


@pytest.fixture
def silent_port() -> Iterator[int]:
    with blackhole() as port:
        yield port


def test_ssh_connects_via_the_next_route_and_the_outcome_is_recorded(
    ssh: Ssh, write_hosts: WriteHosts, silent_port: int
) -> None:
    write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": silent_port})

    done = run(ssh("a", "printf reached"))

    assert done.stdout == b"reached", done.stderr
    health = HealthStore().get("a")
    assert (health.total_successes, health.total_failures) == (1, 0)
    assert health.transports["tailscale"].last_reason == "overtaken"
    assert health.transports["direct"].total_successes == 1


def test_connect_imports_no_heavy_module(
    tmp_path: Path, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    hosts = write_hosts(a={})
    heavy = ("fabric", "invoke", "paramiko", "cryptography", "rich", "asyncio", "ClusterShell")
    program = (
        "import sys; from ringtasks.common.console_script import main\n"
        f"sys.argv = ['ringtasks', 'connect', '--inventory', {str(hosts)!r}, 'a']\n"
        "try: main()\n"
        f"finally: print([n for n in {heavy!r} if n in sys.modules], file=sys.stderr)"
    )

    done = run([sys.executable, "-c", program], input=b"SSH-2.0-test\r\n")

    assert done.stdout.startswith(b"SSH-2.0-")
    assert done.stderr == b"[]\n"


@pytest.mark.parametrize(
    ("fields", "evidence"),
    [
        ({"ssh_host": "127.0.0.1", "ssh_port": 9}, b"direct (127.0.0.1:9): refused"),
        ({"ssh_host": "no-such-host.invalid"}, b"name not found"),
        ({"ssh_user": "${NOT_SET}"}, b"NOT_SET"),
        ({"embedded": True}, b"embedded"),
    ],
    ids=["refused", "no such name", "a variable that is not set", "embedded"],
)
def test_connect_reports_its_failure_on_stderr(
    write_hosts: WriteHosts, fields: dict[str, object], evidence: bytes
) -> None:
    hosts = write_hosts(a=fields)

    done = connect("--inventory", str(hosts), "a")

    assert (done.returncode, done.stdout) == (255, b"")
    assert evidence in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", [[], ["-oX=y"], ["a", "b"], ["--", "-x"], ["--inventory"]])
def test_wrong_arguments_of_connect_are_a_usage_error(
    write_hosts: WriteHosts, words: list[str]
) -> None:
    done = connect(*words)

    assert (done.returncode, b"Traceback" in done.stderr) == (255, False)
    assert done.stderr.startswith(b"ringtasks: ")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, b"no inventory: looked for hosts/*.yaml here"),
        ({"hosts.yaml": "hosts: {gpu-box: {ssh_host: 127.0.0.1}}"}, b"did you mean gpu-box?"),
        ({"hosts.yaml": "sources: [tailscale]"}, b"to allow it: --inventory hosts/hosts.yaml"),
        ({"cloud": "#!/bin/sh\necho ran >&2"}, b"to allow it: --inventory "),
        ({"hosts.yaml": "hosts: ["}, b"not YAML"),
    ],
    ids=["no inventory", "unknown", "sources", "program", "damaged"],
)
def test_name_that_is_no_address_is_not_dialled(
    tmp_path: Path, files: dict[str, str], told: bytes
) -> None:
    (tmp_path / "hosts").mkdir()
    for name, text in files.items():
        (tmp_path / "hosts" / name).write_text(text)
        (tmp_path / "hosts" / name).chmod(0o755)

    done = run([PROGRAM, "connect", "gpu-bix"], cwd=tmp_path)

    assert (done.returncode, done.stdout) == (255, b"")
    assert told in done.stderr
    assert b"ran" not in done.stderr
    assert b"route" not in done.stderr


def test_address_without_an_entry_is_dialled(tmp_path: Path, sshd: Sshd) -> None:
    done = run([PROGRAM, "connect", f"127.0.0.1:{sshd.port}"], cwd=tmp_path, input=b"SSH-2.0-t\r\n")

    assert done.stdout.startswith(b"SSH-2.0-"), done.stderr


def test_unknown_host_name_of_connect_lists_similar_names(write_hosts: WriteHosts) -> None:
    hosts = write_hosts(gpu_box={})

    done = connect("--inventory", str(hosts), "gpu-bax")

    assert b"did you mean gpu-box?" in done.stderr


def test_a_mebibyte_passes_unchanged_in_each_direction(ssh: Ssh, write_hosts: WriteHosts) -> None:
    hosts = write_hosts(a={})
    sent = os.urandom(1024 * 1024)

    assert run(ssh("a", "cat"), input=sent).stdout == sent
    assert load(str(hosts), "a") is not None
    assert run(ssh("a", "cat"), input=sent).stdout == sent  # by the plan
    assert HealthStore().get("a").total_successes == 2


@pytest.mark.parametrize("kind", ["files", "sockets", "a pipe in append mode"])
def test_connect_works_with_any_kind_of_stdin_and_stdout(
    write_hosts: WriteHosts, tmp_path: Path, kind: str
) -> None:
    hosts = write_hosts(a={})
    words = [PROGRAM, "connect", "--inventory", str(hosts), "a"]
    if kind == "files":
        (tmp_path / "in").write_bytes(b"not ssh\r\n")
        with (tmp_path / "in").open("rb") as given, (tmp_path / "out").open("wb") as taken:
            subprocess.run(words, stdin=given, stdout=taken, timeout=30, check=True)
        answer = (tmp_path / "out").read_bytes()
    elif kind == "a pipe in append mode":  # which splice(2) refuses
        os.mkfifo(tmp_path / "out")
        taken_from = os.open(tmp_path / "out", os.O_RDWR | os.O_APPEND)
        subprocess.run(words, input=b"", stdout=taken_from, timeout=30, check=True)
        answer = os.read(taken_from, 100)
        os.close(taken_from)
    else:
        ours, theirs = socket.socketpair()
        with ours, subprocess.Popen(words, stdin=theirs, stdout=theirs) as process:
            theirs.close()
            answer = ours.recv(100)
            ours.close()
            assert process.wait(10) == 0

    assert answer.startswith(b"SSH-2.0-")


def test_connect_ends_when_the_server_closes_the_connection(
    ssh: Ssh, write_hosts: WriteHosts, make_sshd: MakeSshd
) -> None:
    server = make_sshd()
    hosts = write_hosts(a={"ssh_port": server.port})
    words = [PROGRAM, "connect", "--inventory", str(hosts), "a"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(4)
        server.stop()

        assert process.wait(10) == 0


def test_connect_ends_with_ssh_even_if_the_server_is_silent(write_hosts: WriteHosts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hosts = write_hosts(a={"ssh_host": "127.0.0.1", "ssh_port": listener.getsockname()[1]})
        words = [PROGRAM, "connect", "--inventory", str(hosts), "a"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            peer, _ = listener.accept()
            peer.sendall(b"SSH-2.0-silent\r\n")
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.read(4)
            process.stdout.close()
            process.stdin.close()

            process.wait(10)

            peer.close()


def test_ssh_gets_the_connection_itself(
    write_hosts: WriteHosts, client_key: Path, sshd: Sshd, silent_port: int
) -> None:
    hosts = write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": silent_port})
    ours, theirs = socket.socketpair()
    words = [PROGRAM, "connect", "--inventory", str(hosts), "--fdpass", "a"]
    with ours, subprocess.Popen(words, stdin=theirs, stdout=theirs) as process:
        theirs.close()

        _, (descriptor, *_), _, _ = socket.recv_fds(ours, 1, 1)
        assert process.wait(20) == 0

    with socket.socket(fileno=descriptor) as connection:
        assert connection.getpeername() == (sshd.address, sshd.port)
        assert connection.recv(4) == b"SSH-"
    assert HealthStore().get("a").transports["direct"].total_successes == 1


@pytest.mark.parametrize("end", ["ssh", "the process that carries the bytes"])
def test_tunnel_behind_a_passed_socket_ends_with_either_side(
    write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd, end: str
) -> None:
    name = f"passed-{os.getpid()}.example.com"  # of this test alone
    cloudflared.serve(name, sshd.address, sshd.port)
    hosts = write_hosts(a={"ssh_host": None, "cloudflare_tunnel": name})
    ours, theirs = socket.socketpair()
    words = [PROGRAM, "connect", "--inventory", str(hosts), "--fdpass", "a"]
    with ours, subprocess.Popen(words, stdin=theirs, stdout=theirs) as process:
        theirs.close()
        _, (descriptor, *_), _, _ = socket.recv_fds(ours, 1, 1)
        assert process.wait(20) == 0
    with socket.socket(fileno=descriptor) as connection:
        assert connection.recv(4) == b"SSH-"
        if end == "ssh":
            connection.close()
        else:
            for carrier in processes_with(str(hosts)):
                os.kill(carrier, signal.SIGKILL)
            while connection.recv(4096):
                pass

    eventually(lambda: not processes_with(name) and not processes_with(str(hosts)), timeout=10)


def test_a_connection_that_cannot_be_passed_is_carried(write_hosts: WriteHosts) -> None:
    hosts = write_hosts(a={})
    words = [PROGRAM, "connect", "--inventory", str(hosts), "--fdpass", "a"]

    assert run(words, input=b"").stdout.startswith(b"SSH-")


@pytest.mark.parametrize("count", [5, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("way", ["carrying", "passing", "passing by a plan"])
def test_concurrent_connects_are_counted_exactly(
    write_hosts: WriteHosts, way: str, count: int
) -> None:
    hosts = write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": 9})
    flags = () if way == "carrying" else ("--fdpass",)
    words = [PROGRAM, "connect", "--inventory", str(hosts), *flags, "--", "a"]
    if way == "passing by a plan":
        plan_ahead(hosts, ["a"])
    ends = [socket.socketpair() for _ in range(count)]
    started = [subprocess.Popen(words, stdin=theirs, stdout=theirs) for _, theirs in ends]
    for _, theirs in ends:
        theirs.close()

    for process, (ours, _) in zip(started, ends, strict=True):
        content, descriptors, _, _ = socket.recv_fds(ours, 4, 1)
        assert content == (b"\0" if flags else b"SSH-")
        assert len(descriptors) == len(flags)
        for descriptor in descriptors:
            os.close(descriptor)
        ours.close()
        assert process.wait(60) == 0
    health = HealthStore().get("a")
    assert (health.total_successes, health.total_failures) == (count, 0)
    assert health.transports["direct"].total_successes == count


@pytest.mark.parametrize("moment", ["carrying", "dialling"])
def test_killed_connect_leaves_no_proxy_process(
    write_hosts: WriteHosts, cloudflared: Cloudflared, sshd: Sshd, moment: str
) -> None:
    name = f"{moment}-{os.getpid()}.example.com"  # of this test alone
    mode = "ok" if moment == "carrying" else "silent"
    cloudflared.serve(name, sshd.address, sshd.port, mode=mode)
    hosts = write_hosts(a={"ssh_host": None, "cloudflare_tunnel": name})
    words = [PROGRAM, "connect", "--inventory", str(hosts), "a"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        eventually(lambda: processes_with(name))
        if moment == "carrying":
            assert process.stdout is not None
            process.stdout.read(4)

        process.send_signal(signal.SIGKILL)
        process.wait()

        eventually(lambda: not processes_with(name), timeout=10)


def test_a_jump_host_of_the_inventory_is_used(
    ssh: Ssh, write_hosts: WriteHosts, sshd: Sshd
) -> None:
    write_hosts(a={"proxy_jump": "jump"}, jump={"ssh_host": "127.0.0.2"})

    done = run(ssh("a", "printf reached"))

    assert done.stdout == b"reached", done.stderr


@pytest.mark.parametrize("origin", ["flag", "variable"])
def test_a_rehearsed_failure_is_reported_to_ssh_and_not_recorded(
    write_hosts: WriteHosts, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = write_hosts(a={"tailscale_ip": "127.0.0.2", "tailscale_port": 9})
    flags = ["--rehearse", "direct=down"] if origin == "flag" else []
    if origin == "variable":
        monkeypatch.setenv("RINGTASKS_REHEARSE", "direct=down")

    done = connect("--inventory", str(hosts), *flags, "--", "a")

    assert done.returncode == 255
    assert done.stderr.startswith(b"ringtasks: REHEARSAL: direct=down (")
    assert b"refused: Connection refused (REHEARSAL: down)" in done.stderr
    assert not HealthStore().path.exists()


def test_a_rehearsed_wrong_key_ends_ssh_as_a_real_one_does(
    write_hosts: WriteHosts, sshd: Sshd
) -> None:
    hosts = write_hosts(a={"tailscale_ip": "127.0.0.2", "tailscale_port": sshd.port})

    done = connect("--inventory", str(hosts), "--rehearse", "tailscale=wrong-key", "a")

    assert (done.returncode, done.stdout) == (255, b"")
    assert b"possible man in the middle" in done.stderr


def test_connection_of_ssh_is_cut_after_its_time(ssh: Ssh, write_hosts: WriteHosts) -> None:
    write_hosts(a={})
    environment = {**os.environ, "RINGTASKS_REHEARSE": "direct=cut:2s"}

    done = run(ssh("a", "echo begun; sleep 30"), env=environment)

    assert (done.returncode, done.stdout) == (255, b"begun\n")
    assert b"REHEARSAL: the connection over direct is cut after 2 s" in done.stderr


def test_a_mistake_in_the_words_of_a_rehearsal_ends_connect(write_hosts: WriteHosts) -> None:
    hosts = write_hosts(a={})

    done = connect("--inventory", str(hosts), "--rehearse", "direct=brken", "a")

    assert (done.returncode, done.stdout) == (255, b"")
    assert b"FAILURE: down, blackhole" in done.stderr


def processes_with(text: str) -> list[int]:
    """The processes that have ``text`` in an argument."""
    found = []
    for entry in proc_files("cmdline"):
        try:
            if text.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found

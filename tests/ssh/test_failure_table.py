"""Each row of the table of failures is provoked with a real server or a real ``ssh``."""

from __future__ import annotations

import ast
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import ringtasks
from ringtasks import SSHConfig
from ringtasks.client.connectivity import probe
from ringtasks.errors import Reason, RouteError, UnreachableError, UsageError
from ringtasks.ssh.dialing import dial
from ringtasks.ssh.evaluated_config import settings_of
from ringtasks.ssh.failure_table import FAILURES, Failure, by_disconnect, by_ssh_lines
from ringtasks.ssh.routes import ProcessProxy, Route
from tests.support.faulty import (
    Answering,
    Blackhole,
    Chatty,
    Refusing,
    Resetting,
    Silent,
    Wire,
)
from tests.support.fixtures import MakeSshd
from tests.support.log_in_server import LogInServer
from tests.support.sshd import Sshd, make_key

ROWS = {row.name: row for row in FAILURES}
#: The modules that hold the reasons, or give one on purpose.
NOT_READ = ("errors", "ssh.failure_table", "ssh.rehearsal")


@dataclass
class Lab:
    """A server, and what makes others."""

    sshd: Sshd
    make_sshd: MakeSshd
    key: Path
    folder: Path

    def config(self, server: Any, use_control_master: bool, **changes: object) -> SSHConfig:
        config = SSHConfig(
            server.address, server.port, self.sshd.user, str(self.key), name="box",
            connect_timeout=5, use_control_master=use_control_master,
        )  # fmt: skip
        return replace(config, **changes)  # type: ignore[arg-type]

    def rsa_server(self, bits: int = 2048) -> Sshd:
        return self.make_sshd(host_key_options=("-t", "rsa", "-b", str(bits), "-N", ""))

    def stranger(self) -> Path:
        path = self.folder / "stranger"
        return path if path.exists() else make_key(path)

    def write_config(self, text: str) -> None:
        path = Path.home() / ".ssh" / "config"
        path.parent.mkdir(mode=0o700)
        path.write_text(text)


@pytest.fixture
def lab(sshd: Sshd, make_sshd: MakeSshd, client_key: Path, tmp_path: Path) -> Lab:
    return Lab(sshd, make_sshd, client_key, tmp_path)


def ssh_to(server: Any, *options: str) -> list[str]:
    command = [] if "-W" in options else ["true"]
    return ["-p", str(server.port), *options, "--", server.address, *command]


def in_front_of(server: Any, *options: str) -> list[str]:
    with server as entered:
        return said_by_ssh(ssh_to(entered, *options))


def said_by_ssh(arguments: list[str]) -> list[str]:
    known = ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
    if "StrictHostKeyChecking=yes" in arguments:
        known = known[:2]
    argv = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=1", *known]
    done = subprocess.run(
        [*argv, *arguments], capture_output=True, stdin=subprocess.DEVNULL, timeout=20
    )
    assert done.returncode == 255, done
    return done.stderr.decode().splitlines()


SAID_BY_SSH: dict[str, Callable[[Lab], list[str]]] = {
    "log-in refused": lambda lab: said_by_ssh(ssh_to(lab.sshd, "-i", str(lab.stranger()))),
    "host key": lambda lab: said_by_ssh(ssh_to(lab.sshd, "-o", "StrictHostKeyChecking=yes")),
    "short host key": lambda lab: said_by_ssh(
        ssh_to(lab.rsa_server(), "-o", "RequiredRSASize=3072")
    ),
    "old protocol": lambda _: in_front_of(Answering(b"SSH-1.5-old\r\n", patience=2)),
    "no common key exchange": lambda lab: said_by_ssh(
        ssh_to(lab.sshd, "-o", "KexAlgorithms=diffie-hellman-group1-sha1")
    ),
    "no common host key": lambda lab: said_by_ssh(ssh_to(lab.sshd, "-o", "HostKeyAlgorithms=sk-*")),
    "no common cipher": lambda lab: said_by_ssh(ssh_to(lab.sshd, "-c", "3des-cbc")),
    "no common MAC": lambda lab: said_by_ssh(
        ssh_to(lab.sshd, "-c", "aes128-ctr", "-m", "hmac-md5")
    ),
    "other address family": lambda _: said_by_ssh(["-4", "--", "::1", "true"]),
    "unknown name": lambda _: said_by_ssh(["--", "no-such-host.invalid", "true"]),
    "refused connection": lambda _: in_front_of(Refusing()),
    # A multicast address: the kernel refuses TCP to it.
    "no network route": lambda _: said_by_ssh(["-o", "BatchMode=yes", "--", "224.0.0.1", "true"]),
    "unusable address": lambda _: said_by_ssh(["--", "fe80::1", "true"]),
    "no such local address": lambda lab: said_by_ssh(ssh_to(lab.sshd, "-b", "192.0.2.77")),
    "no banner in time": lambda _: in_front_of(Silent()),
    "no answer in time": lambda _: in_front_of(Blackhole()),
    "broken connection": lambda _: in_front_of(Resetting()),
    "forbidden forwarding": lambda lab: said_by_ssh(
        ssh_to(lab.make_sshd(config=["AllowTcpForwarding no"]), *tunnel_of(lab, lab.sshd.port))
    ),
    "no connection behind the jump host": lambda lab: said_by_ssh(
        ssh_to(lab.sshd, *tunnel_of(lab, 1))
    ),
}


def tunnel_of(lab: Lab, port: int) -> tuple[str, ...]:
    return "-i", str(lab.key), "-W", f"{lab.sshd.address}:{port}"


@pytest.mark.parametrize("name", SAID_BY_SSH)
def test_row_describes_the_text_of_ssh(lab: Lab, name: str) -> None:
    lines = SAID_BY_SSH[name](lab)

    found = by_ssh_lines(lines)

    assert found is not None, lines
    assert found[0].name == name, lines
    assert found[1] in lines


def failure_of(config: SSHConfig) -> RouteError:
    """Return the failure of a log-in that is made anew, as a command's is."""
    found = probe([config], fresh=True)[0].failure
    assert found is not None
    return found


def too_many_keys(lab: Lab, is_master: bool) -> RouteError:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    for kind in ("ed25519", "ecdsa"):
        make_key(folder / f"id_{kind}", "-t", kind, "-N", "")
    server = lab.make_sshd(config=["MaxAuthTries 1"])
    return failure_of(lab.config(server, is_master, key_path=None))


def hung_up(code: int) -> Callable[[Lab, bool], RouteError]:
    def provoke(lab: Lab, is_master: bool) -> RouteError:
        with LogInServer("key", hangs_up="Not for you", hangs_up_code=code) as server:
            return failure_of(lab.config(server, is_master))

    return provoke


def changed_host_key(lab: Lab, is_master: bool) -> RouteError:
    pinned = lab.stranger().with_suffix(".pub").read_text()
    return failure_of(lab.config(lab.sshd, is_master, ssh_host_key=pinned))


def short_host_key(lab: Lab, is_master: bool) -> RouteError:
    lab.write_config("RequiredRSASize 3072\n")
    return failure_of(lab.config(lab.rsa_server(), is_master))


def old_protocol(lab: Lab, is_master: bool) -> RouteError:
    with Answering(b"SSH-1.5-old\r\n", patience=2) as server:
        return failure_of(lab.config(server, is_master))


def no_common(ours: str, servers: str = "") -> Callable[[Lab, bool], RouteError]:
    def provoke(lab: Lab, is_master: bool) -> RouteError:
        lab.write_config(f"{ours}\n")
        server = lab.make_sshd(overrides=servers.splitlines()) if servers else lab.sshd
        return failure_of(lab.config(server, is_master))

    return provoke


def waiting_log_in(**behaviour: object) -> Callable[[Lab, bool], RouteError]:
    def provoke(lab: Lab, is_master: bool) -> RouteError:
        with LogInServer(delay=20, **behaviour) as server:  # type: ignore[arg-type]
            return failure_of(lab.config(server, is_master, connect_timeout=1.2))

    return provoke


def broken_connection(lab: Lab, is_master: bool) -> RouteError:
    with Answering(b"SSH-2.0-unfinished\r\n") as server:
        return failure_of(lab.config(server, is_master))


def jump_host_failed(lab: Lab, is_master: bool) -> RouteError:
    with Refusing() as gone:
        jump = f"{lab.sshd.user}@{gone.address}:{gone.port}"
        return failure_of(lab.config(lab.sshd, is_master, proxy_jump=jump))


def behind_jump_host(line: str, **there: object) -> Callable[[Lab, bool], RouteError]:
    def provoke(lab: Lab, is_master: bool) -> RouteError:
        jump = lab.config(lab.make_sshd(config=[line]), False)
        behind = lab.config(lab.sshd, is_master, proxy_jump="jump", jump_host=jump, **there)
        return failure_of(behind)

    return provoke


def forced(command: str) -> Callable[[Lab, bool], RouteError]:
    return lambda lab, is_master: failure_of(
        lab.config(lab.make_sshd(config=[f"ForceCommand {command}"]), is_master)
    )


AT_LOG_IN: dict[str, Callable[[Lab, bool], RouteError]] = {
    "too many keys": too_many_keys,
    "no further method": hung_up(14),
    "unknown user": hung_up(15),
    "log-in refused": lambda lab, is_master: failure_of(
        lab.config(lab.sshd, is_master, key_path=str(lab.stranger()))
    ),
    "host key": changed_host_key,
    "short host key": short_host_key,
    "old protocol": old_protocol,
    "no common key exchange": no_common("KexAlgorithms curve25519-sha256"),
    "no common host key": no_common("HostKeyAlgorithms ecdsa-sha2-nistp256"),
    "no common cipher": no_common("Ciphers aes128-ctr", "Ciphers aes256-ctr"),
    "no common MAC": no_common(
        "Ciphers aes128-ctr\nMACs hmac-sha2-256", "Ciphers aes128-ctr\nMACs hmac-sha2-512"
    ),
    "no common algorithm": hung_up(3),
    "too many log-ins": hung_up(12),
    "log-in not approved in time": waiting_log_in(banner="https://login.example.com/1"),
    "log-in not finished in time": waiting_log_in(),
    "broken connection": broken_connection,
    "jump host failed": jump_host_failed,
    "forbidden forwarding": behind_jump_host("AllowTcpForwarding no"),
    "no connection behind the jump host": behind_jump_host("", port=1),
    "link lost": forced("kill -9 $PPID"),
    "another program": forced("echo Welcome"),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_LOG_IN)
@pytest.mark.matrix(20)
def test_row_describes_a_failed_log_in(lab: Lab, name: str, use_control_master: bool) -> None:
    failure = AT_LOG_IN[name](lab, use_control_master)

    assert_is_described(failure, ROWS[name])


def dialled(server: Any, timeout: float = 5.0) -> RouteError:
    with server as entered:
        return dialled_to(Route("direct", entered.address, entered.port), timeout)


def dialled_to(route: Route, timeout: float = 5.0) -> RouteError:
    with pytest.raises(UnreachableError) as caught:
        dial("box", [route], timeout)
    (failure,) = caught.value.failures
    return failure


def overloaded(lab: Lab) -> RouteError:
    server = lab.make_sshd(config=["MaxStartups 1:100:1"])
    while True:
        with socket.create_connection((server.address, server.port)) as waiting:
            if waiting.recv(4) == b"SSH-":  # else the look whether sshd listens still counts
                return dialled_to(Route("direct", server.address, server.port))


def overtaken(lab: Lab) -> RouteError:
    with Wire(lab.sshd.address, lab.sshd.port, delay=30) as slow:
        routes = [Route("tailscale", slow.address, slow.port),
                  Route("direct", lab.sshd.address, lab.sshd.port)]  # fmt: skip
        winner = dial("box", routes, 10)
    winner.stream.close()
    return winner.failures[0]


def through(*argv: str) -> RouteError:
    return dialled_to(Route("cloudflare", "ssh.example.com", 22, ProcessProxy(argv)))


WHILE_DIALLING: dict[str, Callable[[Lab], RouteError]] = {
    "too many log-ins": overloaded,
    "penalty": lambda _: dialled(Answering(b"Not allowed at this time\r\n")),
    "no SSH banner": lambda _: dialled(Chatty()),
    "other address family": lambda _: dialled_to(Route("direct", "::1", 22, family="inet")),
    "unknown name": lambda _: dialled_to(Route("direct", "foo..bar", 22)),
    "refused connection": lambda _: dialled(Refusing()),
    "no network route": lambda _: dialled_to(Route("direct", "224.0.0.1", 22)),
    "unusable address": lambda _: dialled_to(Route("direct", "fe80::1", 22)),
    "no such local address": lambda lab: dialled_to(
        Route("direct", lab.sshd.address, lab.sshd.port, source="192.0.2.77")
    ),
    "no banner in time": lambda _: dialled(Silent(), 0.3),
    "no answer in time": lambda _: dialled(Blackhole(), 0.3),
    "broken connection": lambda _: dialled(Resetting()),
    "overtaken": overtaken,
    "proxy not installed": lambda _: through("no-such-program"),
    "proxy failed": lambda _: through("sh", "-c", "echo token has expired >&2; exit 1"),
}


@pytest.mark.parametrize("name", WHILE_DIALLING)
def test_row_describes_a_failure_before_the_log_in(lab: Lab, name: str) -> None:
    assert_is_described(WHILE_DIALLING[name](lab), ROWS[name])


def test_words_of_a_jump_host_are_the_evidence(lab: Lab, use_control_master: bool) -> None:
    failure = behind_jump_host("", port=1)(lab, use_control_master)

    assert "Connection refused" in failure.evidence


@pytest.mark.parametrize("name", ["no network route", "unusable address"])
def test_text_of_ssh_about_a_route_is_that_of_the_system(name: str) -> None:
    assert ROWS[name].ssh
    for number in ROWS[name].errnos - {errno.ENETDOWN}:
        found = by_ssh_lines([f"ssh: connect to host a port 22: {os.strerror(number)}"])
        assert found is not None
        assert found[0].name == name


def test_host_that_wants_a_second_key_is_named(lab: Lab, use_control_master: bool) -> None:
    server = lab.make_sshd(overrides=["AuthenticationMethods publickey,publickey"])

    failure = failure_of(lab.config(server, use_control_master))

    assert "the server accepted publickey, and wants more" in failure.evidence
    assert "it wants another key, too" in failure.advice


def test_key_that_ssh_cannot_look_up_is_not_said_to_have_changed(lab: Lab) -> None:
    server = lab.make_sshd(addresses=("127.0.0.1", "::1"))
    lab.write_config(f"Host box\n  HostName [::1]\n  Port {server.port}\n")

    failure = failure_of(replace(lab.config(server, True), host="box", port=22))

    assert failure.reason is Reason.HOST_KEY
    assert failure.evidence == "Host key verification failed."


def test_ssh_that_does_not_start_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("3", "1.1"):
        (lab.folder / f"libcrypto.so.{version}").write_text("another library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(lab.folder))
    config = lab.config(lab.sshd, True)

    failure = failure_of(config)
    lab.write_config("Host box\n  Compression yes\n")
    with pytest.raises(UsageError, match="ssh does not start: check LD_LIBRARY_PATH"):
        settings_of(config)

    assert "error while loading shared libraries" in failure.evidence
    assert failure.advice.startswith("ssh does not start: check LD_LIBRARY_PATH")


def test_key_exchange_without_an_end_has_timed_out(lab: Lab, use_control_master: bool) -> None:
    with Answering(b"SSH-2.0-slow\r\n", patience=5) as server:
        failure = failure_of(lab.config(server, use_control_master, connect_timeout=1.5))

    assert_is_described(failure, ROWS["log-in not finished in time"])


def assert_is_described(failure: RouteError, row: Failure) -> None:
    assert failure.reason is row.reason, failure
    if row.name not in ("log-in refused", "host key"):  # their next step depends on the case
        assert failure.advice == row.advice, failure
    assert failure.advice
    assert failure.evidence, failure


def test_every_row_is_provoked() -> None:
    by_ssh = {row.name for row in FAILURES if row.ssh}
    by_others = {row.name for row in FAILURES if row._replace(ssh="") != _only_named(row)}

    assert by_ssh == SAID_BY_SSH.keys()
    assert by_others == AT_LOG_IN.keys() | WHILE_DIALLING.keys()
    assert by_ssh | by_others == ROWS.keys()
    assert len(ROWS) == len(FAILURES)


def _only_named(row: Failure) -> Failure:
    return Failure(row.name, row.reason, fix=row.fix)


def test_every_reason_is_in_the_table() -> None:
    assert {row.reason for row in FAILURES} == set(Reason) - {Reason.UNRECOGNISED}


def test_every_module_that_gives_a_reason_is_in_the_table() -> None:
    declared = {(module, row.reason.name) for row in FAILURES for module in row.observed}
    unrecognised = {("ssh.master.stderr_errors", "UNRECOGNISED")}

    assert set(_given_reasons()) == declared | unrecognised


def _given_reasons() -> Iterator[tuple[str, str]]:
    """Yield each module of the package and each Reason that it gives to an error."""
    root = Path(ringtasks.__file__).parent
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        if module.startswith("testing.") or module in (
            "errors",
            "ssh.failure_table",
            "ssh.rehearsal",
        ):
            continue
        if "Reason." not in (source := path.read_text()):
            continue
        tree = ast.parse(source)
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(ast.Name("Reason"), name) if _is_given(node, parents):
                    yield module, name


def _is_given(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Return False if the reason is only compared, or an entry of a set or mapping."""
    parent = parents[node]
    if isinstance(parent, ast.Tuple):
        return isinstance(parents[parent], ast.Return | ast.Assign | ast.IfExp)
    return isinstance(parent, ast.Call | ast.keyword | ast.IfExp)


def test_disconnection_without_a_row_is_unrecognised_and_verbatim(
    lab: Lab, use_control_master: bool
) -> None:
    with LogInServer("key", hangs_up="Connection refused by moon phase") as server:
        failure = failure_of(lab.config(server, use_control_master))

    assert by_disconnect("11: Connection refused by moon phase") is None
    assert failure.reason is Reason.UNRECOGNISED
    assert "Connection refused by moon phase" in failure.evidence


def test_banner_of_a_server_is_not_taken_for_the_words_of_ssh(lab: Lab) -> None:
    banner = lab.folder / "banner"
    banner.write_text(
        "ssh: connect to host x port 1: Connection refused\nConnection closed by x port 1\n"
    )
    server = lab.make_sshd(config=[f"Banner {banner}"])

    failure = failure_of(lab.config(server, use_control_master=True, key_path=str(lab.stranger())))

    assert failure.reason is Reason.AUTHENTICATION
    assert "Permission denied (publickey" in failure.evidence

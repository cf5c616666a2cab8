"""Each keyword of ssh_config(5) means here what it means to ssh, judged by what the server saw."""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ringtasks import Connection, SSHClient, SSHConfig
from ringtasks.client.connectivity import probe
from ringtasks.errors import RingtasksError
from ringtasks.ssh.evaluated_config import settings_of, with_keepalive
from ringtasks.ssh.host_key_settings import host_key_settings
from ringtasks.ssh.keywords import KEYWORDS, Meaning
from tests.support.agents import Agent
from tests.support.faulty import Silent
from tests.support.fixtures import MakeSshd
from tests.support.sshd import Sshd, make_key
from tests.support.waiting import eventually

#: The patterns of what a server's log and a command's environment show, by their names here.
SEEN = {
    "key": r"Accepted publickey for \S+ from \S+ port \d+ ssh2: (.*)",
    "user": r"Accepted publickey for (\S+)",
    "client": r"Accepted publickey for \S+ from (\S+) port",
    "cipher": r"kex: client->server cipher: (\S+)",
    "mac": r"kex: client->server cipher: \S+ MAC: (\S+)",
    "compression": r"kex: client->server .* compression: (\S+)",
    "kex": r"kex: algorithm: (\S+)",
    "host key": r"kex: host key algorithm: (\S+)",
    "environment": r"^env=(.*)",
}
COMMAND = 'echo "env=$RT_SET,$RT_SENT,${SSH_AUTH_SOCK:+agent}"'


@dataclass(frozen=True)
class Case:
    """Lines of a Host block, and the name in `SEEN` of what they change."""

    lines: str
    seen: str
    in_process: str = "equal"
    """``equal``, or a part of the error that names why it cannot be."""
    lets_in: bool = True
    """Whether ssh is let in: if a case fails everywhere, its ways are equal for another reason."""

    @property
    def keyword(self) -> str:
        return self.lines.split()[0]


#: ssh gives its jump hosts no option of its command line: it has to find their keys. Without the
#: jump host the address of this end, which this machine does not have, makes the connection fail.
KNOWN_JUMP = (
    "\nBindAddress 192.0.2.1\nHost {address} localhost\n  GlobalKnownHostsFile {known_jump}"
)

CASES = [
    Case("IdentityFile {keys}/rsa\nIdentitiesOnly yes", "key"),
    Case("IdentitiesOnly yes\nIdentityFile {keys}/second", "key"),
    Case("IdentityAgent {agent}\nIdentityFile {keys}/none", "key"),
    Case("IdentityAgent none\nIdentityFile {keys}/second", "key"),
    Case("CertificateFile {keys}/certificate.pub\nIdentityFile {keys}/signed", "key"),
    Case("PubkeyAcceptedAlgorithms rsa-sha2-256\nIdentityFile {keys}/second\n"
         "IdentityFile {keys}/rsa", "key"),
    Case("PubkeyAuthentication no", "key", lets_in=False),
    Case("PreferredAuthentications password", "key", lets_in=False),
    Case("BindAddress 127.0.0.9", "client"),
    Case("Ciphers aes256-ctr", "cipher"),
    Case("Ciphers chacha20-poly1305@openssh.com", "cipher", "ciphers chacha20"),
    Case("MACs hmac-sha2-256\nCiphers aes256-ctr", "mac"),
    Case("KexAlgorithms ecdh-sha2-nistp384", "kex"),
    Case("KexAlgorithms sntrup761x25519-sha512@openssh.com", "kex", "kexalgorithms sntrup",
         lets_in=False),
    Case("HostKeyAlgorithms rsa-sha2-256", "host key"),
    Case("Compression yes", "compression"),
    Case("SetEnv RT_SET=set", "environment"),
    Case("SendEnv RT_SE*", "environment"),
    Case("ForwardAgent yes", "environment"),
    Case("ProxyCommand nc -s 127.0.0.8 %h %p", "client"),
    Case("ProxyJump {jump}" + KNOWN_JUMP, "client"),
    Case("ProxyJump none", "client"),
    Case("StrictHostKeyChecking yes\nUserKnownHostsFile {known}", "key"),
    Case("StrictHostKeyChecking yes\nUserKnownHostsFile /dev/null", "key", lets_in=False),
    Case("GlobalKnownHostsFile {known}\nUserKnownHostsFile none\nStrictHostKeyChecking yes", "key"),
    Case("HostKeyAlias alias\nStrictHostKeyChecking yes\nUserKnownHostsFile {known_alias}", "key"),
    Case("HostKeyAlias alias\nStrictHostKeyChecking yes\nUserKnownHostsFile {known}", "key",
         lets_in=False),
    Case("KnownHostsCommand /bin/cat {known}\nStrictHostKeyChecking yes", "key"),
    Case("KnownHostsCommand /bin/cat {known_other}\nStrictHostKeyChecking yes", "key",
         lets_in=False),
    Case("RevokedHostKeys {host_key}.pub", "key", "revokedhostkeys", lets_in=False),
    Case("RequiredRSASize 3072\nHostKeyAlgorithms rsa-sha2-256", "key", lets_in=False),
    Case("RequiredRSASize 3072\nIdentitiesOnly yes\nIdentityFile {keys}/rsa\n"
         "IdentityFile {keys}/second", "key"),
    Case("CASignatureAlgorithms ssh-ed25519,rsa-sha2-512", "key"),
    Case("GSSAPIAuthentication yes", "key"),
    Case("LogLevel DEBUG3", "key"),
    Case("RequestTTY force", "environment"),
    Case("BatchMode no", "key"),
    Case("ControlMaster auto\nControlPath {keys}/cm-%C\nControlPersist 2", "key"),
    Case("LocalForward 127.0.0.1:1 127.0.0.1:22", "key"),
    Case("User {other_user}", "user"),
    Case("AddressFamily inet6", "client", lets_in=False),
    Case("AddressFamily inet\nHostName ::1", "client", lets_in=False),
    Case("AddressFamily inet6\nHostName ::1", "client"),
    Case("HostName ::1", "client"),
    Case("CanonicalizeHostname always\nMatch canonical all\n  BindAddress 127.0.0.9", "client"),
    Case("CanonicalizeHostname yes\nCanonicalDomains nowhere.invalid\n"
         "CanonicalizeFallbackLocal no", "key"),
    Case("IgnoreUnknown Tag\nTag gpu\nMatch final originalhost box\n  BindAddress 127.0.0.9",
         "client"),
    # The same keywords with other forms of their values.
    Case("IdentityFile none", "key"),
    Case('IdentityFile "{keys}/a key"\nIdentitiesOnly yes', "key"),
    Case("IdentityFile {keys}/%r-%p-%n\nIdentitiesOnly yes", "key"),
    Case("IdentityFile ${{RT_KEYS}}/second\nIdentitiesOnly yes", "key"),
    Case("IdentityAgent $RT_AGENT\nIdentityFile {keys}/none", "key"),
    Case("IdentityAgent SSH_AUTH_SOCK\nIdentityFile {keys}/none", "key"),
    Case("CertificateFile {keys}/%%-certificate.pub\nIdentityFile {keys}/signed", "key"),
    Case("Ciphers ^aes256-ctr", "cipher"),
    Case("Ciphers -chacha20*,aes128*", "cipher"),
    Case("MACs ^hmac-sha2-512\nCiphers aes256-ctr", "mac"),
    Case("KexAlgorithms -sntrup*,curve*", "kex"),
    Case("HostKeyAlgorithms ^rsa-sha2-256", "host key"),
    Case("PubkeyAcceptedAlgorithms -ssh-ed25519\nIdentityFile {keys}/second\n"
         "IdentityFile {keys}/rsa", "key"),
    Case("UserKnownHostsFile /dev/null {known}\nStrictHostKeyChecking yes", "key"),
    Case('UserKnownHostsFile /dev/null "{folder}/known spaced" /none\n'
         "StrictHostKeyChecking yes", "key"),
    Case("UserKnownHostsFile {folder}/known-of-%n\nStrictHostKeyChecking yes", "key"),
    Case("UserKnownHostsFile ${{RT_KNOWN}}\nStrictHostKeyChecking yes", "key"),
    Case("ProxyJump {jump},%r@%h:{port}" + KNOWN_JUMP, "client"),
    Case("ProxyJump ssh://{jump}" + KNOWN_JUMP, "client"),
    Case("ProxyJump %r@%h:{port}" + KNOWN_JUMP, "client"),
    Case("ProxyCommand nc -s 127.0.0.8 $(echo %h) \"%p\"", "client"),
    Case('SetEnv "RT_SET=a  b" RT_SENT=c', "environment"),
    Case("SendEnv RT_NONE RT_S?NT -RT_NONE", "environment"),
    Case("ForwardAgent {agent}", "environment"),
    Case("Match originalhost box user {user} exec true\n  BindAddress 127.0.0.9", "client"),
    Case("Match host box\n  IdentityFile {keys}/second\n  IdentitiesOnly yes", "key"),
    Case("Match host box user {user} exec true\n  IdentityFile {keys}/second\n"
         "  IdentitiesOnly yes", "key"),
    Case("Match !originalhost box\n  BindAddress 127.0.0.9\nMatch all", "client"),
]  # fmt: skip


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory, client_key: Path) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("second", "signed", "authority", "other"):
        make_key(folder / name)
    make_key(folder / "a key")
    make_key(folder / "rsa", "-t", "rsa", "-b", "2048", "-N", "")
    make_key(folder / "host_rsa", "-t", "rsa", "-b", "2048", "-N", "")
    sign = ["ssh-keygen", "-q", "-s", folder / "authority", "-I", "me", "-n", "root,runner"]
    subprocess.run([*sign, folder / "signed.pub"], check=True)
    (folder / "signed-cert.pub").rename(folder / "certificate.pub")
    (folder / "%-certificate.pub").symlink_to("certificate.pub")
    return folder


@pytest.fixture(scope="session")
def box(keys: Path, client_key: Path) -> Iterator[Sshd]:
    """A server that logs what it negotiates, and takes variables."""
    lines = [
        "LogLevel DEBUG1", "AcceptEnv RT_*", f"TrustedUserCAKeys {keys}/authority.pub",
        f"HostKey {keys}/host_rsa", "Compression yes", "AllowAgentForwarding yes",
        "MaxAuthTries 20",
    ]  # fmt: skip
    addresses = ("127.0.0.1", "::1")
    with Sshd(client_key, addresses=addresses, config=lines) as server:
        for name in ("second", "rsa", "a key"):
            server.authorize(keys / name)
        yield server


@pytest.fixture(scope="session")
def agent(keys: Path, client_key: Path) -> Iterator[Path]:
    with Agent(keys / "agent") as running:
        running.add(client_key)
        yield Path(running.path)


def observed(server: Sshd, act: Callable[[], str], wanted: str) -> str:
    """Return the part of a connection that the server saw: ``refused`` if it was not let in."""
    before = len(server.log)
    output = act()
    server.accepted_logins()  # sshd lets a client in before it logs that: wait for it
    text = server.log[before:] + output
    if wanted != "environment" and "Accepted publickey" not in text:
        return "refused"
    found = re.findall(SEEN[wanted], text, re.MULTILINE)
    return found[-1].strip() if found else "refused"


def by_ssh(server: Sshd, file: Path) -> str:
    argv = ["ssh", "-F", file, "-o", "ControlPath=none", "-o", "BatchMode=yes"]
    if "StrictHostKeyChecking" not in file.read_text():
        argv += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    done = subprocess.run(
        [*argv, "box", COMMAND], capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return done.stdout.decode()


def by_client(config: SSHConfig) -> str:
    with SSHClient(config) as client:
        return outcome_of(client.run(COMMAND, timeout=20))


def by_put(config: SSHConfig, folder: Path) -> str:
    (folder / "file").write_text("x")
    with SSHClient(config) as client:
        return outcome_of(client.scp_to(folder / "file", str(folder / "copy")))


def by_connection(config: SSHConfig) -> str:
    # The named route keeps it from the master of another way.
    with Connection(config.host, user=config.user, transport="direct") as connection:
        return str(connection.run(COMMAND, hide=True, in_stream=False).stdout)


def by_check(config: SSHConfig) -> str:
    found = probe([config], fresh=True)[0]
    error = found.failure or found.fault
    return f"error: {error}" if error else ""


def outcome_of(result: object) -> str:
    error = getattr(result, "error", None)
    return f"error: {error}" if error else getattr(result, "stdout", "")


@pytest.fixture
def write_case(
    tmp_path: Path,
    box: Sshd,
    keys: Path,
    agent: Path,
    client_key: Path,
    other_users: tuple[str, str],
) -> Callable[[Case], Path]:
    named = keys / f"{box.user}-{box.port}-box"
    if not named.exists():
        named.symlink_to("second")

    def write(case: Case) -> Path:
        folder = Path.home() / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "id_ed25519").symlink_to(client_key)
        names = {
            "known": f"[{box.address}]:{box.port}",
            "known_alias": "alias",
            "known_jump": f"[{box.address}]:{box.port},[localhost]:{box.port}",
            "known_other": f"[{box.address}]:{box.port}",
            "known-of-box": f"[{box.address}]:{box.port}",
            "known spaced": f"[{box.address}]:{box.port}",
        }
        other = (keys / "other.pub").read_text()
        for file, name in names.items():
            shown = [box.host_public_key, (keys / "host_rsa.pub").read_text()]
            lines = [other] if file == "known_other" else shown
            (tmp_path / file).write_text("".join(f"{name} {line.strip()}\n" for line in lines))
        block = case.lines.format(
            keys=keys, agent=agent, host_key=box.host_key, folder=tmp_path, user=box.user,
            port=box.port, address=box.address, other_user=other_users[0],
            jump=f"{box.user}@localhost:{box.port}",
            **{name: tmp_path / name for name in names},
        )  # fmt: skip
        path = folder / "config"
        path.write_text(
            f"Host box\n{block}\nHost box\n  HostName {box.address}\n  Port {box.port}\n"
        )
        return path

    return write


@pytest.mark.parametrize(
    "case",
    # Each takes a second or two: a fifth of them in the usual run.
    [
        pytest.param(case, marks=[] if number % 5 == 0 else [pytest.mark.long])
        for number, case in enumerate(CASES)
    ],
    ids=lambda case: case.lines.split("\n")[0][:40],
)
@pytest.mark.matrix(10)
def test_ssh_config_keyword_has_the_same_effect_as_in_ssh(
    case: Case,
    box: Sshd,
    write_case: Callable[[Case], Path],
    tmp_path: Path,
    agent: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    monkeypatch.setenv("RT_SENT", "sent")
    monkeypatch.setenv("RT_KEYS", str(Path(agent).parent))
    monkeypatch.setenv("RT_AGENT", str(agent))
    monkeypatch.setenv("RT_KNOWN", str(tmp_path / "known"))
    file = write_case(case)
    see = functools.partial(observed, box, wanted=case.seen)
    over_master = SSHConfig("box")
    in_process = replace(over_master, use_control_master=False)

    expected = see(lambda: by_ssh(box, file))
    assert (expected != "refused") is case.lets_in
    ways = {
        "over a master": lambda: by_client(over_master),
        "in process": lambda: by_client(in_process),
        "Connection": lambda: by_connection(over_master),
    }
    if case.seen != "environment":
        ways["put"] = lambda: by_put(in_process, tmp_path)
        ways["check"] = lambda: by_check(over_master)
    found: dict[str, str] = {}
    for name, act in ways.items():
        said: list[str] = []

        def recorded(act: Callable[[], str] = act, said: list[str] = said) -> str:
            try:
                said.append(act())
            except RingtasksError as error:
                said.append(f"error: {error}")
            return said[0]

        seen = see(recorded)
        is_in_process = name in ("in process", "put")
        if is_in_process and case.in_process != "equal":
            assert case.in_process in said[0], (name, said)
        else:
            found[name] = seen
            assert seen != "refused" or "error: " in said[0], (name, said)

    assert found == dict.fromkeys(found, expected)


def ways_to(host: str, folder: Path, file: Path) -> dict[str, Callable[[], object]]:
    """Every way to connect, the first of them by ssh itself."""
    over_master = SSHConfig(host)
    in_process = replace(over_master, use_control_master=False)
    ssh = ["ssh", "-F", file, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
           "-o", "UserKnownHostsFile=/dev/null", host, "true"]  # fmt: skip
    return {
        "ssh": lambda: subprocess.run(ssh, capture_output=True, stdin=subprocess.DEVNULL),
        "over a master": lambda: by_client(over_master),
        "in process": lambda: by_client(in_process),
        "Connection": lambda: by_connection(over_master),
        "put": lambda: by_put(in_process, folder),
        "check": lambda: by_check(over_master),
    }


def test_connect_timeout_limits_every_way_to_connect(
    write_case: Callable[[Case], Path], tmp_path: Path
) -> None:
    with Silent() as server:
        file = write_case(Case(f"ConnectTimeout 1\nPort {server.port}", "key"))
        held: dict[str, float] = {}

        def measured(name: str, act: Callable[[], object]) -> None:
            began = time.monotonic()
            with contextlib.suppress(RingtasksError):
                act()
            held[name] = time.monotonic() - began

        ways = ways_to("box", tmp_path, file)
        threads = [threading.Thread(target=measured, args=way) for way in ways.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert held.keys() == ways.keys()
    assert all(0.9 < seconds < 8 for seconds in held.values()), held  # the default is 10 s


def test_accepted_key_is_added_to_the_agent_by_every_way_to_connect(
    write_case: Callable[[Case], Path],
    tmp_path: Path,
    keys: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_case(
        Case(f"AddKeysToAgent yes\nIdentityFile {keys}/second\nIdentitiesOnly yes", "key")
    )
    added: dict[str, int] = {}
    with Agent(tmp_path / "own-agent") as own:
        monkeypatch.setenv("SSH_AUTH_SOCK", own.path)
        for name, act in ways_to("box", tmp_path, file).items():
            own.remove_all()
            act()
            added[name] = own.listed().count("SHA256:")

    assert added == dict.fromkeys(added, 1)


def test_every_keyword_printed_by_ssh_is_handled() -> None:
    printed = subprocess.run(
        ["ssh", "-G", "-F", "none", "-o", "ProxyCommand=x", "-o", "IdentityAgent=x", "box"],
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        text=True,
    ).stdout

    names = {line.split()[0].lower() for line in printed.splitlines()}
    assert names - KEYWORDS.keys() == set()


def test_every_keyword_of_the_ssh_config_manual_is_handled() -> None:
    """Those that are printed only if they are set are in the program's own table of keywords."""
    program = subprocess.run(["which", "ssh"], capture_output=True, check=True, text=True).stdout
    words = set(re.findall(rb"[a-z0-9]{3,40}", Path(program.strip()).read_bytes()))
    known = {name.encode() for name in KEYWORDS}

    assert len(words & known) > 100
    assert {name for name, meaning in KEYWORDS.items() if meaning is Meaning.HONOURED}


@pytest.mark.parametrize("value", ["BindInterface lo", "ProxyUseFdpass yes"])
def test_unsupported_ssh_config_value_is_an_error(
    value: str, write_case: Callable[[Case], Path], use_control_master: bool
) -> None:
    write_case(Case(value, "key"))

    with (
        SSHClient(SSHConfig("box", use_control_master=use_control_master)) as client,
        pytest.raises(ValueError, match=f"{value.lower()}: ringtasks cannot do that"),
    ):
        client.run("true")


def test_changed_answer_of_a_known_hosts_command_counts_in_a_running_process(
    write_case: Callable[[Case], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RT_KNOWN", str(tmp_path / "known of the box"))
    write_case(Case("KnownHostsCommand /bin/cat ${{RT_KNOWN}}", "key"))
    config = SSHConfig("box")
    settings = host_key_settings(config)

    for line in ("box ssh-ed25519 AAAA\n", "@revoked box ssh-ed25519 AAAA\n"):
        (tmp_path / "known of the box").write_text(line)
        eventually(lambda line=line: settings.printed(config) == line.encode(), timeout=10)  # type: ignore[misc]


def test_ssh_config_cannot_make_another_key_than_the_pin_accepted(
    write_case: Callable[[Case], Path], make_sshd: MakeSshd, use_control_master: bool
) -> None:
    write_case(Case("StrictHostKeyChecking no", "key"))
    pinned = make_key(Path.home() / "pinned").with_suffix(".pub").read_text()
    config = SSHConfig("box", ssh_host_key=pinned, use_control_master=use_control_master)

    with SSHClient(config) as client:
        result = client.run("true")

    assert result.returncode == 255
    assert "host key changed" in str(result.error)


def test_ssh_config_timeouts_apply_if_the_inventory_sets_none(
    write_case: Callable[[Case], Path],
) -> None:
    write_case(Case("ServerAliveInterval 7\nServerAliveCountMax 2", "key"))
    config = SSHConfig("box")
    settings = settings_of(config)

    changed = with_keepalive(config, settings.firsts())
    kept = with_keepalive(SSHConfig("box", server_alive_interval=9), settings.firsts())

    assert (changed.server_alive_interval, changed.server_alive_count_max) == (7, 2)
    assert (kept.server_alive_interval, kept.server_alive_count_max) == (9, 2)
    assert (Connection("box").ssh.server_alive_interval, 7) == (7, 7)

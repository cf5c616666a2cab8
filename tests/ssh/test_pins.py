"""The known-hosts file: what pins a host, and how a pin is added."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringtasks import SSHClient
from ringtasks.errors import HostKeyError, StateFileError, UsageError
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.ssh.host_keys import HostKey, Pins
from ringtasks.ssh.known_hosts import known_name
from ringtasks.ssh.pins import KnownHosts
from tests.support.fixtures import MakeSshd
from tests.support.host_keys import OTHER, OURS


def test_pin_is_stored_under_the_host_name_for_any_address(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "state" / "known_hosts")

    assert known_hosts.pin(SSHConfig("192.0.2.1", name="box"), OURS)

    assert known_hosts.pins(SSHConfig("192.0.2.2", name="box")).keys == (OURS,)
    assert known_hosts.pins(SSHConfig("192.0.2.1", name="other-box")).keys == ()


def test_pin_file_is_readable_by_openssh(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")

    known_hosts.pin(SSHConfig("192.0.2.1", 2222), OURS)

    line = f"[192.0.2.1]:2222 {OURS.type} {OURS.blob}\n"
    assert known_hosts.path.read_text() == line
    assert known_hosts.path.stat().st_mode & 0o777 == 0o600


def test_a_second_key_is_never_added_to_a_pin(tmp_path: Path) -> None:
    known_hosts, box = KnownHosts(tmp_path / "known_hosts"), SSHConfig("h", name="box")
    known_hosts.pin(box, OURS)

    assert not known_hosts.pin(box, OTHER)
    assert known_hosts.pin(box, OURS)

    assert known_hosts.pins(box).keys == (OURS,)


def test_inventory_pin_overrides_the_pin_file(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    known_hosts.pin(SSHConfig("h", name="box"), OURS)
    pinned = SSHConfig("h", name="box", ssh_host_key=f"{OTHER.type} {OTHER.blob} a comment")

    assert known_hosts.pins(pinned).keys == (OTHER,)


def test_inventory_pin_must_be_a_public_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"box: ssh_host_key: expected a public key"):
        KnownHosts(tmp_path / "known_hosts").pins(
            SSHConfig("h", name="box", ssh_host_key="ssh-ed25519 AAAA")
        )


def test_unreadable_pin_file_does_not_allow_an_unknown_key(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")

    for name in ("folder", "fifo"):
        with pytest.raises(HostKeyError, match="cannot be read"):
            KnownHosts(tmp_path / name).pins(SSHConfig("h", name="box"))


def line_of(name: str, key: HostKey) -> str:
    return f"{name} {key.type} {key.blob}\n"


def test_edited_pin_file_is_read_again(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    config = SSHConfig("h", name="box")
    known_hosts.pin(config, OURS)
    assert known_hosts.pins(config).keys == (OURS,)

    edited = tmp_path / "edited"
    edited.write_text(line_of("box", OTHER))  # of the same size
    edited.replace(known_hosts.path)

    assert known_hosts.pins(config).keys == (OTHER,)


def test_line_added_by_another_program_is_seen_before_and_after_pinning(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    known_hosts.pin(SSHConfig("h", name="a"), OURS)
    with known_hosts.path.open("a") as file:
        file.write(line_of("b", OTHER))

    known_hosts.pin(SSHConfig("h", name="c"), OURS)

    assert [known_hosts.pins(SSHConfig("h", name=name)).keys for name in "abc"] == [
        (OURS,), (OTHER,), (OURS,),
    ]  # fmt: skip
    assert not known_hosts.pin(SSHConfig("h", name="b"), OURS)


def test_deleted_pin_file_pins_no_host(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    known_hosts.pin(SSHConfig("h", name="a"), OURS)

    known_hosts.path.unlink()

    assert known_hosts.pins(SSHConfig("h", name="a")).keys == ()


BOX = SSHConfig("h", name="box")


@pytest.fixture
def known_hosts(tmp_path: Path) -> KnownHosts:
    return KnownHosts(tmp_path / "known_hosts")


@pytest.mark.parametrize("before", [line_of("a", OURS), line_of("a", OURS) + "# a note", "\n"])
def test_pin_starts_a_new_line_after_an_unterminated_one(
    known_hosts: KnownHosts, before: str
) -> None:
    known_hosts.path.write_text(before.removesuffix("\n"))

    known_hosts.pin(BOX, OTHER)

    lines = known_hosts.path.read_text().splitlines(keepends=True)
    assert lines[-1] == line_of("box", OTHER)
    assert known_hosts.pins(BOX).keys == (OTHER,)
    assert not known_hosts.pin(BOX, OURS)


def test_two_joined_lines_refuse_both_hosts_and_no_other(known_hosts: KnownHosts) -> None:
    known_hosts.path.write_text(line_of("a", OURS).rstrip("\n") + line_of("box", OTHER))

    for name in ("a", "box"):
        with pytest.raises(HostKeyError) as caught:
            known_hosts.pins(SSHConfig("h", name=name))
        assert f"{known_hosts.path}:1: this line cannot be read" in str(caught.value)
        assert "fix or remove that line" in str(caught.value)
    assert known_hosts.pin(SSHConfig("h", name="c"), OURS)


def test_damaged_line_is_reported_for_unaffected_hosts(
    known_hosts: KnownHosts, capfd: pytest.CaptureFixture[str]
) -> None:
    known_hosts.path.write_text("box ssh-ed25519 damaged\n")

    for name in ("other", "another"):
        assert known_hosts.pins(SSHConfig("h", name=name)) == Pins()

    told = f"ringtasks: warning: {known_hosts.path}:1: this line cannot be read"
    assert capfd.readouterr().err.count(told) == 1


def test_damaged_line_is_shown_without_control_characters(known_hosts: KnownHosts) -> None:
    known_hosts.path.write_text("box \x1b]0;evil\x07\n")

    with pytest.raises(HostKeyError) as caught:
        known_hosts.pins(BOX)

    assert "\x1b" not in str(caught.value)


def test_pin_that_does_not_fit_on_the_disk_leaves_the_file_unchanged(
    known_hosts: KnownHosts,
) -> None:
    before = line_of("a", OURS)
    known_hosts.path.write_text(before)

    with largest_file(len(before) + 40), pytest.raises(StateFileError, match="cannot be written"):
        known_hosts.pin(BOX, OTHER)

    assert known_hosts.path.read_text() == before
    assert known_hosts.pin(BOX, OTHER)


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Inside, no file can grow beyond: a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_pin_is_added_to_the_file_that_replaced_the_locked_file(
    known_hosts: KnownHosts,
) -> None:
    """As ``ssh-keygen -R`` and ``-H`` replace it."""
    known_hosts.path.write_text(line_of("a", OURS))
    holder = subprocess.Popen(
        [sys.executable, "-c", REPLACE_UNDER_LOCK, known_hosts.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"

    holder.stdin.close()
    known_hosts.pin(BOX, OTHER)

    assert holder.wait() == 0
    assert known_hosts.path.read_text() == line_of("new", OURS) + line_of("box", OTHER)


REPLACE_UNDER_LOCK = f"""
import fcntl, pathlib, sys, time
path = pathlib.Path(sys.argv[1])
with path.open() as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.read()
    while not any("FLOCK" in line and "->" in line for line in open("/proc/locks")):
        time.sleep(0.01)  # until the other one waits for this lock
    new = path.with_name("new")
    new.write_text({line_of("new", OURS)!r})
    new.replace(path)
"""


class Box:
    """A host whose key changes, and what is known of it; over both kinds of links."""

    def __init__(self, make_sshd: MakeSshd, key: Path, use_control_master: bool) -> None:
        self._make_sshd, self._key = make_sshd, key
        self._use_control_master = use_control_master
        self.known_hosts = KnownHosts()
        self.known_hosts.path.parent.mkdir(parents=True, exist_ok=True)
        self.server = make_sshd()

    @property
    def key(self) -> HostKey:
        return HostKey.parse(self.server.host_public_key)

    def knows(self, *lines: str) -> None:
        self.known_hosts.path.write_text("".join(f"{line}\n" for line in lines))

    def run(self, name: str = "box", **fields: object) -> str:
        """Return the output of a command, else its error."""
        config = SSHConfig(
            self.server.address,
            self.server.port,
            self.server.user,
            str(self._key),
            name=name,
            use_control_master=self._use_control_master,
            **fields,  # type: ignore[arg-type]
        )
        log_ins = self.server.accepted_logins()
        self._known = self.known_hosts.path.read_text() if self.known_hosts.path.exists() else ""
        with SSHClient(config) as client:
            result = client.run("echo hi")
        assert result.success or self.server.accepted_logins() == log_ins
        return result.stdout if result.success else str(result.error)

    def is_accepted_by_ssh(self, known_hosts: Path) -> bool:
        """Whether ``ssh`` accepts the host with the lines that it had before it was met here."""
        known_hosts.write_text(self._known)
        argv = [
            *("ssh", "-F", "none", "-i", str(self._key), "-p", str(self.server.port)),
            *("-o", "BatchMode=yes", "-o", "HostKeyAlias=box"),
            *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *(f"{self.server.user}@{self.server.address}", "true"),
        ]
        done = subprocess.run(argv, capture_output=True, check=False)
        assert done.returncode in (0, 255)
        return done.returncode == 0


@pytest.fixture
def box(make_sshd: MakeSshd, client_key: Path, use_control_master: bool) -> Box:
    return Box(make_sshd, client_key, use_control_master)


def text(key: HostKey) -> str:
    return f"{key.type} {key.blob}"


@pytest.mark.parametrize("names", ["box", "BOX", "*", "b?x,other", "a,box", "*,!other"])
@pytest.mark.matrix(8)
def test_line_pins_a_host_by_any_form_of_its_name(box: Box, names: str) -> None:
    box.knows(f"{names} {text(OTHER)}")
    assert "host key changed: got" in box.run()

    box.knows(f"{names} {text(box.key)}")
    assert box.run() == "hi\n"


def test_hashed_line_pins_a_host(box: Box) -> None:
    box.knows(f"box {text(OTHER)}")
    hashing = ["ssh-keygen", "-q", "-H", "-f", box.known_hosts.path]
    subprocess.run(hashing, check=True, capture_output=True)

    assert "host key changed: got" in box.run()


def test_any_one_of_several_pinned_keys_is_accepted(box: Box) -> None:
    box.knows(f"box {text(OTHER)}", f"box {text(box.key)}")

    assert box.run() == "hi\n"


@pytest.mark.parametrize("is_pinned", [False, True])
@pytest.mark.parametrize("is_ephemeral", [False, True])
def test_revoked_pinned_key_is_refused(box: Box, is_pinned: bool, is_ephemeral: bool) -> None:
    box.knows(f"@revoked * {text(box.key)}", *[f"box {text(box.key)}"] * is_pinned)

    assert "REVOKED" in box.run(is_ephemeral=is_ephemeral)


def test_revoked_key_is_refused_even_if_the_inventory_pins_it(box: Box) -> None:
    box.knows(f"@revoked box {text(box.key)}")

    assert "REVOKED" in box.run(ssh_host_key=text(box.key))


def test_host_with_a_revoked_old_key_is_a_first_contact(box: Box) -> None:
    box.knows(f"@revoked box {text(OTHER)}")

    assert box.run() == "hi\n"
    assert box.known_hosts.pins(SSHConfig("h", name="box")) == Pins((box.key,), (OTHER,))


def test_master_is_not_reused_after_its_host_key_is_revoked(box: Box) -> None:
    assert box.run() == "hi\n"

    with box.known_hosts.path.open("a") as file:
        file.write(f"@revoked box {text(box.key)}\n")

    assert "REVOKED" in box.run()


@pytest.mark.parametrize("line", ["box ssh-ed25519 damaged", "@revokd box x", "|1|damaged"])
def test_host_with_an_unreadable_line_is_refused(box: Box, line: str) -> None:
    box.knows(f"other {text(OTHER)}", line)

    error = box.run()

    assert f"{box.known_hosts.path}:2: this line cannot be read: '{line}" in error
    assert "fix or remove that line" in error


@pytest.mark.parametrize("name", ["#k", "a*b", '"q"', "gr\u00f6\u00dfe", "-x", "|1|x", "50%"])
@pytest.mark.matrix(5)
def test_first_contact_pins_a_host_of_any_name(box: Box, make_sshd: MakeSshd, name: str) -> None:
    assert box.run(name) == "hi\n"
    assert box.run(name) == "hi\n"
    assert box.known_hosts.path.read_text() == f"{known_name(name)} {text(box.key)}\n"

    box.server = make_sshd()
    assert "host key changed: got" in box.run(name)


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.matrix(6)
def test_pin_file_has_the_same_effect_as_in_ssh(box: Box, tmp_path: Path, seed: int) -> None:
    """With any key that is not known refused, as a first contact is where something is pinned."""
    chance = random.Random(seed)
    lines = [f"box {text(OTHER)}"] * chance.randint(0, 1)
    for _ in range(chance.randint(1, 4)):
        marker = chance.choice(("", "", "", "@revoked ", "@cert-authority "))
        names = chance.choice(("box", "BOX", "b*", "*", "other", "*,!box", "a,box", "[box]:22"))
        lines.append(f"{marker}{names} {text(chance.choice((OTHER, box.key, box.key)))}")
    chance.shuffle(lines)
    box.knows(*lines)
    if chance.random() < 0.5:
        hashing = ["ssh-keygen", "-q", "-H", "-f", box.known_hosts.path]
        subprocess.run(hashing, check=True, capture_output=True)
    is_known = box.known_hosts.pins(SSHConfig("h", name="box")).is_pinned

    is_accepted = box.run() == "hi\n"

    assert box.is_accepted_by_ssh(tmp_path / "same") == (is_accepted and is_known)

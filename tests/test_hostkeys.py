"""One pinned host key per host, whatever the route."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ringtasks.config import SSHConfig
from ringtasks.errors import StateFileError
from ringtasks.hostkeys import HostKey, KnownHosts, Verdict, judge


def key_of(seed: bytes, key_type: str = "ssh-ed25519") -> HostKey:
    name = key_type.encode()
    blob = len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big") + seed.ljust(32, b"\0")
    return HostKey(key_type, base64.b64encode(blob).decode())


OURS, OTHER = key_of(b"ours"), key_of(b"other")
OTHER_TYPE = key_of(b"ours", "ssh-rsa")


@pytest.mark.parametrize(
    ("offered", "pins", "is_ephemeral", "verdict"),
    [
        pytest.param(OURS, [], False, Verdict(True, is_new=True), id="first contact pins"),
        pytest.param(OURS, [], True, Verdict(True, is_new=False), id="ephemeral is not pinned"),
        pytest.param(OURS, [OURS], False, Verdict(True), id="the pinned key"),
        pytest.param(OTHER, [OURS], False, Verdict(False), id="a changed key"),
        pytest.param(OTHER_TYPE, [OURS], False, Verdict(False), id="a key of another type"),
        pytest.param(OTHER, [OURS], True, Verdict(False), id="a pin rules over ephemeral"),
        pytest.param(OTHER, [OURS, OTHER], False, Verdict(True), id="one of several pins"),
    ],
)
def test_what_is_trusted(
    offered: HostKey, pins: list[HostKey], is_ephemeral: bool, verdict: Verdict
) -> None:
    assert judge(offered, pins, is_ephemeral=is_ephemeral) == verdict


def test_a_pin_is_kept_under_the_hosts_name_whatever_its_address(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "state" / "known_hosts")

    assert known_hosts.pin(SSHConfig("192.0.2.1", name="box"), OURS)

    assert known_hosts.pins(SSHConfig("192.0.2.2", name="box")) == (OURS,)
    assert known_hosts.pins(SSHConfig("192.0.2.1", name="other-box")) == ()


def test_the_file_is_one_that_openssh_reads(tmp_path: Path) -> None:
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

    assert known_hosts.pins(box) == (OURS,)


def test_the_inventorys_pin_rules_over_the_file(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    known_hosts.pin(SSHConfig("h", name="box"), OURS)
    pinned = SSHConfig("h", name="box", ssh_host_key=f"{OTHER.type} {OTHER.blob} a comment")

    assert known_hosts.pins(pinned) == (OTHER,)


def test_comments_markers_and_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(
        f"# box {OTHER.type} {OTHER.blob}\n"
        f"@revoked box {OTHER.type} {OTHER.blob}\n"
        "box ssh-ed25519 not-base64\n"
        f"alias,box {OURS.type} {OURS.blob} comment\n"
    )

    assert KnownHosts(path).pins(SSHConfig("h", name="box")) == (OURS,)


def test_pins_that_cannot_be_read_are_no_licence_to_accept_any_key(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.mkdir()

    with pytest.raises(StateFileError, match="cannot be read"):
        KnownHosts(path).pins(SSHConfig("h", name="box"))


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + OURS.blob])
def test_what_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="expected a public key"):
        HostKey.parse(line)


def test_a_fingerprint_is_as_ssh_keygen_prints_it() -> None:
    # ssh-keygen -lf on this public key, OpenSSH 9.2
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

    assert HostKey.parse(line).fingerprint == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


def line_of(name: str, key: HostKey) -> str:
    return f"{name} {key.type} {key.blob}\n"


def test_a_file_that_somebody_has_edited_is_read_anew(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    config = SSHConfig("h", name="box")
    known_hosts.pin(config, OURS)
    assert known_hosts.pins(config) == (OURS,)

    edited = tmp_path / "edited"
    edited.write_text(line_of("box", OTHER))  # of the same size
    edited.replace(known_hosts.path)

    assert known_hosts.pins(config) == (OTHER,)


def test_a_line_that_another_program_added_is_seen_before_and_after_a_pin(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    known_hosts.pin(SSHConfig("h", name="a"), OURS)
    with known_hosts.path.open("a") as file:
        file.write(line_of("b", OTHER))

    known_hosts.pin(SSHConfig("h", name="c"), OURS)

    assert [known_hosts.pins(SSHConfig("h", name=name)) for name in "abc"] == [
        (OURS,), (OTHER,), (OURS,),
    ]  # fmt: skip
    assert not known_hosts.pin(SSHConfig("h", name="b"), OURS)


def test_a_file_that_is_gone_pins_nothing_any_more(tmp_path: Path) -> None:
    known_hosts = KnownHosts(tmp_path / "known_hosts")
    known_hosts.pin(SSHConfig("h", name="a"), OURS)

    known_hosts.path.unlink()

    assert known_hosts.pins(SSHConfig("h", name="a")) == ()

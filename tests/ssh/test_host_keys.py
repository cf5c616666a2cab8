"""Host keys, and which of them are trusted."""

from __future__ import annotations

import pytest

from ringtasks.ssh.host_keys import HostKey, KeyVerdict, Pins, judge
from tests.support.host_keys import OTHER, OTHER_TYPE, OURS, key_of


@pytest.mark.parametrize(
    ("offered", "pins", "is_ephemeral", "verdict"),
    [
        pytest.param(OURS, [], False, KeyVerdict(True, new_key=OURS), id="first contact pins"),
        pytest.param(OURS, [], True, KeyVerdict(True), id="ephemeral is not pinned"),
        pytest.param(OURS, [OURS], False, KeyVerdict(True), id="the pinned key"),
        pytest.param(OTHER, [OURS], False, KeyVerdict(False), id="a changed key"),
        pytest.param(OTHER_TYPE, [OURS], False, KeyVerdict(False), id="a key of another type"),
        pytest.param(OTHER, [OURS], True, KeyVerdict(False), id="a pin rules over ephemeral"),
        pytest.param(OTHER, [OURS, OTHER], False, KeyVerdict(True), id="one of several pins"),
    ],
)
def test_host_key_decision_matches_the_table(
    offered: HostKey, pins: list[HostKey], is_ephemeral: bool, verdict: KeyVerdict
) -> None:
    found = judge(offered, Pins(tuple(pins)), is_ephemeral=is_ephemeral)

    assert found[:2] == verdict[:2]


@pytest.mark.parametrize("pins", [(), (OURS,), (OTHER,)])
def test_revoked_key_is_refused_even_if_pinned(pins: tuple[HostKey, ...]) -> None:
    known = Pins(pins, revoked=(OURS,))

    assert not judge(OURS, known).is_trusted
    assert not judge(OURS, known, is_ephemeral=True).is_trusted


def test_key_other_than_the_revoked_one_is_a_first_contact() -> None:
    assert judge(OTHER, Pins(revoked=(OURS,))) == KeyVerdict(True, new_key=OTHER)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + OURS.blob,
        "ssh-ed25519 " + OURS.blob[:44],
        "ssh-ed25519 " + OURS.blob + OTHER.blob,
        "ssh-ed25519 " + OURS.blob + "AAAA",
        "ssh-rsa " + key_of(b"x", "ssh-rsa").blob,
    ],
)
def test_invalid_public_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="expected a public key"):
        HostKey.parse(line)


def test_fingerprint_equals_that_of_ssh_keygen() -> None:
    # ssh-keygen -lf on this public key, OpenSSH 9.2
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

    assert HostKey.parse(line).fingerprint == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"

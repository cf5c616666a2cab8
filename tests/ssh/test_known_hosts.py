"""The lines of a known-hosts file, read as OpenSSH reads them, or refused."""

from __future__ import annotations

import base64
import hmac
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.ssh.host_keys import HostKey
from ringtasks.ssh.known_hosts import CERT_AUTHORITY, REVOKED, Entries, known_name, names_of
from tests.support.host_keys import OTHER, OURS

OTHER_ECDSA = HostKey.parse(
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBOaFl82kmSBKHDUMFtwZmr"
    "B+kJjhvvOXtmlcQCHoVBRMyI/ug+dQpf35bqdOCpFwZ9WkBt1AoyM9+1qjM1wRhZ4="
)


def text(key: HostKey) -> str:
    return f"{key.type} {key.blob}"


def keys_about(content: str, *names: str) -> list[HostKey]:
    return [entry.key for entry in Entries(content.encode()).about(names)]


@pytest.mark.parametrize(
    ("names", "name", "is_about"),
    [
        ("box", "box", True),
        ("box", "boxer", False),
        ("Box", "bOX", True),
        ("a,box,b", "box", True),
        ("*", "box", True),
        ("b?x", "box", True),
        ("b?x", "bx", False),
        ("*.example.com", "gpu.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com,!bad.example.com", "bad.example.com", False),
        ("!bad.example.com,*.example.com", "bad.example.com", False),
        ("*.example.com,!bad.example.com", "good.example.com", True),
        ("!box", "other", False),
        ("[192.0.2.1]:2222", "[192.0.2.1]:2222", True),
        ("[192.0.2.1]:2222", "192.0.2.1", False),
        ("[192.0.2.*]:*", "[192.0.2.1]:30178", True),
        ("b[ao]x", "box", False),
        ('"box"', "box", False),
    ],
)
def test_names_match_as_in_openssh(tmp_path: Path, names: str, name: str, is_about: bool) -> None:
    line = f"{names} {text(OURS)}\n"

    assert keys_about(line, name) == [OURS] * is_about
    assert found_by_openssh(tmp_path, line, name) == ({("", OURS)} if is_about else set())


def test_a_hashed_name_is_found_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"GPU-Box,[192.0.2.1]:2222 {text(OURS)}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    hashed = file.read_text()
    assert "|1|" in hashed

    assert keys_about(hashed, "GPU-Box") == keys_about(hashed, "gpu-box") == [OURS]
    assert keys_about(hashed, "[192.0.2.1]:2222") == [OURS]
    assert keys_about(hashed, "192.0.2.1") == []


def test_markers_comments_and_blanks_are_read_as_by_openssh(tmp_path: Path) -> None:
    content = (
        f"# box {text(OTHER)}\n"
        "\n"
        f" \t box\t{text(OURS)} a comment\r\n"
        f"@revoked box {text(OTHER)}\n"
        f"@cert-authority  *.com,box  {text(OTHER_ECDSA)}\n"
    )

    about = Entries(content.encode()).about(["box"])

    assert {(entry.marker, entry.key) for entry in about} == {
        ("", OURS), (REVOKED, OTHER), (CERT_AUTHORITY, OTHER_ECDSA),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_any_known_hosts_file_is_read_as_by_openssh(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = "".join(_random_lines(chance))

    for name in NAMES:
        ours = {(entry.marker, entry.key) for entry in Entries(content.encode()).about([name])}
        assert ours == found_by_openssh(tmp_path, content, name), (name, content)


NAMES = ("a", "ab", "b.example.com", "example.com", "[a]:22", "[ab]:2222", "192.0.2.1", "::1")


def _random_lines(chance: random.Random) -> Iterator[str]:
    parts = (
        *NAMES,
        "*",
        "?",
        "a*",
        "?b",
        "*.example.com",
        "[*]:2222",
        "!a",
        "!*.com",
        "A",
        "192.*",
    )
    for _ in range(12):
        marker = chance.choice(("", "", "", f"{REVOKED} ", f"{CERT_AUTHORITY} \t"))
        names = ",".join(chance.choices(parts, k=chance.randint(1, 3)))
        if chance.random() < 0.3:
            names = _hashed(chance.choice(NAMES), chance.randbytes(20))
        key = chance.choice((OURS, OTHER, OTHER_ECDSA))
        end = chance.choice(("", " comment # more", "\r", "  "))
        yield f"{chance.choice(('', ' '))}{marker}{names} {text(key)}{end}\n"
        yield chance.choice(("", "\n", f"# a {text(OURS)}\n"))


def _hashed(name: str, salt: bytes) -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return "|".join(("", "1", *(base64.b64encode(part).decode() for part in (salt, digest))))


def damage(content: str, *names: str, is_pinned: bool = False) -> int | None:
    """The number of the line that is in the way of a host."""
    found = Entries(content.encode("utf-8", "surrogateescape")).damage_about(
        names, is_pinned=is_pinned
    )
    return found and found.number


@pytest.mark.parametrize(
    "line",
    [
        "box",
        "box ssh-ed25519",
        "box ssh-ed25519 not-base64",
        f"box ssh-ed25519 {OURS.blob[:40]}",
        f"box ssh-rsa {OURS.blob}",
        f"box {OURS.blob}",
        f"*,!other {OURS.blob}",
        f"@revoked box ssh-ed25519 {OURS.blob[:-4]}",
        f"@revokd box {text(OURS)}",
        f"@revoked\tbox {text(OURS)}",
        f"@revoked @revoked box {text(OURS)}",
        f"box {text(OURS)}\0",
        f"box {text(OURS)}other {text(OTHER)}",
        f"other {text(OURS)}box {text(OTHER)}",
        f"other {text(OURS)[:-9]}BOX,alias {text(OTHER)}",
        f"other {text(OURS)}{_hashed('box', bytes(20))} {text(OTHER)}",
        "|1|damaged",
        f"\ufeffbox {text(OURS)}",
        f"\ufeff@revoked box {text(OURS)}",
        f"b\0o\0x\0 {text(OURS)}",
        f"|2|{_hashed('box', bytes(20))[3:]} {text(OURS)}",
        "@revoked",
    ],
)
def test_damaged_line_blocks_the_hosts_it_may_name(line: str) -> None:
    assert damage(f"fine {text(OURS)}\n{line}\n", "box") == 2


@pytest.mark.parametrize(
    "line",
    [
        "other ssh-ed25519 not-base64",
        f"@revokd other {text(OURS)}",
        f"other {text(OURS)}another {text(OTHER)}",
        f"*,!box {OURS.blob}",
    ],
)
def test_damaged_line_of_another_host_is_ignored(line: str) -> None:
    assert damage(line, "box") is None


def test_damaged_hashed_line_affects_only_hosts_without_a_pin() -> None:
    assert damage("|1|damaged", "box", is_pinned=True) is None
    assert damage(f"box {OURS.blob}", "box", is_pinned=True) == 1


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("runpod-h100", "runpod-h100"),
        ("[192.0.2.1]:2222", "[192.0.2.1]:2222"),
        ("#k", "%23k"),
        ("@x", "%40x"),
        ("|1|x", "%7C1%7Cx"),
        ("a*b?", "a%2Ab%3F"),
        ("!x", "%21x"),
        ("a,b c", "a%2Cb%20c"),
        ('"q"', "%22q%22"),
        ("%23k", "%2523k"),
        ("größe", "gr%C3%B6%C3%9Fe"),
    ],
)
def test_host_name_is_written_without_special_characters(
    tmp_path: Path, name: str, written: str
) -> None:
    line = f"{known_name(name)} {text(OURS)}\n"

    assert known_name(name) == written
    assert keys_about(line, *names_of(name)) == [OURS]
    assert found_by_openssh(tmp_path, line, written) == {("", OURS)}


def test_host_name_written_unescaped_by_older_versions_is_still_found() -> None:
    assert keys_about(f"größe,100% {text(OURS)}", *names_of("größe")) == [OURS]
    assert keys_about(f"größe,100% {text(OURS)}", *names_of("100%")) == [OURS]


def test_different_host_names_are_never_written_alike() -> None:
    assert keys_about(f"{known_name('#k')} {text(OURS)}", *names_of("%23k")) == []


def found_by_openssh(folder: Path, content: str, name: str) -> set[tuple[str, HostKey]]:
    """The marker and the key of each line that ``ssh-keygen -F`` prints."""
    file = folder / "differential"
    file.write_text(content)
    argv = ["ssh-keygen", "-F", name, "-f", file]
    printed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    found = set()
    for line in printed.splitlines():
        if line and not line.startswith("#"):
            words = line.split()
            marker = words.pop(0) if words[0].startswith("@") else ""
            found.add((marker, HostKey(words[1], words[2])))
    return found

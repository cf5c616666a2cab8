"""Algorithms that a master prefers, unless ssh's settings choose some."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ringtasks.ssh.master.algorithms import preferred_algorithms


def write(name: str, text: str) -> None:
    path = Path.home() / ".ssh" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(text)


def test_ssh_accepts_the_preferred_algorithms_and_drops_only_sntrup761() -> None:
    flags = [f"-o{name}={value}" for name, value in preferred_algorithms().items()]

    usual = subprocess.check_output(["ssh", "-G", "-F", "none", "h"], text=True)
    chosen = subprocess.check_output(["ssh", "-G", "-F", "none", *flags, "h"], text=True)

    assert offered(chosen, "ciphers") == offered(usual, "ciphers")
    dropped = offered(usual, "kexalgorithms") - offered(chosen, "kexalgorithms")
    assert all(name.startswith("sntrup761") for name in dropped)
    assert "curve25519-sha256" in offered(chosen, "kexalgorithms")


def offered(settings: str, name: str) -> set[str]:
    (line,) = [line for line in settings.splitlines() if line.startswith(f"{name} ")]
    return set(line.partition(" ")[2].split(","))


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "KexAlgorithms"),
        ("Host *\n    kexalgorithms=^curve25519-sha256", "KexAlgorithms"),
        ("  Ciphers chacha20-poly1305@openssh.com", "Ciphers"),
    ],
)
def test_algorithms_set_by_the_user_are_kept(setting: str, name: str) -> None:
    write("config", f"{setting}\n")

    assert name not in preferred_algorithms()


def test_algorithms_set_in_an_included_file_are_kept(tmp_path: Path) -> None:
    write("config", "Include more/*.conf\n")
    (Path.home() / ".ssh" / "more").mkdir()
    write("more/policy.conf", "KexAlgorithms curve25519-sha256\n")

    assert "KexAlgorithms" not in preferred_algorithms()


def test_commented_algorithms_are_ignored() -> None:
    write("config", "# KexAlgorithms curve25519-sha256\n")

    assert "KexAlgorithms" in preferred_algorithms()

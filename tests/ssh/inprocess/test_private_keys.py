"""Private keys are parsed once, and again when their file has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import paramiko
import pytest

from ringtasks.errors import UsageError
from ringtasks.ssh.inprocess.fabric_settings import shared_settings
from ringtasks.ssh.inprocess.private_keys import key_of_file, key_of_text
from tests.support.sshd import make_key


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["-t", "ed25519"], paramiko.Ed25519Key),
        (["-t", "ecdsa"], paramiko.ECDSAKey),
        (["-t", "rsa", "-b", "2048"], paramiko.RSAKey),
        (["-t", "rsa", "-b", "2048", "-m", "PEM"], paramiko.RSAKey),
    ],
    ids=["ed25519", "ecdsa", "rsa", "PEM"],
)
def test_private_key_of_each_type_is_cached(
    tmp_path: Path, options: list[str], kind: type[paramiko.PKey]
) -> None:
    path = make_key(tmp_path / "key", *options, "-N", "")

    key = key_of_file(path)

    assert isinstance(key, kind)
    assert key_of_file(path) is key


def test_replaced_key_in_the_same_file_is_read_again(tmp_path: Path) -> None:
    path = make_key(tmp_path / "key")
    before = key_of_file(path)
    make_key(tmp_path / "other").replace(path)

    assert key_of_file(path) != before


def test_key_formats_handled_by_paramiko_are_left_to_it(tmp_path: Path) -> None:
    encrypted = make_key(tmp_path / "encrypted", "-t", "ed25519", "-N", "secret")
    with_certificate = make_key(tmp_path / "certified")
    shutil.copy(f"{with_certificate}.pub", f"{with_certificate}-cert.pub")
    (tmp_path / "text").write_text("no key")

    for path in (encrypted, with_certificate, tmp_path / "text", tmp_path / "nothing", tmp_path):
        assert key_of_file(path) is None


def test_key_text_gives_the_same_key_as_its_file(tmp_path: Path) -> None:
    path = make_key(tmp_path / "key")

    assert key_of_text(path.read_text()) == key_of_file(path)
    with pytest.raises(UsageError, match="expected the text of a private key"):
        key_of_text("no key")


def test_ssh_settings_are_cached_until_a_file_changes() -> None:
    before = shared_settings()
    assert shared_settings() is before

    config = Path("~/.ssh/config").expanduser()
    config.parent.mkdir()
    config.write_text("Host box\n  User somebody\n")

    assert shared_settings() is not before
    assert shared_settings().base_ssh_config.lookup("box")["user"] == "somebody"

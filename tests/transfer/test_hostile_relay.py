"""A host that passes a file on can neither change it after the check nor fill the other's disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks import SSHConfig
from ringtasks.transfer import Options, put
from tests.support.fixtures import MakeSshd
from tests.support.waiting import eventually

CONTENT = b"good" * 25_000
EVIL = b"evil()"

#: Stands in for ssh on the host that has the file; its arguments are those of the real one.
LATE = """\
#!/bin/sh
# One session waits until the file has its name, and writes then; the other sends the file.
mkfifo {folder}/late
setsid {ssh} "$@" < {folder}/late > /dev/null 2> {folder}/errors &
exec 9> {folder}/late
n=0
until ls {receiver}/.ringtasks-*/part > /dev/null 2>&1 || [ $n -gt 50 ]; do
  n=$((n + 1)); sleep 0.1
done
(
  exec > /dev/null 2>&1 < /dev/null
  trap '' PIPE
  n=0
  until [ -e {receiver}/x ] || [ $n -gt 100 ]; do n=$((n + 1)); sleep 0.05; done
  printf '{evil}' >&9
  touch {folder}/written
) &
exec 9>&-
{ssh} "$@"
"""
ENDLESS = """\
#!/bin/sh
head -c 50000000 /dev/zero | {ssh} "$@"
"""


@pytest.fixture
def relaying(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path
) -> Callable[[str], list[SSHConfig]]:
    """Two hosts that may be told to allow another key, and whose ssh is the given program."""

    def make(program: str) -> list[SSHConfig]:
        folder = tmp_path / "programs"
        folder.mkdir()
        receiver = tmp_path / "127.0.0.2"
        text = program.replace("{ssh}", str(shutil.which("ssh"))).replace("{folder}", str(folder))
        text = text.replace("{receiver}", str(receiver)).replace("{evil}", EVIL.decode())
        (folder / "ssh").write_text(text)
        (folder / "ssh").chmod(0o755)
        addresses = ("127.0.0.1", "127.0.0.2")
        server = make_sshd(addresses=addresses, environ={"PATH": f"{folder}:{os.environ['PATH']}"})
        (server.home / ".ssh").mkdir()
        (server.home / ".ssh" / "authorized_keys").symlink_to(server.authorized_keys)
        for address in addresses:
            (tmp_path / address).mkdir()
        return [
            SSHConfig(address, server.port, server.user, str(client_key), name=address,
                      work_dir=str(tmp_path / address))
            for address in addresses
        ]  # fmt: skip

    return make


def test_passed_on_file_cannot_be_changed_after_its_check(
    relaying: Callable[[str], list[SSHConfig]], tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(CONTENT)

    result = put(tmp_path / "x", "x", relaying(LATE), Options(relay=True))

    assert result, [host.error for host in result]
    assert eventually((tmp_path / "programs" / "written").exists)
    for address in ("127.0.0.1", "127.0.0.2"):
        assert (tmp_path / address / "x").read_bytes() == CONTENT
        assert os.listdir(tmp_path / address) == ["x"]  # noqa: PTH208


def test_passed_on_file_is_no_longer_than_the_original(
    relaying: Callable[[str], list[SSHConfig]], tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(CONTENT)

    result = put(tmp_path / "x", "x", relaying(ENDLESS), Options(relay=True))

    assert result, [host.error for host in result]
    notes = str([host.notes for host in result])
    assert "could not pass it on" in notes
    assert "SHA-256 differed" not in notes
    assert (tmp_path / "127.0.0.2" / "x").read_bytes() == CONTENT

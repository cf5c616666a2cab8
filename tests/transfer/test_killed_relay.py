"""A ringtasks that is killed while one host sends a file to another leaves nothing on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixtures import MakeSshd
from tests.support.jobs import is_alive
from tests.support.waiting import eventually

#: Stands for the ssh by which the giver sends: it never ends by itself.
_SSH = """\
#!/bin/sh
grep -c . {keys} >{folder}/keys
echo $$ >{folder}/new && mv {folder}/new {folder}/pid
exec sleep 60
"""
_PUT = """
import sys
from ringtasks import SSHConfig
from ringtasks.transfer import Options, put
port, user, key, folder, is_master = sys.argv[1:]
hosts = [
    SSHConfig(f"127.0.0.{n}", int(port), user, key, name=f"h{n}", work_dir=f"{folder}/{n}",
              use_control_master=is_master == "True")
    for n in (1, 2)
]
put(f"{folder}/x", "x", hosts, Options(relay=True))
"""


def test_kill_ends_the_sender_and_removes_the_key(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, use_control_master: bool
) -> None:
    bin, temporary = tmp_path / "bin", tmp_path / "temporary"
    for folder in (bin, temporary, tmp_path / "1", tmp_path / "2"):
        folder.mkdir()
    (tmp_path / "x").write_bytes(os.urandom(1000))
    path = {"PATH": f"{bin}:{os.environ['PATH']}", "TMPDIR": str(temporary)}
    server = make_sshd(addresses=["127.0.0.1", "127.0.0.2"], environ=path)
    (server.home / ".ssh").mkdir()
    (server.home / ".ssh" / "authorized_keys").symlink_to(server.authorized_keys)
    (bin / "ssh").write_text(_SSH.format(keys=server.authorized_keys, folder=tmp_path))
    (bin / "ssh").chmod(0o755)
    before = server.authorized_keys.read_text()
    arguments = [server.port, server.user, client_key, tmp_path, use_control_master]
    putting = subprocess.Popen([sys.executable, "-c", _PUT, *map(str, arguments)])
    eventually((tmp_path / "pid").exists)
    sender = int((tmp_path / "pid").read_text())

    putting.kill()
    putting.wait()

    assert (tmp_path / "keys").read_text() == "2\n"
    eventually(lambda: not is_alive(sender))
    eventually(lambda: server.authorized_keys.read_text() == before)
    eventually(lambda: list(temporary.iterdir()) == [])


@pytest.mark.parametrize("dialect", ["dash", "bash", "busybox ash", "zsh --emulate sh"])
def test_sending_script_ends_with_its_input_in_each_shell(tmp_path: Path, dialect: str) -> None:
    from ringtasks.transfer.relay import giving

    (tmp_path / "ssh").write_text(_SSH.format(keys="/dev/null", folder=tmp_path))
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "x").touch()
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path / "t")}
    (tmp_path / "t").mkdir()
    script = f"({giving(str(tmp_path / 'x'), 'root', [('127.0.0.1', 22)])})"
    sending = subprocess.Popen([*dialect.split(), "-c", script], stdin=subprocess.PIPE, env=env)
    assert sending.stdin is not None
    sending.stdin.write(b"key\n--- ringtasks: end ---\nknown\n--- ringtasks: end ---\n")
    sending.stdin.flush()
    eventually((tmp_path / "pid").exists)
    sender = int((tmp_path / "pid").read_text())
    (folder,) = (tmp_path / "t").iterdir()
    kept = {file.name: file.read_text() for file in folder.iterdir()}

    sending.stdin.close()

    assert sending.wait(10) == 1
    assert kept == {"key": "key\n", "known": "known\n"}
    assert list((tmp_path / "t").iterdir()) == []
    eventually(lambda: not is_alive(sender))

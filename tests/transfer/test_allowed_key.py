"""A key in ``authorized_keys`` for a while: the user's own keys are never lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.transfer import Options, allowed_key, put
from tests.support.fixtures import MakeSshd
from tests.support.sshd import make_key
from tests.support.waiting import eventually

PROGRAM = Path(allowed_key.__file__).with_name("allow_key.sh")
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "ash": ["busybox", "ash"],
          "zsh": ["zsh", "--emulate", "sh"]}  # fmt: skip
BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIGtleSBvZiBhIHRyYW5zZmVyAAAAAAAAAAAAAAAA+/8="
ENTRY = f"restrict,command=\"dd of='größe'\" ssh-ed25519 {BLOB} ringtasks-relay"
OWN = b"# my keys \xff\0\nssh-ed25519 AAAAC3Nza me@home\nssh-rsa AAAAB3 other"


class Host:
    """A home folder, and the program that allows the key there."""

    def __init__(self, home: Path, shell: str) -> None:
        self.home, self._shell = home, SHELLS[shell]
        self.keys = home / ".ssh" / "authorized_keys"

    def have(self, content: bytes = OWN + b"\n") -> None:
        self.keys.parent.mkdir()
        self.keys.write_bytes(content)

    @contextlib.contextmanager
    def allowing(
        self, *, before: str = "", seconds: int = 60, entry: str = ENTRY
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The program, once it has answered; ended, if it has not, at the end."""
        script = f"entry={_quoted(entry)} blob={entry.split()[-2]} seconds={seconds}\n"
        process = subprocess.Popen(
            [*self._shell, "-c", f"{before}\n{script}{PROGRAM.read_text()}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "HOME": str(self.home)},
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.keys.parent.iterdir())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    home = tmp_path / "a home"
    home.mkdir()
    return Host(home, request.param)


def answer(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return its last output, after its stdin has ended."""
    return process.communicate(timeout=20)


@pytest.mark.parametrize("content", [OWN, OWN + b"\n", b""])
def test_allowed_key_is_present_meanwhile_and_other_keys_are_kept(
    host: Host, content: bytes
) -> None:
    host.have(content)

    with host.allowing() as process:
        assert answer(process).startswith(b"ready ")
        *before, line = host.keys.read_bytes().split(b"\n")[:-1]
        said = end(process)

    assert line.startswith(b'expiry-time="2')
    assert line.endswith(ENTRY.encode())
    assert b"\n".join(before) == content.rstrip(b"\n")
    assert said == (b"removed\n", b"")
    assert host.keys.read_bytes() == (OWN + b"\n" if content else b"")
    assert host.names() == ["authorized_keys"]


def test_missing_authorized_keys_file_is_missing_again_afterwards(host: Host) -> None:
    with host.allowing() as process:
        assert answer(process).startswith(b"ready ")
        assert host.keys.stat().st_mode & 0o777 == 0o600
        end(process)

    assert host.names() == []


@pytest.mark.parametrize("kind", ["loop", "pipe", "folder", "device"])
def test_authorized_keys_that_is_no_file_is_left_alone(host: Host, kind: str) -> None:
    host.keys.parent.mkdir()
    if kind == "loop":
        host.keys.symlink_to("other")
        host.keys.with_name("other").symlink_to("authorized_keys")
    elif kind == "pipe":
        os.mkfifo(host.keys)
    elif kind == "folder":
        host.keys.mkdir()
    else:
        host.keys.symlink_to("/dev/null")
    before = host.names(), host.keys.lstat().st_ino

    with host.allowing() as process:
        said, complaint = end(process)

    assert b"left alone" in complaint
    assert (said, process.returncode) == (b"", 1)
    assert (host.names(), host.keys.lstat().st_ino) == before


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644])
def test_authorized_keys_owner_and_mode_are_kept(host: Host, mode: int) -> None:
    host.have()
    host.keys.chmod(mode)
    if os.getuid() == 0:
        os.chown(host.keys, 65534, 65534)
    before = host.keys.stat()

    with host.allowing() as process:
        assert answer(process).startswith(b"ready ")
        meanwhile = host.keys.stat()
        end(process)

    for after in (meanwhile, host.keys.stat()):
        assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
        assert after.st_gid == before.st_gid


@pytest.mark.parametrize("target", ["/{elsewhere}/real keys", "../../elsewhere/real keys"])
def test_symlinked_authorized_keys_stays_a_symbolic_link(
    host: Host, tmp_path: Path, target: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real keys").write_bytes(OWN + b"\n")
    (elsewhere / "hop").symlink_to("real keys")
    host.keys.parent.mkdir()
    host.keys.symlink_to(target.format(elsewhere=str(elsewhere).lstrip("/")))

    with host.allowing() as process:
        assert answer(process).startswith(b"ready ")
        assert BLOB in (elsewhere / "real keys").read_bytes().decode("latin-1")
        end(process)

    assert host.keys.is_symlink()
    assert (elsewhere / "real keys").read_bytes() == OWN + b"\n"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["hop", "real keys"]


def test_full_disk_leaves_authorized_keys_unchanged_and_is_reported(host: Host) -> None:
    content = (OWN * 20)[:1000]
    host.have(content)

    with host.allowing(before="trap '' XFSZ; ulimit -f 2") as process:
        said, complained = end(process)

    assert b"ready" not in said
    assert complained
    assert process.returncode == 1
    assert host.keys.read_bytes() == content
    assert host.names() == ["authorized_keys"]


def test_disk_that_fills_up_meanwhile_loses_no_key_and_is_reported(host: Host) -> None:
    """The disk is the one that a program in the place of mktemp(1) finds full."""
    host.have()
    programs = host.home / "programs"
    programs.mkdir()
    mktemp = programs / "mktemp"
    mktemp.write_text(
        f'#!/bin/sh\n[ -e "${{0%/*}}/is_full" ] || exec {shutil.which("mktemp")} "$@"\n'
        'echo "No space left on device" >&2\nexit 1\n'
    )
    mktemp.chmod(0o755)

    with host.allowing(before=f"PATH={_quoted(str(programs))}:$PATH") as process:
        assert answer(process).startswith(b"ready ")
        (programs / "is_full").touch()
        said, complained = end(process)

    assert b"removed" not in said
    assert b"No space left on device" in complained
    assert host.keys.read_bytes().startswith(OWN + b"\nexpiry-time=")


def test_keys_added_by_others_meanwhile_are_kept(host: Host) -> None:
    host.have()

    with host.allowing() as process:
        assert answer(process).startswith(b"ready ")
        with host.keys.open("ab") as file:
            file.write(b"ssh-ed25519 AAAAnew new\n")
        assert end(process)[0] == b"removed\n"

    assert host.keys.read_bytes() == OWN + b"\nssh-ed25519 AAAAnew new\n"


@pytest.mark.parametrize("signal_name", ["TERM", "HUP", "INT", "PIPE"])
def test_signal_removes_the_allowed_key(host: Host, signal_name: str) -> None:
    host.have()

    with host.allowing() as process:
        assert answer(process).startswith(b"ready ")
        subprocess.run(["kill", f"-{signal_name}", str(process.pid)], check=True)
        end(process)

    assert host.keys.read_bytes() == OWN + b"\n"


def test_authorized_keys_with_several_hard_links_is_not_changed(host: Host) -> None:
    host.have()
    os.link(host.keys, host.home / "another name")

    with host.allowing() as process:
        complained = end(process)[1]

    assert b"other names would be lost: left alone" in complained
    assert host.keys.read_bytes() == OWN + b"\n"
    assert host.names() == ["authorized_keys"]


def test_key_left_by_a_killed_process_expires_soon(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path
) -> None:
    server = make_sshd()
    key = make_key(tmp_path / "key")
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    host = Host(server.home, "dash")
    host.keys.parent.mkdir()
    host.keys.symlink_to(server.authorized_keys)

    log_in = [
        *("ssh", "-F", "none", "-i", str(key), "-p", str(server.port), "-o", "BatchMode=yes"),
        *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
        f"{server.user}@{server.address}",
    ]

    def lets_in() -> bool:
        return subprocess.run(log_in, capture_output=True, check=False).returncode == 0

    for seconds in (3600, 1):
        with host.allowing(seconds=seconds, entry=f'restrict,command="true" {public} x') as process:
            assert answer(process).startswith(b"ready ")
            process.kill()
        if seconds > 1:
            assert lets_in()
            server.revoke_all()

    assert public in server.authorized_keys.read_text()
    eventually(lambda: not lets_in())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_receiver_with_a_full_disk_keeps_its_keys_and_gets_the_file_directly(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, small_disk: Path
) -> None:
    server = make_sshd(addresses=["127.0.0.1", "127.0.0.2"])
    keys = small_disk / "authorized_keys"
    shutil.copy(server.authorized_keys, keys)
    (server.home / ".ssh").mkdir()
    (server.home / ".ssh" / "authorized_keys").symlink_to(keys)
    before = keys.read_bytes()
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    (tmp_path / "x").write_bytes(os.urandom(1000))
    configs = []
    for address in ("127.0.0.1", "127.0.0.2"):
        folder = tmp_path / address
        folder.mkdir()
        configs.append(
            SSHConfig(address, server.port, server.user, str(client_key), name=address,
                      work_dir=str(folder))
        )  # fmt: skip

    result = put(tmp_path / "x", "x", configs, Options(relay=True))

    assert result
    assert "the key was not allowed" in str([host.notes for host in result])
    assert "No space left on device" in str([host.notes for host in result])
    assert keys.read_bytes() == before
    assert sorted(path.name for path in small_disk.iterdir()) == ["authorized_keys", "filler"]

"""Programs that start ssh reach a host by ``inv ssh-config`` while its first route is dead.

`test_ssh_config` has OpenSSH's own clients, rsync and git; these ones take longer to install.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.health.store import HealthStore
from tests.support.fixtures import Inv, WriteHosts
from tests.support.terminal import at_terminal

pytestmark = pytest.mark.heavy


@pytest.fixture
def config(inv: Inv, write_hosts: WriteHosts, tmp_path: Path) -> Iterator[Path]:
    """A file for ``ssh -F``; each test is to reach the host by its second route."""
    write_hosts(a={"tailscale_ip": "127.0.0.1", "tailscale_port": 9})
    file = tmp_path / "ssh_config"
    file.write_bytes(inv("ssh-config").stdout)
    yield file
    routes = HealthStore().get("a").transports
    assert routes["direct"].total_successes > 0
    assert routes["tailscale"].last_reason == "refused"


def test_ansible_runs_a_raw_command(config: Path) -> None:
    program = Path(sys.executable).with_name("ansible")

    # Its own control sockets; the path of a socket is short.
    with tempfile.TemporaryDirectory(dir="/tmp") as sockets:
        done = subprocess.run(
            [
                program, "a", "-i", "a,", "-m", "raw", "-a", "printf reached",
                "--ssh-common-args", f"-F {config}",
            ],
            env={**os.environ, "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets},
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert b"reached" in done.stdout


if Path("/dev/fuse").exists():  # the kernel's part, which no package brings

    def test_sshfs_mounts_a_folder(config: Path, tmp_path: Path) -> None:
        there, mounted = tmp_path / "there", tmp_path / "mounted"
        there.mkdir()
        mounted.mkdir()
        (there / "file").write_text("content")

        done = subprocess.run(
            ["sshfs", "-F", config, f"a:{there}", mounted],
            capture_output=True,
            timeout=60,
            check=False,
        )
        try:
            assert done.returncode == 0, done.stderr
            assert (mounted / "file").read_text() == "content"
            (mounted / "other").write_text("back")
        finally:
            subprocess.run(["fusermount3", "-u", mounted], timeout=60, check=done.returncode == 0)

        assert (there / "other").read_text() == "back"


def test_mosh_starts_its_server_and_uses_the_address_that_sshd_has(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TERM", "xterm")
    ssh = f"ssh -F {config}"
    flags = ["--experimental-remote-ip=remote", "--ssh", ssh, "--no-init"]
    sized = ["sh", "-c", 'stty rows 24 cols 80; exec mosh "$@"', "mosh"]

    status, shown = at_terminal([*flags, "a", "--", "printf", "reached"], {}, tmp_path, sized)

    assert status == 0, shown
    assert b"reached" in shown

"""A Dropbear server on loopback.  Unlike OpenSSH's, it makes no session for a command."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.support.waiting import eventually

__all__ = ["Dropbear"]


class Dropbear:
    """``dropbear`` on a free port; it lets the key in ``~/.ssh/authorized_keys`` of ``home`` in.

    It reads the home of the user from passwd(5), so ``home`` is mounted there, for it alone, which
    needs root.
    """

    def __init__(self, folder: Path, authorized: Path) -> None:
        program = shutil.which("dropbear", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "dropbear is missing: install dropbear-bin"
        self.address, self.port, self.user = "127.0.0.1", _free_port(), "root"
        self.home = folder / "home"
        keys = self.home / ".ssh" / "authorized_keys"
        keys.parent.mkdir(parents=True)
        for private in (self.home, keys.parent):
            private.chmod(0o700)
        keys.write_text(Path(f"{authorized}.pub").read_text())
        keys.chmod(0o600)
        host_key = folder / "dropbear_key"
        subprocess.run(
            ["dropbearkey", "-t", "ed25519", "-f", host_key], check=True, capture_output=True
        )
        serve = f"exec {program} -F -E -s -P '' -r {host_key} -p {self.address}:{self.port}"
        self._log = (folder / "dropbear.log").open("wb")
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f"mount --bind {self.home} ~root && {serve}"],
            stdin=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )
        eventually(self._answers)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # its sessions, too
        self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as probe:
                return probe.recv(4) == b"SSH-"
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

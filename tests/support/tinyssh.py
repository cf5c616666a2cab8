"""A TinySSH server on loopback: one cipher, one kind of key, and no SFTP."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from pathlib import Path

__all__ = ["TinySsh"]


class TinySsh:
    """Starts ``tinysshd`` for each connection; as with `Dropbear`, ``home`` is mounted for it."""

    def __init__(self, folder: Path, authorized: Path) -> None:
        assert shutil.which("tinysshd", path="/usr/sbin:/usr/bin"), "install tinysshd"
        self.user, self._keys = "root", folder / "tinyssh-keys"
        self.home = folder / "tinyssh-home"
        authorized_keys = self.home / ".ssh" / "authorized_keys"
        authorized_keys.parent.mkdir(parents=True)
        for private in (self.home, authorized_keys.parent):
            private.chmod(0o700)
        authorized_keys.write_text(Path(f"{authorized}.pub").read_text())
        authorized_keys.chmod(0o600)
        subprocess.run(["tinysshd-makekey", "-q", self._keys], check=True)
        self._children: list[subprocess.Popen[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TinySsh:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.wait()

    def _accept(self) -> None:
        serve = f"mount --bind {self.home} ~root && exec tinysshd {self._keys}"
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._children.append(
                    subprocess.Popen(
                        ["unshare", "--mount", "sh", "-c", serve],
                        stdin=connection,
                        stdout=connection,
                        stderr=subprocess.DEVNULL,
                    )
                )

"""Hosts that share one home, each with another fault; made when they are first asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from ringtasks import SSHClient, SSHConfig
from tests.support.faulty import Wire
from tests.support.jobs import end_jobs
from tests.support.processes import proc_files
from tests.support.sshd import Sshd

__all__ = ["FaultHosts", "empty", "fill"]

_NOISY = """\
#!/bin/sh
echo 'Welcome! ringtasks:0:0:1'
echo 'You have mail.' >&2
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
#: Another machine: it has a boot and a hostname of its own.
_ELSEWHERE = """\
#!/bin/sh
exec unshare --mount --uts sh -c '
  mount --bind "$1" /proc/sys/kernel/random/boot_id && hostname two || exit
  exec sh -c "$SSH_ORIGINAL_COMMAND"
' sh {folder}/boot
"""
#: A user of its own: the limit for processes is not for root.
_USER = 54321
_AS_USER = f"""\
#!/bin/sh
exec setpriv --reuid={_USER} --regid={_USER} --clear-groups sh -c "$SSH_ORIGINAL_COMMAND"
"""
_FEW_PROCESSES = f"""\
#!/bin/sh
exec setpriv --reuid={_USER} --regid={_USER} --clear-groups \\
  prlimit --nproc="$(cat {{folder}}/processes)" sh -c "$SSH_ORIGINAL_COMMAND"
"""
_PROGRAMS = {
    "noisy login": _NOISY,
    "shared home": _ELSEWHERE,
    "ordinary user": _AS_USER,
    "fork fails": _FEW_PROCESSES,
}


class FaultHosts:
    """``plain`` has no fault, and a `wire` in front that can be cut.

    :param folder: holds what the hosts need beside their home.
    """

    def __init__(self, make_sshd: Callable[..., Sshd], folder: Path, key: Path) -> None:
        self.plain = make_sshd()
        self.home, self._make, self._folder, self._key = self.plain.home, make_sshd, folder, key
        self.wire = Wire(self.plain.address, self.plain.port)
        (folder / "boot").write_text(f"{uuid.uuid4()}\n")
        self._made: dict[str, Sshd] = {}
        self._clients: dict[Sshd, SSHClient] = {}
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", self.home], check=True)

    def server(self, kind: str) -> Sshd:
        """Return the server with this fault, or with this tool broken."""
        if kind not in self._made:
            environ = {"HOME": str(self.home)}
            config: list[str] = []
            if kind == "forced command":
                config = ["ForceCommand echo Please login as ubuntu"]
            elif kind in _PROGRAMS:
                text = _PROGRAMS[kind].format(folder=self._folder)
                config = [f"ForceCommand {self._program(kind.replace(' ', '-'), text)}"]
            else:
                broken = self._program(f"without-{kind}/{kind}", "#!/bin/sh\nexit 1\n")
                environ["PATH"] = f"{broken.parent}:{os.environ['PATH']}"
            self._made[kind] = self._make(environ=environ, config=config)
        return self._made[kind]

    def client(self, fault: str) -> SSHClient:
        """Return a client that prepares this fault, and meets none."""
        is_users = fault == "fork fails"
        os.chown(self.home, *([_USER, _USER] if is_users else [0, 0]))
        server = self.server("ordinary user") if is_users else self.plain
        if server not in self._clients:
            config = SSHConfig(
                server.address, server.port, server.user, str(self._key), name=f"own-{server.port}"
            )
            self._clients[server] = SSHClient(config)
        return self._clients[server]

    def allow_processes(self, more: int) -> None:
        """Let the user of "fork fails" have so many processes beside those that it has."""
        count = 0
        for file in proc_files("status"):
            try:
                count += f"\nUid:\t{_USER}\t" in file.read_text()
            except OSError:
                continue
        (self._folder / "processes").write_text(str(count + more))

    def fill(self, left: int) -> None:
        """Leave so many bytes of the disk of the home, until `clear`."""
        fill(self.home, left)

    def renew_wire(self) -> None:
        """Make a wire on which no fault waits to happen."""
        self.wire.close()
        self.wire = Wire(self.plain.address, self.plain.port)

    def clear(self) -> None:
        """End the jobs, and empty the home."""
        end_jobs(self.home)
        empty(self.home)

    def close(self) -> None:
        self.clear()
        for client in self._clients.values():
            client.close_link()
        self.wire.close()
        subprocess.run(["umount", "-l", self.home], check=True)

    def _program(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path


def fill(disk: Path, left: int) -> None:
    """Write a file ``filler`` that leaves so many bytes of a file system free."""
    free = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(b"x" * max(0, free.f_bavail * free.f_bsize - left))


def empty(folder: Path) -> None:
    """Remove all that is in a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

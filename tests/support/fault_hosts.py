"""Hosts that share one home, each with another fault; made when they are first asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from ringtasks import SSHClient, SSHConfig
from tests.support.faulty import Wire
from tests.support.jobs import end_jobs, reboot
from tests.support.processes import of_home, proc_files
from tests.support.sshd import Sshd

__all__ = ["BROKEN", "NOISE", "FaultHosts", "empty", "fill"]

_NOISY = """\
#!/bin/sh
cat {folder}/noise
cat {folder}/noise >&2
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
#: What login files print.
NOISE = (
    b"Welcome! ringtasks:0:0:1\n", b"no newline", b"\0\xff\x1b[31m\r\n", b"a long text\n" * 20_000,
)  # fmt: skip
#: The file systems of the host are read only, as after an error of the disk; what was open is not.
_READ_ONLY = """\
#!/bin/sh
exec unshare --mount sh -c '
  mount --bind "$HOME" "$HOME" && mount -o remount,bind,ro "$HOME" && cd "$HOME" || exit
  exec sh -c "$SSH_ORIGINAL_COMMAND"
'
"""
#: Stand-ins for a tool of the host, the real one of which is $real.
BROKEN = {
    "tool fails": "exit 1",
    "tool stops half-way": '"$real" "$@" | head -c 20; exit 1',
    "tool is killed": "kill -9 $$",
    "clock jumps": """\
[ "$*" = +%s ] || exec "$real" "$@"
echo $(($("$real" +%s) + $$ * 7919 % 7200 - 3600))""",
}
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
    "read-only home": _READ_ONLY,
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
        """Return the server with this fault."""
        if kind not in self._made:
            environ = {"HOME": str(self.home)}
            config: list[str] = []
            if kind == "forced command":
                config = ["ForceCommand echo Please login as ubuntu"]
            elif kind in _PROGRAMS:
                text = _PROGRAMS[kind].format(folder=self._folder)
                config = [f"ForceCommand {self._program(kind.replace(' ', '-'), text)}"]
            elif kind == "no temporary folder":
                environ["TMPDIR"] = str(self._folder / "missing")
            else:
                environ["PATH"] = f"{self._folder / 'broken'}:{os.environ['PATH']}"
            self._made[kind] = self._make(environ=environ, config=config)
        return self._made[kind]

    def client(self, fault: str) -> SSHClient:
        """Return a client that prepares this fault, and meets none."""
        is_users = fault == "fork fails"
        os.chown(self.home, *([_USER, _USER] if is_users else [0, 0]))
        server = self.server("ordinary user") if is_users else self.plain
        if server not in self._clients:
            # A machine that was booted since is known by its name.
            name = f"own-{server.port}" if is_users else "box"
            config = SSHConfig(server.address, server.port, server.user, str(self._key), name=name)
            self._clients[server] = SSHClient(config)
        return self._clients[server]

    def break_tool(self, tool: str, fault: str) -> None:
        """Let one tool of the servers with such a fault be broken, and no other."""
        shutil.rmtree(self._folder / "broken", ignore_errors=True)
        text = f"#!/bin/sh\nreal={shutil.which(tool)}\n{BROKEN[fault]}\n"
        self._program(f"broken/{tool}", text)

    def make_noise(self, noise: bytes) -> None:
        """Let login files print this."""
        (self._folder / "noise").write_bytes(noise)

    def processes(self, *names: str) -> list[int]:
        """Return the processes of the home, or those with such a name."""
        return of_home(self.home, *names)

    def reboot(self) -> None:
        """End all processes of the home; jobs then belong to an earlier boot."""
        self.wire.block()
        self.wire.cut()
        while pids := self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ValueError):  # half a file
            reboot(self.home)
        self.wire.block(now=False)

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

"""Machines of their own on one: network, processes, boot id, home and /tmp are a box's alone.

Each box is a set of Linux namespaces (namespaces(7)) with sshd in it, on a bridge with the others.
Its power can be cut and its cable pulled, and it boots anew with the disk that it had.  Needs root.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

from tests.support.processes import proc_files
from tests.support.sshd import make_key
from tests.support.waiting import eventually

__all__ = ["Box", "boxes", "fields_of"]

#: What the first process of a box does. As the parent of orphans it has to reap them, which the
#: shell's wait(1) does.
_INIT = """\
mount --make-rprivate /
mount --bind "$1/boot_id" /proc/sys/kernel/random/boot_id
mount --bind "$1/tmp" /tmp
mount -t tmpfs tmpfs /dev/shm
ip link set lo up
"$2" -D -e -f "$1/sshd_config" </dev/null 2>>"$1/sshd.log" >&2 &
wait
"""


class Box:
    """One machine; it is on from the beginning.

    :param address: its IPv4 address on the bridge.
    """

    def __init__(self, name: str, address: str, network: str, authorized: Path) -> None:
        self.name, self.address, self.port = name, address, 22
        self.user = getpass.getuser()
        # Not below /tmp, of which a box has its own.
        self._folder = Path(tempfile.mkdtemp(prefix="rt-box-", dir="/var/tmp"))
        self.home = self._folder / "home"
        self.tmp = self._folder / "tmp"
        self.home.mkdir()
        self.tmp.mkdir()
        (self._folder / "boot_id").touch()
        key = make_key(self._folder / "host_key")
        self.host_public_key = " ".join(Path(f"{key}.pub").read_text().split()[:2])
        (self._folder / "authorized_keys").write_text(Path(f"{authorized}.pub").read_text())
        self._write_config(key)
        self._namespace = f"{network}-{name}"
        self._cable = f"{network}-{name}"
        self._connect(network)
        self._init: subprocess.Popen[bytes] | None = None
        self.power_on()

    @property
    def log(self) -> str:
        return (self._folder / "sshd.log").read_text(errors="replace")

    def power_on(self) -> None:
        """Boot; the disk is as it was."""
        (self._folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert sshd, "sshd is missing: install openssh-server"
        Path("/run/sshd").mkdir(exist_ok=True)  # privilege separation; empty
        namespace = ("ip", "netns", "exec", self._namespace)
        unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._init = subprocess.Popen(
            [*namespace, *unshare, "sh", "-c", _INIT, "sh", self._folder, sshd],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.plug_in()
        eventually(self._answers)

    def power_off(self) -> None:
        """End every process at once, as a power cut does."""
        if self._init is not None:
            self._init.kill()  # --kill-child: the box's first process ends with it, and so all do
            self._init.wait()
            self._init = None
            eventually(lambda: not self.processes(""))

    def unplug(self) -> None:
        """Pull the network cable: everything goes on, and nothing gets through."""
        subprocess.run(["ip", "link", "set", self._cable, "down"], check=True)

    def plug_in(self) -> None:
        subprocess.run(["ip", "link", "set", self._cable, "up"], check=True)

    def processes(self, text: str) -> dict[int, str]:
        """The box's processes with ``text`` in their command lines: by their ids in this one."""
        found = {}
        for file in proc_files("cmdline"):
            folder = file.parent
            with contextlib.suppress(OSError):
                if (folder / "root/tmp").stat().st_ino != self.tmp.stat().st_ino:
                    continue
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if line and text in line:
                    found[int(folder.name)] = line
        return found

    def kill(self, text: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to each process with ``text`` in its command line; there must be one."""
        found = self.processes(text)
        assert found, f"{self.name}: no process with {text!r}"
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program in the box's network."""
        return subprocess.Popen(["ip", "netns", "exec", self._namespace, *command])

    def remove(self) -> None:
        self.power_off()
        # With its namespace alone, the kernel removes it later, and the name stays in use.
        subprocess.run(["ip", "link", "del", self._cable], check=False)
        subprocess.run(["ip", "netns", "del", self._namespace], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, 22), 1) as probe:
            return probe.recv(4) == b"SSH-"
        return False

    def _connect(self, network: str) -> None:
        for command in (
            f"ip netns add {self._namespace}",
            f"ip link add {self._cable} type veth peer name eth0 netns {self._namespace}",
            f"ip link set {self._cable} master {network}",
            f"ip -n {self._namespace} addr add {self.address}/24 dev eth0",
            f"ip -n {self._namespace} link set eth0 up",
        ):
            subprocess.run(command.split(), check=True)

    def _write_config(self, key: Path) -> None:
        lines = [
            "Port 22",
            f"HostKey {key}",
            f"AuthorizedKeysFile {self._folder / 'authorized_keys'}",
            "UsePAM no",
            "StrictModes no",
            "PidFile none",
            "PermitRootLogin yes",
            "PrintMotd no",
            f'SetEnv "HOME={self.home}"',
            f"Subsystem sftp internal-sftp -d {self.home}",
        ]
        (self._folder / "sshd_config").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def boxes(authorized: Path, *names: str) -> Iterator[dict[str, Box]]:
    """Boxes of these names on one bridge, which this machine is on as well."""
    part, network = _new_bridge()
    made: dict[str, Box] = {}
    try:
        subprocess.run(["ip", "addr", "add", f"10.87.{part}.1/24", "dev", network], check=True)
        subprocess.run(["ip", "link", "set", network, "up"], check=True)
        for n, name in enumerate(names):
            made[name] = Box(name, f"10.87.{part}.{n + 2}", network, authorized)
        yield made
    finally:
        for box in made.values():
            box.remove()
        subprocess.run(["ip", "link", "del", network], check=False)


def fields_of(made: dict[str, Box], **more: Any) -> dict[str, dict[str, Any]]:
    """Return the boxes' entries in a hosts file, each with more fields."""
    return {
        name: {"ssh_host": box.address, "ssh_port": box.port, "connect_timeout": 3, **more}
        for name, box in made.items()
    }


def _new_bridge() -> tuple[int, str]:
    """Return the number and the name of a new bridge; other tests may make theirs meanwhile."""
    for part in range(1, 251):
        network = f"rtbox{part}"  # an interface's name has 15 characters at most
        made = subprocess.run(
            ["ip", "link", "add", network, "type", "bridge"], stderr=PIPE, check=False
        )
        if made.returncode == 0:
            return part, network
        assert b"File exists" in made.stderr, made.stderr
    raise AssertionError("no bridge is free")

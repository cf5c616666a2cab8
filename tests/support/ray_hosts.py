"""Two hosts with the stand-in for Ray, and what was started there."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.support.fixtures import WriteHosts
from tests.support.jobs import is_alive, marked
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

__all__ = ["RayHosts", "command_line"]


class RayHosts:
    """The hosts of an inventory, of which some may be out of reach."""

    def __init__(self, servers: dict[str, Sshd], write_hosts: WriteHosts) -> None:
        self.servers, self._write_hosts = servers, write_hosts
        self.reach()

    def reach(self, *away: str) -> None:
        """From now on all can be reached but those."""
        self._write_hosts(
            **{
                name: {"ssh_port": 9 if name in away else server.port}
                for name, server in self.servers.items()
            }
        )

    def kill(self, host: str) -> None:
        """End Ray on a host, as the lack of memory does."""
        processes = self.processes(host, "ray start")
        assert processes
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self.processes(host, ""))

    def processes(self, host: str, text: str) -> list[int]:
        jobs = self.servers[host].home / ".ringtasks" / "jobs"
        pids = [pid for job in jobs.glob("*") for pid in marked(job.name) if is_alive(pid)]
        lines = {pid: command_line(pid) for pid in pids}
        return [pid for pid in pids if text in lines[pid] and "reaper.py" not in lines[pid]]

    def files(self, host: str) -> list[str]:
        folder = self.servers[host].home / ".ringtasks" / "ray"
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return words.decode("utf-8", "replace")
    return ""

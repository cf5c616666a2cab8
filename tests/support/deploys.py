"""A fleet on loopback that an application is deployed to: hosts, services, a git repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.inv_program import Forked, InvProgram
from tests.support.service import SERVE, Service

__all__ = ["FAILING_RESTART", "Fleet"]

#: Restarts the service, and fails on the hosts that the release names in ``bad_on``. It fails at
#: once, while a check that fails is repeated until its limit.
FAILING_RESTART = "kill -HUP $(cat ../../shared/pid); ! grep -qs $RINGTASKS_HOST bad_on"

_GIT = {
    f"GIT_{who}_{what}": "tests"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL", "DATE")
    if what != "DATE"
}


class Fleet:
    """``web1``, ``web2`` …, each with a deploy path and a service of its own.

    :param folder: holds the repository, its hosts file, and the deploy paths.
    :param fields: of each host in the hosts file.
    """

    def __init__(
        self, folder: Path, fields: Mapping[str, Mapping[str, Any]], program: InvProgram
    ) -> None:
        self.folder = folder
        self.hosts = tuple(fields)
        self._program = program
        self.services = {host: Service(self.root(host)) for host in fields}
        self.settings: dict[str, Any] = {
            "hosts": "@all",
            "path": f"{folder}/srv/{{host}}",
            "restart": "kill -HUP $(cat ../../shared/pid)",
            "check": f'"{sys.executable}" -IS check.py',
            "check_url": "http://127.0.0.1:{port}/",
            "check_timeout": 3,
        }
        hosts = {host: {**own, "port": self.services[host].port} for host, own in fields.items()}
        self._git("init", "--quiet", "--initial-branch=main", ".")
        self.write("hosts/hosts.yaml", yaml.safe_dump({"hosts": hosts}, sort_keys=False))
        self.write(".git/info/exclude", "/hosts\n/srv\n/own-home\n/invoke.yaml\n/tasks.py\n")
        self.write("serve.py", SERVE)
        self.write("check.py", _CHECK)

    def root(self, host: str) -> Path:
        """The deploy path of a host."""
        return self.folder / "srv" / host

    def write(self, name: str, text: str) -> None:
        """A file of the repository's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def reach(self, host: str, fields: Mapping[str, Any]) -> None:
        """Change how a host is reached."""
        path = self.folder / "hosts" / "hosts.yaml"
        known = yaml.safe_load(path.read_text())
        known["hosts"][host] = dict(fields)
        path.write_text(yaml.safe_dump(known, sort_keys=False))

    def configure(self, **settings: Any) -> None:
        """Change settings; None removes one."""
        self.settings.update(settings)
        chosen = {name: value for name, value in self.settings.items() if value is not None}
        self.write("invoke.yaml", yaml.safe_dump({"deploy": chosen}))

    def commit(self, version: str, **files: str) -> str:
        """A revision that serves ``version``; its name."""
        for name, text in {"one": version, "two": version, **files}.items():
            self.write(name, text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", version)
        return self._git("rev-parse", "HEAD")

    def inv(
        self, *arguments: str, timeout: float = 90, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a task, and wait for it."""
        if not (self.folder / "invoke.yaml").exists():
            self.configure()
        env = {**os.environ, **environ}
        done = self._program.run(arguments, cwd=self.folder, env=env, timeout=timeout)
        output = (done.stdout.decode(), done.stderr.decode())
        return subprocess.CompletedProcess(arguments, done.returncode, *output)

    def start(self, *arguments: str, **environ: str) -> Forked | subprocess.Popen[str]:
        """Run a task."""
        if not (self.folder / "invoke.yaml").exists():
            self.configure()
        return self._program.start(
            ["inv", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    def served(self) -> list[str]:
        """Return the answers of the hosts' services, without repetition."""
        return sorted({service.get() for service in self.services.values()})

    def current(self, host: str) -> Path:
        """The release that is current."""
        return (self.root(host) / "current").resolve(strict=True)

    def releases(self, host: str) -> list[Path]:
        """Those that are whole, the oldest first."""
        folders = (self.root(host) / "releases").iterdir()
        whole = [folder for folder in folders if (folder / ".ringtasks-release").exists()]
        order = [release for _, release, *_ in self.history(host)]
        return sorted(whole, key=lambda folder: order.index(folder.name))

    def history(self, host: str) -> list[Sequence[str]]:
        """Its events: kind, release and the rest."""
        lines = (self.root(host) / "history").read_text().splitlines()
        return [line.split("\t")[1:] for line in lines]

    def stop(self) -> None:
        for service in self.services.values():
            service.stop()

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={**os.environ, **_GIT},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


#: Well when the service has come to this very release, and that is not bad on this host.
_CHECK = """\
import _socket, os, sys  # socket and pathlib take longer to import than the check takes
def read(name):
    with open(name) as file:
        return file.read()
here = read("one").strip()
connection = _socket.socket()
connection.connect(("127.0.0.1", int(read("../../shared/port"))))
connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
served = answer.partition("\\r\\n\\r\\n")[2]
if served != f"{here}/{here}":
    sys.exit(f"{served} is served, not {here}")
if os.path.exists("bad_on") and os.environ["RINGTASKS_HOST"] in read("bad_on").split():
    sys.exit(f"{here} is bad")
"""

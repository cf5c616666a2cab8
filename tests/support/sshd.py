"""A real OpenSSH server on loopback, as whoever runs the tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

__all__ = ["Sshd", "make_key"]

_START_TIMEOUT = 10.0

#: What a user's login shell may be, and how it is started.
LOGIN_SHELLS = {
    "bash": "bash",
    "dash": "dash",
    "zsh": "zsh",
    "fish": "fish",
    "ash": "busybox ash",
    "tcsh": "tcsh",
}


def make_key(path: Path, *options: str) -> Path:
    """A new private key at ``path`` (ed25519, no passphrase, unless options say otherwise)."""
    if options:
        subprocess.run(["ssh-keygen", "-q", *options, "-f", path], check=True)
        return path
    key = Ed25519PrivateKey.generate()  # a tenth of the time that ssh-keygen takes
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    Path(f"{path}.pub").write_bytes(public + b" tests\n")
    return path


class Sshd:
    """``sshd`` on a free port, with its own host key, authorised keys and home folder.

    :param login_shell: a key of `LOGIN_SHELLS`: commands run as if that were the user's shell.
    :param environ: set for every command; ``PATH``, say.
    :param overrides: lines of its configuration that come before those of every server.
    :param program: started in place of ``sshd``.
    :param addresses: loopback addresses to listen on, all at the same port.
    """

    def __init__(
        self,
        authorized: Path | None,
        *,
        login_shell: str | None = None,
        addresses: Sequence[str] = ("127.0.0.1",),
        host_key: Path | None = None,
        host_key_options: Sequence[str] = (),
        config: Sequence[str] = (),
        sftp: str = "internal-sftp",
        environ: Mapping[str, str] | None = None,
        overrides: Sequence[str] = (),
        program: Path | None = None,
    ) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
        program = program or shutil.which("sshd", path=path)  # type: ignore[assignment]
        assert program, "sshd is missing: install openssh-server"
        self.user = getpass.getuser()
        self.address, self.port = addresses[0], _free_port(addresses)
        self._folder = Path(tempfile.mkdtemp(prefix="rt-sshd-"))
        self._folder.chmod(0o755)
        self.home = self._folder / "home"
        self.home.mkdir()
        self.host_key = host_key or make_key(self._folder / "host_key", *host_key_options)
        self.host_public_key = " ".join(Path(f"{self.host_key}.pub").read_text().split()[:2])
        self._authorized = self._folder / "authorized_keys"
        self._authorized.touch()
        if authorized is not None:
            self.authorize(authorized)
        set_for_all = {"HOME": str(self.home), **(environ or {})}
        lines = [
            *overrides,
            f"Port {self.port}",
            *(f"ListenAddress {address}" for address in addresses),
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self._authorized}",
            "UsePAM no",
            "StrictModes no",
            "PidFile none",
            "MaxStartups 1000",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "PrintMotd no",
            # Nothing of the real home's login files gets into a test.
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in set_for_all.items()),
            f"Subsystem sftp {sftp} -d {self.home}",
            *config,
            # What OpenSSL computes costs a tenth of what both sides compute themselves, and that is
            # a third of a log-in.
            "KexAlgorithms -sntrup761*,mlkem*,curve25519*",
        ]
        if os.getuid() == 0:
            # sshd reads the file as the user who logs in. If the umask or TMPDIR keeps other users
            # from it, root reads it for them.
            lines += [
                f"AuthorizedKeysCommand {shutil.which('cat')} {self._authorized}",
                "AuthorizedKeysCommandUser root",
            ]
        if login_shell is not None:
            lines.append(f"ForceCommand {self._login_by(LOGIN_SHELLS[login_shell])}")
        config_file = self._folder / "sshd_config"
        config_file.write_text("\n".join(lines) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # privilege separation; empty
        self.log_file = self._folder / "log"
        with self.log_file.open("wb") as log:
            # -r: it runs no new sshd for each log-in, a fifth of the log-in's cost.
            self._process = subprocess.Popen(
                [program, "-D", "-e", "-r", "-f", config_file], stderr=log, start_new_session=True
            )
        self._await_start(len(addresses))

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def accepted_logins(self) -> int:
        """The number of log-ins so far, those included that were let in just now."""
        # sshd lets a client in first and logs it then (monitor.c, monitor_child_preauth). The child
        # that spoke to it is reaped after that. One that waits for a silent client may stay.
        deadline = time.monotonic() + 2
        while self._has_children_before_log_in() and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.log.count("Accepted publickey")

    def _has_children_before_log_in(self) -> bool:
        for pid in _descendants(self._process.pid):
            try:
                name = Path(f"/proc/{pid}/comm").read_text()
                title = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty: it waits to be reaped
            except OSError:
                continue
            if name.startswith("sshd") and (not title or b"[net]" in title or b"[accept" in title):
                return True
        return False

    def authorize(self, private_key: Path) -> None:
        with self._authorized.open("a") as file:
            file.write(Path(f"{private_key}.pub").read_text())

    @property
    def authorized_keys(self) -> Path:
        return self._authorized

    def revoke_all(self) -> None:
        self._authorized.write_text("")

    def freeze(self) -> None:
        """Let the server and its sessions answer no more, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """End the server and its sessions."""
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _login_by(self, shell: str) -> str:
        script = self._folder / "login"
        script.write_text(
            "#!/bin/sh\n"
            f'[ -z "$SSH_ORIGINAL_COMMAND" ] && exec {shell}\n'
            f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        script.chmod(0o755)
        return shlex.quote(str(script))

    def _await_start(self, count: int) -> None:
        # A connection would have to be answered by a process of its own.
        deadline = time.monotonic() + _START_TIMEOUT
        while self.log.count("Server listening on") < count:
            is_up = self._process.poll() is None and time.monotonic() < deadline
            assert is_up, f"sshd did not start: {self.log}"
            time.sleep(0.005)


def _free_port(addresses: Sequence[str]) -> int:
    with socket.socket() as probe:
        probe.bind((addresses[0], 0))
        port: int = probe.getsockname()[1]
        return port


def _descendants(pid: int) -> list[int]:
    """Every process below ``pid``; a session's processes stay below their sshd until it ends."""
    found, todo = [], [pid]
    while todo:
        below = _children(todo.pop())
        found += below
        todo += below
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found

"""A real ssh-agent, and one that holds keys which it does not use."""

from __future__ import annotations

import base64
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import paramiko

__all__ = ["Agent", "UnwillingAgent"]

_IDENTITIES, _SIGN = 11, 13  # draft-miller-ssh-agent section 5.1


class Agent:
    """``ssh-agent`` at a socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", self.path],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it listens then

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def add(self, key: Path) -> None:
        self._run("-q", str(key))

    def remove_all(self) -> None:
        self._run("-q", "-D")

    def listed(self) -> str:
        """Return the output of ``ssh-add -l``: a line for each key."""
        return self._run("-l")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["ssh-add", *arguments],
            env={**os.environ, "SSH_AUTH_SOCK": self.path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or "no identities" in done.stdout, done
        return done.stdout


class UnwillingAgent:
    """Lists public keys and signs for one of them only, as an agent does without its FIDO token.

    :param willing: the private key that it signs with.
    :param listed: the public keys that it lists, in base64.
    """

    def __init__(self, path: Path, willing: Path, listed: Sequence[str]) -> None:
        self.path = str(path)
        self.refused = 0
        self._key = paramiko.Ed25519Key.from_private_key_file(str(willing))
        self._listed = [base64.b64decode(blob) for blob in listed]
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> UnwillingAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            while header := stream.read(4):
                answer = self._answer(stream.read(struct.unpack(">I", header)[0]))
                stream.write(_string(answer))
                stream.flush()

    def _answer(self, request: bytes) -> bytes:
        if request[0] == _IDENTITIES:
            entries = b"".join(_string(blob) + _string(b"") for blob in self._listed)
            return b"\x0c" + struct.pack(">I", len(self._listed)) + entries
        message = paramiko.Message(request[1:])
        if request[0] == _SIGN and message.get_binary() == self._key.asbytes():
            return b"\x0e" + _string(self._key.sign_ssh_data(message.get_binary()).asbytes())
        self.refused += 1
        return b"\x05"


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data

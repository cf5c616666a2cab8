"""The private names of Fabric 3.2 to 3.x, and of Invoke 2.2 to 2.x, that connections use.

A release may change these names without notice: pyproject.toml bounds the versions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import fabric
import invoke

from ringtasks.common.public_names import PublicNames, private

__all__ = [
    "NAMES",
    "PublicConnection",
    "PublicRemote",
    "clone_of",
    "mark_as_root",
    "runtime_ssh_file",
]

#: The private names, by the class that has them; a test checks that they are there.
NAMES: dict[type, set[str]] = {
    fabric.Connection: {"_remote_runner", "_set", "_sftp"},
    fabric.Config: {"_runtime_ssh_path", "_set"},
    invoke.Runner: {"_asynchronous", "_timer"},
}


class PublicConnection(PublicNames, fabric.Connection):  # type: ignore[misc]  # Fabric is untyped
    """Fabric's Connection, whose parts a subclass may replace."""

    remote_runner: Any = private("_remote_runner")
    settings_view: Any = None  # in place of the configuration, while Fabric constructs
    _sftp: Any = None  # Fabric's Context stores other attributes in its configuration

    @property
    def sftp_client(self) -> Any:
        """The SFTP client, if one is open."""
        return self._sftp

    @sftp_client.setter
    def sftp_client(self, client: Any) -> None:
        self._sftp = client

    def replace_config(self, config: fabric.Config) -> None:
        """Use this configuration, also before the connection is initialised."""
        self._set(_config=config)

    @property
    def config(self) -> Any:
        return super().config if self.settings_view is None else self.settings_view

    @contextlib.contextmanager
    def without_look_up(self) -> Iterator[None]:
        """Let Fabric's constructor find nothing in ssh's files: OpenSSH has been asked.

        Paramiko's parser, which Fabric calls, fails on some of what ssh accepts.
        """
        self.settings_view = _WithoutFiles(super().config)
        try:
            yield
        finally:
            self.settings_view = None


class _WithoutFiles:
    """A view of Fabric's settings, without ssh's files."""

    def __init__(self, settings: fabric.Config) -> None:
        self.whole = settings
        self.base_ssh_config = _NoRules()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)


class _NoRules:
    """Empty rules, which Paramiko's own would search with all tokens of the host expanded."""

    def lookup(self, _host: str) -> dict[str, Any]:
        return {}


class PublicRemote(fabric.runners.Remote):  # type: ignore[misc]  # Fabric is untyped
    """Fabric's runner of remote commands."""

    @property
    def is_asynchronous(self) -> bool:
        """True if the caller does not wait for the command."""
        return bool(self._asynchronous)

    @property
    def timer(self) -> Any:
        """The thread that ends the command when its time limit has passed."""
        return self._timer


def clone_of(settings: fabric.Config) -> fabric.Config:
    """Return a copy of a Config, to be changed by itself.

    Fabric's own ``clone`` adds the rules of ssh's files to the original once more.
    """
    copied = super(fabric.Config, settings).clone()
    copied._set(_runtime_ssh_path=settings._runtime_ssh_path)
    return copied


def mark_as_root(settings: fabric.Config) -> None:
    """Spare Invoke the failing look-ups with which it finds out that a Config is a root.

    Each takes 40 µs, and a Connection makes a dozen.
    """
    settings._set(_root=settings, _keypath=())


def runtime_ssh_file(settings: fabric.Config) -> Any:
    """Return the ssh_config file that a Config was told to read; None: none."""
    return settings._runtime_ssh_path

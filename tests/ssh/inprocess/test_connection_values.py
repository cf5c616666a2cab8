"""The user, port and limits of a Connection: which level names them, over both kinds of link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fabric
import pytest
import yaml

from ringtasks import Connection, SSHConfig
from tests.support.sshd import Sshd

#: The levels that may name the user, the strongest first: as Fabric documents for Connection, with
#: the inventory beside the arguments.
LEVELS = (
    "argument",
    "user@host",
    "SSHConfig",
    "inventory",
    "ssh_config Host",
    "ssh_config Match",
    "Config override",
    "project fabric.yaml",
    "~/.fabric.yaml",
    "/etc/fabric.yaml",
)
_EXCLUSIVE = {"argument", "user@host", "SSHConfig", "inventory"}


class Levels:
    """Writes the user's name where a level reads it."""

    def __init__(
        self, folder: Path, sshd: Sshd, key: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._folder, self._sshd, self._key = folder, sshd, key
        self._patch = monkeypatch
        self.host: Any = sshd.address
        self._arguments: dict[str, Any] = {"port": sshd.port}
        self._config: dict[str, Any] = {}
        self._ssh_config = f"Host *\n  IdentityFile {key}\n"
        self._inventory = folder / "hosts.yaml"

    def set(self, level: str, user: str) -> None:
        {
            "argument": lambda: self._arguments.update(user=user),
            "user@host": lambda: setattr(self, "host", f"{user}@{self._sshd.address}"),
            "SSHConfig": lambda: self._set_config_object(user),
            "inventory": lambda: self._write_inventory(user),
            "ssh_config Host": lambda: self._add_ssh_config(f"Host *\n  User {user}\n"),
            "ssh_config Match": lambda: self._add_ssh_config(
                f"Match host {self._sshd.address}\n  User {user}\n"
            ),
            "Config override": lambda: self._config.update(overrides={"user": user}),
            "project fabric.yaml": lambda: self._write_yaml("project", "fabric", user),
            "~/.fabric.yaml": lambda: self._write_yaml("", "own-home/.fabric", user),
            "/etc/fabric.yaml": lambda: self._write_yaml("", "etc-fabric", user),
        }[level]()

    def connection(self) -> Connection:
        config = fabric.Config(**self._config, system_prefix=f"{self._folder}/etc-")
        config.set_project_location(str(self._folder / "project"))
        config.load_project()
        if isinstance(self.host, str) and not self._inventory.exists():
            self._write_inventory(None)  # which names the key
        return Connection(self.host, config=config, **self._arguments)

    def _set_config_object(self, user: str) -> None:
        self.host = SSHConfig(self._sshd.address, self._sshd.port, user, str(self._key))
        self._arguments = {}

    def _write_inventory(self, user: str | None) -> None:
        fields = {
            "ssh_host": self._sshd.address, "ssh_port": self._sshd.port, "ssh_key": str(self._key),
        }  # fmt: skip
        named = {"ssh_user": user} if user else {}
        self._inventory.write_text(yaml.safe_dump({"hosts": {"box": {**fields, **named}}}))
        self._patch.setenv("RINGTASKS_HOSTS", str(self._inventory))
        if "@" not in self.host:
            self.host = "box"

    def _add_ssh_config(self, text: str) -> None:
        self._ssh_config = text + self._ssh_config  # the first value counts (ssh_config(5))
        path = self._folder / "own-home" / ".ssh" / "config"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(self._ssh_config)

    def _write_yaml(self, folder: str, name: str, user: str) -> None:
        path = self._folder / folder / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"user": user}))


@pytest.mark.parametrize("level", LEVELS)
def test_the_user_of_the_strongest_level_runs_the_command(
    level: str,
    use_control_master: bool,
    other_users: tuple[str, str],
    tmp_path: Path,
    sshd: Sshd,
    client_key: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted, weaker = other_users
    levels = Levels(tmp_path, sshd, client_key, monkeypatch)
    for other in LEVELS[LEVELS.index(level) + 1 :]:
        if other not in _EXCLUSIVE:
            levels.set(other, weaker)
    levels.set(level, wanted)

    with levels.connection() as connection:
        if not use_control_master:
            connection.keep_in_process()
        assert connection.run("id -un", hide=True).stdout.strip() == wanted
        assert connection.user == wanted

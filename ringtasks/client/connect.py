"""``ringtasks connect NAME``: the connection to a host's sshd as stdin and stdout.

It is a program for OpenSSH's ProxyCommand (ssh_config(5)), so it starts with each ``ssh``: it
imports neither Invoke, Fabric, Paramiko nor rich.  The routes are tried as for any task; log-in and
host keys are the business of the ``ssh`` that has started it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from ringtasks.errors import RingtasksError, UnreachableError, UsageError
from ringtasks.health.store import HealthStore
from ringtasks.inventory.config import SSHConfig
from ringtasks.inventory.loader import load_inventory, usual_inventory
from ringtasks.ssh.attempts import HostAttempt, outcome
from ringtasks.ssh.carry import carry
from ringtasks.ssh.configured import gateway_of, settings_of_ssh, with_ssh_settings
from ringtasks.ssh.dialing import Dialled
from ringtasks.ssh.stream import Stream

__all__ = ["main"]

_FAILED = 255  # as ssh's own connection errors
_USAGE = """\
usage: ringtasks connect [--inventory PATH] [--transport NAME] [--] NAME

Connect stdin and stdout to the host's sshd, over the first route that answers.
For ssh_config(5): ProxyCommand ringtasks connect NAME ('ringtasks ssh-config' writes it).
"""


def main() -> None:
    """Run the program; does not return."""
    sys.exit(_run(sys.argv[2:]))


def _run(arguments: Sequence[str]) -> int:
    # Ctrl-C reaches all processes of the terminal: end as other programs do, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    given = list(arguments)
    if given in (["--help"], ["-h"]):
        print(_USAGE, end="")
        return 0
    try:
        name, inventory, transport = _parsed(given)
        _connect(_config(name, inventory), transport)
    except (RingtasksError, ValueError, OSError) as error:
        print(f"ringtasks: {error}", file=sys.stderr)
        return _FAILED
    return 0


def _parsed(words: list[str]) -> tuple[str, str | None, str | None]:
    """Return the host's name, and the values of the flags."""
    flags: dict[str, str] = {}
    while words and words[0] in ("--inventory", "--transport") and len(words) > 1:
        flag, value = words.pop(0), words.pop(0)
        flags[flag] = value
    if words[:1] == ["--"]:
        del words[0]
    elif words and words[0].startswith("-"):
        raise UsageError(f"connect: unknown flag {words[0]!r}\n{_USAGE}")
    if len(words) != 1:
        raise UsageError(f"connect: expected one host\n{_USAGE}")
    return words[0], flags.get("--inventory"), flags.get("--transport")


def _config(name: str, given: str | None) -> SSHConfig:
    """Return the configuration of a host of the inventory, else of ``[user@]host[:port]``."""
    inventory = load_inventory(given) if given else usual_inventory()
    if inventory is not None and name in inventory.hosts:
        return SSHConfig.from_host_config(inventory.hosts[name])
    if given and inventory is not None:
        inventory.get(name)  # raises, and lists near names
    return SSHConfig.parse(name)


def _connect(config: SSHConfig, transport: str | None) -> None:
    if config.embedded:
        raise UsageError(f"{config.id}: an embedded host lives in the process that uses it")
    settings = settings_of_ssh(config)
    in_use = with_ssh_settings(config, settings)
    attempt = HostAttempt(in_use, transport)
    try:
        dialled = attempt.dial_next(gateway_of(in_use, settings))
    except UnreachableError as error:
        HealthStore().record([outcome(config.id, None, error.failures)])
        raise
    recording = threading.Thread(target=_record, args=(attempt, dialled), name="ringtasks-health")
    recording.start()  # not on the way of the first bytes
    try:
        _carry(dialled.stream)
    finally:
        recording.join()
        dialled.stream.close()


def _record(attempt: HostAttempt, dialled: Dialled) -> None:
    found = outcome(attempt.config.id, dialled.route.name, attempt.arrived())
    HealthStore().record([found])


def _carry(stream: Stream) -> None:
    early, connection = stream.taken_over()
    rest = memoryview(early)
    while rest:
        rest = rest[os.write(1, rest) :]
    carry(connection)

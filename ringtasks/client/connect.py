"""``ringtasks connect NAME``: the connection to a host's sshd as stdin and stdout.

It is a program for OpenSSH's ProxyCommand (ssh_config(5)), so it starts with each ``ssh``: it
imports neither Invoke, Fabric, Paramiko nor rich.  The routes are tried as for any task; log-in and
host keys are the business of the ``ssh`` that has started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence

from ringtasks.common import rehearsal
from ringtasks.common.text import visible_lines
from ringtasks.errors import Reason, RingtasksError, UnreachableError, UsageError
from ringtasks.health.store import HealthStore
from ringtasks.inventory.config import SSHConfig
from ringtasks.inventory.loader import load_inventory, usual_inventory
from ringtasks.ssh.attempts import HostAttempt, outcome
from ringtasks.ssh.carry import carry
from ringtasks.ssh.configured import gateway_of, settings_of_ssh, with_ssh_settings
from ringtasks.ssh.dialing import Dialled
from ringtasks.ssh.rehearsal import check as check_rehearsal
from ringtasks.ssh.stream import Stream

__all__ = ["main"]

_FAILED = 255  # as ssh's own connection errors
_FLAGS = ("--inventory", "--transport", rehearsal.FLAG)
_USAGE = """\
usage: ringtasks connect [--inventory PATH] [--transport NAME] [--rehearse WORDS] [--] NAME

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
        return _run_flags(*_parsed(given))
    except (RingtasksError, ValueError, OSError) as error:
        print(f"ringtasks: {visible_lines(str(error))}", file=sys.stderr)
        return _FAILED


def _run_flags(name: str, flags: Mapping[str, str]) -> int:
    words = flags.get(rehearsal.FLAG)
    with contextlib.nullcontext() if words is None else rehearsal.rehearsing(words):
        if (rehearsed := rehearsal.current()) is not None:
            check_rehearsal()
            print(f"ringtasks: {rehearsed.notice}", file=sys.stderr)
        _connect(_config(name, flags.get("--inventory")), flags.get("--transport"))
    return 0


def _parsed(words: list[str]) -> tuple[str, dict[str, str]]:
    """Return the host's name, and the values of the flags."""
    flags: dict[str, str] = {}
    while words and words[0] in _FLAGS and len(words) > 1:
        flag, value = words.pop(0), words.pop(0)
        flags[flag] = value
    if words[:1] == ["--"]:
        del words[0]
    elif words and words[0].startswith("-"):
        raise UsageError(f"connect: unknown flag {words[0]!r}\n{_USAGE}")
    if len(words) != 1:
        raise UsageError(f"connect: expected one host\n{_USAGE}")
    return words[0], flags


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
    # In the race this route has failed; without the rehearsal it would have won, and ssh would end.
    for failure in dialled.failures:
        if failure.reason is Reason.HOST_KEY:
            dialled.stream.close()
            raise failure
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

"""``ringtasks connect NAME``: the connection to a host's sshd as stdin and stdout.

It is a program for OpenSSH's ProxyCommand (ssh_config(5)), so it starts with each ``ssh``: it
imports neither Invoke, Fabric, Paramiko nor rich.  The routes are tried as for any task; log-in and
host keys are the business of the ``ssh`` that has started it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from ringtasks.common import alarms, rehearsal
from ringtasks.common.descriptors import write_all
from ringtasks.common.text import visible_lines
from ringtasks.errors import Reason, RingtasksError, RouteError, UnreachableError, UsageError
from ringtasks.exit_status import UNREACHABLE
from ringtasks.health.store import HealthStore
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.loader import find_host, load_inventory, usual_inventory
from ringtasks.inventory.model import Inventory
from ringtasks.ssh import rehearsal as faults
from ringtasks.ssh.attempts import HostAttempt, outcome
from ringtasks.ssh.carry import carry, go_on_separately
from ringtasks.ssh.descriptors import can_hand_over, hand_over
from ringtasks.ssh.dialing import Begun, Dialled, Gateway
from ringtasks.ssh.evaluated_config import settings_of
from ringtasks.ssh.merged_settings import gateway_of, with_ssh_settings
from ringtasks.ssh.stream import Stream

from .route_planning import Planning

__all__ = ["main"]

#: Records the outcome of an attempt: the route that is used, or None, and the failed ones.
Record = Callable[[HostAttempt, str | None, tuple[RouteError, ...]], None]

_FDPASS = "--fdpass"
_FLAGS = ("--inventory", "--transport", rehearsal.FLAG)
_USAGE = """\
usage: ringtasks connect [--inventory PATH] [--transport NAME] [--rehearse WORDS] [--fdpass]
                         [--] NAME

Connect stdin and stdout to the host's sshd, over the first route that answers.
For ssh_config(5): ProxyCommand ringtasks connect NAME ('ringtasks ssh-config' writes it).
With --fdpass, for ProxyUseFdpass: give the connection to ssh, if stdout is a socket of ssh's.
"""


def main(begun: Iterable[tuple[str, int, float]] = ()) -> None:
    """Run the program; does not return.

    :param begun: connections to the likely first routes (`dialing.Begun`).
    """
    alarms.on_alarm(lambda _host, _text: None)  # a refused host key ends us, with its text
    alarms.on_notice(_tell)
    sys.exit(_run(sys.argv[2:], [Begun(*each) for each in begun]))


def _say(text: str) -> None:
    print(f"ringtasks: {visible_lines(text)}", file=sys.stderr)


def _tell(host: str, text: str) -> None:
    _say(f"{host}: {text}")


def _run(given: list[str], begun: Sequence[Begun]) -> int:
    if given in (["--help"], ["-h"]):
        print(_USAGE, end="")
        return 0
    try:
        return _run_flags(*_parsed(given), begun)
    except (RingtasksError, ValueError, OSError) as error:
        _say(str(error))
        return UNREACHABLE


def _run_flags(name: str, flags: Mapping[str, str], begun: Sequence[Begun]) -> int:
    words = flags.get(rehearsal.FLAG)
    with contextlib.nullcontext() if words is None else rehearsal.rehearsing(words):
        if (rehearsed := rehearsal.current()) is not None:
            faults.check()
            _say(rehearsed.notice)
            rehearsal.announce()
        planning = None if begun else _planning(name, flags)
        config = _config(name, flags.get("--inventory"))
        if rehearsed is not None:
            _check_rehearsed_hosts(config, flags.get("--inventory"))
        _connect(config, flags, begun, planning)
    return 0


def _check_rehearsed_hosts(config: SSHConfig, given: str | None) -> None:
    inventory = load_inventory(given) if given else usual_inventory()
    jumps = [config.jump_host.id] if config.jump_host else []
    faults.check_hosts([config.id, *jumps, *(inventory.hosts if inventory else ())])


def _parsed(words: list[str]) -> tuple[str, dict[str, str]]:
    """Return the host's name, and the values of the flags."""
    flags: dict[str, str] = {}
    while words and (words[0] == _FDPASS or (words[0] in _FLAGS and len(words) > 1)):
        flag = words.pop(0)
        flags[flag] = "" if flag == _FDPASS else words.pop(0)
    if words[:1] == ["--"]:
        del words[0]
    elif words and words[0].startswith("-"):
        raise UsageError(f"connect: unknown flag {words[0]!r}\n{_USAGE}")
    if len(words) != 1:
        raise UsageError(f"connect: expected one host\n{_USAGE}")
    return words[0], flags


def _config(name: str, given: str | None) -> SSHConfig:
    """Return the configuration of a host of the inventory, else of ``[user@]host[:port]``.

    A name without a dot is looked up nowhere else: it is a mistake, or its inventory is missing.
    """
    found = find_host(name, given)
    if found is not None:
        return SSHConfig.from_host_config(found)
    if given:
        load_inventory(given).get(name)  # raises, and lists near names
    # Most calls name a host of the inventory.
    from ringtasks.inventory.plain_addresses import plain_hosts
    from ringtasks.ssh.plain_hosts import is_alias, plain_host

    inventory = usual_inventory() or Inventory({})
    if name in plain_hosts(name, inventory, is_alias):
        return plain_host(name)
    if not inventory.files:
        load_inventory()  # raises, and lists the places that were looked at
    return SSHConfig.from_host_config(inventory.get(name))  # raises, and lists near names


def _planning(name: str, flags: Mapping[str, str]) -> Planning | None:
    """Return the making of a plan, for the next start with the same flags."""
    inventory = flags.get("--inventory", "")
    is_usual = inventory.startswith("/") and "--transport" not in flags
    return Planning(inventory, name) if is_usual else None


def _connect(
    config: SSHConfig, flags: Mapping[str, str], begun: Sequence[Begun], planning: Planning | None
) -> None:
    if config.embedded:
        raise UsageError(f"{config.id}: an embedded host lives in the process that uses it")
    settings = settings_of(config)
    in_use = with_ssh_settings(config, settings)
    gateway = gateway_of(in_use, settings)
    attempt = HostAttempt(in_use, flags.get("--transport"), begun=begun)

    def record(tried: HostAttempt, used: str | None, failures: tuple[RouteError, ...]) -> None:
        HealthStore().record([outcome(config.id, used, failures)])
        if used and planning is not None and gateway is None:
            planning.keep(config, tried.config)

    if _FDPASS not in flags or not can_hand_over():
        _carry(*_reached(config, flags, attempt, gateway, record), record)
        return
    # A proxy's process is to end with ours, and a connection that is cut needs us too.
    may_need_us = gateway or attempt.has_proxy or rehearsal.current()
    release = go_on_separately() if may_need_us else None
    _hand_over(*_reached(config, flags, attempt, gateway, record), record, release)


def _reached(
    config: SSHConfig,
    flags: Mapping[str, str],
    attempt: HostAttempt,
    gateway: Gateway | None,
    record: Record,
) -> tuple[HostAttempt, Dialled]:
    """Return the attempt that reaches the host, which may have moved, and its stream."""
    started = time.time()
    try:
        return attempt, _dial(attempt, gateway, record)
    except UnreachableError:
        from ringtasks.inventory.relocation import relocate  # seldom needed, and each ssh waits

        if not relocate(config, started):
            raise
    moved = with_ssh_settings(config, settings_of(config))
    again = HostAttempt(moved, flags.get("--transport"))
    return again, _dial(again, gateway, record)


def _dial(attempt: HostAttempt, gateway: Gateway | None, record: Record) -> Dialled:
    try:
        dialled = attempt.dial_next(gateway)
    except UnreachableError as error:
        record(attempt, None, error.failures)
        raise
    # In the race this route has failed; without the rehearsal it would have won, and ssh would end.
    for failure in dialled.failures:
        if failure.reason is Reason.HOST_KEY:
            dialled.stream.close()
            raise failure
    if told := faults.summary(is_over=False):
        _say(f"REHEARSAL: {told}")
    return dialled


def _carry(attempt: HostAttempt, dialled: Dialled, record: Record) -> None:
    """Carry the bytes until either side ends."""
    outcome = attempt, dialled.route.name, attempt.arrived()
    recording = threading.Thread(target=record, args=outcome, name="ringtasks-health")
    recording.start()  # not on the way of the first bytes
    try:
        _carry_bytes(dialled.stream, 0, 1)
    finally:
        recording.join()
        dialled.stream.close()


def _hand_over(
    attempt: HostAttempt, dialled: Dialled, record: Record, release: Callable[[], None] | None
) -> None:
    """Give the connection to ssh; if it is not a plain one, carry its bytes behind a socket."""
    is_cut = faults.cuts(attempt.config.id, dialled.route.name)
    shared = None if is_cut else dialled.stream.share()
    # Before ssh goes on: its end may be the next process's beginning.
    record(attempt, dialled.route.name, attempt.arrived())
    if shared is not None:
        hand_over(shared.fileno())
        return
    release = release or go_on_separately()
    ours, theirs = socket.socketpair()
    with contextlib.closing(dialled.stream), ours:
        hand_over(theirs.fileno())
        theirs.close()
        release()
        _carry_bytes(dialled.stream, ours.fileno(), ours.fileno())


def _carry_bytes(stream: Stream, stdin: int, stdout: int) -> None:
    early, connection = stream.taken_over()
    write_all(stdout, early)
    carry(connection, stdin, stdout)

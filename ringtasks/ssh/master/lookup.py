"""Finding the master that may be used for a connection: on the way of every command.

A connection has a name: a hash over all that makes it differ from another.  A master is used only
if it answers, and only if the keys that it trusted are those that are pinned now.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ringtasks.errors import HostKeyError, ProtocolError
from ringtasks.inventory.config import SSHConfig
from ringtasks.ssh.pins import KnownHosts

from . import records
from .control import Control, DeniedError, MasterGoneError
from .folder import control_folder
from .identity import control_name
from .records import Master

__all__ = ["ANSWER_TIMEOUT", "Attached", "answer_of", "answers", "attach", "find"]

#: Seconds for a master to answer; it does nothing that takes longer than a millisecond.
ANSWER_TIMEOUT = 1.5
#: Seconds for one that is not stopped: it may be waiting for a processor among hundreds.
_BUSY_TIMEOUT = 10.0


def find(config: SSHConfig, transport: str | None = None) -> Master | None:
    """The live master for this connection, or None.

    One that is dead, hung or not to be trusted any more is put aside, and ended where that harms
    nobody.

    :raises StateFileError: the folder cannot be used.
    """
    found = attach(config, transport)
    if found is None:
        return None
    found.control.close()
    return found.master


class Attached(NamedTuple):
    """A master that has just answered, and the conversation in which it did."""

    master: Master
    control: Control


def attach(config: SSHConfig, transport: str | None = None) -> Attached | None:
    """As `find`; the conversation is the caller's to close."""
    folder = control_folder()
    master = records.last_started(folder, control_name(config, transport, os.environ))
    if master is None:
        return None
    control = _trusted(master, config)
    if control is not None:
        return Attached(master, control)
    from .master import put_aside_unless_starting

    put_aside_unless_starting(master)
    return None


def answers(master: Master) -> bool:
    """Whether it is live; up to `_BUSY_TIMEOUT` seconds."""
    control = answer_of(master)
    if control is not None:
        control.close()
    return control is not None


def _trusted(master: Master, config: SSHConfig) -> Control | None:
    """A conversation with it, if it answers and trusted what is trusted now."""
    try:
        pins = KnownHosts().pins(config)
    except HostKeyError:  # the next log-in is refused, and says why
        return None
    return answer_of(master) if pins == master.pins else None


def answer_of(master: Master) -> Control | None:
    """Return a dialogue with a master that has answered; None if it does not."""
    patient_until = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            return _greeted(master)
        except TimeoutError:
            from .processes import is_stopped

            # One that is not stopped may have to wait for a processor, with hundreds of others.
            if is_stopped(master.pid) or time.monotonic() >= patient_until:
                return None
        except (OSError, ProtocolError, DeniedError):
            return None


def _greeted(master: Master) -> Control:
    control = Control.connect(master.socket, ANSWER_TIMEOUT)
    try:
        if control.alive(ANSWER_TIMEOUT) != master.pid:
            raise MasterGoneError("another process listens there")
    except BaseException:
        control.close()
        raise
    return control

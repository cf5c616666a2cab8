"""The look-up of the master that may be used for a connection; every command runs it.

A connection has a name: a hash over everything that distinguishes it from another.  A master is
used only if it answers, and only if the keys that it trusted are the pinned ones now.
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

#: Seconds for a master to answer; none of its work takes longer than a millisecond.
ANSWER_TIMEOUT = 1.5
#: Seconds for a master that is not stopped: it may wait for a processor among hundreds.
_BUSY_TIMEOUT = 10.0


def find(config: SSHConfig, transport: str | None = None) -> Master | None:
    """Return the responsive master for this connection, or None.

    A master that is gone, hung or no longer trusted is put aside, and ended if that harms no
    session.

    :raises StateFileError: the folder of the sockets cannot be used.
    """
    found = attach(config, transport)
    if found is None:
        return None
    found.control.close()
    return found.master


class Attached(NamedTuple):
    """A master that has just answered, and the dialogue in which it did."""

    master: Master
    control: Control


def attach(config: SSHConfig, transport: str | None = None) -> Attached | None:
    """Like `find`; the caller has to close the dialogue."""
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
    """Return True if it answers; takes up to `_BUSY_TIMEOUT` seconds."""
    control = answer_of(master)
    if control is not None:
        control.close()
    return control is not None


def _trusted(master: Master, config: SSHConfig) -> Control | None:
    """Return a dialogue with it, if it answers and its trusted keys are the current ones."""
    try:
        pins = KnownHosts().pins(config)
    except HostKeyError:  # the next log-in is refused, and gives the reason
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

            # A master that is not stopped may wait for a processor, among hundreds of others.
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

"""The first exchange with a control master, which shows whether it is responsive."""

from __future__ import annotations

import time

from ringtasks.errors import ProtocolError

from .control import Control, DeniedError, MasterGoneError
from .records import Master

__all__ = ["ANSWER_TIMEOUT", "answer_of", "answers"]

#: Seconds for a master to answer; none of its work takes longer than a millisecond.
ANSWER_TIMEOUT = 1.5
#: Seconds for a master that is not stopped: it may wait for a processor among hundreds.
_BUSY_TIMEOUT = 10.0


def answers(master: Master) -> bool:
    """Return True if it answers; takes up to `_BUSY_TIMEOUT` seconds."""
    control = answer_of(master)
    if control is not None:
        control.close()
    return control is not None


def answer_of(master: Master) -> Control | None:
    """Return a dialogue with a master that has answered; None if it does not."""
    patient_until = time.monotonic() + _BUSY_TIMEOUT
    while True:
        control: Control | None = None
        try:
            control = Control.connect(master.socket, ANSWER_TIMEOUT)
            if control.alive(ANSWER_TIMEOUT) != master.pid:
                raise MasterGoneError("another process listens there")
            answered, control = control, None
            return answered
        except TimeoutError:
            from .processes import is_stopped

            # A master that is not stopped may wait for a processor, among hundreds of others.
            if is_stopped(master.pid) or time.monotonic() >= patient_until:
                return None
        except (OSError, ProtocolError, DeniedError):
            return None
        finally:
            if control is not None:
                control.close()

"""The questions of a log-in, asked at this machine's terminal and nowhere else.

A log-in asks only if the caller allows it (`SSHConfig.batch_mode`) and both ends are a person's:
standard input is a terminal, and the process has a controlling one.  Questions and answers pass
through ``/dev/tty``, as with ssh, so that a redirected stdout never holds a question.
"""

from __future__ import annotations

import getpass
import os
import termios

from ringtasks.common.text import printable
from ringtasks.inventory.host_settings import SSHConfig

__all__ = ["ANSWER_TIMEOUT", "ask", "can_ask", "is_reading_secret"]

#: Seconds for a person to answer: sshd's own limit (sshd_config(5), LoginGraceTime).
ANSWER_TIMEOUT = 120.0
_TERMINAL = "/dev/tty"


def can_ask(config: SSHConfig) -> bool:
    """Return True if a log-in to this host may ask, and there is a terminal to ask at."""
    if config.batch_mode:
        return False
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
        return os.isatty(0)
    except OSError:
        return False


def is_reading_secret() -> bool:
    """Return True if a program reads a password from the terminal now: then it does not echo."""
    try:
        descriptor = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return not termios.tcgetattr(descriptor)[3] & termios.ECHO
    except termios.error:
        return False
    finally:
        os.close(descriptor)


def ask(question: str, *, is_shown: bool) -> str:
    """Return the answer to one question of a server.

    :param is_shown: show the answer while it is typed.
    """
    text = f"{printable(question).rstrip()} "
    if not is_shown:
        return getpass.getpass(text)
    with open(_TERMINAL, "r+b", buffering=0) as terminal:  # noqa: PTH123  # a device
        terminal.write(text.encode())
        return terminal.readline().decode("utf-8", "replace").rstrip("\r\n")

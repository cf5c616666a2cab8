"""Giving a connection to ssh (ssh_config(5), ProxyUseFdpass; ``monitor_fdpass.c`` of OpenSSH)."""

from __future__ import annotations

import _socket  # `ringtasks.client.quick_connect` has no time for socket, which is ten times slower
import os
import sys

__all__ = ["can_hand_over", "hand_over"]


def can_hand_over() -> bool:
    """Return whether stdout is a socket over which a program may wait for a descriptor."""
    duplicate = os.dup(1)
    try:
        channel = _socket.socket(fileno=duplicate)
    except OSError:  # not a socket
        os.close(duplicate)
        return False
    is_right = (channel.family, channel.type) == (_socket.AF_UNIX, _socket.SOCK_STREAM)
    channel.close()
    return is_right


def hand_over(descriptor: int, stdout: int = 1) -> None:
    """Give an open descriptor to the program at the other end, with one byte.

    :raises OSError: the program has ended.
    """
    channel = _socket.socket(fileno=os.dup(stdout))
    content = descriptor.to_bytes(4, sys.byteorder)  # an int in C
    channel.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, content)])
    channel.close()

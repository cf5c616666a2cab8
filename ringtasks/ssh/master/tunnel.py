"""A TCP connection that the host makes, over a control master (``mux_master_process_stdio_fwd``).

The master gets the ends of two socket pairs, one for each direction: it closes an end that it has
finished with, but never shuts a socket down for one direction only, so that one pair would hide the
remote side's EOF.
"""

from __future__ import annotations

import contextlib
import socket

from ringtasks.ssh.link import TunnelRefusedError

from . import wire
from .control import Control, DeniedError

__all__ = ["MuxTunnel"]


class MuxTunnel:
    """A `ringtasks.ssh.link.Tunnel`; made by `open`."""

    def __init__(self, control: Control, writing: socket.socket, reading: socket.socket) -> None:
        self._control, self._writing, self._reading = control, writing, reading

    @classmethod
    def open(cls, control: Control, host: str, port: int, timeout: float) -> MuxTunnel:
        """Open a tunnel, which owns ``control`` from now on.

        :raises TunnelRefusedError: the host cannot connect to the port.
        :raises OSError: the master does not answer.
        """
        (writing, stdin), (stdout, reading) = socket.socketpair(), socket.socketpair()
        tunnel = cls(control, writing, reading)
        try:
            with stdin, stdout:
                descriptors = [stdin.fileno(), stdout.fileno()]
                control.request(wire.new_stdio_forward, host, port, descriptors=descriptors)
            control.await_session(timeout)
        except BaseException as error:
            tunnel.close()
            if isinstance(error, DeniedError):
                raise TunnelRefusedError(str(error)) from error
            raise
        return tunnel

    def sendall(self, data: bytes) -> None:
        self._writing.sendall(data)

    def recv(self, size: int) -> bytes:
        return self._reading.recv(size)

    def shutdown(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._writing.shutdown(how)

    def close(self) -> None:
        for sock in (self._writing, self._reading):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits in it
            sock.close()
        self._control.close()

"""The three streams of a program over a control master: pipes, or a pseudo-terminal.

Each has an end of ours, and one that is handed over to the master.
"""

from __future__ import annotations

import os

from ringtasks.common.fork import not_for_children
from ringtasks.ssh.link import STDERR, STDOUT, Terminal

__all__ = ["SessionStreams"]


class SessionStreams:
    """A program's three streams: our ends, and the master's ends.

    A terminal's stdin is a pseudo-terminal, since a master reads the window's size from it; its
    output is a pipe like any other's.
    """

    def __init__(self, terminal: Terminal | None, piped: tuple[int, int] | None = None) -> None:
        self.stdin: int | None = None
        self.outputs: dict[int, int] = {}
        """The descriptors to read, with the program's stream that each one is."""
        self.wake_pipe: tuple[int, int]
        """A pipe of ours alone, by which `MuxSession.wake` ends a wait."""
        self._is_terminal = terminal is not None
        self._ours: list[int] = []
        self.theirs: list[int] = []
        # A copy of stdin would keep the program from seeing its end.
        not_for_children(self)
        try:
            self.wake_pipe = os.pipe()
            self._ours += self.wake_pipe
            if piped is None:
                self._make(terminal)
            else:
                self.theirs += [os.dup(descriptor) for descriptor in piped]
                self._add_output(STDERR)
        except BaseException:
            self.close()
            raise

    def _make(self, terminal: Terminal | None) -> None:
        if terminal is None:
            reader, writer = os.pipe()
        else:
            # Our end is the pty's master, to write to; the control master reads the slave.
            writer, reader = os.openpty()
        self.stdin = writer
        self._ours.append(writer)
        self.theirs.append(reader)
        os.set_blocking(writer, False)
        for stream in (STDOUT, STDERR):
            self._add_output(stream)
        if terminal is not None:
            # A control master does not make a terminal non-blocking by itself, and serves no client
            # while it waits for one (channels.c, channel_register_fds).
            os.set_blocking(reader, False)
            self.resize(terminal.columns, terminal.rows)

    def _add_output(self, stream: int) -> None:
        ours, theirs = os.pipe()
        self._ours.append(ours)
        self.theirs.append(theirs)
        self.outputs[ours] = stream

    def hand_over(self) -> None:
        """Close the master's ends here. A terminal's stays: without a holder it would hang up."""
        kept = self.theirs[:1] if self._is_terminal else []
        for descriptor in self.theirs[len(kept) :]:
            os.close(descriptor)
        self.theirs = kept

    def make_raw(self) -> None:
        """Let all input reach the master unchanged."""
        if self._is_terminal:
            import tty

            tty.setraw(self.theirs[0])
            os.close(self.theirs.pop())

    def resize(self, columns: int, rows: int) -> bool:
        """Set the terminal's size; False if there is no terminal."""
        if not self._is_terminal or self.stdin is None:
            return False
        import fcntl
        import struct
        import termios

        size = struct.pack("HHHH", rows, columns, 0, 0)  # tty_ioctl(4), struct winsize
        fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, size)
        return True

    def end_input(self) -> None:
        """Close stdin. A terminal's has no end but a typed one: it stays open, for its size."""
        if self.stdin is not None and not self._is_terminal:
            os.close(self.stdin)
            self._ours.remove(self.stdin)
            self.stdin = None

    def descriptors(self) -> list[int]:
        """Return the descriptors that are open now."""
        return [*self._ours, *self.theirs]

    def close(self) -> None:
        for descriptor in (*self._ours, *self.theirs):
            os.close(descriptor)
        self._ours, self.theirs, self.stdin = [], [], None

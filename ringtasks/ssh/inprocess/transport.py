"""Paramiko's Transport, with a check for events that it otherwise misses.

* A peer that vanished: the keepalive requests an answer, as OpenSSH's does
  (``keepalive@openssh.com``, any reply will do), and silence ends the transport.
* A command killed by a signal: Paramiko drops ``exit-signal`` (RFC 4254 section 6.10).
* A channel that has just been closed: Paramiko answers a CLOSE in its own thread, and may do so
  between another thread's making and sending of a message. sshd ends the whole connection when a
  message names a closed channel ("packet referred to nonexistent channel"): seen once in 3,000
  short commands whose stdin was being ended.
"""

from __future__ import annotations

import collections
import logging
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import paramiko
from paramiko.common import (
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_REQUEST,
    cMSG_GLOBAL_REQUEST,
)

from ringtasks.common.text import bounded
from ringtasks.ssh.host_keys import Pins, signature_algorithms
from ringtasks.ssh.paramiko_private import (
    PublicSender,
    PublicTransport,
    channel_handlers,
    handle_channel_request,
)
from ringtasks.ssh.stream import Stream

__all__ = ["Transport"]

# Paramiko logs its exceptions too; without a handler Python would print all of that on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# Paramiko prefers CTR with a MAC of its own, and compares that byte by byte in Python (for 32 bytes
# 0.1 ms a packet). GCM does both at once, in C; OpenSSH prefers it too (ssh_config(5), Ciphers).
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

_NO_PINS = Pins()
_LOOK_INTERVAL = 1.0  # seconds between checks for a due keepalive, or a silent peer


class Transport(PublicTransport):
    """A client's Transport over a `Stream`.

    :param pins: the host's known keys. Their types are requested first; else the server would
        be free to show a key of a type that is not pinned.
    """

    # Paramiko checks ten times a second whether it was closed; `Stream.close` wakes it anyway.
    active_check_timeout = _LOOK_INTERVAL
    channel_handler_table: ClassVar = {
        **channel_handlers(),
        MSG_CHANNEL_REQUEST: lambda channel, message: _on_channel_request(channel, message),
    }

    environment: Mapping[str, str] = {}  # replaced, never changed
    """The variables that each session is sent (ssh_config(5), SendEnv and SetEnv)."""
    offered: Mapping[str, Sequence[str]] = {}  # as above
    """The algorithms that the server offers, by Paramiko's names for the lists."""
    named_key_types: Sequence[str] = ()  # as above
    """The only ones to ask for (ssh_config(5), HostKeyAlgorithms); empty: it is not configured."""
    pinned_types: Sequence[str] = ()  # as above
    """The algorithms of the pinned keys, which are asked for first."""
    disconnect_code = 0
    """The code with which the peer ended the connection (RFC 4253 section 11.1)."""
    disconnect_text = ""
    """The text with which the peer ended the connection, made printable."""

    def __init__(self, stream: Stream, pins: Pins = _NO_PINS, **options: Any) -> None:
        super().__init__(stream, **options)  # type: ignore[arg-type]  # has the methods Paramiko calls
        self._stream = stream
        # Replies come in the order of the requests (RFC 4254 section 4) and carry no number:
        # each entry says whether the request was our keepalive.
        self._expected: collections.deque[bool] = collections.deque()
        self._request_lock = threading.Lock()
        self._send: Any = super().send_user_message
        handlers: dict[int, Any] = self.message_handlers
        for kind in (MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE):
            handlers[kind] = self._swallowing_keepalives(handlers[kind])
        self._refused_channel = ""  # the server's words, which come before the caller is told
        self._note_refused_channel = handlers[MSG_CHANNEL_OPEN_FAILURE]
        handlers[MSG_CHANNEL_OPEN_FAILURE] = self._on_refused_channel
        # A revoked authority may have signed a certificate that the server shows if it is asked.
        self._wants_certificate = bool(pins.authorities or pins.revoked)
        self._prefer(pins)
        packetizer: Any = self.packetizer
        # Paramiko would start a thread for a time limit that `Connection` already keeps.
        packetizer.start_handshake = lambda timeout: None
        packetizer.set_outbound_cipher = _padding_with_zeros(packetizer.set_outbound_cipher)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The key types, certificates first if they are checked; Paramiko prefers them last."""
        named = self.named_key_types
        names = tuple(name for name in super().preferred_keys if not named or name in named)
        if not self._wants_certificate:
            return names
        return tuple(sorted(names, key=lambda name: "-cert-" not in name))

    def use_compression(self, compress: bool = True) -> None:  # Paramiko's
        """Ask for compression; else take it from a server that has nothing else (myproposal.h)."""
        super().use_compression(compress)
        if not compress:
            self.get_security_options().compression = ("none", "zlib@openssh.com", "zlib")

    def watch(self, interval: float, count_max: int) -> None:
        """End the transport after a silence of the peer of ``interval * count_max`` seconds.

        If either is 0, it never does.
        """
        limit = interval * count_max
        if limit:
            self._stream.silence_limit = limit
            self._stream.settimeout(min(_LOOK_INTERVAL, limit / (count_max + 1) / 4))
            # One keepalive more than OpenSSH sends in that time, so that each of the count_max
            # can be answered before the limit.
            self.packetizer.set_keepalive(limit / (count_max + 1), self._send_keepalive)

    def open_channel(self, *args: Any, **kwargs: Any) -> paramiko.Channel:
        """Open a channel; a refusal has the server's words, which Paramiko drops."""
        try:
            channel: Any = super().open_channel(*args, **kwargs)
        except paramiko.ChannelException as error:
            if self._refused_channel and self._refused_channel not in error.text:
                error.text += f": {self._refused_channel}"
            raise
        channel.transport = _Gate(self, channel)
        if "session" in (*args[:1], kwargs.get("kind")):
            self._send_environment(channel)
        return channel  # type: ignore[no-any-return]

    def _send_environment(self, channel: paramiko.Channel) -> None:
        """Send the variables without asking for an answer: a server drops what it does not want."""
        for name, value in self.environment.items():
            message = paramiko.Message()
            message.add_byte(cMSG_CHANNEL_REQUEST)
            message.add_int(channel.remote_chanid)
            message.add_string("env")
            message.add_boolean(False)
            message.add_string(os.fsencode(name))
            message.add_string(os.fsencode(value))
            self._send(message)

    def send_message(self, data: paramiko.Message) -> None:
        """Send one message; Paramiko holds the lock that puts messages in order."""
        channel = getattr(data, "channel", None)
        if channel is not None and channel.closed and data.asbytes()[:1] != cMSG_CHANNEL_CLOSE:
            return  # the CLOSE has been sent already, or is about to be
        super().send_message(data)

    def send_for_channel(self, data: paramiko.Message) -> None:
        """Send a message that is no global request, whose answers have an order."""
        self._send(data)

    def send_user_message(self, data: paramiko.Message) -> None:
        if not _wants_reply(data):
            self._send(data)
            return
        with self._request_lock:  # recorded in the order of sending
            self._expected.append(isinstance(data, _Keepalive))
            self._send(data)

    def _send_keepalive(self) -> None:
        message = _Keepalive()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self.send_user_message(message)

    def _swallowing_keepalives(self, handler: Any) -> Any:
        def handle(message: paramiko.Message) -> None:
            is_keepalive = self._expected.popleft() if self._expected else False
            if not is_keepalive:
                handler(message)

        return handle

    def on_debug(self, message: paramiko.Message) -> None:
        """Do nothing: sshd reports every key that it checks; Paramiko would log that, slowly."""

    def allowed_algorithms(self, kind: str) -> tuple[str, ...]:
        """Return the names that are not disabled; Paramiko compares 200 of them for a log-in."""
        if self.disabled_algorithms:
            return tuple(super().allowed_algorithms(kind))
        return self.preferred_algorithms(kind)

    def parse_key_exchange(
        self, message: paramiko.Message, ignore_first_byte: bool = False
    ) -> dict[str, Any]:
        parsed: dict[str, Any] = super().parse_key_exchange(message, ignore_first_byte)
        if not ignore_first_byte:  # else it is our own message
            # Paramiko takes the names off that are no algorithms.
            self.offered = {**parsed, "kex_algo_list": [*parsed["kex_algo_list"]]}
        return parsed

    def _on_refused_channel(self, message: paramiko.Message) -> None:
        start = message.packet.tell()
        message.get_int()  # the channel's number
        message.get_int()  # the code of the reason
        self._refused_channel = bounded(message.get_string().decode("utf-8", "replace"))
        message.packet.seek(start)
        self._note_refused_channel(message)

    def on_disconnect(self, message: paramiko.Message) -> None:
        self.disconnect_code = message.get_int()
        self.disconnect_text = bounded(message.get_string().decode("utf-8", "replace"))

    def _prefer(self, pins: Pins) -> None:
        wanted = [name for pin in pins.keys for name in signature_algorithms(pin.type)]
        options = self.get_security_options()
        self.pinned_types = [name for name in wanted if name in options.key_types]
        options.key_types = _first(self.pinned_types, options.key_types)
        options.ciphers = _first([c for c in _CIPHERS if c in options.ciphers], options.ciphers)


def _first(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    return [*wanted, *(name for name in names if name not in wanted)]


def _padding_with_zeros(set_cipher: Any) -> Any:
    """Return ``set_outbound_cipher``, which treats GCM as a cipher in counter mode, as it is.

    For these Paramiko pads with zeros.  RFC 4253 section 6 recommends random bytes, which hide
    equal plaintexts from a reader in CBC mode.  In counter mode each packet has a key stream of its
    own, and GCM checks the padding with the rest (RFC 5647 section 7.2).  For random bytes Paramiko
    would ask the system with each packet, which lets another thread run.
    """

    def set_outbound_cipher(*args: Any, sdctr: bool, aead: bool = False, **options: Any) -> None:
        set_cipher(*args, sdctr=sdctr or aead, aead=aead, **options)

    return set_outbound_cipher


def _on_channel_request(channel: Any, message: paramiko.Message) -> None:
    start = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        # As in a shell; an unknown name counts as KILL.
        number = getattr(signal, f"SIG{message.get_text()}", signal.SIGKILL)
        channel.exit_status = 128 + int(number)
        channel.status_event.set()
        return
    message.packet.seek(start)
    handle_channel_request(channel, message)


class _Gate(PublicSender):
    """A channel's Transport, which marks the channel of each message."""

    def __init__(self, transport: Transport, channel: Any) -> None:
        self._transport, self._channel = transport, channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send_user_message(self, data: Any) -> None:
        data.channel = self._channel
        self._transport.send_for_channel(data)


class _Keepalive(paramiko.Message):
    """A global request whose answer no thread waits for."""


def _wants_reply(message: paramiko.Message) -> bool:
    """Return True if it is a global request with want_reply set (RFC 4254 section 4)."""
    sent = message.asbytes()
    if sent[:1] != cMSG_GLOBAL_REQUEST:
        return False
    name_size = int.from_bytes(sent[1:5], "big")
    return sent[5 + name_size : 6 + name_size] == b"\x01"

"""The private names of Paramiko 4.0 to 5.x that ringtasks uses; no other module uses one.

A release of Paramiko may change these names without notice: pyproject.toml bounds its versions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import paramiko
from paramiko.agent import AgentSSH
from paramiko.auth_handler import AuthHandler
from paramiko.sftp import BaseSFTP

from ringtasks.common.public_names import PublicNames, private

__all__ = [
    "NAMES",
    "PublicAuthHandler",
    "PublicSFTPClient",
    "PublicSFTPFile",
    "PublicSender",
    "PublicTransport",
    "ask_channel",
    "attributes_from",
    "channel_handlers",
    "connect_agent",
    "handle_channel_request",
    "request_sftp",
    "rules_of",
    "speed_up_host_keys",
]

#: The private names, by the class that has them; a test checks that they are there.
NAMES: dict[type, set[str]] = {
    paramiko.Transport: {
        "_active_check_timeout",
        "_channel_handler_table",
        "_filter_algorithm",
        "_handler_table",
        "_parse_debug",
        "_parse_disconnect",
        "_preferred_ciphers",
        "_preferred_compression",
        "_preferred_kex",
        "_preferred_keys",
        "_preferred_macs",
        "_preferred_pubkeys",
        "_really_parse_kex_init",
        "_send_message",
        "_send_user_message",
    },
    AuthHandler: {
        "_parse_service_accept",
        "_parse_userauth_banner",
        "_parse_userauth_failure",
        "_request_auth",
    },
    AgentSSH: {"_connect"},
    paramiko.Channel: {"_event_pending", "_handle_request"},
    BaseSFTP: {"_read_packet", "_send_packet", "_send_version"},
    paramiko.SFTPClient: {
        "_adjust_cwd",
        "_async_request",
        "_convert_status",
        "_expecting",
        "_lock",
        "_read_response",
        "_request",
    },
    paramiko.SFTPFile: {"_async_response", "_close", "_read", "_write"},
    paramiko.file.BufferedFile: {"_closed", "_pos", "_rbuffer", "_realpos"},
    paramiko.SFTPAttributes: {"_from_msg"},
    paramiko.SSHClient: {"_host_keys", "_system_host_keys"},
    paramiko.SSHConfig: {"_config"},
}

# Paramiko's stubs lack the private names.
_Transport: Any = paramiko.Transport


class PublicTransport(PublicNames, paramiko.Transport):
    """Paramiko's Transport, whose messages a subclass may see and send."""

    active_check_timeout: float = private("_active_check_timeout")
    channel_handler_table: ClassVar[Any] = private("_channel_handler_table")
    on_debug: Any = private("_parse_debug")
    on_disconnect: Any = private("_parse_disconnect")
    allowed_algorithms: Any = private("_filter_algorithm")
    parse_key_exchange: Any = private("_really_parse_kex_init")
    send_message: Any = private("_send_message")
    send_user_message: Any = private("_send_user_message")

    @property
    def message_handlers(self) -> dict[int, Any]:
        """The handler of each kind of message, in a table that all Transports share."""
        transport: Any = self
        handlers: dict[int, Any] = transport._handler_table
        return handlers

    def preferred_algorithms(self, kind: str) -> tuple[str, ...]:
        """Return the names of a kind (``ciphers``, ``keys``, …) as they are configured."""
        transport: Any = self
        return tuple(getattr(transport, f"_preferred_{kind}"))


class PublicSender(PublicNames, ABC):
    """An object that stands for a channel's Transport when the channel sends a message."""

    PRIVATE: ClassVar = {"send_user_message": "_send_user_message"}

    @abstractmethod
    def send_user_message(self, data: Any) -> None:
        """Send the channel's message."""


class PublicAuthHandler(PublicNames, AuthHandler):
    """Paramiko's handler of one log-in request."""

    on_accepted_service: Any = private("_parse_service_accept")
    on_banner: Any = private("_parse_userauth_banner")
    on_failure: Any = private("_parse_userauth_failure")
    request_service: Any = private("_request_auth")


class PublicSFTPClient(PublicNames, paramiko.SFTPClient):
    """Paramiko's SFTP client, whose packets a subclass may read and send."""

    adjust_path: Any = private("_adjust_cwd")
    ask_ahead: Any = private("_async_request")
    raise_status: Any = private("_convert_status")
    read_packet: Any = private("_read_packet")
    read_response: Any = private("_read_response")
    send_packet: Any = private("_send_packet")
    start_version: Any = private("_send_version")
    request: Any = private("_request")

    def reserve_number(self, file: Any) -> int:
        """Return the number of the next request, whose answer ``file`` will get."""
        client: Any = self
        with client._lock:
            number: int = client.request_number
            client.request_number += 1
            client._expecting[number] = file
        return number


class PublicSFTPFile(PublicNames, paramiko.SFTPFile):
    """Paramiko's remote file, whose reads and writes a subclass may replace."""

    on_answer: Any = private("_async_response")
    close_once: Any = private("_close")
    read_some: Any = private("_read")
    write_some: Any = private("_write")

    @property
    def remote_position(self) -> int:
        """The position of the next request to the host."""
        file: Any = self
        return int(file._realpos)

    @property
    def has_buffered(self) -> bool:
        """True if bytes that were read from the host wait in a buffer."""
        file: Any = self
        return bool(file._rbuffer)

    @property
    def is_closed(self) -> bool:
        file: Any = self
        return bool(file._closed)

    def advance(self, size: int) -> None:
        """Move both positions, of the caller and at the host, by ``size`` bytes."""
        file: Any = self
        file._realpos += size
        file._pos += size


class _HostKeys(paramiko.HostKeys):
    """Paramiko's table, whose look-up makes a class each time, although the table is empty."""

    def lookup(self, hostname: str) -> Any:
        return super().lookup(hostname) if len(self) else None


def speed_up_host_keys(client: paramiko.SSHClient) -> None:
    """Replace the tables of a new client by others that are as empty."""
    private: Any = client
    private._system_host_keys, private._host_keys = _HostKeys(), _HostKeys()


def channel_handlers() -> dict[int, Any]:
    """Return a copy of the handlers of a channel's messages."""
    return dict(_Transport._channel_handler_table)


def handle_channel_request(channel: Any, message: paramiko.Message) -> None:
    """Handle a request of the peer for a channel, as Paramiko does."""
    channel._handle_request(message)


def ask_channel(channel: Any, message: paramiko.Message) -> None:
    """Send a channel request that requires an answer: ``channel.event`` is set when it comes."""
    channel._event_pending()
    channel.get_transport()._send_user_message(message)


def request_sftp(client: Any, kind: int, *arguments: Any) -> tuple[int, Any]:
    """Send a request over a Paramiko client, and return the kind of the answer and the answer."""
    answer: tuple[int, Any] = client._request(kind, *arguments)
    return answer


def attributes_from(answer: paramiko.Message, name: str, longname: str) -> paramiko.SFTPAttributes:
    """Read the attributes of a file from an answer."""
    kind: Any = paramiko.SFTPAttributes
    attributes: paramiko.SFTPAttributes = kind._from_msg(answer, name, longname)
    return attributes


def connect_agent(agent: AgentSSH, connection: Any) -> None:
    """Let the agent's client speak over a connection, and read the agent's keys."""
    client: Any = agent
    client._connect(connection)


def rules_of(config: paramiko.SSHConfig) -> Any:
    """Return the parsed rules of an ssh_config, to be compared with others."""
    parsed: Any = config
    return parsed._config

"""The agent that the programs of a session in process may ask (ssh_config(5), ForwardAgent).

Paramiko forwards that of ``SSH_AUTH_SOCK`` only.  If this does not answer, it leaves the program of
the host waiting; here the program is told that there is no agent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any

import paramiko

from ringtasks.common.threads import start_thread
from ringtasks.errors import UsageError
from ringtasks.ssh.tunnels import copy_both_ways

__all__ = ["agent_socket", "forward_agent"]


def agent_socket(ssh_config: Mapping[str, Any]) -> str | None:
    """Return the agent's socket (ssh_config(5), IdentityAgent).

    None: that of ``SSH_AUTH_SOCK``.  "": none is used.
    """
    named = ssh_config.get("identityagent")
    if named is None or named == ["SSH_AUTH_SOCK"]:
        return None
    if not named:  # it was "none"
        return ""
    return _of_variable(named[0])


def forward_agent(channel: Any, ssh_config: Mapping[str, Any]) -> None:
    """Ask the server to forward an agent to the programs of a session, if there is an agent.

    :param channel: the session's channel, before its program starts.
    """
    path = _socket_to_forward(ssh_config)
    if path:
        channel.request_forward_agent(lambda opened: _begin(opened, path))


def _socket_to_forward(ssh_config: Mapping[str, Any]) -> str:
    named: str = ssh_config.get("forwardagent", "yes")
    if named not in ("yes", "no", "true", "false"):
        return _of_variable(named)
    used = agent_socket(ssh_config)
    return os.environ.get("SSH_AUTH_SOCK", "") if used is None else used


def _of_variable(path: str) -> str:
    return os.environ.get(path[1:], "") if path.startswith("$") else path


def _begin(opened: Any, path: str) -> None:
    """Serve a channel in a thread: the caller is the one that reads the whole connection."""
    try:
        start_thread(_serve, opened, path, name="ringtasks-agent")
    except UsageError:
        opened.close()


def _serve(opened: Any, path: str) -> None:
    with (
        contextlib.closing(opened),
        socket.socket(socket.AF_UNIX) as agent,
        contextlib.suppress(OSError, EOFError, paramiko.SSHException),  # a lost connection
    ):
        agent.connect(path)
        copy_both_ways(opened, agent)

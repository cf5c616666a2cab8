"""Gateways that lead to no command: providers' proxies that offer terminals only, or no terminal.

The host was reached and the log-in worked, so these are not failures of the route.
"""

from __future__ import annotations

import re

from ringtasks.common.program_name import as_typed
from ringtasks.errors import OtherProgramError
from ringtasks.ssh.link import KILLED_STATUS

__all__ = ["LATE_START", "NoChannelError", "advise_on_gateway"]

_OWN_SSHD = "for commands set ssh_host and ssh_port to the box's own sshd, not to a gateway"
#: For a channel request (RFC 4254 section 6), or the session: its name in messages, the next step.
_REQUESTS = {
    "exec": (
        "exec channel",
        f"'{as_typed('shell')}' may work, or --pty if it wants a terminal; {_OWN_SSHD}",
    ),
    "session": (
        "session",
        "a jump host may allow none: name it as proxy_jump; else raise MaxSessions in its "
        "sshd_config",
    ),
    "shell": ("shell", f"'{as_typed('run')}' may work"),
    "pty-req": ("terminal", "run it without --pty, or set 'PermitTTY yes' in its sshd_config"),
}
#: sshd (session.c) and pam_unix, to a user without a terminal.
_HAS_EXPIRED = re.compile(r"password has expired|required to change your password", re.IGNORECASE)
#: The evidence of a copy if the host's login files do not end.
LATE_START = "login files may wait for input"
_SFTP_ONLY = "allows sftp connections only"  # sshd (session.c), for ForceCommand internal-sftp
_WANTS_TERMINAL = re.compile(r"\b(PTY|TTY|terminal)\b", re.IGNORECASE)


class NoChannelError(OtherProgramError):
    """The host, or a gateway in front of it, refuses a channel request (RFC 4254 section 6)."""

    def __init__(self, host: str, request: str, evidence: str) -> None:
        kind, advice = _REQUESTS.get(request, (f"{request} channel", _OWN_SSHD))
        super().__init__(host, evidence, advice=advice)
        self.request, self.kind = request, kind

    def __str__(self) -> str:
        return f"{self.host}: the host offers no {self.kind}: {self.evidence}; {self.advice}"


def advise_on_gateway(error: OtherProgramError, *, has_terminal: bool) -> None:
    """Name the next step if a gateway may have answered in place of a command's shell."""
    if _HAS_EXPIRED.search(error.evidence):
        error.advice = f"change the password at a terminal, with '{as_typed('shell')}'"
    elif _SFTP_ONLY in error.evidence:
        error.advice = (
            "SSHClient.scp_to and scp_from, and put and get of a Connection, copy files by SFTP; "
            "for all else check ssh_user, or ForceCommand in its sshd_config"
        )
    elif LATE_START in error.evidence:
        error.advice = "let its login files read stdin, or take that long, in terminals only"
    elif has_terminal and error.status is None:
        error.advice = f"if it started a shell of its own, '{as_typed('shell')}' works; {_OWN_SSHD}"
    elif not has_terminal and _WANTS_TERMINAL.search(error.evidence):
        error.advice = f"if it wants a terminal, try --pty or '{as_typed('shell')}'; {_OWN_SSHD}"
    elif error.status is None:
        error.advice += ", or raise connect_timeout if its login files take longer"
    elif not error.evidence and error.status == KILLED_STATUS:
        error.evidence = "it closed the session without running the command"
        error.advice = _REQUESTS["exec"][1]

"""The command lines of a cluster's jobs, written and read back.  Pure.

A program that reaches a cluster's ports may run any command there, so a cluster has a token (Ray
2.52 and later ask for it): a file on its hosts, for their users only.  It is in no command line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ringtasks.errors import UsageError
from ringtasks.remote.programs import Program
from ringtasks.remote.script import RUN_ID_VARIABLE, quote, quoted_path
from ringtasks.training.rendezvous import Rendezvous

__all__ = [
    "FOLDER",
    "REAPER",
    "Start",
    "check_options",
    "folder_of",
    "group_of",
    "guarded",
    "ray",
    "read",
    "starts",
    "temp_of",
    "token_settings",
]

#: On the hosts, below the home; it has a folder for each cluster.
FOLDER = ".ringtasks/ray"
#: The program in it, which runs Ray.
REAPER = "reaper.py"
_GUARD = Program(__file__, "port_guard.py")
#: Names the hosts of the cluster, by their inventory names.
_HOSTS_VARIABLE = "RINGTASKS_RAY_HOSTS"
_TOKEN_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105  # a variable's name

#: They would lead to another cluster, or hold another token: Ray prefers them to what it is given
#: (dashboard/utils.py, get_address_for_submission_client).
_UNSET = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN")

_CLUSTER_ID = re.compile(r"[A-Za-z_]\w*-[0-9a-f]{8}", re.ASCII)
_TOKEN = re.compile(rf"\$HOME/{re.escape(FOLDER)}/({_CLUSTER_ID.pattern})/token", re.ASCII)

#: Flags of "ray start" that ringtasks sets.
_OWN_FLAGS = frozenset(
    {
        "address", "block", "dashboard-agent-listen-port", "dashboard-host", "dashboard-port",
        "head", "include-dashboard", "node-ip-address", "port", "ray-client-server-port",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Start:
    """A cluster's facts, read from a job's command line."""

    cluster_id: str
    is_head: bool
    hosts: tuple[str, ...]
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The address of the head's store: ``ADDRESS:PORT``."""
        own = f"{self.flags.get('node-ip-address', '')}:{self.flags.get('port', '')}"
        return own if self.is_head else self.flags.get("address", "")

    @property
    def dashboard_port(self) -> int:
        """The dashboard's and job API's port on the head's loopback; 0: not given."""
        port = self.flags.get("dashboard-port", "")
        return int(port) if re.fullmatch(r"[1-9][0-9]{0,4}", port) else 0


def group_of(name: str) -> str:
    """Return the group of the jobs of the clusters of that name."""
    return f"ray:{name}"


def folder_of(cluster_id: str) -> str:
    """Return the cluster's folder, for a shell."""
    return f'"$HOME/{FOLDER}/{cluster_id}"'


def temp_of(cluster_id: str, options: str) -> str:
    """Return the cluster's folder for Ray's sessions, for a shell.

    In the folder of its sessions Ray keeps the address of the cluster that was started last, and
    connects each job to that one.  The name is short, since sockets are below it (unix(7)).

    :param options: may name the folder that it is in, as ``--temp-dir``; else that is Ray's own.
    """
    words = shlex.split(options)
    given = ""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == "--temp-dir":
            given = value if equals else following
    place = quoted_path(given) if given else '"${TMPDIR:-/tmp}"'
    return f"{place}/ray-{cluster_id.rpartition('-')[2]}"


def ray(cluster_id: str, program: str = "ray") -> str:
    """Return ``ray``, or another program, with the cluster's token; for a shell."""
    token = f'{_TOKEN_VARIABLE}="$HOME/{FOLDER}/{cluster_id}/token"'
    unset = "".join(f"-u {name} " for name in _UNSET)
    return f"env {unset}RAY_AUTH_MODE=token {token} {program}"


def token_settings(cluster_id: str) -> str:
    """Return the settings that pass the cluster's token to the next programs; for a shell."""
    token = f'"$HOME/{FOLDER}/{cluster_id}/token"'
    return f"unset {' '.join(_UNSET)}\nexport RAY_AUTH_MODE=token {_TOKEN_VARIABLE}={token}"


def guarded(command: str, port: int, job_id: str) -> str:
    """Return ``command``, run only if ``port`` is that of a process of the job; for a shell.

    A token is sent to a port only if a process of the cluster listens on it: once that has ended,
    another program may take the port.  Then the exit status is `port_guard.STRANGER` or `SILENT`,
    and the reason is on stderr.  Linux alone shows the process (proc_pid_fd(5), proc_net(5)).
    """
    mark = quote(f"{RUN_ID_VARIABLE}={job_id}")
    return f"python3 -c {quote(_GUARD.text)} {port} {mark} || exit\n{command}"


def check_options(options: str) -> None:
    """Check the options for ``ray start``.

    :raises UsageError: they hold an option that ringtasks sets.
    """
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UsageError(f"--options {options!r}: {error}") from None
    for word in words:
        name = word.lstrip("-").partition("=")[0].replace("_", "-")
        if word.startswith("--") and name in _OWN_FLAGS:
            raise UsageError(
                f"--options: --{name} is set by ringtasks: leave it out"
                + (f", or give --{name} to ray.up" if name in ("port", "dashboard-port") else "")
            )


def starts(
    cluster_id: str, rendezvous_point: Rendezvous, ports: Sequence[Mapping[str, int]], options: str
) -> Iterator[str]:
    """Yield each host's command; the dashboard and the job API listen on the head's loopback.

    :param ports: of each host: ``agent``, and of the head also ``dashboard`` and ``client``.
    """
    store = f"{rendezvous_point.address}:{rendezvous_point.port}"
    hosts = ",".join(node.host for node in rendezvous_point.nodes)
    temp = temp_of(cluster_id, options)
    for n, (node, own) in enumerate(zip(rendezvous_point.nodes, ports, strict=True)):
        flags = {"node-ip-address": node.address}
        if n == 0:
            flags["port"] = str(rendezvous_point.port)
            flags["dashboard-host"] = "127.0.0.1"
            flags["dashboard-port"] = str(own["dashboard"])
            flags["ray-client-server-port"] = str(own["client"])
        else:
            flags["address"] = store
        flags["dashboard-agent-listen-port"] = str(own["agent"])
        given = " ".join(f"--{flag}={quote(value)}" for flag, value in flags.items())
        reaper = f'python3 "$HOME/{FOLDER}/{cluster_id}/{REAPER}"'
        role, last = (" --head", f" --temp-dir={temp}/ray") if n == 0 else ("", "")
        program = f"{_HOSTS_VARIABLE}={quote(hosts)} {reaper} ray start{role}"
        own_options = f"{given} --disable-usage-stats --log-color=false --block"
        yield f"exec {ray(cluster_id, program)} {own_options} {options}".rstrip() + last


def read(command: str) -> Start | None:
    """Return the facts that `starts` has put into a job's command line; None: not one of those."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    settings = dict(word.partition("=")[::2] for word in words if "=" in word)
    token = _TOKEN.fullmatch(settings.get(_TOKEN_VARIABLE, ""))
    if not token or "start" not in words:
        return None
    hosts = tuple(host for host in settings.get(_HOSTS_VARIABLE, "").split(",") if host)
    flags = {name[2:]: value for name, value in settings.items() if name.startswith("--")}
    return Start(token[1], "--head" in words, hosts, flags)

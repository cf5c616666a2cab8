"""``inv ssh-config``: OpenSSH configuration, so that every ssh uses the hosts' routes and pins."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ringtasks.errors import UsageError
from ringtasks.output import display

from .core_flags import is_dry
from .options import inventory_of, selected, task

if TYPE_CHECKING:
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.inventory.model import HostConfig
    from ringtasks.ssh.config_install import FileChange

__all__ = ["ssh_config"]

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@task(
    connects=False,
    help={
        "prefix": "text to put before each host's name: box-",
        "install": "write ~/.ssh/ringtasks_config, and include it in ~/.ssh/config",
        "remove": "undo --install",
    },
)
def ssh_config(
    c: Context,
    host: str = "@all",
    prefix: str = "",
    install: bool = False,
    remove: bool = False,
    inventory: str | None = None,
) -> str:
    """Print OpenSSH configuration, so that ssh, scp, rsync, git and VS Code reach the hosts."""
    from ringtasks.ssh.config_install import changes_to_install, changes_to_remove

    if install and remove:
        raise UsageError("ssh-config: give one of --install and --remove")
    if remove:
        _make(c, changes_to_remove(Path.home()))
        return ""
    if prefix and not _PREFIX.fullmatch(prefix):
        raise UsageError(f"--prefix {prefix}: expected letters, digits, '.', '_' and '-'")
    hosts, path = selected(c, host, inventory), _inventory_path(c, inventory)
    text = _text(hosts, path, prefix)
    if install:
        _make(c, changes_to_install(text, Path.home()))
        _warn_of_other_home(Path.home())
    else:
        print(text, end="", flush=True)
    if not is_dry(c):
        from ringtasks.client.route_planning import plan_ahead
        from ringtasks.inventory.host_settings import config_or_fault
        from ringtasks.ssh.master.lookup import drop_stale_links

        drop_stale_links(map(config_or_fault, hosts))
        plan_ahead(path, [each.name for each in hosts if each.file])
    return text


def _text(hosts: Sequence[HostConfig], inventory: Path, prefix: str) -> str:
    """Return the configuration; a host that cannot stand in it is left out, with a warning."""
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.inventory.state_files import known_hosts_file
    from ringtasks.ssh.generated_config import HEADER, ClientFiles, block_of

    known_hosts = known_hosts_file()
    known_hosts.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # ssh adds first contacts
    files = ClientFiles(_program(), inventory, known_hosts)
    blocks = [HEADER]
    for host in hosts:
        try:
            if not host.file:
                raise UsageError(f"{host.name}: is not in the inventory")
            if not prefix and _is_borrowed_name(host):
                raise UsageError(
                    f"{host.name}: a source gives its host this name, which may be that of another "
                    "machine: add --prefix, or write the host into the hosts file"
                )
            config = SSHConfig.from_host_config(host)
            if config.embedded:
                raise UsageError(f"{host.name}: an embedded host runs only while a task does")
            own = files._replace(control_path=_control_path(config))
            blocks.append(block_of(config, f"{prefix}{host.name}", own))
        except UsageError as error:
            display.say(f"warning: left out: {error}")
    return "\n".join(blocks)


def _is_borrowed_name(host: HostConfig) -> bool:
    """Return whether only a source calls the host by a name that is usual for another machine.

    With a label such as ``github.com``, a rented box would get the log-ins for that name.
    """
    is_described = bool(host.lines) or not host.origins
    own = (host.ssh_host, host.tailscale_ip, host.cloudflare_tunnel)
    is_usual = "." in host.name or host.name.lower() == "localhost"
    return is_usual and not is_described and host.name not in own


def _control_path(config: SSHConfig) -> str | None:
    from ringtasks.errors import StateFileError
    from ringtasks.ssh.master.client_links import client_control_path
    from ringtasks.ssh.openssh import why_no_master

    if why_no_master(config) is not None:
        return None
    try:
        return client_control_path(config)
    except StateFileError:  # then no master is started either
        return None


def _program() -> Path:
    """Return the console script: the one beside this Python, else the one on PATH."""
    beside = Path(sys.executable).with_name("ringtasks")
    found = str(beside) if beside.is_file() else shutil.which("ringtasks")
    if found is None:
        raise UsageError("ssh-config: the program ringtasks is not on PATH: install the package")
    return Path(found).absolute()


def _inventory_path(c: Context, given: str | None) -> Path:
    """Return the absolute path of the inventory: a file, or the folder of several."""
    files = [Path(file).absolute() for file in inventory_of(c, given).files]
    return files[0] if len(files) == 1 else files[0].parent


def _warn_of_other_home(home: Path) -> None:
    """Warn if ssh does not read the files: it takes the user's home folder from the system."""
    import pwd

    try:
        real = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without an entry, as in some containers: ssh does not start
        return
    if os.path.realpath(real) != os.path.realpath(home):
        config = shlex.quote(str(home / ".ssh" / "config"))
        display.say(
            f"warning: ssh reads {real}/.ssh/config, since it does not look at HOME, which is "
            f"{home}: use 'ssh -F {config}', or install with HOME={shlex.quote(str(real))}"
        )


def _make(c: Context, changes: Sequence[FileChange]) -> None:
    from ringtasks.ssh.config_install import write

    if not changes:
        display.say("nothing to change")
    for change in changes:
        display.say(f"{change.file}: {change.summary}")
        if change.summary == "hosts" and change.content is not None:
            print(change.content.decode(), end="", flush=True)
    if not is_dry(c):
        for change in changes:
            write(change)

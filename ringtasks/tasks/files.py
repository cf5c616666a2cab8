"""``inv put``, ``inv get`` and ``inv sync``: copy files to and from the selected hosts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from invoke import Context

from ringtasks.common import interruption
from ringtasks.common.text import names_and_more
from ringtasks.errors import UsageError
from ringtasks.exit_status import combined_status
from ringtasks.output import display

from .core_flags import command_timeout, ended, is_dry
from .options import clients_of, number, several, task, whole_number

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.transfer import HostTransfer, Options, TransferResult

__all__ = ["get", "put", "sync"]

_HELP = {
    "exclude": "skip names that match; '!' in front includes again; repeatable",
    "dry-run": "change nothing; list what would be copied and deleted",
    "fanout": "hosts at the same time (default: 64)",
    "timeout": "seconds per host, or 10m, 2h (default: no limit)",
}
#: ``HOST:PATH``, as scp takes it.
_SCP_PATH = re.compile(r"([^/:\s]+):([^:].*|)", re.DOTALL)
_LEFT = "interrupted; rerun to resume"
_GITIGNORE_HELP = "leave out what git ignores in SRC, and .git"
_PUT_HELP = {
    "src": "local file, folder or pattern",
    "dst": "path on the host, below its work_dir; ~ is the remote home; a final / means a folder",
    "gitignore": _GITIGNORE_HELP,
    "relay": "send to one host; hosts that have it copy it to others",
}
_GET_HELP = {
    "src": "file, folder or pattern on the host",
    "dst": "local path; with several hosts a folder, with a subfolder per host",
}
_SYNC_HELP = {
    "src": "a folder, here",
    "dst": "a folder on the host",
    "delete": "delete files in DST that are not in SRC; excluded files stay",
    "pull": "download: SRC is on the host, DST is local",
    "gitignore": _GITIGNORE_HELP,
    "checksum": "compare contents even if size and time are equal",
    "hard-links": "keep hard links among the files (rsync -H)",
    "sparse": "make holes in the place of zeros (rsync -S)",
    "verify": "compare a SHA-256 of each file that was sent",
}


@task(positional=["src", "dst"], iterable=["exclude"], help={**_PUT_HELP, **_HELP})
def put(
    c: Context,
    src: str,
    dst: str,
    host: str | None = None,
    exclude: Any = None,  # Invoke makes it a list
    gitignore: bool = False,
    relay: bool = False,
    dry_run: bool = False,
    fanout: str | int | None = None,
    timeout: str | float | None = None,
    transport: str | None = None,
    json: bool = False,
    inventory: str | None = None,
) -> TransferResult:
    """Copy files and folders to hosts, checked by SHA-256."""
    copying = _copying(**locals())
    from ringtasks import transfer

    if is_dry(c):
        return copying.planned([str(path) for path in transfer.matched(src)], dst)
    return copying.done(partial(transfer.put, src, dst))


@task(positional=["src", "dst"], iterable=["exclude"], help={**_GET_HELP, **_HELP})
def get(
    c: Context,
    src: str,
    dst: str,
    host: str | None = None,
    exclude: Any = None,
    dry_run: bool = False,
    fanout: str | int | None = None,
    timeout: str | float | None = None,
    transport: str | None = None,
    json: bool = False,
    inventory: str | None = None,
) -> TransferResult:
    """Copy files and folders from hosts, checked by SHA-256."""
    copying = _copying(**locals())
    from ringtasks import transfer

    if is_dry(c):
        return copying.planned([dst], src, pulls=True)
    return copying.done(partial(transfer.get, src, dst))


@task(positional=["src", "dst"], iterable=["exclude"], help={**_SYNC_HELP, **_HELP})
def sync(
    c: Context,
    src: str,
    dst: str,
    host: str | None = None,
    exclude: Any = None,
    delete: bool = False,
    pull: bool = False,
    gitignore: bool = False,
    checksum: bool = False,
    sparse: bool = False,
    hard_links: bool = False,
    verify: bool = False,
    dry_run: bool = False,
    fanout: str | int | None = None,
    timeout: str | float | None = None,
    transport: str | None = None,
    json: bool = False,
    inventory: str | None = None,
) -> TransferResult:
    """Mirror a local folder to hosts, or a host's folder to this machine."""
    copying = _copying(**locals())
    from ringtasks import transfer

    if is_dry(c):
        content = f"{src.rstrip('/')}/"
        here, there = (dst, content) if pull else (content, dst)
        return copying.planned([here], there, pulls=pull)
    return copying.done(partial(transfer.sync, src, dst, pull=pull))


class _Copying(NamedTuple):
    """One copy to the hosts or from them."""

    c: Context
    clients: list[SSHClient]
    options: Options
    transport: str | None
    json: bool

    def planned(self, here: Sequence[str], there: str, *, pulls: bool = False) -> TransferResult:
        """Show the plan of a copy between these paths of this machine and of the hosts."""
        from ringtasks.transfer import TransferResult

        from . import plan
        from .files_plan import plan_copies

        plans = plan_copies(self.clients, here, there, self.options, self.transport, pulls=pulls)
        plan.show(plans, json=self.json)
        return TransferResult(())

    def done(self, copy: Callable[..., TransferResult]) -> TransferResult:
        """Copy, and report."""
        from ringtasks.output.transfer_bars import watching

        try:
            with interruption.said_as(_LEFT), watching(self.clients, json=self.json) as watch:
                result = copy(self.clients, self.options, **watch)
        finally:
            for client in self.clients:
                client.close_link()
        if not self.json:
            _tell(result, self.options)
        return ended(self.c, result, combined_status(host.returncode for host in result))


def _clients(
    c: Context, host: str | None, inventory: str | None, transport: str | None, paths: Sequence[str]
) -> list[SSHClient]:
    """Return the clients of the hosts.

    :raises UsageError: a path is ``HOST:PATH``, as scp takes it, and there is no ``--host`` or it
        selects HOST.
    """
    clients = clients_of(c, host, inventory, transport) if host else []
    selected = {client.config.id for client in clients}
    for path in paths:
        found = _host_and_path(path)
        if found is None or (host and found[0] not in selected):
            continue
        name, own = map(shlex.quote, found)
        if host:
            raise UsageError(f"'{path}': --host names the host: give the path {own}")
        raise UsageError(f"--host is required: for '{path}' give --host {name}, and the path {own}")
    return clients or clients_of(c, host, inventory, transport)


def _copying(
    c: Context,
    src: str,
    dst: str,
    host: str | None,
    inventory: str | None,
    **flags: Any,
) -> _Copying:
    """Return the copy that the flags of a task describe."""
    transport, json = flags.pop("transport"), flags.pop("json")
    flags.pop("pull", None)  # the way is not the copy's
    options = _options(c, flags.pop("fanout"), flags.pop("timeout"), **flags)
    clients = _clients(c, host, inventory, transport, (src, dst))
    return _Copying(c, clients, options, transport, json)


def _host_and_path(word: str) -> tuple[str, str] | None:
    """Return the host and the path of ``HOST:PATH``; None: it is not in that form, or a file."""
    found = _SCP_PATH.fullmatch(word)
    return None if found is None or Path(word).exists() else (found[1], found[2] or ".")


def _options(
    c: Context, fanout: str | int | None, timeout: str | float | None, **chosen: Any
) -> Options:
    from ringtasks.transfer import Options

    hosts_at_once = whole_number("--fanout", fanout, at_least=1)
    if hosts_at_once is not None:
        chosen["fanout"] = hosts_at_once
    limit = command_timeout(c) if timeout is None else number("--timeout", timeout, at_least=0)
    return Options(**{**chosen, "exclude": several(chosen["exclude"]), "timeout": limit or None})


def _tell(result: TransferResult, options: Options) -> None:
    for host in result:
        if options.dry_run:
            _tell_plan(host)
        elif host.replaced:
            for name, link in host.replaced.items():
                display.say(f"{host.host}: the link {name} -> {link} was replaced by a folder")
            display.say(f"{host.host}: to keep links to folders, leave them out with --exclude")
        if host.skipped:
            names = names_and_more(host.skipped)
            display.say(f"{host.host}: not copied (pipes, devices, links that lead out): {names}")
        for note in host.notes:
            display.say(f"{host.host}: {note}")


def _tell_plan(host: HostTransfer) -> None:
    for name in host.names:
        display.out(f"{host.host}: would copy {name}")
    for name in host.made:
        if name.rstrip("/") not in host.replaced:
            display.out(f"{host.host}: would make or change {name}")
    for name, link in host.replaced.items():
        display.out(f"{host.host}: would replace the link {name} -> {link} by a folder")
    for name in host.deleted:
        display.out(f"{host.host}: would remove {name}")

"""``ringtasks init``: the files of a new project; nothing that exists is changed."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from invoke import Context

from ringtasks.common.program_name import as_typed
from ringtasks.errors import InventoryError, UsageError
from ringtasks.inventory.checks import HOST_NAME_EXPECTED, is_host_name
from ringtasks.inventory.files import locate
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.sources.checking import checked
from ringtasks.inventory.sources.fetching import fetch
from ringtasks.inventory.sources.model import Deadline, Source, SourceError
from ringtasks.inventory.ssh_aliases import ssh_aliases
from ringtasks.output import display

from .config_files import NAMES
from .core_flags import is_dry
from .options import task

__all__ = ["init"]

_HOSTS_FILE = Path("hosts") / "distributed_hosts.yaml"
_TASKS = """\
from ringtasks.tasks import namespace

__all__ = ["namespace"]
"""
_SETTINGS = f"""\
# Settings of the tasks. Take away the "# " of the lines that you need and fill them in.
ringtasks:
  inventory: null                # a hosts file or folder in place of hosts/

# train:                         # {as_typed("train")}
#   command: python3 train.py
#   hosts: "@all"                # the best eligible host is used
#   gpus: 1                      # 0: the host needs none
#   sync_up: [train.py]          # files and folders that the run needs
#   fetch: [model.pt]            # files to download afterwards

# deploy:                        # {as_typed("deploy")}
#   hosts: "@web"                # a host, a group of the hosts file, or several
#   path: ~/apps/shop            # on each host
#   restart: systemctl --user restart shop
#   check_url: http://127.0.0.1:8000/health
"""
#: The lines that differ if the only host is the embedded one.
_DEMO = {
    'hosts: "@all"': "hosts: demo  ",
    'hosts: "@web"': "hosts: demo  ",
    "gpus: 1": "gpus: 0",
}
_TAILSCALE_TIMEOUT = 10.0  # seconds
#: The last is for the pictures of ``inv plot --out run.svg``.
_IGNORED = ("hosts/distributed_hosts.yaml", "runs/", "/*.svg")


@task(connects=False)
def init(c: Context) -> list[str]:
    """Write tasks.py, a hosts file, invoke.yaml and .gitignore lines for a new project."""
    dry = is_dry(c)
    hosts: dict[str, dict[str, object]] = {}
    # Invoke would read a new invoke.yaml in place of an invoke.yml that there is.
    settings = next((name for name in NAMES if Path(name).exists()), NAMES[0])
    # Invoke finds a package of this name, too.
    tasks = Path("tasks/__init__.py") if Path("tasks/__init__.py").exists() else Path("tasks.py")
    files = {tasks: _TASKS, Path(settings): _SETTINGS}
    if not _has_hosts():
        hosts = _known_hosts() or (_asked_hosts() if not dry else {})
        files[_HOSTS_FILE] = _hosts_text(hosts)
        files[Path(settings)] = _SETTINGS if hosts else _for_demo(_SETTINGS)
    written = [str(path) for path, text in files.items() if _write(path, text, dry=dry)]
    if _ignore(dry=dry):
        written.append(".gitignore")
    verb = "would write" if dry else "wrote"
    display.say(f"{verb} {', '.join(written)}" if written else "nothing to write: all files exist")
    has_demo = not hosts and str(_HOSTS_FILE) in written
    if has_demo:
        display.say(_demo_note())
    if not dry:
        display.say(f"next: {_next_command(hosts, has_demo=has_demo)}")
    return written


def _for_demo(settings: str) -> str:
    for line, own in _DEMO.items():
        settings = settings.replace(line, own)
    return settings


def _demo_note() -> str:
    found = "~/.ssh/config and Tailscale name no hosts"
    if not sys.stdin or not sys.stdin.isatty():
        found += ", and there is no terminal to ask for some"
    return f"{found}: 'demo' in {_HOSTS_FILE} is served by this machine, to try the tasks with"


def _has_hosts() -> bool:
    try:
        locate(None)
    except InventoryError:
        return False
    return True


def _known_hosts() -> dict[str, dict[str, object]]:
    """Return the machines that ssh's configuration and the tailnet name."""
    hosts: dict[str, dict[str, object]] = {}
    for alias in ssh_aliases(Path("~/.ssh/config").expanduser()):
        hosts[alias] = {"ssh_host": alias}  # ssh's configuration knows the rest
    for name, address in _tailnet_machines():
        hosts.setdefault(name, {})["tailscale_ip"] = address
    return hosts


def _tailnet_machines() -> list[tuple[str, str]]:
    """Return the machines of the tailnet with their addresses; none without Tailscale."""
    try:
        found = checked(fetch(Source("tailscale"), Deadline(_TAILSCALE_TIMEOUT))).hosts
    except SourceError:
        return []
    return sorted((host.name, host.values["tailscale_ip"]) for host in found if not host.absence)


def _asked_hosts() -> dict[str, dict[str, object]]:
    """Ask for hosts, if there is a terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        return {}
    hosts: dict[str, dict[str, object]] = {}
    while address := _asked("address of a host, [user@]host[:port] (Enter: no more): "):
        try:
            config = SSHConfig.parse(address)
        except ValueError as error:
            display.say(str(error))
            continue
        name = _asked_name(_default_name(config.host, hosts), hosts)
        fields: dict[str, object] = {"ssh_host": config.host}
        if config.port != SSHConfig.port:
            fields["ssh_port"] = config.port
        if config.user:
            fields["ssh_user"] = config.user
        hosts[name] = fields
    return hosts


def _default_name(host: str, taken: Collection[str]) -> str:
    label = host.partition(".")[0]
    if host[0].isdigit() or ":" in host:  # an IP address
        label = "box"
    names = (f"{label}-{n}" if n > 1 else label for n in itertools.count(1))
    return next(name for name in names if name not in taken)


def _asked_name(default: str, taken: Collection[str]) -> str:
    while True:
        name = _asked(f"its name ({default}): ") or default
        if is_host_name(name) and name not in taken:
            return name
        display.say(f"{name} is taken" if name in taken else f"expected {HOST_NAME_EXPECTED}")


def _asked(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def _hosts_text(hosts: dict[str, dict[str, object]]) -> str:
    import yaml

    head = (
        f"# The hosts of this project, shown by '{as_typed('hosts')}'. "
        "Any other field is a fact: gpu: H100.\n"
    )
    found = hosts or {"demo": {"embedded": True}}  # a host in this process, to try the tasks with
    return head + str(yaml.safe_dump({"hosts": found}, sort_keys=False, allow_unicode=True))


def _write(path: Path, text: str, *, dry: bool) -> bool:
    """Write a new file; return False if there is one already."""
    if dry:
        return not path.exists()
    try:
        if not path.parent.is_dir():
            path.parent.mkdir()
    except OSError as error:
        raise UsageError(f"{path.parent}: {error.strerror}") from error
    try:
        with path.open("x", encoding="utf-8") as file, _removed_on_error(path):
            file.write(text)
            file.flush()
    except FileExistsError:
        display.say(f"{path} exists: left as it is")
        return False
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return True


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    """Remove an unfinished file, which the next run would leave as it is."""
    try:
        yield
    except BaseException:
        path.unlink()
        raise


def _ignore(*, dry: bool) -> bool:
    """Append the missing lines to ``.gitignore``; return False if none is missing."""
    path = Path(".gitignore")
    try:
        known = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
        missing = list(_missing(known))
        if missing and not dry:
            start = "" if not known or known.endswith("\n") else "\n"
            with path.open("a", encoding="utf-8") as file:
                file.write(start + "".join(f"{line}\n" for line in missing))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return bool(missing)


def _missing(known: str) -> Iterator[str]:
    lines = {line.strip().strip("/") for line in known.splitlines()}
    yield from (line for line in _IGNORED if line.strip("/") not in lines)


def _next_command(hosts: dict[str, dict[str, object]], *, has_demo: bool) -> str:
    if hosts:
        return as_typed("check")
    if has_demo:
        return as_typed("run --host demo --cmd hostname")
    return as_typed("hosts")

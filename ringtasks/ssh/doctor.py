"""Check this machine: programs, keys, inventory and state, each with a fix."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ringtasks.common.local_user import expanded_home
from ringtasks.common.program_name import as_typed
from ringtasks.common.regular_file import read_regular
from ringtasks.common.text import counted
from ringtasks.errors import RingtasksError, StateFileError, UsageError
from ringtasks.inventory.files import Located
from ringtasks.inventory.host_settings import PRIVATE_KEY_VARIABLE, SSHConfig
from ringtasks.inventory.loader import load_located, sources_at
from ringtasks.inventory.model import Inventory
from ringtasks.inventory.sources.answers import answers_of
from ringtasks.inventory.sources.kinds import KINDS
from ringtasks.inventory.sources.model import Source
from ringtasks.inventory.state_files import health_file, known_hosts_file, state_folder

from .evaluated_config import settings_of
from .home_files import USUAL_KEYS
from .key_files import ENCRYPTED, why_refused
from .master.folder import check_sockets, control_folder
from .openssh import run
from .routes import PROGRAMS

__all__ = ["Finding", "examine"]

_CORRECT = "correct this entry"
_VERSION_TIMEOUT = 5.0  # seconds; a program that does not print its version by then is broken


@dataclass(frozen=True)
class Finding:
    """One checked subject. ``verdict``: ``ok``, ``missing`` (not all need it), or ``bad``."""

    verdict: str
    subject: str
    evidence: str
    advice: str = ""


def examine(find_inventory: Callable[[], Located]) -> list[Finding]:
    """Return all findings; changes nothing, contacts no host."""
    findings = list(_inventory(find_inventory))
    findings += _programs()
    findings += _settings_files()
    findings += _keys()
    findings += [_state_folder(), _sockets(), _state_file("health", health_file(), _read_health)]
    findings.append(_state_file("host keys", known_hosts_file(), _read_known_hosts))
    return findings


def _inventory(find: Callable[[], Located]) -> Iterator[Finding]:
    try:
        located = find()
        inventory = load_located(located)
    except RingtasksError as error:
        yield Finding("bad", "inventory", str(error), "'ringtasks init' writes a hosts file")
        return
    files = ", ".join(inventory.files)
    yield Finding("ok", "inventory", f"{counted(len(inventory.hosts), 'host')} in {files}")
    yield from _inventory_warnings(located, inventory)
    for host in inventory.hosts.values():
        if host.fault is not None:
            yield Finding("bad", "inventory", str(host.fault), _CORRECT)
    yield from _key_files(inventory)


def _inventory_warnings(located: Located, inventory: Inventory) -> Iterator[Finding]:
    answers = answers_of(sources_at(located), may_fetch=False) if inventory.warnings else []
    for warning in inventory.warnings:
        told = [a for a in answers if warning.startswith(f"{a.source.place}: ")]
        if not told:
            is_name = "; did you mean " in warning
            advice = "correct the name, or quote it if it is correct" if is_name else _CORRECT
        elif told[0].warning and warning.endswith(f": {told[0].warning}"):
            advice = f"{_by_hand(told[0].source)}; then '{as_typed('hosts --refresh')}'"
        else:
            advice = "change it at the provider, or add the host to the hosts file"
        yield Finding(
            "bad", f"source {told[0].source.label}" if told else "inventory", warning, advice
        )


def _by_hand(source: Source) -> str:
    """Return the way to see the error of a source."""
    if source.command:
        folder = shlex.quote(str(Path(source.file).parent))
        return f"run it: (cd {folder} && {shlex.join(source.command)})"
    return KINDS[source.kind].by_hand


def _key_files(inventory: Inventory) -> Iterator[Finding]:
    named = {host.ssh_key for host in inventory.hosts.values() if host.ssh_key}
    for name in sorted(named):
        yield from _key_file("ssh_key", name, expanded_home(os.path.expandvars(name)))


def _key_file(subject: str, name: str, path: Path) -> Iterator[Finding]:
    problem = why_refused(path)
    if problem is not None:
        # Not all log-ins need a key that has a passphrase.
        verdict = "missing" if problem.what == ENCRYPTED else "bad"
        yield Finding(verdict, subject, f"{name} {problem.what}", problem.fix)


def _programs() -> Iterator[Finding]:
    for program, version_flag, needed_for in (
        ("ssh", "-V", "control masters"),
        *(program[:3] for program in PROGRAMS),
        ("rsync", "--version", "a quick sync"),
    ):
        path = shutil.which(program)
        if path is None:
            yield Finding("missing", program, "not on PATH", f"install it for {needed_for}")
        else:
            yield _answered(program, [path, version_flag], needed_for)


def _settings_files() -> Iterator[Finding]:
    """Let ssh read its files for any host: it refuses a line for all of them."""
    try:
        settings_of(SSHConfig("localhost"))
    except UsageError as error:
        yield Finding("bad", "ssh settings", str(error), "'ssh -G localhost' has to work")


def _keys() -> Iterator[Finding]:
    text = os.environ.get(PRIVATE_KEY_VARIABLE)
    if text:
        yield Finding("ok", "key", f"{PRIVATE_KEY_VARIABLE} is set")
    elif text is not None:
        advice = "set it to a key's text, or unset it"
        yield Finding("bad", "key", f"{PRIVATE_KEY_VARIABLE} is empty", advice)
    if os.environ.get("SSH_AUTH_SOCK"):
        yield _agent()
    own = [path.name for path in Path("~/.ssh").expanduser().glob("id_*") if path.suffix != ".pub"]
    if own:
        yield Finding("ok", "keys in ~/.ssh", ", ".join(sorted(own)))
        for name in USUAL_KEYS:
            if name in own:
                yield from _key_file("keys in ~/.ssh", name, Path("~/.ssh", name).expanduser())
    elif not os.environ.get("SSH_AUTH_SOCK") and not text:
        yield Finding(
            "missing", "keys", "none in ~/.ssh, no agent", "ssh-keygen -t ed25519, or set ssh_key"
        )


def _agent() -> Finding:
    """Ask the agent; ssh-add(1) ends with 1 if it holds no key, with 2 if it does not answer."""
    found = _answered("agent", ["ssh-add", "-l"], "log-ins with its keys")
    is_empty = found.evidence.startswith("exit status 1:")
    return Finding("ok", "agent", "it holds no key") if is_empty else found


def _state_folder() -> Finding:
    folder = state_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "make it writable, or set XDG_STATE_HOME"
        return Finding("bad", "state folder", f"{folder}: {error.strerror}", advice)
    return Finding("ok", "state folder", str(folder))


def _state_file(subject: str, path: Path, read: Callable[[Path], str]) -> Finding:
    try:
        if not path.exists():
            return Finding("ok", subject, f"{path} is not created yet")
        return Finding("ok", subject, read(path))
    except (OSError, ValueError) as error:
        return Finding("bad", subject, f"{path}: {error}", "look at it, or remove it")


def _read_health(path: Path) -> str:
    from ringtasks.health.json_format import decode

    hosts = decode(read_regular(path))["hosts"]
    return f"{path}: {counted(len(hosts), 'host')}"


def _read_known_hosts(path: Path) -> str:
    from .known_hosts import Entries

    content = read_regular(path)
    for damage in Entries(content).damaged:
        raise ValueError(f"line {damage.number} cannot be read: fix or remove that line")
    return f"{path}: {counted(len(content.splitlines()), 'line')}"


def _answered(program: str, argv: list[str], needed_for: str) -> Finding:
    """Run a program; one that fails is bad, whatever it prints."""
    try:
        done = run(argv, _VERSION_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("bad", program, str(error), f"fix it: it is for {needed_for}")
    printed = (done.stdout or done.stderr).decode("utf-8", "replace")
    said = (printed.strip().splitlines() or ["no answer"])[0]
    if done.returncode == 0:
        return Finding("ok", program, said)
    advice = f"'{shlex.join(argv)}' has to work for {needed_for}"
    return Finding("bad", program, f"exit status {done.returncode}: {said}", advice)


def _sockets() -> Finding:
    try:
        folder = control_folder()
        check_sockets(folder)
    except StateFileError as error:
        advice = "set XDG_RUNTIME_DIR to a folder of a local disk; until then, no control masters"
        return Finding("bad", "control sockets", str(error), advice)
    return Finding("ok", "control sockets", str(folder))

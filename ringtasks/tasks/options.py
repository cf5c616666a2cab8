"""Shared parts of the tasks: error translation, common flags, and exit statuses."""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import invoke
from invoke import Context, Exit

from ringtasks.common import interruption
from ringtasks.common.collector import paused
from ringtasks.common.local_user import expanded_home
from ringtasks.common.pending_answers import PendingAnswer, watched
from ringtasks.common.program_name import as_typed, hints_of_task, is_program, repeat_in_hints
from ringtasks.common.threads import NO_MEMORY, translated
from ringtasks.errors import InventoryError, RingtasksError, UsageError
from ringtasks.exit_status import UNREACHABLE, USAGE

from .invoke_private import code_folder, project_prefix, set_code
from .rehearsing import FLAG, REHEARSE_HELP, check_rehearsed_hosts, rehearsed, signature_with_flag
from .streams import written

if TYPE_CHECKING:
    from ringtasks.client.ssh_client import SSHClient
    from ringtasks.inventory.files import Located
    from ringtasks.inventory.host_settings import SSHConfig
    from ringtasks.inventory.model import HostConfig, Inventory

__all__ = [
    "HOST_HELP",
    "clients_of",
    "config_of",
    "configs_of",
    "gpu_options",
    "inventory_of",
    "located",
    "number",
    "one_host",
    "one_or_all",
    "port_number",
    "selected",
    "several",
    "task",
    "whole_number",
]

T = TypeVar("T")
N = TypeVar("N", int, float)

#: Seconds after which a person is told that a host does not answer, and after which a log is.
_SILENCE, _SILENCE_IN_LOGS = 2.0, 5.0

HOST_HELP = "hosts: name, glob*, gpu[01-16], @group, @all, key=value, !without; joined by commas"
#: The texts of the flags that mean the same in most tasks.
_USUAL_HELP = {
    "env": "NAME=VALUE for the command, or NAME to pass on this machine's; repeatable",
    "env-file": "file with lines NAME=VALUE, as a .env file; repeatable; --env counts more",
    "host": HOST_HELP,
    "inventory": "hosts file or folder (else RINGTASKS_HOSTS, ./hosts, ~/.config/ringtasks)",
    "json": "print one JSON object per line, nothing else",
    "transport": f"use this route only, by its name in '{as_typed('check')}'",
    FLAG: REHEARSE_HELP,
}


def task(*, connects: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Wrap ``invoke.task``: report ringtasks' errors in one line and by exit status.

    A body returns its result when it has succeeded, so that further tasks of the command line run
    and Python callers get it; it raises `Exit` only when it has failed (`core_flags.ended`).

    :param connects: the task connects to hosts, or shows how, and so has the flag ``--rehearse``.
    :param options: those of ``invoke.task``; ``help`` for the flags without a usual text.
    """
    texts: dict[str, str] = options.pop("help", {})

    def decorate(body: Callable[..., Any]) -> Any:
        @functools.wraps(body)
        def told(*args: Any, **kwargs: Any) -> Any:
            words = kwargs.pop(FLAG, None) if connects else None
            with (
                hints_of_task(inventory=kwargs.get("inventory")),  # also in its errors
                _reported(),
                written(),
                translated(),
                _silence_told(is_json=bool(kwargs.get("json"))),
                interruption.guarded(),
                _signal_statuses(),
                rehearsed(words),
            ):
                return body(*args, **kwargs)

        if connects:
            vars(told)["__signature__"] = signature_with_flag(body)
        flags = {name.replace("_", "-") for name in inspect.signature(told).parameters}
        usual = {flag: text for flag, text in _USUAL_HELP.items() if flag in flags}
        # Invoke would give each task letters of its own; see `lazy.SHORT_FLAGS`.
        return invoke.task(auto_shortflags=False, help={**usual, **texts}, **options)(told)

    return decorate


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Raise `Exit` with a line for the user in place of an error of ringtasks."""
    try:
        yield
    except (UsageError, ValueError) as error:
        raise Exit(_told(str(error)), code=USAGE) from error
    except RingtasksError as error:
        raise Exit(_told(str(error)), code=UNREACHABLE) from error
    except MemoryError:
        raise Exit(f"ringtasks: {NO_MEMORY}", code=1) from None
    except OSError as error:
        if not isinstance(error.filename, str):
            raise  # it may be of our own doing: not a path of the user's
        raise Exit(_told(f"{error.filename}: {error.strerror}"), code=1) from error
    finally:
        # All objects loaded by now live until the exit: without this the interpreter visits all of
        # them once more on its way out (20 ms).
        if is_program():
            gc.freeze()


def _told(text: str) -> str:
    from ringtasks.output.display import without_alarms
    from ringtasks.output.foreign_text import message

    return f"ringtasks: {message(without_alarms(text))}"


def _silence_told(*, is_json: bool) -> contextlib.AbstractContextManager[None]:
    """Tell on stderr, within the block, of hosts that do not answer."""
    if is_json:
        return contextlib.nullcontext()
    return watched(_SILENCE if os.isatty(2) else _SILENCE_IN_LOGS, _tell_of_silence)


def _tell_of_silence(seconds: float, silent: Sequence[PendingAnswer]) -> None:
    from ringtasks.output.display import say, silence_notice

    say(silence_notice(seconds, silent))


@contextlib.contextmanager
def _signal_statuses() -> Iterator[None]:
    """If a signal ends the task's body, raise `Exit` with the status for that signal."""
    try:
        yield
    except KeyboardInterrupt:
        if (status := interruption.status()) is None:  # raised, but not by a signal
            raise
        interruption.handled()
        raise Exit(code=status) from None
    except Exit as error:
        # Nothing else of it changes: it carries the task's result.
        set_code(error, interruption.status() or error.code)
        raise


def inventory_of(c: Context, given: str | None, *, newer_than: float = 0.0) -> Inventory:
    """Return the inventory of the flag, else of ``ringtasks.inventory``, else the default one.

    Its warnings are printed once in this process.

    :param newer_than: Unix seconds; answers of sources from before are fetched again.
    """
    from ringtasks.inventory.loader import load_located
    from ringtasks.output.display import say

    with paused():
        inventory = load_located(located(c, given), newer_than=newer_than)
        if len(inventory.hosts) >= _MANY_HOSTS and is_program():
            gc.freeze()  # they live until the exit; see the end of `task`
    for warning in inventory.warnings:
        if warning not in _warned:
            _warned.add(warning)
            say(f"warning: {warning}")
    return inventory


def located(c: Context, given: str | None) -> Located:
    """Return the files of `inventory_of`.

    :raises InventoryError: there is none.
    """
    from ringtasks.inventory.files import locate, trust

    settings = c.config.get("ringtasks") or {}
    if len(settings) > 1:
        from .config_files import warn_of_unknown_settings

        warn_of_unknown_settings(settings)
    named = settings.get("inventory")
    if not isinstance(named, str | os.PathLike | None):
        raise UsageError(f"ringtasks: inventory: expected a path, got {named!r}")
    named = given or _beside_project(named, _project_folder(c))
    if (project := code_folder(c.config)) is not None:
        trust(Path(project))
    is_named = given or project or os.environ.get("INVOKE_RINGTASKS_INVENTORY") == named
    return locate(named, _project_folder(c), is_named=bool(is_named))


def _beside_project(named: Any, project: Path | None) -> Any:
    """Return a relative path of ``invoke.yaml`` for the folder of the ``tasks.py``, if it is there.

    Invoke also finds both in a parent folder.
    """
    if not isinstance(named, str) or project is None or expanded_home(named).exists():
        return named
    beside = project / named
    return str(beside) if beside.exists() else named


def _project_folder(c: Context) -> Path | None:
    """Return the folder of the ``tasks.py`` that Invoke loaded; it may be a parent folder."""
    prefix = project_prefix(c.config)
    return Path(prefix) if prefix else None


_LAST_PORT = 65535
#: Number of hosts from which on garbage collections would take long.
_MANY_HOSTS = 500

#: The warnings that were printed.
_warned: set[str] = set()


def selected(
    c: Context,
    selector: str | None,
    given: str | None,
    *,
    may_ask: bool = False,
    only_looks: bool = False,
    as_named: bool = False,
) -> list[HostConfig]:
    """Return the hosts that ``--host`` selects, in the inventory's order.

    An address, or a name that ssh's configuration knows, needs no inventory entry.

    :param may_ask: hosts may be asked for a live condition.
    :param only_looks: the task runs no command of the user. Then no selector means all hosts, with
        the embedded ones that had jobs. If the inventory has no others, ``@all`` means these.
    :param as_named: return them in the order in which ``--host`` names them.
    :raises UsageError: no selector, a bad one, or one that matches no host.
    """
    is_default = selector is None and only_looks
    selector = "@all" if is_default else selector
    if not selector:
        raise UsageError(
            f"--host is required: name a host ('{as_typed('hosts')}' shows them), a @group or @all"
        )
    try:
        inventory = inventory_of(c, given)
    except InventoryError as error:
        from ringtasks.inventory.model import Inventory

        inventory = Inventory({})  # if there is no hosts file, and none is needed
        if error.file is not None or not _plain(selector, inventory):
            raise
    if selector not in inventory.hosts:  # the code for selectors need not be loaded
        plain = _plain(selector, inventory)
        repeat_in_hints(host=selector if plain else None)
        inventory = inventory._replace(hosts={**inventory.hosts, **plain})
    check_rehearsed_hosts(inventory)
    if selector in inventory.hosts:
        return [inventory.hosts[selector]]
    ask = None
    if may_ask and re.search("[<>=]", selector):
        from .live_conditions import measure

        ask = functools.partial(measure, c)
    from ringtasks.inventory.selection import ordered_as_named, select

    if only_looks and (is_default or selector == "@all"):
        selector = ",".join(["@all", *_to_look_at(inventory, had_jobs=is_default)])
    names = select(selector, inventory, ask)
    if as_named:
        names = ordered_as_named(selector, inventory, names)
    return [inventory.hosts[name] for name in names]


def _to_look_at(inventory: Inventory, *, had_jobs: bool) -> list[str]:
    """Return the embedded hosts if there are no others, else those that had jobs, or none."""
    from ringtasks.jobs.job_cache import had_job

    embedded = [host.name for host in inventory.hosts.values() if host.embedded]
    if len(embedded) == len(inventory.hosts):
        return embedded
    return [name for name in embedded if had_jobs and had_job(name, "")]


def _plain(selector: str, inventory: Inventory) -> dict[str, HostConfig]:
    from ringtasks.inventory.plain_addresses import plain_hosts

    return plain_hosts(selector, inventory, _is_alias)


def _is_alias(name: str) -> bool:
    from ringtasks.ssh.plain_hosts import is_alias

    return is_alias(name)


def config_of(c: Context, host: HostConfig) -> SSHConfig:
    """Return a host's SSH configuration; Invoke's command limit (``-T``) overrides its own."""
    from ringtasks.inventory.host_settings import SSHConfig

    return _limited(c, SSHConfig.from_host_config(host))


def _limited(c: Context, config: SSHConfig) -> SSHConfig:
    from .core_flags import command_timeout

    limit = command_timeout(c)
    return config if limit is None else replace(config, command_timeout=limit)


def configs_of(
    c: Context,
    hosts: Sequence[HostConfig],
    transport: str | None = None,
    *,
    judges_each: bool = False,
) -> list[SSHConfig]:
    """Return the hosts' SSH configurations; of several, one that cannot be used has a ``fault``.

    :param judges_each: the task reports on each host, also on the only one.
    :raises UsageError: the only host cannot be used.
    """
    from ringtasks.client.faults import checked
    from ringtasks.inventory.host_settings import SSHConfig, config_or_fault

    is_alone = len(hosts) == 1 and not judges_each
    read = SSHConfig.from_host_config if is_alone else config_or_fault
    configs = [_limited(c, read(host)) for host in hosts]
    return checked(configs, transport, {host.name: host for host in hosts}, is_alone=is_alone)


def clients_of(
    c: Context,
    selector: str | None,
    given: str | None,
    transport: str | None = None,
    *,
    may_ask: bool = False,
    only_looks: bool = False,
) -> list[SSHClient]:
    """Return a client for each host that ``--host`` selects; see `selected`, `configs_of`."""
    from ringtasks.client.ssh_client import SSHClient

    hosts = selected(c, selector, given, may_ask=may_ask, only_looks=only_looks)
    return [SSHClient(config, transport=transport) for config in configs_of(c, hosts, transport)]


def one_host(c: Context, selector: str | None, given: str | None) -> HostConfig:
    """Return the one host that ``--host`` selects.

    :raises UsageError: it selects several.
    """
    hosts = selected(c, selector, given)
    if len(hosts) > 1:
        names = ", ".join(host.name for host in hosts)
        raise UsageError(f"--host {selector!r}: expected one host, got {len(hosts)}: {names}")
    return hosts[0]


def one_or_all(found: list[T]) -> T | list[T]:
    """Return the only item, as a caller of one host expects it, else all."""
    return found[0] if len(found) == 1 else found


def gpu_options(text: str) -> dict[str, Any]:
    """Return the options for ``--gpus N`` or ``--gpus N:any-memory``.

    :raises UsageError: it is neither.
    """
    count, _, word = text.partition(":")
    if word not in ("", "any-memory"):
        raise UsageError(f"--gpus {text}: expected a number, or a number with :any-memory")
    found = whole_number("--gpus", count) or 0
    return {"gpus": found, "any_memory": word == "any-memory"}


def several(given: Iterable[str] | str | None) -> tuple[str, ...]:
    """Return the values of a repeatable flag; a Python caller may give one of them, or None."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


def number(flag: str, text: str | float | None, *, at_least: float) -> float | None:
    """Return a flag's seconds, also of ``10m`` or ``2h``; None if it was not given.

    :param text: a Python caller may give a number.
    :raises UsageError: it is not a duration, or below ``at_least``.
    """
    from ringtasks.common.durations import duration

    def seconds(text: str | float) -> float:
        if isinstance(text, str) and text[:1].isdigit() and text[-1:].isalpha():
            return duration(flag, text)
        return float(text)

    return _number(seconds, "seconds or a duration such as 10m", flag, text, at_least)


def whole_number(flag: str, text: str | float | None, *, at_least: int = 0) -> int | None:
    """Return like `number`, for a flag that takes whole numbers only."""
    return _number(int, "a whole number", flag, text, at_least)


def port_number(flag: str, text: str | int | None) -> int | None:
    """Return like `whole_number`, for a port."""
    port = whole_number(flag, text, at_least=1)
    if port is not None and port > _LAST_PORT:
        raise UsageError(f"{flag}: expected a port from 1 to {_LAST_PORT}, got {text}")
    return port


def _number(
    kind: Callable[[str | float], N], noun: str, flag: str, text: str | float | None, least: float
) -> N | None:
    if text is None:
        return None
    expected = f"{flag}: expected {noun}, at least {least:g}, got {text!r}"
    try:
        value = kind(text)
        if isinstance(text, float) and value != text:
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(expected) from None
    if not least <= value < float("inf"):
        raise UsageError(expected)
    return value

"""``inv train``: a training run, from the ``train`` settings and the flags that override them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Context

from ringtasks.common import interruption
from ringtasks.common.local_user import expanded_home
from ringtasks.common.program_name import as_typed
from ringtasks.errors import NoEligibleHostError, RunNotStartedError, StateFileError, UsageError
from ringtasks.exit_status import INTERRUPTED, UNREACHABLE
from ringtasks.output import display

from .core_flags import echo, ended, is_dry
from .env_files import environment
from .options import HOST_HELP, gpu_options, number, selected, several, task, whole_number
from .sections import settings_section

if TYPE_CHECKING:
    from ringtasks.inventory.model import HostConfig
    from ringtasks.training.records import RunRecord
    from ringtasks.training.settings import TrainSettings
    from ringtasks.training.supervisor import RunOutcome, Stage

__all__ = ["train"]

#: Flags whose values are those of the settings of their names.
_AS_THEY_ARE = ("name", "cwd", "venv", "log_file", "checkpoint", "checkpoint_done")
#: Flags of whole numbers, with the least value of each.
_COUNTS = {"nodes": 1, "nproc_per_node": 1, "retries": 0}


@task(
    iterable=["env", "env_file", "sync_up", "setup", "fetch"],
    help={
        "host": HOST_HELP + "; the best eligible host is used",
        "cmd": "the command, for /bin/sh on the host",
        "name": "name of the run (default: train)",
        "gpus": "GPUs to reserve per host; 2:any-memory: also GPUs with memory in use",
        "nodes": "number of hosts, with torchrun; the command is then 'python3 FILE …'",
        "nproc-per-node": "ranks per host, with torchrun",
        "cwd": "folder on the host; ~ is the remote home (default: a new one in runs/)",
        "venv": "virtual environment on the host (default: the host's venv_activate)",
        "log-file": "log on the host (default: one in the job's folder)",
        "sync-up": "file or folder to upload first, FROM or FROM:TO, without the files of a folder "
        "that git ignores; repeatable",
        "setup": "command in cwd before the run, not repeated while its text and the files that it "
        "names are the same; repeatable",
        "fetch": "file or folder to download afterwards, into runs/RUN/; repeatable",
        "retries": "how often another host may take over from a lost one",
        "checkpoint": "folder below cwd, pulled while it runs; a takeover starts with it",
        "checkpoint-done": "file that marks a checkpoint as complete (written last)",
        "checkpoint-interval": "seconds between pulls (default: 60)",
        "lost-after": "seconds without an answer before a host counts as lost (default: 600)",
        "allow-split": "let another host take over even if the first may still run",
        "preflight": "run preflight checks (--no-preflight skips them)",
        "attach": "reattach to a running run: its name, or 'last'; starts nothing",
    },
)
def train(
    c: Context,
    host: str | None = None,
    cmd: str | None = None,
    name: str | None = None,
    gpus: str | int | None = None,
    nodes: str | int | None = None,
    nproc_per_node: str | int | None = None,
    cwd: str | None = None,
    venv: str | None = None,
    env: Any = None,  # Invoke makes it a list, and those below
    log_file: str | None = None,
    sync_up: Any = None,
    setup: Any = None,
    fetch: Any = None,
    retries: str | int | None = None,
    checkpoint: str | None = None,
    checkpoint_done: str | None = None,
    checkpoint_interval: str | float | None = None,
    lost_after: str | float | None = None,
    allow_split: bool = False,
    preflight: bool = True,
    attach: str | None = None,
    inventory: str | None = None,
    env_file: Any = None,  # Invoke makes it a list
) -> RunOutcome:
    """Train on the best host: choose, check, start, follow, fetch."""
    flags = locals()
    section = settings_section(c, "train")
    record = None if attach is None else _left_run(section.get("runs"), attach)
    if record is not None and record.is_ended:
        return _ended_before(c, record)
    settings = _settings(_given(section, record, has_env=bool(env or env_file)), flags)
    if record is not None:
        inventory = inventory or record.inventory
    if is_dry(c):
        return _planned(c, settings, record, inventory)
    echo(c, settings.command)
    with interruption.said_as("interrupted: no run was started" if record is None else None):
        outcome = _run(c, settings, record, inventory)
    return ended(c, outcome, outcome.status, is_commands=outcome.is_commands)


def _given(
    section: Mapping[str, Any], record: RunRecord | None, *, has_env: bool
) -> Mapping[str, Any]:
    """Return the settings that the flags override: those of the run, else of the configuration.

    Without the run's ``env`` no other host may take over.
    """
    if record is None or not record.settings:
        return section
    try:
        return {**record.settings, "env": record.environment()}
    except StateFileError as error:
        if has_env:
            return record.settings
        display.say(
            f"{error}: without the values of env, no other host takes over; give --env-file"
        )
        return {**record.settings, "retries": 0, "allow_split": False}


def _settings(given: Mapping[str, Any], flags: Mapping[str, Any]) -> TrainSettings:
    """Return the settings, overridden by the flags, which have the names of the task's parameters.

    :raises UsageError: one of them is invalid.
    """
    from ringtasks.training.settings import SyncUp, parse

    asked = {} if flags["gpus"] is None else gpu_options(str(flags["gpus"]))
    env = None
    if flags["env"] or flags["env_file"]:
        env = {**(given.get("env") or {}), **environment(flags["env"], flags["env_file"])}
    return parse(
        given,
        **{name: flags[name] for name in _AS_THEY_ARE},
        **{name: list(several(flags[name])) or None for name in ("setup", "fetch")},
        **{
            name: whole_number(f"--{name.replace('_', '-')}", flags[name], at_least=least)
            for name, least in _COUNTS.items()
        },
        **{
            name: number(f"--{name.replace('_', '-')}", flags[name], at_least=0.1)
            for name in ("checkpoint_interval", "lost_after")
        },
        hosts=flags["host"],
        command=flags["cmd"],
        gpus=asked.get("gpus"),
        any_memory=asked.get("any_memory") or None,
        env=env,
        sync_up=[SyncUp(*_split(item)) for item in several(flags["sync_up"])] or None,
        allow_split=flags["allow_split"] or None,
        preflight=None if flags["preflight"] else False,
    )


def _planned(
    c: Context, settings: TrainSettings, record: RunRecord | None, inventory: str | None
) -> RunOutcome:
    """Show the plan of a new run, or of one that is reattached to."""
    from ringtasks.training.supervisor import RunOutcome

    from . import train_plan

    hosts = selected(c, settings.hosts, inventory, may_ask=True)
    if record is None:
        train_plan.plan_run(settings, hosts)
    else:
        train_plan.plan_attach(record, hosts)
    return RunOutcome(0, "nothing was done")


def _run(
    c: Context, settings: TrainSettings, record: RunRecord | None, inventory: str | None
) -> RunOutcome:
    from ringtasks.training.records import new_run
    from ringtasks.training.settings import to_mapping
    from ringtasks.training.supervisor import RunOutcome

    hosts = selected(c, settings.hosts, inventory, may_ask=True)
    if record is None:
        known = to_mapping(settings)
        record = new_run(settings.runs, settings.name, settings.command, known, inventory)
        record.revision = _revision(settings)
        record.keep_environment(settings.env)
        if record.revision:
            display.say(f"revision {record.revision}")
        if not (settings.sync_up or settings.setup or settings.cwd):
            display.say("no sync_up: no files are sent, and the run begins in an empty folder")
    with record.followed() as is_alone:
        if not is_alone:
            display.say(
                f"{record.folder}: its file system has no locks: no other {as_typed('train')} may "
                "follow this run; the setting 'runs' names another folder"
            )
        if record.is_ended:
            return RunOutcome(record.status, f"has ended: {record.state}")
        return _supervised(settings, hosts, record)


def _supervised(
    settings: TrainSettings, hosts: Sequence[HostConfig], record: RunRecord
) -> RunOutcome:
    from ringtasks.client.result import text_of
    from ringtasks.output.training import for_terminal
    from ringtasks.training.curves import Curves
    from ringtasks.training.supervisor import RunOutcome, Supervisor

    earlier = record.logs()[:-1]
    curves = Curves()
    curves.read_attempts(earlier)
    if earlier:
        curves.new_attempt()
    view = for_terminal(curves, record.id)
    with view, Supervisor(settings, hosts, record, curves, view.log, view.say) as supervisor:
        # Made now, while the flags of the task are known: one is printed by another thread.
        texts = _left_texts(record)
        try:
            with interruption.said_as(lambda: texts[supervisor.stage]):
                outcome = supervisor.run()
        except KeyboardInterrupt as interrupt:
            if text := text_of(interrupt):  # while a job was being started, or a setup ran
                view.say(text)
            return RunOutcome(INTERRUPTED, "interrupted")
        except (NoEligibleHostError, RunNotStartedError) as error:
            view.say(str(error))
            return RunOutcome(UNREACHABLE if error.is_unreachable else 1, str(error))
        finally:
            if not record.attempts:
                record.discard()
    display.say(f"{record.id}: {outcome.reason}")
    display.say(f"plot it: {as_typed('plot')} {record.argument}")
    return outcome


def _revision(settings: TrainSettings) -> str | None:
    """Return the revision of the first folder that is sent and has one, else of the current one."""
    from ringtasks.transfer.git import revision_of

    sources = [expanded_home(item.source) for item in settings.sync_up]
    folders = [source if source.is_dir() else source.parent for source in sources] or [Path()]
    return next(filter(None, map(revision_of, filter(Path.is_dir, folders))), None)


def _left_run(runs: object, wanted: str) -> RunRecord:
    """Return the run to reattach to.

    :raises UsageError: there is none.
    """
    from ringtasks.training.records import find_run

    root = runs if isinstance(runs, str) else "runs"
    record = find_run(root, wanted)
    folder = Path(wanted) if os.sep in wanted else Path(root, wanted)
    if record is not None and record.attempts:
        return record
    why = "there is no such run in"
    if record is not None:
        why = "no job of it was started by now, as tells"
    elif (folder / "run.json").exists():
        why = "its record cannot be read, in"
    raise UsageError(f"--attach {wanted}: {why} {folder.parent}/")


def _ended_before(c: Context, record: RunRecord) -> RunOutcome:
    """Report a run that has ended, with its exit status; its files are here."""
    from ringtasks.training.supervisor import RunOutcome

    outcome = RunOutcome(record.status, f"has ended: {record.state}")
    display.say(f"{record.id} {outcome.reason}")
    display.say(f"plot it: {as_typed('plot')} {record.argument}")
    return ended(c, outcome, outcome.status)


def _left_texts(record: RunRecord) -> dict[Stage, str | None]:
    """Return the text for Ctrl-C at each stage of a run, with the commands to go on with it."""
    from ringtasks.training.supervisor import Stage

    attach = record.hint(f"train --attach {record.argument}")
    return {
        Stage.CHOOSING: "interrupted: no run was started",
        Stage.STARTING: None,  # it is reported by what becomes of the job
        Stage.FOLLOWING: (
            f"interrupted; the run was not stopped; reattach with '{attach}', follow its log with "
            f"'{record.hint(f'logs {record.id} -f')}', stop it with "
            f"'{record.hint(f'stop {record.id}')}'"
        ),
        Stage.ENDED: f"interrupted; its job has ended; '{attach}' does the rest",
    }


def _split(item: str) -> tuple[str, str]:
    source, _, target = item.partition(":")
    return source, target or "."

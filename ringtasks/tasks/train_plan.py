"""Plans of ``inv train`` (``inv --dry``); see `plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.inventory.model import HostConfig
from ringtasks.jobs.logs import follow_script
from ringtasks.jobs.request import JobRequest
from ringtasks.training import torchrun
from ringtasks.training.files import folder_options
from ringtasks.training.probe import script as probe_script
from ringtasks.training.records import RunRecord
from ringtasks.training.rendezvous import Node, Rendezvous
from ringtasks.training.settings import Preflight, TrainSettings

from .files_plan import copies
from .jobs_plan import start_step
from .plan import HostPlan, PlannedStep, show

__all__ = ["plan_attach", "plan_run"]

#: Stand for values that are known only when the hosts have answered.
_HEAD, _PORT, _RUN = "HEAD-ADDRESS", 0, "RUN"


def plan_run(settings: TrainSettings, hosts: Sequence[HostConfig]) -> None:
    """Show the plan: ask all hosts, then start on the best ones, one for each node."""
    plans = []
    for host in hosts:
        config = SSHConfig.from_host_config(host)
        if settings.venv:
            config = replace(config, venv_activate=settings.venv)
        plans.append(HostPlan(config, [*_look(settings, config), *_start(settings, config)]))
    show(plans)


def plan_attach(record: RunRecord, hosts: Sequence[HostConfig]) -> None:
    """Show the plan: follow the jobs of the last attempt to their end."""
    ids = {place.host_id: place.job_id for place in record.attempts[-1].jobs}
    show(
        HostPlan(
            SSHConfig.from_host_config(host),
            [PlannedStep(f"follow job {ids[host.name]}", follow_script(ids[host.name]))],
        )
        for host in hosts
        if host.name in ids
    )


def _look(settings: TrainSettings, config: SSHConfig) -> list[PlannedStep]:
    wanted = settings.preflight or Preflight()
    folder = settings.cwd or config.work_dir
    return [
        PlannedStep(
            f"read the state of the host; the best {settings.nodes} of them get the run",
            probe_script(folder, wanted.imports, wanted.driver_timeout),
        )
    ]


def _start(settings: TrainSettings, config: SSHConfig) -> list[PlannedStep]:
    cwd = settings.cwd or f"{config.work_dir or '~'}/runs/{_RUN}"
    steps = []
    for item in settings.sync_up:
        local = Path(item.source).expanduser()
        is_folder = local.is_dir()
        source = f"{item.source.rstrip('/')}/" if is_folder else item.source
        options = folder_options(local, settings.runs) if is_folder else None
        steps += copies(config, [source], f"{cwd}/{item.target}/", options=options)
    request = JobRequest(
        _command(settings),
        name=settings.name,
        log_file=settings.log_file,
        cwd=cwd,
        env=settings.env,
        gpus=settings.gpus,
        any_memory=settings.any_memory,
        group=settings.name,
    )
    steps.append(start_step(config, request))
    kept = [f"{settings.runs}/{_RUN}/"]
    for fetched in settings.fetch:
        steps += [
            step._replace(name=f"when it has ended: {step.name}")
            for step in copies(config, kept, f"{cwd}/{fetched}", pulls=True)
        ]
    return steps


def _command(settings: TrainSettings) -> str:
    if not settings.uses_torchrun:
        return settings.command
    nodes = tuple(Node("", _HEAD, "") for _ in range(settings.nodes))
    rendezvous_point = Rendezvous(_HEAD, _PORT, nodes)
    commands = torchrun.commands(
        settings.command, rendezvous_point, _RUN, settings.nproc_per_node, settings.env
    )
    return commands[0].command

"""docs/jobs.md has every public name, flag and file, as it is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from ringtasks import jobs
from ringtasks.jobs import Job, JobState
from ringtasks.tasks import namespace

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()

#: What ringtasks itself uses, and what stands for others on the page.
_OWN_USE = {"PATIENCE", "Process", "Pruned", "all_among", "among", "client_for"}
NAMES = sorted({name.removesuffix("_async") for name in jobs.__all__} - _OWN_USE)
METHODS = sorted(
    {name.removesuffix("_async") for name in vars(Job) if not name.startswith("_")} - {"id", "host"}
)
FLAGS = {
    "start": "after cmd cwd env env_file gpus host inventory log_file name queue",
    "jobs.show": "all host inventory json mine watch",
    "logs": "follow host inventory job number patience since",
    "wait": "host inventory job patience timeout",
    "stop": "grace host inventory job",
    "jobs.prune": "host inventory older_than",
    "status": "host inventory json watch",
}


@pytest.mark.parametrize("name", NAMES)
def test_each_public_job_name_is_on_the_jobs_page(name: str) -> None:
    assert re.search(rf"`{name}[`(]", PAGE)


@pytest.mark.parametrize("name", METHODS)
def test_each_job_method_is_documented_and_has_an_asynchronous_counterpart(name: str) -> None:
    assert f"`Job.{name}(" in PAGE
    mine, twin = (inspect.signature(getattr(Job, n)) for n in (name, f"{name}_async"))
    assert mine.parameters == twin.parameters


@pytest.mark.parametrize("name", ["start", "list", "find", "prune", "overview"])
def test_each_job_function_has_an_asynchronous_counterpart(name: str) -> None:
    mine, twin = (inspect.signature(getattr(jobs, n)) for n in (name, f"{name}_async"))

    assert list(mine.parameters.values())[: len(twin.parameters)] == [*twin.parameters.values()]


@pytest.mark.parametrize("state", JobState)
def test_each_job_state_is_documented(state: JobState) -> None:
    table = PAGE.partition("## States")[2].partition("## GPUs")[0]

    assert re.search(rf"[|,] ?{state}\b", table)


@pytest.mark.parametrize(("name", "flags"), FLAGS.items())
def test_job_task_flags_are_the_published_ones_and_have_help(name: str, flags: str) -> None:
    task: Any = namespace[name]
    arguments = task.get_arguments()

    names = {argument.name for argument in arguments}
    assert names == {*flags.split(), "rehearse"}  # that one is in docs/rehearsal.md
    assert all(argument.help for argument in arguments)

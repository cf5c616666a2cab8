"""The present state of a host as numbers, for conditions such as ``idle>30m``."""

from __future__ import annotations

import pytest

from ringtasks.jobs.host_status import Overview, measurements
from ringtasks.jobs.states import JobState, JobStatus
from ringtasks.remote.gpus import Gpu

FREE = Gpu(0, "u0", "H100")
BUSY = Gpu(1, "u1", "H100", pids=(7,))
ENDED = JobStatus("j1", "a", JobState.SUCCEEDED, ended_at=9_000.0)
RUNNING = JobStatus("j2", "a", JobState.RUNNING, started_at=9_900.0)


def test_resources_are_counted_in_the_units_of_the_names() -> None:
    found = measurements(
        Overview(
            "a", gpus=(FREE, BUSY), disk_available=50 * 10**9, memory_available=10**9, load=0.5
        )
    )

    assert found == {
        "free_gpus": 1, "gpus": 2, "disk_gb": 50.0, "memory_gb": 1.0, "load": 0.5, "jobs": 0,
        "idle": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overview", "idle"),
    [
        (Overview("a", jobs=(ENDED,), clock=10_000.0, up=86_400.0), 1000.0),
        (Overview("a", jobs=(ENDED,), clock=10_000.0, up=60.0), 60.0),
        (Overview("a", clock=10_000.0, up=86_400.0, gpus=(FREE,), load=0.1, cpus=8), 86_400.0),
        (Overview("a", jobs=(ENDED, RUNNING), clock=10_000.0, up=86_400.0), 0.0),
        (Overview("a", gpus=(FREE, BUSY), up=86_400.0), 0.0),
        (Overview("a", up=86_400.0, load=4.0, cpus=8), 0.0),
        (Overview("a"), None),
    ],
    ids=["since a job", "since the start", "no job yet", "a job runs", "GPU", "CPU", "not known"],
)
def test_idle_time_begins_with_the_last_sign_of_work(overview: Overview, idle: float) -> None:
    assert measurements(overview).get("idle") == idle


def test_gpus_that_cannot_be_read_are_not_known() -> None:
    found = measurements(Overview("a", gpu_message="nvidia-smi failed", up=86_400.0, load=0.1))

    assert not {"gpus", "free_gpus", "idle"} & set(found)

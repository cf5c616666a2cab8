"""The jobs of one attempt: which of them decides about the run, and errors while it is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtasks.client.ssh_client import SSHClient
from ringtasks.inventory.host_settings import SSHConfig
from ringtasks.jobs import Job, JobState, JobStatus
from ringtasks.training.attempts import decisive, exit_status_of, see_through


def status(host: str, state: JobState, exit_status: int | None, ended_at: float) -> JobStatus:
    return JobStatus(f"job-{host}", host, state, exit_status, ended_at=ended_at or None)


DONE, FAILED, STOPPED, UNKNOWN = (
    JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED, JobState.UNKNOWN,
)  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([("a", DONE, 0, 5.0), ("b", DONE, 0, 4.0)], ("a", 0)),
        ([("a", FAILED, 1, 5.0), ("b", FAILED, 3, 4.0)], ("b", 3)),
        ([("a", STOPPED, 143, 4.0), ("b", FAILED, 3, 5.0)], ("b", 3)),
        ([("a", STOPPED, None, 4.0), ("b", DONE, 0, 5.0)], ("a", 143)),
        ([("a", FAILED, 3, 4.0), ("b", UNKNOWN, None, 0.0)], ("b", 255)),
        ([("a", DONE, 0, 4.0), ("b", UNKNOWN, None, 0.0)], ("b", 255)),
    ],
)
def test_run_is_told_by_a_job_that_may_go_on_else_by_the_one_that_failed_first(
    ends: list[tuple[str, JobState, int | None, float]], expected: tuple[str, int]
) -> None:
    found = decisive([status(*end) for end in ends])

    assert (found.host_id, exit_status_of(found)) == expected


def test_job_that_cannot_be_followed_any_more_is_unknown(tmp_path: Path) -> None:
    broken = tmp_path / "config"
    broken.write_text("Host *\n  NoSuchKeyword yes\n")
    config = SSHConfig("127.0.0.1", 9, name="box", ssh_config_file=str(broken))

    found = see_through(
        [Job(SSHClient(config), "j")], lambda *_: None, patience=1, grace=1, tell=lambda _: None
    )

    assert found["j"].state is JobState.UNKNOWN
    assert "nosuchkeyword" in found["j"].reason

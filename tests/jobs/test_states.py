"""States of a job, from the content of its folder and the processes on its host."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ringtasks.errors import AmbiguousJobError, AnswerError, UnknownJobError
from ringtasks.jobs import JobState, JobStatus
from ringtasks.jobs.job_cache import ended_at_last_answer, last_seen
from ringtasks.jobs.machine import Machine
from ringtasks.jobs.names import last_by, pick, pick_all
from ringtasks.jobs.probe import parse_found, parse_probe
from ringtasks.jobs.states import HostSnapshot, status_of, unknown

BOOT, OTHER_BOOT = "1b4e-28ba", "6fa4-59fd"
PROCESS = f"70 {BOOT} 5000 1000\n"
MONITOR = f"60 {BOOT} 4990 999\n"
#: Both are what they were.
ALIVE = {70: "5000", 60: "4990"}

GONE, DELETED = "gone without a trace", "its folder is gone from the host"

CASES = {
    "running": ({}, ALIVE, JobState.RUNNING, ""),
    "its monitor was killed": ({}, {**ALIVE, 60: ""}, JobState.RUNNING, ""),
    "its monitor was not asked about": ({}, {70: "5000"}, JobState.RUNNING, ""),
    "its process id came back, and only that was probed": ({}, {70: "9000"}, JobState.LOST, GONE),
    "its monitor writes down how it ended": ({}, {**ALIVE, 70: ""}, JobState.RUNNING, ""),
    "queued": ({"process": None, "waits_for": "for 2 GPUs"}, ALIVE, JobState.QUEUED, "for 2 GPUs"),
    "begun since the processes were looked at": ({}, {60: "4990"}, JobState.RUNNING, ""),
    "succeeded": ({"exit_status": "0  \n"}, ALIVE, JobState.SUCCEEDED, ""),
    "failed": ({"exit_status": "3  \n"}, ALIVE, JobState.FAILED, ""),
    "failed with the greatest status": ({"exit_status": "255\n"}, ALIVE, JobState.FAILED, ""),
    "failed with 128": ({"exit_status": "128\n"}, ALIVE, JobState.FAILED, ""),
    "killed": ({"exit_status": "137\n"}, ALIVE, JobState.KILLED, ""),
    "stopped": ({"exit_status": "143\n", "stopped": "ann@x\n"}, {}, JobState.STOPPED, "by ann@x"),
    "stopped, ended well": ({"exit_status": "0\n", "stopped": "x\n"}, {}, JobState.STOPPED, "by x"),
    "stopped while it waited": (
        {"process": None, "stopped": "a@x\n"}, {60: ""}, JobState.STOPPED, "by a@x",
    ),
    "told to stop, goes on": ({"stopped": "a@x\n"}, ALIVE, JobState.RUNNING, ""),
    "gone": ({}, {70: "", 60: ""}, JobState.LOST, GONE),
    "its process id came back": ({}, {70: "9000", 60: "9100"}, JobState.LOST, GONE),
    "an empty exit status": ({"exit_status": "   \n"}, {70: "", 60: ""}, JobState.LOST, GONE),
}  # fmt: skip


def box(boot: str, now: float | None, starts: dict[int, str]) -> HostSnapshot:
    return HostSnapshot(Machine(boot, name="box"), now, starts)


@pytest.mark.parametrize(("files", "starts", "state", "reason"), CASES.values(), ids=CASES)
def test_job_state_is_derived_from_files_and_processes(
    files: dict[str, str | None], starts: dict[int, str], state: JobState, reason: str
) -> None:
    all_files = {"process": PROCESS, "monitor": MONITOR, "command": "true", **files}
    there = {name: text for name, text in all_files.items() if text is not None}

    status = status_of("j", there, box(BOOT, 1010.0, starts))

    assert (status.state, status.reason) == (state, reason)


def test_job_without_a_folder_is_lost_only_after_a_complete_look_for_its_processes() -> None:
    states = [parse_found(said, "j", "box").state for said in ("looked\n", "runs\n", "", "x\n")]

    assert states == [JobState.LOST, JobState.RUNNING, JobState.UNKNOWN, JobState.UNKNOWN]


def test_rebooted_job_is_lost_even_if_process_id_and_start_time_match() -> None:
    files = {"process": PROCESS, "monitor": MONITOR}

    status = status_of("j", files, box(OTHER_BOOT, 1010.0, ALIVE))

    assert (status.state, status.reason) == (JobState.LOST, "the host was rebooted")


def test_job_that_ended_before_a_reboot_keeps_its_state() -> None:
    files = {"process": PROCESS, "monitor": MONITOR, "exit_status": "0\n"}

    status = status_of("j", files, box(OTHER_BOOT, 1010.0, {}))

    assert status.state is JobState.SUCCEEDED


@pytest.mark.parametrize(("now", "seconds"), [(1010.0, 10.0), (400.0, 0.0), (None, None)])
def test_clock_change_changes_no_job_state_and_gives_no_negative_time(
    now: float | None, seconds: float | None
) -> None:
    files = {"process": PROCESS, "monitor": MONITOR}

    status = status_of("j", files, box(BOOT, now, ALIVE))

    assert (status.state, status.seconds) == (JobState.RUNNING, seconds)


def test_job_whose_end_precedes_its_start_has_duration_zero() -> None:
    files = {"process": PROCESS, "exit_status": "0\n", "ended_at": "       900\n"}

    status = status_of("j", files, box(BOOT, 1010.0, {}))

    assert (status.ended_at, status.seconds) == (900.0, 0.0)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (JobStatus("j", "h", JobState.FAILED, 3), "failed (3)"),
        (JobStatus("j", "h", JobState.KILLED, 137), "killed (SIGKILL)"),
        (JobStatus("j", "h", JobState.KILLED, 191), "killed (signal 63)"),
        (JobStatus("j", "h", JobState.STOPPED, 143, "by ann@x"), "stopped by ann@x"),
        (JobStatus("j", "h", JobState.RUNNING), "running"),
    ],
)
def test_job_state_has_a_text_description(status: JobStatus, text: str) -> None:
    assert status.describe() == text


def test_published_job_fields_come_first() -> None:
    fields = unknown("j", "box", 5.0, "no route").to_dict()

    assert list(fields)[:10] == [
        "id", "name", "host_id", "state", "exit_status", "pid", "started_at", "ended_at",
        "command", "log_file",
    ]  # fmt: skip
    assert (fields["state"], fields["since"], fields["exit_status"]) == ("unknown", 5.0, None)


PRINTED = """\
ringtasks-boot:1b4e-28ba
ringtasks-now:1010
ringtasks-asked:60 70 80 81
/proc/60/stat:60 (sh) S 1 60 60 0 -1 4194560 160 0 0 0 0 0 0 0 20 0 1 0 4990 2654208 
/proc/70/stat:70 (py) S 1 2 3) R 60 70 70 0 -1 4194560 160 0 0 0 0 0 0 0 20 0 1 0 5000 2654208 
/proc/80/stat:80 (python) Z 60 70 70 0 -1 4194560 160 0 0 0 0 0 0 0 20 0 1 0 7000 0 
first/command:echo a:b
first/command:
first/command:second line
first/process:70 1b4e-28ba 5000 1000
first/monitor:60 1b4e-28ba 4990 999
first/about:{"name": "train", "by": "ann@laptop", "log_file": "~/x.log"}
first/gpus:0 3
second/process:80 1b4e-28ba 7000 900
second/monitor:81 1b4e-28ba 6990 899
second/about:{"name": ["no text"], "by": 3}
$(touch x)/process:80 1b4e-28ba 7000 900
noise
"""  # noqa: W291  # as the kernel prints it


def test_host_output_is_parsed_into_jobs_oldest_first() -> None:
    second, first = parse_probe(PRINTED, "box").values()

    assert (first.id, first.state, first.name, first.pid) == (
        "first",
        JobState.RUNNING,
        "train",
        70,
    )
    assert first.command == "echo a:b\n\nsecond line"
    assert (first.by, first.log_file, first.gpus) == ("ann@laptop", "~/x.log", (0, 3))
    assert (first.started_at, first.asked_at, first.seconds) == (1000.0, 1010.0, 10.0)
    assert (second.id, second.state, second.name) == ("second", JobState.LOST, None)
    assert second.log_file == "~/.ringtasks/jobs/second/log"


def test_without_proc_start_times_are_taken_from_ps() -> None:
    printed = (
        "ringtasks-boot:B\nringtasks-now:5\nringtasks-asked:7 8\n"
        "/proc/7/start:Mon_Nov_23_18:00:11_2026\n/proc/8/start:\n"
        "a/process:7 B Mon_Nov_23_18:00:11_2026 4\nb/process:8 B Mon_Nov_23_18:00:11_2026 4\n"
    )

    found = parse_probe(printed, "mac")

    assert [found["a"].state, found["b"].state] == [JobState.RUNNING, JobState.LOST]


def test_job_started_last_is_the_last_of_those_of_one_second() -> None:
    files = {
        "b-first": [f"process:70 {BOOT} 5000 1000", 'about:{"name": "n"}', "exit_status:0"],
        "a-second": [f"process:80 {BOOT} 5090 1000", 'about:{"name": "n"}', "exit_status:0"],
    }
    printed = f"ringtasks-boot:{BOOT}\nringtasks-now:1010\n" + "".join(
        f"{folder}/{line}\n" for folder, lines in files.items() for line in lines
    )
    for text in (printed, printed.replace("5090", "4900")):
        found = list(parse_probe(text, "box").values())
        last = "a-second" if text is printed else "b-first"

        assert [job.id for job in pick_all("n", found)] == [last]


def test_host_without_jobs_gives_an_empty_list() -> None:
    assert parse_probe("ringtasks-boot:B\nringtasks-now:5\n", "box") == {}


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "\0\n:\n/\n",
        "ringtasks-asked:x\n",
        "ringtasks-now:soon",
        "ringtasks-now:1e12",
        PRINTED[40:],
    ],
)
def test_job_list_without_the_host_time_is_refused(printed: str) -> None:
    with pytest.raises(AnswerError, match="clock"):
        parse_probe(printed, "box")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("process", "9" * 5000),
        ("process", "² B 1"),
        ("process", "-1 B 1"),
        ("monitor", "60x B 1"),
        ("exit_status", "nan"),
        ("exit_status", "256"),
        ("exit_status", "0 0"),
    ],
)
def test_job_file_of_another_format_makes_only_that_job_unknown(file: str, text: str) -> None:
    printed = PRINTED + f"third/{file}:{text}\n"

    found = parse_probe(printed, "box")

    assert found["first"].state is JobState.RUNNING
    assert found["third"].state is JobState.UNKNOWN
    assert "answered something unexpected" in found["third"].describe()
    assert len(found["third"].describe()) < 200


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("ended_at", "inf"),
        ("ended_at", "1e400"),
        ("gpus", "² 9999999999"),
        ("about", "[" * 100_000),
    ],
)
def test_unexpected_job_detail_is_ignored(file: str, text: str) -> None:
    printed = (
        PRINTED.replace("first/gpus:0 3\n", "") + f"first/exit_status:3\nfirst/{file}:{text}\n"
    )

    job = parse_probe(printed, "box")["first"]

    assert (job.state, job.exit_status, job.ended_at, job.gpus) == (JobState.FAILED, 3, None, ())


def job(job_id: str, name: str | None, state: JobState, started_at: float = 0.0) -> JobStatus:
    return JobStatus(job_id, "box", state, name=name, started_at=started_at)


KNOWN = [
    job("aa11", "train", JobState.FAILED, 1.0),
    job("ab22", "train", JobState.RUNNING, 2.0),
    job("ac33", "eval", JobState.SUCCEEDED, 3.0),
    job("bd44", "eval", JobState.FAILED, 4.0),
    job("be55", "bd44", JobState.RUNNING, 5.0),
    job("cf66", None, JobState.RUNNING, 6.0),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("ab22", "ab22"),
        ("ab", "ab22"),
        ("c", "cf66"),
        ("train", "ab22"),
        ("eval", "bd44"),
        ("bd44", "bd44"),
        ("bd4", None),
        ("tr", None),
        ("a", None),
    ],
)
def test_job_is_selected_by_id_name_or_unique_prefix(wanted: str, found: str | None) -> None:
    if found is None:
        with pytest.raises(AmbiguousJobError) as raised:
            pick(wanted, KNOWN)
        assert len(raised.value.candidates) > 1
    else:
        assert pick(wanted, KNOWN).id == found


def test_last_start_of_a_user_may_be_of_several_jobs() -> None:
    start = ({"by": "ann", "batch": "b"}, {"by": "ann"}, {"by": "bob"})
    first, second, other = (
        replace(job(f"a{n}", None, JobState.RUNNING, float(n)), **fields)
        for n, fields in enumerate(start)
    )
    with_it = replace(first, id="a9", started_at=0.5)

    assert last_by("ann", [first, second, other]) == [second]
    assert last_by("ann", [first, with_it, other]) == [first, with_it]
    assert last_by("eve", [first]) == []


@pytest.mark.parametrize("wanted", ["x", "", "ab222", "TRAIN"])
def test_unknown_job_is_reported(wanted: str) -> None:
    with pytest.raises(UnknownJobError, match="no such job"):
        pick(wanted, KNOWN)


def test_two_running_jobs_of_one_name_are_ambiguous() -> None:
    both = [job("a1", "n", JobState.RUNNING), job("a2", "n", JobState.UNKNOWN)]

    with pytest.raises(AmbiguousJobError, match="a1 \\(n\\) on box: running"):
        pick("n", both)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"version": 1, "jobs": [1]}'])
def test_damaged_cache_of_jobs_counts_as_none(text: str) -> None:
    folder = Path(os.environ["XDG_STATE_HOME"], "ringtasks", "jobs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "box.json").write_text(text)

    assert last_seen("box", "unreachable") == ()
    assert ended_at_last_answer("box", "train") == ([], 0.0)

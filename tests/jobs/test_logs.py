"""A job's log is followed without a gap or a repeat, whatever happens to the link."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks import SSHClient, SSHConfig, SSHResult, jobs
from ringtasks.client.ask import Ask
from ringtasks.jobs import Job, JobState, Lines
from ringtasks.jobs.logs import LogPlace, parse_offset
from ringtasks.ssh.link import STDOUT
from tests.support.faulty import Wire
from tests.support.fixtures import MakeSshd, Require, in_process, job_host, own_server
from tests.support.jobs import JobHost
from tests.support.processes import proc_files
from tests.support.sshd import Sshd
from tests.support.waiting import eventually

server = own_server
over_master = in_process
host = job_host


def text(chunks: Iterator[bytes]) -> bytes:
    return b"".join(chunks)


def test_log_is_read_completely_during_and_after_the_job(host: JobHost) -> None:
    job = host.start(r"printf 'a\0\377\rb\n'; until [ -e ~/go ]; do sleep 0.05; done; printf end")
    eventually(lambda: (host.folder(job) / "log").stat().st_size == 6)

    early = text(job.logs())
    (host.home / "go").touch()
    job.wait(20)

    assert early == b"a\0\xff\rb\n"
    assert text(job.logs()) == text(job.logs(follow=True)) == b"a\0\xff\rb\nend"


def test_log_is_read_as_it_is_if_login_files_send_errors_to_stdout(
    make_sshd: MakeSshd, client_key: Path, use_control_master: bool
) -> None:
    server = make_sshd(config=['ForceCommand exec 2>&1; eval "$SSH_ORIGINAL_COMMAND"'])
    config = SSHConfig(
        server.address, server.port, server.user, str(client_key),
        name="box", use_control_master=use_control_master,
    )  # fmt: skip

    with SSHClient(config) as client:
        job = JobHost(server.home, client).start("echo line")
        job.wait(20)
        assert text(job.logs(follow=True)) == b"line\n"


def test_following_ends_with_the_last_byte_of_an_ended_job(host: JobHost) -> None:
    job = host.start("for n in 1 2 3 4 5; do echo $n; sleep 0.1; done; printf last")

    assert text(job.logs(follow=True)) == b"1\n2\n3\n4\n5\nlast"
    assert job.status().is_ended


def test_followed_lines_arrive_as_they_are_written(host: JobHost) -> None:
    job = host.start("echo first; until [ -e ~/go ]; do sleep 0.05; done; echo second")
    pieces = job.logs(follow=True)

    assert next(pieces) == b"first\n"
    assert job.status().state is JobState.RUNNING
    (host.home / "go").touch()
    assert text(pieces) == b"second\n"


@pytest.mark.parametrize(
    ("tail", "shown"),
    [(0, b""), (1, b"c"), (2, b"b\nc"), (3, b"a\nb\nc"), (99, b"a\nb\nc")],
)
@pytest.mark.matrix(3)
def test_only_the_last_lines_are_shown_on_request(host: JobHost, tail: int, shown: bytes) -> None:
    job = host.start("printf 'a\\nb\\nc'")
    job.wait(20)

    assert text(job.logs(tail=tail)) == shown
    assert text(job.logs(tail=tail, follow=True)) == shown


def test_logs_since_a_time_are_as_precise_as_the_monitors_sampling(
    host: JobHost,
) -> None:
    job = host.start("echo old; until [ -e ~/go ]; do sleep 0.05; done; echo new; sleep 60")
    times = host.folder(job) / "times"
    eventually(lambda: times.exists() and times.read_text().endswith(" 4\n"))
    old = int(times.read_text().split()[0])
    (host.home / "go").touch()
    eventually(lambda: host.log(job) == "old\nnew\n")

    assert text(job.logs(since=old + 1)) == b"new\n"
    assert text(job.logs(since=old)) == b"old\nnew\n"
    assert text(job.logs(since=0)) == b"old\nnew\n"


def test_log_at_another_path_is_followed(host: JobHost) -> None:
    job = host.start("echo here", log_file="~/logs/x.log")

    assert text(job.logs(follow=True)) == b"here\n"


def test_job_without_a_log_is_reported(host: JobHost) -> None:
    job = host.start("true")
    job.wait(20)
    (host.folder(job) / "log").unlink()

    with pytest.raises(ConnectionError, match="has no log"):
        text(job.logs())


def test_following_an_unreachable_host_ends_with_the_output_received_so_far(
    server: Sshd, config: SSHConfig
) -> None:
    with SSHClient(config) as client:
        job = JobHost(server.home, client).start("echo said; sleep 60")
        came: list[bytes] = []
        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(job.follow, came.append, patience=1.0)
            eventually(lambda: b"".join(came) == b"said\n")
            server.revoke_all()
            client.close_link()
            why = following.result(30)

    assert "refused" in (why or "")


# As fast as a shell writes, for as long as the test cuts.
WRITER = """
n=0
until [ -e ~/enough ]; do
  n=$((n + 1))
  printf 'line %d of a log that is written as fast as can be: \\r\\000\\377\\n' $n
done
printf 'no newline at the end'
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("cuts", [6, pytest.param(20, marks=pytest.mark.long)])
def test_log_followed_across_cuts_equals_the_file(
    server: Sshd, config: SSHConfig, cuts: int
) -> None:
    with (
        Wire(server.address, server.port) as wire,
        SSHClient(replace(config, host=wire.address, port=wire.port)) as client,
        SSHClient(config) as direct,
        ThreadPoolExecutor(1) as thread,
    ):
        host = JobHost(server.home, direct)
        written = host.start(WRITER)
        followed = hashlib.sha256()
        received = [0]

        def take(chunk: bytes) -> None:
            followed.update(chunk)
            received[0] += len(chunk)

        following = thread.submit(jobs.Job(client, written.id).follow, take)
        for _ in range(cuts):
            before = received[0]
            eventually(lambda before=before: received[0] > before)
            wire.cut()
        (server.home / "enough").touch()

        assert following.result(120) is None
        log = (host.folder(written) / "log").read_bytes()
        assert received[0] == len(log) > 100_000
        assert followed.digest() == hashlib.sha256(log).digest()
        assert server.accepted_logins() > cuts / 2  # two cuts may strike one link


def test_disconnected_follower_leaves_no_process_on_the_host(host: JobHost) -> None:
    job = host.start("echo said; sleep 60")
    pieces = job.logs(follow=True)
    assert next(pieces) == b"said\n"
    followers = eventually(lambda: reading(job.id))

    pieces.close()
    host.client.close_link()

    # Each question lasts for half a minute at most; here it ends with what is written next.
    assert followers
    (host.folder(job) / "log").open("a").write("more\n" * 3)
    eventually(lambda: not reading(job.id), timeout=60)


def reading(job_id: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"{job_id}.*seconds_cs"], capture_output=True, text=True)
    return found.stdout.split()


def test_many_jobs_are_followed_concurrently_with_asyncio(host: JobHost) -> None:
    started = [host.start(f"echo {n}; sleep 0.3; echo {n}{n}") for n in range(6)]

    async def all_of_them() -> list[bytes]:
        async def one(job: jobs.Job) -> bytes:
            return b"".join([chunk async for chunk in job.logs_async(follow=True)])

        return list(await asyncio.gather(*(one(job) for job in started)))

    assert asyncio.run(all_of_them()) == [f"{n}\n{n}{n}\n".encode() for n in range(6)]


def can_make_holes(folder: Path) -> bool:
    file = folder / "try"
    file.write_bytes(b"x" * 8192)
    made = subprocess.run(["fallocate", "-p", "-o", "0", "-l", "4096", file], check=False)
    return made.returncode == 0


@pytest.mark.long
@pytest.mark.timeout(240)
def test_log_stays_below_its_size_limit_and_is_followed_without_a_gap(
    host: JobHost, require: Require
) -> None:
    require("fallocate")
    if not can_make_holes(host.home):
        pytest.skip("this file system makes no holes")
    job = host.start(
        "i=0; until [ -e ~/enough ]; do i=$((i + 1)); echo line $i; sleep 0.0005; done",
        log_limit_bytes=20_000,
    )
    log = host.folder(job) / "log"
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(lambda: text(job.logs(follow=True)))
        first = host.folder(job) / "log.first"
        eventually(lambda: first.exists(), timeout=60)
        (host.home / "enough").touch()
        followed = following.result(60)
    late = text(job.logs())

    lines = followed.decode().splitlines()
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert len(followed) == log.stat().st_size
    assert late == followed[int(first.read_text()) :]
    assert log.stat().st_blocks * 512 < len(followed)
    assert b"\0" not in late


def test_resumed_log_following_reports_the_missing_bytes(host: JobHost) -> None:

    came: list[bytes] = []
    place = LogPlace(came.append)
    place.take(1, b"ringtasks-offset:0\nabc")
    place.restart()
    place.take(1, b"ringtasks-off")
    place.take(1, b"set:10\nxyz")

    assert came[0] == b"abc"
    assert b"7 bytes were given up" in came[1]
    assert (came[2], place.offset) == (b"xyz", 13)


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (b"", None),
        (b"ringtasks-offset:12", None),
        (b"ringtasks-offset:12\n", (12, b"")),
        (b"ringtasks-offset:12\nab\nc", (12, b"ab\nc")),
        (b"no end " * 10, (0, b"no end " * 10)),
    ],
)
def test_log_offset_is_parsed_from_the_start_of_the_output(
    printed: bytes, found: tuple[int, bytes] | None
) -> None:
    assert parse_offset(printed) == found


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"a\nb\n", [b"a", b"b"]),
        (b"no end", [b"no end"]),
        (b"  1%\r 50%\r100%\n", [b"100%"]),
        (b"100%\r\n", [b"100%"]),
        (b"  1%\r 50%\r", [b" 50%"]),
        (b"\n\n", [b"", b""]),
        (b"a\r\r\nb", [b"a", b"b"]),
    ],
)
def test_progress_bar_is_shown_as_one_line(written: bytes, shown: list[bytes]) -> None:
    lines = Lines()

    assert [*lines.add(written), *lines.end()] == shown


@given(st.lists(st.binary(max_size=8)))
def test_log_lines_do_not_depend_on_chunk_boundaries(pieces: list[bytes]) -> None:
    whole, cut = Lines(), Lines()

    at_once = [*whole.add(b"".join(pieces)), *whole.end()]
    in_pieces = [line for piece in pieces for line in cut.add(piece)] + [*cut.end()]

    assert at_once == in_pieces


def test_progress_bar_without_a_newline_uses_bounded_memory() -> None:
    lines = Lines()

    for n in range(300):
        assert list(lines.add(b"x" * 10_000 + b"%d\r" % n)) == []

    assert list(lines.end()) == [b"x" * 10_000 + b"299"]


def test_endless_log_line_is_returned_in_pieces() -> None:
    lines = Lines()

    pieces = [piece for _ in range(300) for piece in lines.add(b"x" * 10_000)] + [*lines.end()]

    assert len(pieces) > 1
    assert b"".join(pieces) == b"x" * 3_000_000


def test_wait_with_timeout_zero_returns_at_once(host: JobHost) -> None:
    began = time.monotonic()

    host.start("sleep 60").wait(0)

    assert time.monotonic() - began < 20


def test_truncated_log_is_followed_from_its_new_beginning(host: JobHost) -> None:
    job = host.start(
        "cd ~; echo first and longer; until [ -e go ]; do sleep 0.05; done; echo second",
        log_file="~/out.log",
    )
    got: list[bytes] = []
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(job.follow, got.append)
        eventually(lambda: b"first and longer\n" in b"".join(got))
        os.truncate(host.home / "out.log", 0)
        eventually(lambda: b"truncated" in b"".join(got))
        known = "".join(f"{byte:03o}" for byte in b"and longer").encode()
        for arguments in proc_files("cmdline"):
            with contextlib.suppress(OSError):  # the process has ended
                assert known not in arguments.read_bytes()  # which any user can read
        (host.home / "go").touch()
        assert following.result(20) is None

    first, said, second = b"".join(got).split(b"\n[ringtasks: ")[0], *b"".join(got).split(b"]\n")
    assert first == b"first and longer\n"
    assert said.endswith(b"the log was truncated or replaced; it goes on from its beginning")
    assert second == b"second\n"


def test_log_truncated_between_two_requests_is_reported() -> None:
    got: list[bytes] = []
    place = LogPlace(got.append)
    place.take(STDOUT, b"ringtasks-offset:0\nold")
    place.restart()

    place.take(STDOUT, b"ringtasks-offset:0\nnew")

    assert got == [
        b"old",
        b"\n[ringtasks: the log was truncated or replaced; it goes on from its beginning]\n",
        b"new",
    ]


def test_missing_home_directory_ends_following_after_a_few_requests(
    host: JobHost, server: Sshd
) -> None:
    job = host.start("echo hi; sleep 60")
    eventually(lambda: host.log(job) == "hi\n")
    before = server.home.with_name("away")
    server.home.rename(before)
    try:
        why = job.follow(lambda piece: None)
    finally:
        before.rename(server.home)

    assert why is not None
    assert f"the log of job {job.id} cannot be read" in why
    assert "inv jobs" in why


def test_log_file_that_was_renamed_is_named(host: JobHost) -> None:
    job = host.start("echo hi", log_file="~/out.log")
    job.wait(20)
    (host.home / "out.log").rename(host.home / "out.log.1")

    why = job.follow(lambda piece: None)

    assert why is not None
    assert why.endswith(f"has no log: {host.home}/out.log was removed or renamed")


@pytest.mark.parametrize("content", ["hi\n", ""])
def test_replaced_log_is_not_followed_without_a_word(host: JobHost, content: str) -> None:
    log = host.home / "out.log"
    job = host.start(
        "cd; echo hi; until [ -e go ]; do sleep 0.05; done; echo end", log_file=str(log)
    )
    got: list[bytes] = []
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(job.follow, got.append)
        eventually(lambda: b"hi\n" in got)
        log.rename(host.home / "out.log.1")
        log.write_text(content)
        eventually(lambda: f"the job still writes to {log}.1]".encode() in b"".join(got))
        (host.home / "go").touch()
        assert following.result(20) is None


class Asked:
    """A client whose host cannot read the log before the third request; ``times`` of these."""

    config = SSHConfig("box", name="box")

    def __init__(self) -> None:
        self.times: list[float] = []

    def ask(self, ask: Ask) -> SSHResult:
        self.times.append(time.monotonic())
        is_read = len(self.times) == 3
        if is_read and ask.on_output is not None:
            ask.on_output(STDOUT, b"ringtasks-offset:0\nhi\n")
        return SSHResult(is_read, 0 if is_read else 1, "", "", 1.0, ask.command, "box")


def test_requests_for_a_log_that_cannot_be_read_come_at_growing_intervals() -> None:
    client = Asked()
    got: list[bytes] = []

    why = Job(cast("SSHClient", client), "1234").follow(got.append)

    first, second = (after - before for before, after in itertools.pairwise(client.times))
    assert (why, b"".join(got)) == (None, b"hi\n")
    assert first >= 0.4
    assert second >= 0.8


class Dripping:
    """A client whose first answer is cut off by its time limit; ``limits`` of all requests."""

    config = SSHConfig("box", name="box")

    def __init__(self) -> None:
        self.limits: list[float] = []

    def ask(self, ask: Ask) -> SSHResult:
        self.limits.append(ask.timeout or float("inf"))
        is_late = len(self.limits) == 1
        if is_late:
            time.sleep(0.3)
        assert ask.on_output is not None
        ask.on_output(STDOUT, b"ringtasks-offset:0\na" if is_late else b"ringtasks-offset:1\nb")
        error = "box: ended after its time limit" if is_late else None
        status = 124 if is_late else 0
        return SSHResult(not is_late, status, "", "", 1.0, ask.command, "box", error=error)


@pytest.mark.parametrize("follow", [True, False])
def test_host_that_sends_its_log_slowly_is_not_given_up(follow: bool) -> None:
    client = Dripping()
    got: list[bytes] = []

    why = Job(cast("SSHClient", client), "1234").follow(got.append, follow=follow, patience=0.2)

    assert (why, b"".join(got)) == (None, b"ab")
    assert max(client.limits) < 10  # a host that stays silent is given up as soon


def test_slow_reader_slows_the_log_transfer(host: JobHost) -> None:
    job = host.start("head -c 60000000 /dev/zero")
    job.wait(20)

    async def read() -> tuple[int, int]:
        import tracemalloc

        tracemalloc.start()
        pieces = job.logs_async()
        size = len(await anext(pieces))
        await asyncio.sleep(0.5)
        held, _ = tracemalloc.get_traced_memory()
        async for piece in pieces:
            size += len(piece)
        return size, held

    size, held = asyncio.run(read())

    assert size == 60_000_000
    assert held < 30_000_000


@pytest.mark.parametrize(
    ("tool", "options"),
    [("tail", {}), ("tail", {"follow": True}), ("tail", {"tail": 1}), ("ls", {})],
)
def test_log_is_not_claimed_whole_if_the_host_cannot_read_it(
    make_sshd: MakeSshd, client_key: Path, tmp_path: Path, tool: str, options: dict[str, Any]
) -> None:
    (tmp_path / tool).write_text("#!/bin/sh\ncat >/dev/null\n")
    (tmp_path / tool).chmod(0o755)
    server = make_sshd(environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    config = SSHConfig(server.address, server.port, server.user, str(client_key), name="box")

    with SSHClient(config) as client:
        job = JobHost(server.home, client).start("echo line")
        job.wait(20)
        with pytest.raises(ConnectionError, match="cannot be read"):
            text(job.logs(**options))

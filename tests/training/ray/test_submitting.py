"""``inv ray.submit`` and ``ray.stop``, with a stand-in for Ray."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ringtasks.errors import UsageError
from ringtasks.training.ray.upload import LIMIT_BYTES, plan_upload
from tests.support.fixtures import Inv, Start
from tests.support.ray_hosts import RayHosts
from tests.support.waiting import eventually

#: Without the time in which a test waits for the ports, which others use.
pytestmark = pytest.mark.timeout(func_only=True)

TIMEOUT = 30.0
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def test_submitted_command_is_one_string_shown_as_it_prints_with_the_status_from_ray(
    inv: Inv, start: Start, cluster: RayHosts
) -> None:
    inv("ray.up", "--host", "a,b")

    well = inv("ray.submit", "--cmd", "echo 'a  b'; pwd && echo \"$PYTHONUNBUFFERED\"")
    badly = inv("ray.submit", "--cmd", "echo out; exit 3")
    lost = inv("ray.submit", "--cmd", "echo lose the answer")
    attach = re.search(r"'inv (ray.submit --attach \w+)' finds out", lost.stderr.decode())
    assert attach, lost.stderr
    found = inv(*attach[1].split())
    count = "for n in 1 2 3 4 5 6 7 8; do echo $n; sleep 0.7; done"
    slowly = start("ray.submit", "--cmd", count, **PIPES)
    assert slowly.stdout is not None
    times = [time.monotonic() for _ in slowly.stdout]

    assert well.returncode == 0, well.stderr
    assert re.fullmatch(rb"a  b\n.*/jobs/raysubmit_\w+/work\n1\n", well.stdout), well.stdout
    assert badly.returncode == 1
    assert badly.stdout == b"out\n"
    assert b"Ray: job FAILED: exit code 3\n" in badly.stderr
    assert b"and its log" not in badly.stderr
    assert lost.returncode == 255
    assert b"it is unknown whether Ray has the job: " in lost.stderr
    assert (found.returncode, found.stdout) == (0, b"lose the answer\n")
    assert slowly.wait(TIMEOUT) == 0
    assert len(times) == 8
    assert times[-1] - times[0] > 1


def test_ctrl_c_keeps_the_ray_job_and_shows_how_to_reattach_and_stop(
    inv: Inv, start: Start, cluster: RayHosts
) -> None:
    inv("ray.up", "--host", "a,b", "--name", "mine")
    command = ("--name", "mine", "--cmd", "echo one; sleep 300; echo two")
    process = start("ray.submit", *command, **PIPES)
    assert process.stdout is not None
    assert process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    attach, stop = (found.split() for found in re.findall(r"'inv (ray\.[^']*)'", err.decode())[-2:])

    again = start("ray.submit", *attach[1:], **PIPES)
    assert again.stdout is not None
    first = again.stdout.readline()
    stopped = inv(*stop)
    rest, _ = again.communicate(timeout=TIMEOUT)

    assert process.returncode == 130
    assert err.count(b"interrupted") == 1, err  # nothing was ended
    assert first == b"one\n"
    assert rest == b""
    assert stopped.returncode == 0, stopped.stderr
    assert b"STOPPED" in stopped.stderr
    assert again.returncode == 1


def test_directory_below_the_limit_is_uploaded_without_ignored_files_and_leaves_no_copy(
    inv: Inv, cluster: RayHosts, tmp_path: Path
) -> None:
    folder = tmp_path / "app"
    for name in ("data", "venv", "nested", "module/.git"):
        (folder / name).mkdir(parents=True)
    for name in ("run.py", "data/big[1].bin", "data/kept", "venv/x", "secret", ".rayignore"):
        (folder / name).write_text("secret\n")
    for name in ("nested/kept.bin", "nested/gone.bin", "module/m.o", "module/m.py"):
        (folder / name).touch()
    (folder / ".gitignore").write_text("*.bin\n")
    (folder / "nested/.gitignore").write_text("!kept.bin\n")  # Ray would leave it out
    (folder / "module/.gitignore").write_text("*.o\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "settings").write_text("of more than one project\n")
    (folder / "link").symlink_to(tmp_path / "outside" / "settings")
    (folder / "linked").symlink_to("../outside")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    inv("ray.up", "--host", "a")

    shown = "find -L . -type f | sort; cat link linked/*"
    done = inv("ray.submit", "--cmd", shown, "--working-dir", "app")
    inv("ray.submit", "--cmd", "true", "--working-dir", "app", "--no-wait")

    *files, first, second = done.stdout.decode().splitlines()
    assert files == [
        "./.gitignore",
        "./data/kept",
        "./link",
        "./linked/settings",
        "./module/.gitignore",
        "./module/m.py",
        "./nested/.gitignore",
        "./nested/kept.bin",
        "./run.py",
    ], done.stderr
    assert first == second == "of more than one project"
    left_out = (
        ".rayignore, dangling, data/big[1].bin, module/.git/, module/m.o, nested/gone.bin, pipe"
    )
    assert f"left out of app: {left_out}, secret and 1 more\n".encode() in done.stderr
    (left,) = [name for name in cluster.files("a") if name.endswith("/token")]
    there = cluster.servers["a"].home / ".ringtasks" / "ray" / left
    assert sorted(file.name for file in there.parent.iterdir()) == [
        "jobs",
        "reaper.py",
        "temp",
        "token",
    ]

    with (folder / "weights").open("wb") as file:
        os.truncate(file.fileno(), LIMIT_BYTES)
    larger = inv("ray.submit", "--cmd", "true", "--working-dir", "app")

    assert larger.returncode == 2
    assert b"takes less than 100 MiB; the largest: weights (100 MiB)" in larger.stderr


def test_upload_size_limit_counts_many_small_files(tmp_path: Path) -> None:
    for n in range(3):
        with (tmp_path / str(n)).open("wb") as file:
            os.truncate(file.fileno(), LIMIT_BYTES // 3)

    with pytest.raises(UsageError, match="less than"):
        plan_upload(tmp_path)


def test_upload_counts_files_behind_links_and_refuses_a_loop(tmp_path: Path) -> None:
    folder, outside = tmp_path / "app", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "large").write_bytes(bytes(10**6))
    (folder / "linked").symlink_to(outside)
    linked = plan_upload(folder)
    (folder / "loop").symlink_to(".")

    with pytest.raises(UsageError, match="loop leads back to a folder that holds it"):
        plan_upload(folder)
    (folder / ".rayignore").write_text("/loop\n")

    assert 10**6 < linked.size_bytes < 10**6 + 1000
    assert plan_upload(folder) == ((".rayignore", "loop/"), linked.size_bytes)


def test_unknown_ray_job_is_not_reported_as_failed(inv: Inv, cluster: RayHosts) -> None:
    inv("ray.up", "--host", "a,b")
    unknown = inv("ray.submit", "--attach", "raysubmit_0000")
    nonsense = inv("ray.stop", "--job", "x; rm -rf ~")
    cluster.kill("a")
    eventually(lambda: inv("ray.status").returncode == 1)

    dead = inv("ray.submit", "--cmd", "true")

    assert unknown.returncode == 2
    assert unknown.stderr.count(b"Ray knows no job raysubmit_0000") == 1
    assert nonsense.returncode == 2
    assert dead.returncode == 255
    assert b"the head of the Ray cluster 'ray' is not running: killed (SIGKILL)" in dead.stderr

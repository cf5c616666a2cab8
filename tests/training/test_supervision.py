"""``inv train``: real runs on real hosts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringtasks.training.records import LogCopy
from tests.support.faulty import Wire
from tests.support.fixtures import ROOT, Inv, MakeSshd, Start, WriteHosts
from tests.support.jobs import end_jobs, marked, reboot
from tests.support.nvidia import Gpus
from tests.support.sshd import Sshd
from tests.support.terminal import at_terminal
from tests.support.training import WriteSettings, await_job, run_of
from tests.support.waiting import eventually

TIMEOUT = 20.0
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture
def two_hosts(make_sshd: MakeSshd, write_hosts: WriteHosts) -> Iterator[dict[str, Sshd]]:
    """Two servers with homes of their own; ``a`` comes first in the inventory."""
    servers = {"a": make_sshd(), "b": make_sshd()}
    write_hosts(
        **{
            name: {"ssh_host": server.address, "ssh_port": server.port, "training_enabled": True}
            for name, server in servers.items()
        }
    )
    return servers


@pytest.mark.long  # script/demo runs the same
def test_demo_settings_train_and_plot_a_model_on_the_embedded_host(
    inv: Inv, tmp_path: Path
) -> None:
    for name in ("invoke.yaml", "hosts", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)

    trained = inv("train", timeout=60)
    drawn = inv("plot", "last", "--out", "run.svg")
    shown = inv("plot", "last", "--metric", "acc*")

    said = trained.stderr.decode()
    assert trained.returncode == 0, said
    assert b"epoch 60/60 loss=" in trained.stdout
    assert "demo: chosen: " in said
    assert "demo: pass: imports: json, math" in said
    folder, record = run_of(tmp_path)
    assert json.loads((folder / "model.json").read_text())["accuracy"] > 0.9
    assert record["state"] == "succeeded"
    assert json.loads((folder / "checkpoint" / "state.json").read_text())["epoch"] == 60
    assert drawn.returncode == shown.returncode == 0
    assert "<path" in (tmp_path / "run.svg").read_text()
    assert b"accuracy: last 1" in shown.stdout


def test_flags_of_the_training_tasks_match_the_docs(inv: Inv) -> None:
    known = {
        name: set(
            re.findall(
                r"--[a-z][a-z-]+", inv("--help", name).stdout.decode().replace("[no-]", "no-")
            )
        )
        for name in ("train", "plot", "forward", "ray.up", "ray.submit")
    }

    assert known["train"] >= {
        "--host", "--cmd", "--name", "--gpus", "--nodes", "--nproc-per-node", "--cwd", "--venv",
        "--env", "--log-file", "--sync-up", "--fetch", "--retries", "--checkpoint",
        "--checkpoint-done", "--setup",
        "--checkpoint-interval", "--lost-after", "--allow-split", "--no-preflight", "--attach",
    }  # fmt: skip
    assert known["plot"] >= {"--job", "--metric", "--out", "--host"}
    assert known["forward"] >= {"--host", "--port", "--local-port", "--to", "--json"}
    assert known["ray.up"] >= {"--host", "--name", "--venv", "--options", "--dashboard-port"}
    assert known["ray.submit"] >= {"--cmd", "--working-dir", "--no-wait"}


def test_terminal_shows_progress_and_a_plot_below_the_log(
    start: Start, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    write_hosts(box={})
    write_settings(command="printf 'epoch 1/2 loss=4\\nepoch 2/2 loss=2 \\033[2J\\n'", fetch=[])

    shown = in_terminal(start)

    assert "epoch 2/2 loss 2" in shown
    assert "4▕" in shown
    assert "\x1b[2J" not in shown  # the host's, to clear our screen
    assert "box: chosen: " in shown


def in_terminal(start: Start) -> str:
    """Return the output of ``inv train`` on a terminal of 100 x 30."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = start(
        "train",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},  # a forked process writes UTF-8
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert process.wait(TIMEOUT) == 0, shown
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())


def test_train_passes_the_log_through_and_exits_with_the_programs_status(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_hosts(box={})
    write_settings(command="printf 'loss=1\\r\\nbytes \\377\\n'; exit 7", fetch=[])

    done = inv("train")

    assert done.stdout == b"loss=1\r\nbytes \xff\n"
    assert done.returncode == 7
    assert b"box: failed (7)" in done.stderr
    folder, record = run_of(tmp_path)
    assert record["state"] == "failed"
    assert (folder / "attempt-1.log").read_bytes() == done.stdout


def test_flags_override_the_settings_and_reach_the_program(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    write_hosts(box={})
    write_settings(env={"A": "one", "B": "two"}, sync_up=[], fetch=[])

    done = inv("train", "--cmd", 'echo "$A $B $(pwd)"', "--env", "B=2", "--cwd", "~/else where")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"one 2 ")
    assert done.stdout.endswith(b"/else where\n")


def test_train_exits_1_if_a_host_answers_and_does_not_take_the_files(
    inv: Inv, sshd: Sshd, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    write_hosts(box={})
    write_settings(fetch=[])
    (sshd.home / "occupied").touch()

    done = inv("train", "--cwd", "~/occupied")

    assert (
        b"box: the run was not started: its files were not sent: box: ~/occupied: " in done.stderr
    )
    assert done.returncode == 1


def test_unsuitable_hosts_are_reported_with_their_reasons(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    write_hosts(
        away={"ssh_port": 9, "training_enabled": True},
        off={"training_enabled": True, "status": "broken"},
        other={},
        full={"training_enabled": True},
    )
    write_settings(preflight={"min_disk_gb": 10**9, "imports": ["no_such_module"]})

    done = inv("train")

    said = done.stderr.decode()
    assert done.returncode == 1
    assert "off: not eligible: its status in the hosts file is 'broken'" in said
    assert "other: not eligible: training_enabled is not true in the hosts file" in said
    assert "away: FAIL: answer: " in said
    assert "full: FAIL: disk: " in said
    assert "full: FAIL: imports: no_such_module: ModuleNotFoundError" in said
    assert said.count("ModuleNotFoundError") == 1
    assert "full: not eligible: failed disk, imports" in said
    assert "train: no host can take the run" in said


@pytest.mark.parametrize("flags", [[], ["--no-preflight"]])
def test_train_exits_255_if_no_host_answers(
    inv: Inv, write_hosts: WriteHosts, flags: list[str]
) -> None:
    write_hosts(away={"ssh_port": 9, "tailscale_ip": "127.0.0.1", "tailscale_port": 9})

    done = inv("train", "--host", "away", "--cmd", "true", *flags)

    said = done.stderr.decode()
    assert (done.returncode, said.count("Connection refused")) == (255, 2), said
    assert "away: FAIL: answer: unreachable, no route worked: tailscale (" in said
    assert "; direct (127.0.0.1:9): refused" in said
    assert "train: no host answered" in said
    assert "no sync_up: no files are sent" in said


def test_host_that_fails_its_preflight_is_replaced_by_one_that_passes(
    inv: Inv, two_hosts: dict[str, Sshd], write_settings: WriteSettings
) -> None:
    two_hosts["a"].stop()
    write_settings(fetch=[])

    done = inv("train")

    assert done.returncode == 0, done.stderr
    assert b"b: chosen: " in done.stderr


def test_another_host_resumes_a_killed_run_from_its_checkpoint(
    inv: Inv, two_hosts: dict[str, Sshd], write_settings: WriteSettings, tmp_path: Path
) -> None:
    stale = two_hosts["b"].home / "run" / "checkpoint" / "stale"
    stale.parent.mkdir(parents=True)
    stale.write_text("of another run")
    write_settings(
        command="python3 program.py 6 1 3",
        retries=1,
        checkpoint="checkpoint",
        checkpoint_interval=0.2,
    )

    done = inv("train", timeout=60)
    plotted = inv("plot", "last", "--out", "run.svg")

    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "a: killed (SIGKILL): another host takes over" in said
    assert b"attempt 1 from epoch 0" in done.stdout
    assert b"attempt 2 from epoch 3" in done.stdout
    assert (two_hosts["b"].home / "run" / "model").read_text() == "trained"
    assert not stale.exists()
    assert not (two_hosts["a"].home / "run" / "model").exists()
    folder, record = run_of(tmp_path)
    assert [each["state"] for each in record["attempts"]] == ["killed", "succeeded"]
    assert (folder / "checkpoint" / "epoch").read_text() == "6"
    assert not (folder / ".checkpoint.spare").exists()
    assert plotted.returncode == 0


#: Dies in its first attempt before it has a checkpoint of its own.
RESUMES = (
    'echo "attempt $RINGTASKS_ATTEMPT finds $(cat ckpt/epoch 2>/dev/null || echo none)"; '
    '[ "$RINGTASKS_ATTEMPT" = 2 ] || { sleep 1; kill -KILL $$; }'
)


@pytest.mark.parametrize("where", ["a", "b"])
@pytest.mark.matrix(1)
def test_run_never_resumes_from_a_checkpoint_of_another_run(
    inv: Inv, two_hosts: dict[str, Sshd], write_settings: WriteSettings, where: str
) -> None:
    run = two_hosts[where].home / "run"
    (run / "ckpt").mkdir(parents=True)
    (run / "ckpt" / "epoch").write_text("9")
    write_settings(command=RESUMES, retries=1, checkpoint="ckpt", checkpoint_interval=0.2, fetch=[])

    done = inv("train", timeout=60)

    assert done.stdout == b"attempt 1 finds none\nattempt 2 finds none\n", done.stderr
    assert done.returncode == 0
    (aside,) = run.glob(".ckpt.before-*")
    assert (aside / "epoch").read_text() == "9"
    assert f"{where}: earlier files of ckpt were moved to {aside}" in done.stderr.decode()


def test_retry_on_the_same_host_resumes_from_the_runs_own_checkpoint(
    inv: Inv, make_sshd: MakeSshd, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    server = make_sshd()
    write_hosts(a={"ssh_port": server.port})
    own = "mkdir -p ckpt; [ -e ckpt/epoch ] || echo 4 >ckpt/epoch; "
    write_settings(
        command=own + RESUMES, retries=1, checkpoint="ckpt", checkpoint_interval=3600, fetch=[]
    )

    done = inv("train", timeout=60)

    assert b"attempt 2 finds 4\n" in done.stdout, done.stderr


def test_files_synced_into_the_checkpoint_directory_belong_to_the_run(
    inv: Inv, sshd: Sshd, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_hosts(box={})
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "epoch").write_text("3")
    write_settings(
        command="cat ckpt/epoch",
        sync_up=[{"from": "start", "to": "ckpt"}],
        checkpoint="ckpt",
        fetch=[],
    )

    done = inv("train")

    assert done.stdout == b"3", done.stderr


def test_ignored_files_and_records_of_runs_are_sent_only_if_they_are_named(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_hosts(box={})
    app = tmp_path / "app"
    for name in (".gitignore", "a.py", "sub/b.py", "sub/old.pyc", "runs/1/ck", "runs/1/log"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("runs/\n*.pyc\n")
    subprocess.run(["git", "init", "-q", app], check=True)
    write_settings(
        command="find . -type f | sort",
        cwd="~/ignored",
        sync_up=["app", {"from": "app/runs/1", "to": "start"}, "app/sub/old.pyc"],
        fetch=[],
        runs="app/records",
    )

    done = inv("train")

    found = done.stdout.decode().split()
    named = ["./old.pyc", "./start/ck", "./start/log"]
    assert found == ["./.gitignore", "./a.py", *named, "./sub/b.py"], done.stderr
    told = b"box: sent 6 files, 72 B; not sent, as git ignores them: app/runs/, app/sub/old.pyc"
    assert told + b"; not sent: app/records/, the records of runs\n" in done.stderr


def test_run_that_fails_by_itself_is_not_retried(
    inv: Inv, two_hosts: dict[str, Sshd], write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_settings(command="exit 3", retries=2, fetch=[])

    done = inv("train")

    assert done.returncode == 3
    assert len(run_of(tmp_path)[1]["attempts"]) == 1


@pytest.mark.parametrize("allow_split", [False, True])
def test_no_host_takes_over_from_an_unreachable_one_unless_a_split_is_allowed(
    inv: Inv,
    two_hosts: dict[str, Sshd],
    write_settings: WriteSettings,
    tmp_path: Path,
    allow_split: bool,
    start: Start,
) -> None:
    write_settings(
        command='[ "$RINGTASKS_ATTEMPT" = 2 ] || sleep 20; echo done',
        retries=1,
        fetch=[],
        lost_after=1,
        allow_split=allow_split,
    )
    process = start("train", **PIPES)
    await_job(tmp_path)
    two_hosts["a"].stop()
    out, err = process.communicate(timeout=60)

    said = err.decode()
    if allow_split:
        assert process.returncode == 0, said
        assert out == b"done\n"
        assert "b: chosen: " in said
    else:
        assert process.returncode == 255, said
        assert "so no other host takes over (--allow-split would let one)" in said
        _, record = run_of(tmp_path)
        assert [each["state"] for each in record["attempts"]] == ["unknown"]
        assert f"reattach with 'inv train --attach {record['id']}'" in said
        assert record["ended_at"] is None
    assert re.search(r"^ringtasks: (?:\S+: )?a: unknown unreachable, ", said, re.M), said


def test_ctrl_c_keeps_the_run_and_shows_how_to_reattach(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path, start: Start
) -> None:
    write_hosts(box={})
    write_settings(command="echo loss=0.5; sleep 30; echo end", fetch=[])
    process = start("train", **PIPES)
    job = await_job(tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    listed = [json.loads(line) for line in inv("jobs", "--json").stdout.splitlines()]
    plotted = inv("plot", "last", "--metric", "loss")
    stopped = inv("stop", job)
    by_job = inv("plot", job[:10])

    assert process.returncode == 130
    run_id = run_of(tmp_path)[1]["id"]
    assert f"reattach with 'inv train --attach {run_id}'" in err.decode()
    assert [own["state"] for own in listed if own["id"] == job] == ["running"]
    assert b"loss: last 0.5" in plotted.stdout, plotted.stderr
    assert b"loss: last 0.5" in by_job.stdout, by_job.stderr
    assert stopped.returncode == 0


def test_reattached_run_shows_its_log_from_the_beginning(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path, start: Start
) -> None:
    write_hosts(box={})
    write_settings(command="echo one; sleep 3; echo two; echo three >model")
    process = start("train", **PIPES)
    await_job(tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)

    done = inv("train", "--attach", "last")
    again = inv("train", "--attach", "last")
    outside = run_of(tmp_path)[0].rename(tmp_path / "moved run")
    by_path = inv("train", "--attach", f"{outside}/")
    plotted = inv(*shlex.split(f"plot '{outside}/'"))

    assert f"plot it: inv plot '{outside}/'\n" in by_path.stderr.decode()
    assert b"no metric" in plotted.stderr, plotted.stderr
    outside.rename(tmp_path / "runs" / "back")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"one\ntwo\n"
    folder, record = run_of(tmp_path)
    assert (folder / "model").read_text() == "three\n"
    assert [each["state"] for each in record["attempts"]] == ["succeeded"]
    assert again.returncode == 0
    assert b"has ended: succeeded" in again.stderr


def test_without_its_kept_environment_a_run_is_followed_but_not_taken_over(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path, start: Start
) -> None:
    write_hosts(box={})
    write_settings(command="sleep 3; kill -KILL $$", retries=1, env={"SEED": "1"}, fetch=[])
    process = start("train", **PIPES)
    await_job(tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    folder, _ = run_of(tmp_path)
    (folder / "env.json").write_text("[")

    done = inv("train", "--attach", "last")

    assert b"env.json: it is damaged: without the values of env" in done.stderr, done.stderr
    assert done.returncode != 0
    assert [each["state"] for each in run_of(tmp_path)[1]["attempts"]] == ["killed"]


def test_run_started_by_flags_is_resumed_by_the_hinted_command(
    inv: Inv, make_sshd: MakeSshd, write_hosts: WriteHosts, tmp_path: Path, start: Start
) -> None:
    servers = {"a": make_sshd(), "b": make_sshd()}
    hosts = write_hosts(**{name: {"ssh_port": own.port} for name, own in servers.items()})
    elsewhere = tmp_path / "my inventory.yaml"
    hosts.rename(elsewhere)
    (tmp_path / "sent").write_text("sent")
    shutil.copy(ROOT / "tasks.py", tmp_path)
    own = "mkdir -p ckpt; echo 7 >ckpt/epoch; "
    process = start(
        "train", *("--host", "a,b", "--inventory", str(elsewhere), "--name", "flags"),
        *("--cwd", "~/run"),
        *("--cmd", own + 'sleep 4; echo "$SECRET $RINGTASKS_ATTEMPT $(cat sent ckpt/epoch)" | '
          'tee made; [ "$RINGTASKS_ATTEMPT" = 2 ] || kill -KILL $$'),
        *("--env", "SECRET=s3cret", "--sync-up", "sent", "--fetch", "made", "--retries", "1"),
        *("--checkpoint", "ckpt", "--checkpoint-interval", "0.3", "--no-preflight"), **PIPES,
    )  # fmt: skip
    await_job(tmp_path)
    eventually(lambda: list(tmp_path.glob("runs/*/checkpoint/epoch")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT)
    hint = re.search(r"reattach with 'inv (train --attach .*)', follow", err.decode())
    folder, record = run_of(tmp_path)

    assert hint, err
    done = inv(*shlex.split(hint[1]), timeout=60)
    logged = inv("logs", record["id"], "--inventory", str(elsewhere))

    assert done.returncode == 0, done.stderr
    assert done.stdout == b"s3cret 1 sent7\ns3cret 2 sent7\n"
    assert (folder / "made").read_text() == "s3cret 2 sent7\n"
    assert "s3cret" not in (folder / "run.json").read_text()
    assert (folder / "env.json").stat().st_mode & 0o777 == 0o600
    assert logged.returncode == 0, logged.stderr


def _put_tool(tool: Path, flag: str, action: str) -> None:
    """Make a program that does ``action`` if the file ``flag`` is there, else as usual."""
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\n[ -e {flag} ] || exec {shutil.which(tool.name)} "$@"\n{action}\n')
    tool.chmod(0o755)


def test_interrupted_takeover_and_fetch_go_on_by_the_hinted_command(
    inv: Inv,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
    start: Start,
) -> None:
    server = make_sshd(environ={"PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}"})
    _put_tool(tmp_path / "tools" / "find", "~/hold", "touch ~/holding; exec sleep 60")
    hold, is_holding = server.home / "hold", server.home / "holding"
    write_hosts(box={"ssh_port": server.port})
    write_settings(
        command="echo made >model; touch ~/hold; [ $RINGTASKS_ATTEMPT = 2 ] || kill -KILL $$",
        retries=1,
    )

    process = start("train", "--no-preflight", **PIPES)
    for is_retried in (True, False):
        eventually(is_holding.exists)
        record = run_of(tmp_path)[1]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT)
        hold.unlink()
        is_holding.unlink()
        hint = re.search(
            r"interrupted; its job has ended; 'inv (train --attach .*)' does", str(err)
        )

        assert hint, err
        assert record["ended_at"] is None
        assert [own["state"] for own in record["attempts"]][-1] == (
            "killed" if is_retried else "succeeded"
        )
        process = start(*shlex.split(hint[1]), **PIPES)
    _, err = process.communicate(timeout=TIMEOUT)

    folder, record = run_of(tmp_path)
    assert process.returncode == 0, err
    assert (folder / "model").read_text() == "made\n"
    assert record["state"] == "succeeded"


def test_job_that_may_have_been_started_is_followed_before_another_one_starts(
    inv: Inv,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
    client_key: Path,
) -> None:
    server = make_sshd(environ={"PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}"})
    _put_tool(
        tmp_path / "tools" / "mkdir",
        "~/cut",
        f"rm ~/cut; : >{server.authorized_keys}; pid=$PPID\n"
        "until grep -q sshd /proc/$pid/comm; do pid=$(ps -o ppid= $pid | tr -d ' '); done\n"
        "kill -KILL $pid; sleep 60",
    )
    write_hosts(box={"ssh_port": server.port})
    write_settings(setup=["touch ~/cut"], fetch=[], sync_up=[], retries=1, lost_after=1)

    lost = inv("train")
    server.authorize(client_key)
    again = inv("train", "--attach", "last")

    said = re.search(rb"job (\w+) may run on box: 'inv train --attach (.*)' follows", lost.stderr)
    assert (lost.returncode, again.returncode) == (255, 255), lost.stderr + again.stderr
    assert said, lost.stderr
    record = run_of(tmp_path)[1]
    assert record["id"] == said[2].decode()
    assert [own["jobs"][0]["job_id"] for own in record["attempts"]] == [said[1].decode()]
    assert b"no other host takes over" in again.stderr


def test_second_process_does_not_follow_a_run_of_which_another_host_may_take_over(
    inv: Inv,
    two_hosts: dict[str, Sshd],
    write_settings: WriteSettings,
    tmp_path: Path,
    start: Start,
) -> None:
    own = "echo attempt $RINGTASKS_ATTEMPT; [ $RINGTASKS_ATTEMPT = 2 ] || { sleep 60; }"
    write_settings(command=own, retries=1, fetch=[])
    process = start("train", **PIPES)
    job = await_job(tmp_path)

    second = inv("train", "--attach", "last")
    for pid in marked(job):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    ended = inv("train", "--attach", "last")

    folder, record = run_of(tmp_path)
    assert second.returncode == 2, second.stderr
    assert b"follows it" in second.stderr
    assert f"'inv logs {record['id']} -f' shows the log" in second.stderr.decode()
    assert process.returncode == 0, err
    assert len(record["attempts"]) == 2
    assert (folder / "attempt-1.log").read_bytes() == b"attempt 1\n"
    assert ended.returncode == 0


def test_reattaching_to_an_unreachable_host_keeps_the_local_log(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path, start: Start
) -> None:
    write_hosts(box={})
    write_settings(command="echo step 1 loss=0.5; sleep 60", fetch=["model"])
    process = start("train", **PIPES)
    job = await_job(tmp_path)
    log = run_of(tmp_path)[0] / "attempt-1.log"
    eventually(lambda: log.exists() and log.stat().st_size)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    write_hosts(box={"ssh_port": 9})

    away = inv("train", "--attach", "last", "--lost-after", "1")
    plotted = inv("plot", "last", "--metric", "loss")
    write_hosts(box={})
    inv("stop", job)

    assert away.returncode == 255
    assert b"not fetched: model" in away.stderr
    assert log.read_bytes() == b"step 1 loss=0.5\n"
    assert b"loss: last 0.5" in plotted.stdout, plotted.stderr
    assert [file.name for file in log.parent.iterdir() if file.name.startswith(".")] == []


def test_local_log_copy_never_shrinks(tmp_path: Path) -> None:
    file = tmp_path / "attempt-1.log"
    found = []
    for chunks in ([b"one", b"two"], [b"on"], [], [b"onetwo"], [b"one", b"two", b"three"]):
        with LogCopy(file) as log:
            for chunk in chunks:
                log.write(chunk)
        found.append(file.read_bytes())

    assert found == [b"onetwo", b"onetwo", b"onetwo", b"onetwo", b"onetwothree"]
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_local_log_copy_ends_at_a_full_disk_and_says_so_once() -> None:
    with LogCopy(Path("/dev/full")) as log:
        said = [log.write(b"one"), log.write(b"two")]

    assert said == ["No space left on device", None]


def test_metric_files_are_fetched_and_plotted_instead_of_the_log(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_hosts(box={})
    table = "printf 'epoch,step,val_loss\\n0,10,0.5\\n1,20,0.25\\n' >out/metrics.csv"
    write_settings(command=f"mkdir out; {table}; echo loss=9", fetch=[], metrics=["out"])

    done = inv("train", timeout=60)
    drawn = inv("plot", "last", "--json")

    assert done.returncode == drawn.returncode == 0, done.stderr + drawn.stderr
    points = [json.loads(line) for line in drawn.stdout.splitlines()]
    assert [(p["metric"], p["x"], p["value"]) for p in points] == [
        ("val_loss", 10, 0.5), ("val_loss", 20, 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize("status", [0, 3])
def test_only_files_written_by_this_attempt_are_fetched(
    inv: Inv,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
    status: int,
) -> None:
    server = make_sshd()
    write_hosts(box={"ssh_port": server.port})
    cwd = server.home / "run"
    (cwd / "out put" / "deep").mkdir(parents=True)
    for name in ("model.pt", "same.pt", "out put/old[1]", "out put/deep/changed", "a.log", "b.log"):
        (cwd / name).write_text("of an earlier run")
    write_settings(
        command="cp same.pt same.new && mv same.new same.pt; echo new >'out put/deep/changed'; "
        "echo new >'out put/new'; echo new >b.log; echo new >c.log; mkdir x y; "
        f"echo 1 >'x/[1].json'; echo 2 >'y/[1].json'; exit {status}",
        fetch=["model.pt", "same.pt", "out put", "*.log", "nothing", "*/*.json", "x/?1?.json"],
    )

    done = inv("train")

    said = done.stderr.decode()
    folder = run_of(tmp_path)[0]
    files = {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}
    assert done.returncode == status
    assert "model.pt was not fetched: no file of it was written since the attempt began" in said
    assert "nothing was not fetched: there is none" in said
    assert "out put fetched into" in said
    assert "but for 1 files that were there before" in said
    assert "y/[1].json was not fetched: it would replace x/[1].json: fetch its folder" in said
    assert files["[1].json"].read_text() == "1\n"
    assert "model.pt" not in files
    assert "a.log" not in files
    assert files["same.pt"].read_text() == "of an earlier run"  # it was written by this one, too
    fetched = {name: file.read_text() for name, file in files.items() if name.startswith("out")}
    assert fetched == {"out put/new": "new\n", "out put/deep/changed": "new\n"}
    assert [files[name].read_text() for name in ("b.log", "c.log")] == ["new\n", "new\n"]
    assert list(server.home.glob(".ringtasks/runs/*.new")) == []


def test_each_run_gets_a_new_directory_by_default(
    inv: Inv, make_sshd: MakeSshd, write_hosts: WriteHosts, write_settings: WriteSettings
) -> None:
    server = make_sshd()
    (server.home / "my work").mkdir()
    write_hosts(box={"ssh_port": server.port, "work_dir": "~/my work"})
    write_settings(command="ls; pwd; touch left; echo made >model", cwd=None)

    one, two = inv("train"), inv("train")

    for done in (one, two):
        assert done.returncode == 0, done.stderr
        lines = done.stdout.decode().splitlines()
        assert lines[:-1] == ["program.py"]
        assert re.fullmatch(r".*/my work/runs/train-[0-9-]+", lines[-1])
        assert b"model fetched into" in done.stderr
    assert one.stdout != two.stdout


def test_setup_is_skipped_while_its_inputs_are_unchanged(
    inv: Inv,
    make_sshd: MakeSshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
) -> None:
    server = make_sshd()
    write_hosts(box={"ssh_port": server.port})
    needs = tmp_path / "src" / "needs.txt"
    common = {"cwd": None, "fetch": [], "command": "wc -l <~/count"}
    setup = {"setup": ["true;cat<needs.txt>>~/count", "echo told"], **common}

    def run(text: str, **settings: object) -> tuple[bytes, int]:
        needs.parent.mkdir(exist_ok=True)
        needs.write_text(text)
        write_settings(**{**setup, **settings})
        done = inv("train")
        return done.stdout, done.returncode

    first, again = run("a\n"), run("a\n")
    changed = run("b\n")
    failed = run("b\n", setup=["echo why >&2; exit 4"])
    failed_again = run("b\n", setup=["echo why >&2; exit 4"])
    inside = [run("b\n", setup=["touch built"], command="ls built") for _ in range(2)]

    assert first == (b"told\n1\n", 0)
    assert again == (b"1\n", 0)
    assert changed == (b"told\n2\n", 0)
    assert failed[1] == failed_again[1] == 1
    assert inside == [(b"built\n", 0)] * 2  # what it leaves in the run's folder is made anew


def test_revision_of_the_sent_files_is_recorded_and_reported(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_hosts(box={})
    write_settings(command='echo "$RINGTASKS_REVISION"', fetch=[], sync_up=["src/out", "src"])
    (tmp_path / "src" / "out").mkdir()
    (tmp_path / "src" / ".gitignore").write_text("/out/")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path / "src")]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()

    clean = inv("train")
    (tmp_path / "src" / "new.py").touch()
    subprocess.run([*git, "config", "status.showUntrackedFiles", "no"], check=True)
    dirty = inv("train")

    assert clean.stdout.decode() == f"{commit}\n", clean.stderr
    assert dirty.stdout.decode() == f"{commit}-dirty\n"
    assert f"revision {commit}-dirty" in dirty.stderr.decode()
    kept = {json.loads(f.read_text())["revision"] for f in tmp_path.glob("runs/*/run.json")}
    assert kept == {commit, f"{commit}-dirty"}


def test_repeated_disconnects_lose_neither_the_run_nor_any_log_byte(
    sshd: Sshd,
    write_hosts: WriteHosts,
    write_settings: WriteSettings,
    tmp_path: Path,
    inv: Inv,
    start: Start,
) -> None:
    with Wire(sshd.address, sshd.port) as wire:
        write_hosts(box={"ssh_port": wire.port})
        write_settings(
            command='n=0; while [ $n -lt 60 ]; do n=$((n + 1)); echo "line $n"; sleep 0.05; done',
            fetch=[],
        )
        process = start("train", **PIPES)
        await_job(tmp_path)
        for _ in range(4):
            time.sleep(0.5)  # not for luck: the cuts are to fall into different moments
            wire.cut()
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert out == b"".join(b"line %d\n" % n for n in range(1, 61))
    assert len(run_of(tmp_path)[1]["attempts"]) == 1


def test_jobs_and_log_files_are_plotted_together(
    inv: Inv, write_hosts: WriteHosts, tmp_path: Path
) -> None:
    write_hosts(box={})
    (tmp_path / "old.log").write_text("step 1 loss=3\nstep 2 loss=2\n")
    job = inv("start", "--host", "box", "--cmd", "echo step 1 loss=1").stdout.decode().strip()
    inv("wait", job)

    done = inv("plot", f"old.log,{job}", "--out", "both.svg")
    unknown = inv("plot", "nonsense")
    command = "printf 'step 1 loss=1\\nstep 2 loss=0.2'; kill -9 $$"  # of 0.25
    killed = inv("start", "--host", "box", "--cmd", command).stdout.decode().strip()
    inv("wait", killed)
    points = inv("plot", killed, "--json").stdout.splitlines()

    picture = (tmp_path / "both.svg").read_text()
    assert done.returncode == 0, done.stderr
    assert ">old.log loss</text>" in picture
    assert f">{job} loss</text>" in picture
    assert unknown.returncode == 2
    assert b"nonsense: no such job" in unknown.stderr
    assert [json.loads(point)["value"] for point in points] == [1]


def test_points_of_a_log_are_printed_as_json(inv: Inv, tmp_path: Path) -> None:
    (tmp_path / "one.log").write_text(
        "epoch 1/2 step 1/4 loss=3 lr=1e-3\nepoch 1/2 step 2/4 loss=2"
    )
    (tmp_path / "two.log").write_text("{'loss': '2.341', 'epoch': '0.5'}\n")
    (tmp_path / "nan.log").write_text("step 1 loss=nan\nstep 2 loss=-inf\n")

    diverged = inv("plot", "nan.log", "--json")
    every = inv("plot", "one.log", "--json")
    chosen = inv("plot", "one.log,two.log", "--json", "--metric", "loss")
    both = inv("plot", "one.log", "--json", "--out", "x.svg")

    points = [json.loads(line) for line in every.stdout.splitlines()]
    assert [point["metric"] for point in points] == ["loss", "loss", "lr"]
    assert points[0] == {
        "metric": "loss", "axis": "step", "x": 1, "value": 3.0,
        "step": 1, "total_steps": 4, "epoch": 1, "total_epochs": 2,
    }  # fmt: skip
    last = json.loads(chosen.stdout.splitlines()[-1])
    assert last == {
        "run": "two.log", "metric": "loss", "axis": "epoch", "x": 0.5, "value": 2.341, "epoch": 0.5
    }  # fmt: skip
    assert both.returncode == 2
    assert [
        line.split(b'"value": ')[1].split(b",")[0] for line in diverged.stdout.splitlines()
    ] == [
        b"NaN",
        b"-Infinity",
    ]


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("9", 40)])
def test_plot_fits_a_narrow_terminal(
    inv: Inv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    (tmp_path / "a.log").write_text("step 1 loss=2\nstep 2 loss=1\n")
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")

    status, shown = at_terminal(["plot", "a.log"], {}, tmp_path)

    assert status == 0
    assert max(map(len, shown.decode().splitlines())) == width


def test_logs_of_one_name_are_told_apart_by_their_paths(inv: Inv, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.log").write_text(f"step 1 loss={ord(name)}\n")

    both = inv("plot", "a/train.log,b/train.log,a/train.log", "--json")

    points = [json.loads(line) for line in both.stdout.splitlines()]
    assert [(point["run"], point["value"]) for point in points] == [
        ("a/train.log", ord("a")),
        ("b/train.log", ord("b")),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("a/old.log", b"a/old.log: no such file"),
        ("old.log", b"old.log: no such file"),
        ("/", b"/: is a folder, not a log"),
        ("/dev/null", b"/dev/null: is no regular file"),
        (",", b"expected a run, a job or a log file, got ','"),
        ("/ --smooth x", b"--smooth x: expected a weight from 0 to below 1"),
    ],
)
def test_plot_names_the_argument_that_is_wrong(inv: Inv, arguments: str, said: bytes) -> None:
    wrong = inv("plot", *arguments.split())

    assert wrong.returncode == 2
    assert said in wrong.stderr


@pytest.fixture
def gpu_hosts(
    make_sshd: MakeSshd, write_hosts: WriteHosts, tmp_path: Path
) -> Iterator[dict[str, Gpus]]:
    """Two hosts with two GPUs each; ``a`` comes first in the inventory."""
    found, homes, hosts = {}, [], {}
    for name in ("a", "b"):
        found[name] = Gpus(tmp_path / f"gpus-{name}", count=2)
        server = make_sshd(environ={"PATH": f"{found[name].bin}:{os.environ['PATH']}"})
        homes.append(server.home)
        hosts[name] = {"ssh_port": server.port}
    write_hosts(**hosts)
    stale = homes[1] / ".ringtasks" / "gpus" / found["b"].uuid(0)
    stale.parent.mkdir(parents=True)
    stale.symlink_to("a0.1.another-boot.1")  # its process id is there again since the reboot
    yield found
    for home in homes:
        end_jobs(home)


def test_run_gets_gpus_without_processes(
    inv: Inv, gpu_hosts: dict[str, Gpus], write_settings: WriteSettings
) -> None:
    gpu_hosts["a"].occupy(0, pid=4711)
    gpu_hosts["b"].occupy(0, pid=4712)
    write_settings(command='echo "$CUDA_VISIBLE_DEVICES"', gpus=1, fetch=[])

    one = inv("train")
    two = inv("train", "--gpus", "2")
    gpu_hosts["b"].leave(4712)
    both = inv("train", "--gpus", "2")

    assert one.stdout == b"1\n"
    assert two.returncode == 1
    assert b"a: FAIL: GPUs free: 1 of 2 (GPU 0: process 4711)" in two.stderr
    assert (both.returncode, both.stdout) == (0, b"0,1\n")
    assert b"b: chosen: " in both.stderr


def test_gpus_reserved_by_a_job_are_not_used(
    inv: Inv, gpu_hosts: dict[str, Gpus], write_settings: WriteSettings
) -> None:
    write_settings(command="echo done", gpus=2, fetch=[])
    inv("start", "--host", "a", "--cmd", "sleep 60", "--gpus", "1")

    done = inv("train")

    assert b"a: FAIL: GPUs free: 1 of 2 (GPU 0: job " in done.stderr
    assert b"b: chosen: " in done.stderr
    assert done.returncode == 0


def test_host_with_a_hanging_gpu_driver_is_not_chosen(
    inv: Inv, gpu_hosts: dict[str, Gpus], write_settings: WriteSettings
) -> None:
    gpu_hosts["a"].hang()
    write_settings(command="echo done", gpus=1, fetch=[], preflight={"driver_timeout": 1})

    done = inv("train")

    assert b"a: FAIL: GPU driver: gives no answer within 1 s" in done.stderr
    assert done.returncode == 0


def test_another_host_takes_over_from_a_rebooted_one(
    inv: Inv,
    two_hosts: dict[str, Sshd],
    write_settings: WriteSettings,
    tmp_path: Path,
    start: Start,
) -> None:
    write_settings(
        command='[ "$RINGTASKS_ATTEMPT" = 2 ] || sleep 30; echo "attempt $RINGTASKS_ATTEMPT"',
        retries=1,
        fetch=[],
    )
    process = start("train", **PIPES)
    job = await_job(tmp_path)
    for pid in marked(job):
        os.kill(pid, signal.SIGKILL)
    reboot(two_hosts["a"].home)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert b"a: lost the host was rebooted: another host takes over" in err
    assert out == b"attempt 2\n"
    end_jobs(two_hosts["a"].home)


def test_next_host_is_tried_if_files_cannot_be_sent(
    inv: Inv, two_hosts: dict[str, Sshd], write_settings: WriteSettings
) -> None:
    (two_hosts["a"].home / "run").write_text("in the way")
    write_settings(command="echo done", fetch=[])

    done = inv("train")

    assert done.returncode == 0, done.stderr
    assert b"a: the run was not started: " in done.stderr
    assert b"trying the next host" in done.stderr


def test_run_that_never_started_leaves_no_record(
    inv: Inv, write_hosts: WriteHosts, write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_hosts(box={"ssh_port": 9})
    write_settings()

    done = inv("train")

    assert done.returncode == 255
    assert list((tmp_path / "runs").iterdir()) == []
    assert b"no run in runs/ yet" in inv("plot", "last").stderr

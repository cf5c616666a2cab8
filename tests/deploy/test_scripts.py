"""The scripts of a deploy in dash, bash, zsh, and BusyBox with nothing but its own tools."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringtasks.deploy import layout, locking, steps
from ringtasks.deploy.locking import LockState, parse_held
from ringtasks.deploy.records import EventKind, HostState, parse_state
from ringtasks.deploy.release import Release
from ringtasks.deploy.settings import DeploySettings
from ringtasks.deploy.steps import AppFolder, DeployPlan
from ringtasks.remote.programs import call
from tests.support.fixtures import Require
from tests.support.shells import SHELLS
from tests.support.waiting import eventually

Run = Callable[..., "subprocess.CompletedProcess[str]"]

_OLD = Release("20260101T000000Z-abc-0001", "abc", "ann@laptop", "laptop")
_NEW = Release("20260102T000000Z-def-0002", "def", "ann@laptop", "laptop", "https://ci.example/7")


@pytest.fixture(params=SHELLS)
def run(request: pytest.FixtureRequest, tmp_path: Path, require: Require) -> Run:
    """Runs a script in the deploy path ``tmp_path / "app"``."""
    shell = request.param.split()
    require(shell[0])
    path = os.environ["PATH"]
    if shell[0] == "busybox":
        path = str(_busybox_tools(tmp_path / "busybox"))
        shell[0] = shutil.which("busybox") or ""

    def run(script: str, *, makes: bool = True) -> subprocess.CompletedProcess[str]:
        text = layout.inside(str(tmp_path / "app"), script, makes=makes)
        return subprocess.run(
            [*shell, "-c", text],
            capture_output=True,
            text=True,
            env={"PATH": path, "HOME": str(tmp_path)},
            timeout=30,
            check=False,
        )

    return run


def test_release_is_built_activated_and_reverted(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    _released(run, app, _OLD, "one")
    assert _state(run).current == _OLD.id
    _released(run, app, _NEW, "two")
    assert (app / "current" / "file").read_text() == "two"
    assert (app / "current" / "data" / "kept").read_text() == "yes"

    done = run(layout.revert(_NEW, f"releases/{_OLD.id}", "check: exit status 1"))

    assert done.returncode == 0, done.stderr
    state = _state(run)
    assert (state.current, state.releases) == (_OLD.id, (_OLD.id, _NEW.id))
    assert (app / "current" / "file").read_text() == "one"
    assert state.verdict(_NEW.id) == EventKind.FAILED
    assert state.revision == "abc"
    assert state.drift is None


@pytest.mark.matrix(1)
def test_activation_is_atomic(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    for release in (_OLD, _NEW):
        _released(run, app, release, release.revision)
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(app / "current" / "file"), str(tmp_path / "stop")],
        stdout=subprocess.PIPE,
        text=True,
    )

    for number in range(20):
        assert run(layout.switch((_OLD, _NEW)[number % 2])).returncode == 0
    (tmp_path / "stop").touch()
    seen, _ = watcher.communicate(timeout=20)

    assert set(seen.split()) == {"abc", "def"}


_WATCH = """
import pathlib, sys
seen = set()
while not pathlib.Path(sys.argv[2]).exists():
    try:
        seen.add(pathlib.Path(sys.argv[1]).read_text())
    except FileNotFoundError:
        seen.add("nothing")
print(*seen)
"""


def test_each_deploy_script_is_idempotent(run: Run, tmp_path: Path) -> None:
    note = LockState("0" * 16, "ann", "laptop", "abc")
    _released(run, tmp_path / "app", _OLD, "one")
    scripts = [
        locking.acquire(note, 60),
        call("ready_for_files"),
        call("took_files", "content"),
        layout.build(_NEW, ["data/"], [], is_old=False),
        layout.switch(_NEW),
        layout.revert(_NEW, f"releases/{_OLD.id}", "no"),
        call("prune", _NEW.id),
        call("drop", note.token),
    ]
    (tmp_path / "app" / "source").mkdir(exist_ok=True)

    for script in scripts:
        for _ in range(2):
            done = run(script)
            assert done.returncode == 0, (script, done.stderr)

    state = _state(run)
    assert (state.current, state.releases, state.held) == (_OLD.id, (_OLD.id,), None)


def test_failed_first_release_leaves_no_current_release(run: Run, tmp_path: Path) -> None:
    _released(run, tmp_path / "app", _NEW, "two")

    assert run(layout.revert(_NEW, None, "no")).returncode == 0

    state = _state(run)
    assert state.current is None
    assert state.drift == f"{_NEW.id} failed, and no release is current"
    assert not (tmp_path / "app" / "current").is_symlink()


def test_obstructing_file_is_reported_and_left_in_place(run: Run, tmp_path: Path) -> None:
    _released(run, tmp_path / "app", _OLD, "one")
    current = tmp_path / "app" / "current"
    current.unlink()
    current.mkdir()

    done = run(layout.switch(_OLD))

    assert done.returncode == 1
    assert "current: is in the way, and no symbolic link" in done.stderr
    assert current.is_dir()


def test_planted_pipes_and_links_are_reported_and_left_alone(run: Run, tmp_path: Path) -> None:
    app, mine = tmp_path / "app", tmp_path / "mine"
    mine.write_text("until=1\n")
    lock = locking.acquire(LockState("a" * 16, "ann", "laptop", "abc"), 60)
    assert run(lock + call("drop", "a" * 16)).returncode == 0

    ours = (".locks/b", ".locks/b.end", ".source-time", "history", "restart.log", "lock")
    for name in (*ours, ".history-new", ".check-7"):
        for plant in (os.mkfifo, lambda path: path.symlink_to("../mine")):
            plant(app / name)

            done = run(lock)

            assert done.returncode == 1, name
            assert f"{name}: is in the way, and no" in done.stderr
            (app / name).unlink()
            assert mine.read_text() == "until=1\n"
    assert run(lock).returncode == 0


def test_interrupted_build_is_started_from_the_beginning(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    _source(app, "two")
    half = app / "releases" / _NEW.id
    half.mkdir(parents=True)
    (half / "half").touch()

    done = run(layout.build(_NEW, [], ["echo built > built"], is_old=False))

    assert done.returncode == 0, done.stderr
    assert not (half / "half").exists()
    assert {path.name for path in half.iterdir()} == {"file", "built", layout.MARK}


def test_build_reports_a_modified_file_of_an_old_release(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    _source(app, "two")
    for script in (call("ready_for_files"), call("took_files", "content")):
        assert run(script).returncode == 0
    later = time.time() + 5
    os.utime(app / "source" / "file", (later, later))

    done = run(layout.build(_NEW, [], [], is_old=True))

    assert (done.returncode, done.stdout) == (0, "changed\n")
    assert _state(run).releases == ()


def test_failing_build_command_ends_the_build_with_its_status(run: Run, tmp_path: Path) -> None:
    _source(tmp_path / "app", "two")

    done = run(layout.build(_NEW, [], ["echo before; (exit 7); echo after"], is_old=False))

    assert done.returncode == 7
    assert done.stdout == ""
    assert done.stderr == "before\n"
    assert _state(run).releases == ()


@pytest.mark.matrix(1)
def test_one_of_many_concurrent_deploys_acquires_the_lock(run: Run) -> None:
    notes = [LockState(f"{n:016x}", f"user{n}", "laptop", "abc") for n in range(16)]

    with ThreadPoolExecutor(16) as threads:
        done = list(threads.map(lambda note: run(locking.acquire(note, 60)), notes))

    winners = [note for note, result in zip(notes, done, strict=True) if result.returncode == 0]
    assert len(winners) == 1
    held = {parse_held(result.stdout) for result in done if result.returncode}
    assert {found.who for found in held if found} == {winners[0].who}


@pytest.mark.matrix(1)
def test_one_of_many_concurrent_deploys_takes_over_an_expired_lock(run: Run) -> None:
    for round_ in range(3):
        gone = LockState(f"{round_ + 1:016x}", "gone", "laptop", "abc")
        assert run(locking.acquire(gone, -10)).returncode == 0
        notes = [
            LockState(f"{round_}{n:015x}", f"user{n}", "laptop", "abc") for n in range(100, 116)
        ]

        with ThreadPoolExecutor(16) as threads:
            done = list(threads.map(lambda note: run(locking.acquire(note, 60)), notes))

        (winner,) = [
            note for note, result in zip(notes, done, strict=True) if not result.returncode
        ]
        held = _state(run).held
        assert held is not None
        assert held.who == winner.who
        run(call("drop", winner.token))


def test_unexpired_lock_is_not_taken_over_and_its_holder_is_reported(run: Run) -> None:
    mine = LockState("a" * 16, "ann\nx", "laptop", "abc", "https://ci.example/7")
    other = LockState("b" * 16, "bob", "desk", "def")
    run(locking.acquire(mine, 60))

    done = run(locking.acquire(other, 60))

    held = parse_held(done.stdout)
    assert done.returncode == 1
    assert held is not None
    assert str(held).startswith("ann x on laptop, deploying abc for")
    assert str(held).endswith(", https://ci.example/7")
    assert held.until - held.now in range(55, 61)


@pytest.mark.parametrize("tool", ["sed", "date"])
def test_lock_is_not_taken_over_with_a_tool_that_fails(run: Run, tool: str) -> None:
    mine, other = (LockState(word * 16, word, "laptop", "abc") for word in "ab")
    fails = f"{tool}() {{ return 1; }}\n"
    taken = run(fails + locking.acquire(mine, 60)).returncode
    run(locking.acquire(mine, 60))

    done = run(fails + locking.acquire(other, 60))

    held = _state(run).held
    assert (taken, done.returncode) == (1 if tool == "date" else 0, 1)
    assert held is not None
    assert held.who == "a"


def test_deploy_that_lost_its_lock_runs_no_command(run: Run, tmp_path: Path) -> None:
    mine, other = (
        LockState("a" * 16, "ann", "laptop", "abc"),
        LockState("b" * 16, "bob", "desk", "def"),
    )
    run(locking.acquire(mine, -10))
    assert run(locking.acquire(other, 60)).returncode == 0

    done = run(call("hold", mine.token, 60) + "touch done\n")
    given_back = run(call("drop", mine.token))

    assert done.returncode == 1
    assert not (tmp_path / "app" / "done").exists()
    held = parse_held(done.stdout)
    assert held is not None
    assert held.who == "bob"
    assert given_back.returncode == 0
    assert _state(run).held is not None


def test_lock_that_is_removed_while_it_is_renewed_is_reported(run: Run, tmp_path: Path) -> None:
    mine = LockState("a" * 16, "ann", "laptop", "abc")
    run(locking.acquire(mine, 60))
    unlocked = f'sed() {{ unset -f sed; {call("drop", mine.token)}\n sed "$@"; }}\n'

    done = run(unlocked + call("hold", mine.token, 60) + "touch done\n")

    held = parse_held(done.stdout)
    assert (done.returncode, held and held.token) == (1, "")
    assert not (tmp_path / "app" / "done").exists()
    assert [*(tmp_path / "app" / ".locks").iterdir()] == []


def test_lock_can_be_renewed_by_two_scripts_at_the_same_time(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    mine = LockState("a" * 16, "ann", "laptop", "abc")
    run(locking.acquire(mine, 60))
    slow = 'mv() { : > ready; until [ -e go ]; do sleep 0.1; done; command mv "$@"; }\n'

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(run, slow + call("hold", mine.token, 60))
        while not (app / "ready").exists() and not first.done():
            time.sleep(0.01)
        second = run(call("hold", mine.token, 60))
        (app / "go").touch()

    assert (first.result().returncode, second.returncode) == (0, 0), first.result()
    assert [file.name for file in (app / ".locks").iterdir()] == [mine.token]


def test_crash_during_lock_removal_does_not_keep_the_lock(run: Run, tmp_path: Path) -> None:
    run(locking.acquire(LockState("a" * 16, "ann", "laptop", "abc"), -10))
    inside = tmp_path / "app" / ".locks" / f"{'a' * 16}.end"
    inside.mkdir()
    long_ago = time.time() - 300
    os.utime(inside, (long_ago, long_ago))

    done = run(locking.acquire(LockState("b" * 16, "bob", "desk", "def"), 60))

    assert done.returncode == 0, done.stdout


@pytest.mark.matrix(3)
@pytest.mark.parametrize("tool", ["curl", "wget", "python3"])
def test_url_is_healthy_if_its_last_redirect_target_is(
    run: Run, tmp_path: Path, tool: str, require: Require, request: pytest.FixtureRequest
) -> None:
    if "dash" not in request.node.name:
        return  # the shell makes no difference to what the tool does
    require(tool)
    # A proxy of the host is for other hosts.
    only = f'command() {{ [ "$2" = {tool} ]; }}\nexport http_proxy=http://127.0.0.1:9 no_proxy=x\n'
    (tmp_path / "app").mkdir()
    usual = {"200": 0, "to/200": 0, "to/404": 1, "to/nowhere": 1, "404": 1, "500": 1}
    expected = {(page, ("2xx",)): status for page, status in usual.items()}
    expected[("silence", ("2xx",))] = 1
    expected[("404", ("404",))] = expected[("401", ("200", "4xx"))] = 0
    expected[("to/404", ("301", "302"))] = 0
    expected[("200", ("302",))] = expected[("500", ("200", "4xx"))] = 1
    with _answering() as address, ThreadPoolExecutor(len(expected)) as threads:
        scripts = [
            only + layout.check(None, f"{address}/{page}", 1, statuses)
            for page, statuses in expected
        ]
        results = [*threads.map(run, scripts)]
    statuses = [done.returncode for done in results]
    assert dict(zip(expected, statuses, strict=True)) == expected
    for (page, _), done in zip(expected, results, strict=True):
        if done.returncode and page.isdigit():
            assert page in done.stdout + done.stderr  # the evidence of the failure


def test_url_has_more_time_for_each_later_answer(run: Run, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "clock").write_text("0")
    slow = """
date() { cat clock; }
sleep() { :; }
curl() {
  while [ "$1" != -m ]; do shift; done
  time=$(($(cat clock) + $2))
  echo $time > clock
  [ "$2" -ge 8 ] && echo 200
}
"""

    done = run(slow + layout.check(None, "http://x/", 30))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "app" / "clock").read_text() == "20\n"  # 5 s, 5 s and 10 s


@pytest.mark.parametrize("bypassed", ["*", "a,b"])
def test_url_check_does_not_change_the_proxy_settings_of_the_host(
    run: Run, tmp_path: Path, bypassed: str
) -> None:
    (tmp_path / "app" / "current").mkdir(parents=True)
    curl = 'curl() { echo "$no_proxy" >> asked; [ "$(wc -l < asked)" -gt 2 ] && echo 200; }'
    check = layout.check('echo "$no_proxy" >> ../given', "http://x/", 9, ["2xx"])

    done = run(f"export no_proxy='{bypassed}'\n{curl}\n{check}")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "app" / "given").read_text().split() == [bypassed] * 3
    own = "" if bypassed == "*" else ",127.0.0.1,localhost,::1"
    assert (tmp_path / "app" / "asked").read_text().split() == [bypassed + own] * 3


@contextlib.contextmanager
def _answering() -> Iterator[str]:
    """Serve /STATUS with that status, /to/PAGE as a redirect to /PAGE, and no /silence."""
    is_over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = self.path.strip("/")
            if page == "silence":
                is_over.wait()
                return
            if page.startswith("to/"):
                self.send_response(302)
                if page != "to/nowhere":
                    self.send_header("Location", "/" + page.removeprefix("to/"))
            else:
                self.send_response(int(page))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_file_that_cannot_be_removed_is_reported_with_its_path(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    _released(run, app, _OLD, "one")
    _released(run, app, _NEW, "two")
    tools = tmp_path / "own"
    tools.mkdir()
    (tools / "rm").write_text(_RM_OF_A_BUSY_FOLDER)
    (tools / "rm").chmod(0o755)

    done = run(f"PATH={tools}:$PATH\n" + call("prune", _OLD.id))

    assert f"removed {_OLD.id}" in done.stdout.splitlines()
    (left,) = [line for line in done.stdout.splitlines() if line.startswith("left ")]
    assert left.startswith("left .trash-")
    assert left.endswith(f"{_OLD.id}: Device or resource busy")
    assert done.returncode == 0


def test_folder_of_another_user_is_an_obstacle_to_a_deploy_and_is_still_read(
    other_users: tuple[str, str],
) -> None:
    user = other_users[0]
    with tempfile.TemporaryDirectory() as folder:  # other users cannot enter tmp_path
        Path(folder).chmod(0o755)
        app = Path(folder, "app")
        _as_file(app / "releases" / _OLD.id / layout.MARK)
        (app / "current").symlink_to(f"releases/{_OLD.id}")

        def probed(*, writes: bool) -> list[str]:
            script = layout.probe(str(app), (), writes=writes, needs_url=False)
            done = subprocess.run(
                ["sh", "-c", script], user=user, capture_output=True, text=True, check=True
            )
            return [line for line in done.stdout.splitlines() if not line.startswith("disk ")]

        state = [f"current releases/{_OLD.id}", f"release {_OLD.id}"]
        assert probed(writes=False) == state
        *problems, current, release = probed(writes=True)

    assert [current, release] == state
    assert problems == [
        f"problem path: {path}: is not writable for {user}, it belongs to root;"
        f" as root: chown -R {user} {path}"
        for path in (app, app / "releases")
    ]


def _as_file(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


def test_missing_deploy_path_is_reported(run: Run, tmp_path: Path) -> None:
    done = run("", makes=False)

    assert (done.returncode, done.stderr) == (1, f"{tmp_path}/app: no such folder\n")


#: The script of each step that decides by the target of "current".
_BY_CURRENT = {
    "the state": call("state"),
    "a switch": layout.switch(_OLD),
    "a revert": layout.revert(_NEW, f"releases/{_OLD.id}", "why"),
    "a removal": call("prune", _NEW.id),
}


def test_link_that_cannot_be_read_is_not_a_missing_one(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    _released(run, app, _OLD, "one")
    _released(run, app, _NEW, "two")

    # A function comes before programs on the PATH, in BusyBox too.
    done = [run("readlink() { return 1; }\n" + script) for script in _BY_CURRENT.values()]

    assert [step.returncode for step in done] == [1] * len(done)
    assert _state(run).current == _NEW.id


def test_lock_that_cannot_be_read_is_not_reported_as_released(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    note = LockState("a" * 16, "ann", "laptop", "abc")
    _released(run, app, _OLD, "one")
    run(locking.acquire(note, 60))
    plan = DeployPlan(_OLD, DeploySettings("box", str(app)), note.token)
    finish = steps.finish(plan, AppFolder("box", str(app)), (), None).script

    for script in (finish, call("drop", note.token)):
        done = run("readlink() { return 1; }\n" + script)

        assert (done.returncode, done.stderr) == (1, "lock: readlink(1) prints nothing\n")
        assert _state(run).held is not None
    assert (run(finish).returncode, _state(run).held) == (0, None)


def test_revert_reports_a_release_that_another_user_made_current(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    _released(run, app, _OLD, "one")
    _released(run, app, _NEW, "two")
    (app / "current").unlink()
    (app / "current").symlink_to("elsewhere")

    done = run(layout.revert(_NEW, f"releases/{_OLD.id}", "why"))

    assert (done.returncode, parse_state(done.stdout).link) == (0, "elsewhere")


def test_cdpath_of_the_host_changes_no_folder(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app"
    other = tmp_path / "other"
    for name in ("current", "source", f"releases/{_OLD.id}"):
        (other / name).mkdir(parents=True)
    _released(run, app, _OLD, "one")
    exported = f"export CDPATH={other}\n"

    run(exported + call("restart", "pwd -P >~/restarted"))
    run(exported + call("command_in", f"releases/{_OLD.id}", "pwd -P >~/built"))
    run(exported + layout.build(_NEW, [], [], is_old=False))

    folder = str(app / "releases" / _OLD.id)
    assert (tmp_path / "restarted").read_text().strip() == folder
    assert (tmp_path / "built").read_text().strip() == folder
    assert (app / ".files" / _NEW.id).read_text() == "./file\n"


def test_search_for_changed_files_that_fails_finds_no_unchanged_ones(
    run: Run, tmp_path: Path
) -> None:
    _released(run, tmp_path / "app", _OLD, "one")
    (tmp_path / "app" / ".source-content").write_text("c")

    done = run("head() { return 1; }\n" + layout.build(_NEW, [], [], is_old=True))

    assert done.stdout == "changed\n"


def test_releases_of_the_same_second_are_ordered_by_the_history() -> None:
    old, new = (f"20260102T030405Z-{revision}-0000" for revision in ("b", "a"))
    events = "".join(f"history when\tgood\t{name}\t\t\t\t\n" for name in (old, new))

    state = parse_state(f"release {new}\nrelease {old}\n{events}")

    assert state.releases == (old, new)


def test_lock_can_be_renewed_twice_at_the_same_time(run: Run, tmp_path: Path) -> None:
    holder = LockState("0123456789abcdef", "ann@laptop", "laptop", "abc")
    assert run(locking.acquire(holder, 60)).returncode == 0
    renewal = call("hold", holder.token, 60)
    waits = 'sed() { : >~/at; until [ -e ~/go ]; do sleep 0.05; done; command sed "$@"; }\n'

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(run, waits + renewal)
        eventually(lambda: (tmp_path / "at").exists())
        quick = run(renewal)
        (tmp_path / "go").touch()

    assert (quick.returncode, slow.result().returncode) == (0, 0), (quick, slow.result())
    assert [file.name for file in (tmp_path / "app" / ".locks").iterdir()] == [holder.token]


#: The folder is a mount point, say.
_RM_OF_A_BUSY_FOLDER = """#!/bin/sh
case $2 in
  .trash-*) echo "rm: cannot remove '$2/data': Device or resource busy" >&2; exit 1 ;;
esac
exec /bin/rm "$@"
"""


def _released(run: Run, app: Path, release: Release, text: str) -> None:
    _source(app, text)
    shared = app / "shared" / "data"
    shared.mkdir(parents=True, exist_ok=True)
    (shared / "kept").write_text("yes")
    for script in (
        layout.build(release, ["data/"], [], is_old=False),
        layout.switch(release),
        layout.note(EventKind.GOOD, release) + "\n",
    ):
        done = run(script)
        assert done.returncode == 0, done.stderr


def _source(app: Path, text: str) -> None:
    shutil.rmtree(app / "source", ignore_errors=True)
    (app / "source").mkdir(parents=True)
    (app / "source" / "file").write_text(text)


def _state(run: Run) -> HostState:
    return parse_state(run(call("state")).stdout)


def _busybox_tools(folder: Path) -> Path:
    program = shutil.which("busybox")
    assert program
    folder.mkdir()
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    for name in applets.stdout.split():
        (folder / name).symlink_to(program)
    return folder

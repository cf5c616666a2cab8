"""The health file under real processes, real kills, real full and read-only file systems."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringtasks.common.rehearsal import rehearsing
from ringtasks.health import quick_update
from ringtasks.health.model import HostOutcome, RouteOutcome, SSHHealth
from ringtasks.health.store import HealthStore

NOW = 1_700_000_000.0

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "health.json"


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(path: Path, warnings: list[str]) -> HealthStore:
    return HealthStore(path, warn=warnings.append)


def reached(host: str = "gpu", at: float = NOW) -> HostOutcome:
    return HostOutcome(host, True, routes=(RouteOutcome("direct", True),), at=at)


def missed(host: str = "gpu", at: float = NOW) -> HostOutcome:
    routes = (RouteOutcome("direct", False, "refused"),)
    return HostOutcome(host, False, "direct: refused", routes=routes, at=at)


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def put_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def files_beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


# --- What the file holds ---


def test_health_file_has_the_documented_content(store: HealthStore, path: Path) -> None:
    routes = (RouteOutcome("tailscale", False, "timed out"), RouteOutcome("direct", True))

    store.record([HostOutcome("gpu", True, routes=routes, at=NOW)])

    assert written(path) == {
        "version": 1,
        "hosts": {
            "gpu": {
                "last_success": NOW,
                "last_failure": None,
                "consecutive_failures": 0,
                "consecutive_successes": 1,
                "total_successes": 1,
                "total_failures": 0,
                "last_reason": "",
                "probing_since": None,
                "is_healthy": True,
                "success_rate": 1.0,
                "circuit_state": "closed",
                "transports": {
                    "tailscale": {
                        "last_success": None,
                        "last_failure": NOW,
                        "consecutive_failures": 1,
                        "consecutive_successes": 0,
                        "total_successes": 0,
                        "total_failures": 1,
                        "last_reason": "timed out",
                        "probing_since": None,
                        "is_healthy": True,
                        "success_rate": 0.0,
                        "circuit_state": "closed",
                    },
                    "direct": {
                        "last_success": NOW,
                        "last_failure": None,
                        "consecutive_failures": 0,
                        "consecutive_successes": 1,
                        "total_successes": 1,
                        "total_failures": 0,
                        "last_reason": "",
                        "probing_since": None,
                        "is_healthy": True,
                        "success_rate": 1.0,
                        "circuit_state": "closed",
                    },
                },
            }
        },
    }


def test_health_file_is_indented_for_reading(store: HealthStore, path: Path) -> None:
    store.record([reached("büro-mac")])

    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith('  "büro-mac": {"last_success": ')
    assert lines[4].startswith('    "direct": {"last_success": ')


def test_another_store_reads_the_recorded_health(store: HealthStore, path: Path) -> None:
    store.record([missed(), missed(), reached("other"), reached()])

    expected = SSHHealth().after(missed()).after(missed()).after(reached())
    assert HealthStore(path).get("gpu") == expected
    assert HealthStore(path).load() == {"gpu": expected, "other": SSHHealth().after(reached())}


def test_unknown_host_has_initial_health_and_reading_creates_no_file(
    store: HealthStore, path: Path, warnings: list[str]
) -> None:
    assert store.get("gpu") == SSHHealth()
    assert store.load() == {}
    assert not path.parent.exists()
    assert warnings == []


def test_names_and_reasons_of_any_bytes_are_read_back(store: HealthStore) -> None:
    reason = os.fsdecode(b'\xff"\\\n\0') + "\N{GRINNING FACE}"

    store.record([HostOutcome(reason, False, reason)])

    assert store.load()[reason].last_reason == reason


def test_health_file_and_directory_are_accessible_to_the_owner_only(
    store: HealthStore, path: Path
) -> None:
    old_umask = os.umask(0)
    try:
        store.record([reached()])
    finally:
        os.umask(old_umask)

    modes = {name: (path.parent / name).stat().st_mode & 0o777 for name in files_beside(path)}
    assert modes == {"health.json": 0o600, ".health.json.lock": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_health_file_readable_by_others_is_made_private(store: HealthStore, path: Path) -> None:
    put_file(path, '{"version": 1, "hosts": {}}')
    path.chmod(0o644)

    store.record([reached()])

    assert path.stat().st_mode & 0o777 == 0o600


def test_draft_of_a_killed_writer_is_discarded_and_stays_private(
    store: HealthStore, path: Path
) -> None:
    put_file(path.with_name(".health.json.new"), "x" * 10_000)
    path.with_name(".health.json.new").chmod(0o644)

    store.record([reached()])

    assert list(written(path)["hosts"]) == ["gpu"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert files_beside(path) == [".health.json.lock", "health.json"]


def test_health_store_reads_its_default_path_when_it_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGTASKS_HEALTH_FILE", str(tmp_path / "then.json"))
    store = HealthStore()
    monkeypatch.setenv("RINGTASKS_HEALTH_FILE", str(tmp_path / "later.json"))

    store.record([reached()])

    assert (tmp_path / "then.json").exists()
    assert not (tmp_path / "later.json").exists()


def test_symbolic_link_to_the_health_file_is_kept_and_its_target_written(
    tmp_path: Path, path: Path
) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)

    HealthStore(link).record([reached()])
    HealthStore(path).record([reached()])

    assert link.is_symlink()
    assert HealthStore(link).get("gpu").total_successes == 2
    assert files_beside(path) == [".health.json.lock", "health.json"]


def test_fields_and_hosts_of_a_later_version_are_kept(store: HealthStore, path: Path) -> None:
    later = {"version": 1, "since": 1, "hosts": {"x": {"new": 2}, "gpu": {"new": 3}}}
    later["hosts"]["gpu"]["transports"] = {"direct": {"new": 4}}  # type: ignore[index]
    put_file(path, json.dumps(later))

    store.record([reached()])

    kept = written(path)
    assert kept["since"] == 1
    assert kept["hosts"]["x"] == {"new": 2}
    assert kept["hosts"]["gpu"]["new"] == 3
    assert kept["hosts"]["gpu"]["transports"]["direct"]["new"] == 4
    assert kept["hosts"]["gpu"]["transports"]["direct"]["total_successes"] == 1


def test_reset_deletes_the_named_hosts_and_counts_the_known_ones(
    store: HealthStore,
) -> None:
    store.record([reached("a"), reached("b"), reached("c")])

    assert store.reset(["a", "b", "b", "never"]) == 2
    assert list(store.load()) == ["c"]


def test_reset_of_an_empty_list_deletes_no_host_and_of_none_deletes_all(store: HealthStore) -> None:
    store.record([reached("a"), reached("b")])

    assert store.reset([]) == 0
    assert len(store.load()) == 2
    assert store.reset(None) == 2
    assert store.load() == {}


def test_update_without_changes_writes_no_file(store: HealthStore, path: Path) -> None:
    store.record([])
    assert not path.parent.exists()
    store.record([reached()])
    before = path.stat().st_ino

    store.record([])
    store.reset(["never"])
    store.claim_probe("gpu", "direct", NOW)

    assert path.stat().st_ino == before


# --- Claims ---


@pytest.mark.parametrize(
    ("age", "granted"),
    [
        pytest.param(None, [True, True], id="not failing: everybody"),
        pytest.param(29.0, [False, False], id="inside its back-off: no probe"),
        pytest.param(30.0, [True, False], id="past its back-off: one"),
    ],
)
def test_route_claim_is_granted_as_the_table_says(
    store: HealthStore, age: float | None, granted: list[bool]
) -> None:
    store.record([reached() if age is None else missed(at=NOW - age)])

    assert [store.claim_probe("gpu", "direct", NOW) for _ in granted] == granted


def test_claim_changes_no_other_field(store: HealthStore) -> None:
    others = (RouteOutcome("tailscale", True),)
    store.record([missed(at=NOW - 30), HostOutcome("gpu", None, routes=others), reached("other")])
    before = store.load()

    store.claim_probe("gpu", "direct", NOW)

    after = store.load()
    direct = replace(before["gpu"].transports["direct"], probing_since=NOW)
    transports = {**before["gpu"].transports, "direct": direct}
    assert after == {**before, "gpu": replace(before["gpu"], transports=transports)}


def test_a_claim_lasts_until_the_outcome_is_recorded(store: HealthStore) -> None:
    store.record([missed(at=NOW - 30)])
    assert store.claim_probe("gpu", "direct", NOW)

    store.record([reached(at=NOW + 1)])

    assert store.claim_probe("gpu", "direct", NOW + 2)
    assert store.get("gpu").transports["direct"].probing_since is None


def test_host_can_be_claimed_from_its_third_failure(store: HealthStore) -> None:
    store.record([missed(at=NOW - 30)] * 2)
    assert store.claim_probe("gpu", None, NOW)
    assert store.claim_probe("gpu", None, NOW)

    store.record([missed(at=NOW - 30)])

    assert [store.claim_probe("gpu", None, NOW) for _ in range(2)] == [True, False]


def test_exactly_one_of_many_processes_gets_the_half_open_attempt(
    store: HealthStore, path: Path
) -> None:
    store.record([missed(at=NOW - 30)])
    code = """
        import pathlib, sys
        from ringtasks.health.store import HealthStore
        store = HealthStore(pathlib.Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        print(store.claim_probe("gpu", "direct", float(sys.argv[2])))
    """

    answers = [text.split()[-1] for text in run_at_once(12, python(code, path, NOW))]

    assert sorted(answers) == ["False"] * 11 + ["True"]


# --- Many writers ---


def run_at_once(count: int, command: list[str]) -> list[str]:
    """Start ``count`` processes, let them all go when all are ready; what they printed."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(count)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    return answers


@pytest.mark.parametrize("count", [16, pytest.param(50, marks=pytest.mark.long)])
def test_processes_recording_twenty_outcomes_each_lose_none(
    store: HealthStore, path: Path, count: int
) -> None:
    code = """
        import pathlib, sys
        from ringtasks.health.model import HostOutcome, RouteOutcome
        from ringtasks.health.store import HealthStore
        store = HealthStore(pathlib.Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(20):
            store.record([HostOutcome("gpu", True, routes=(RouteOutcome("direct", True),))])
    """

    run_at_once(count, python(code, path))

    health = store.get("gpu")
    assert health.total_successes == health.consecutive_successes == 20 * count
    assert health.transports["direct"].total_successes == 20 * count


def test_threads_with_separate_stores_lose_no_outcome(path: Path) -> None:
    def work() -> None:
        for _ in range(50):
            HealthStore(path).record([reached()])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert HealthStore(path).get("gpu").total_successes == 400


@on_linux  # other systems prepare nothing
def test_prepared_file_is_published_if_its_outcome_is_the_next(
    store: HealthStore, path: Path
) -> None:
    plain = HealthStore(path.with_name("plain.json"))
    for each in (store, plain):
        each.record([reached("other"), reached()])

    store.prepare(reached())
    assert store.get("gpu").total_successes == 1
    (prepared,) = unnamed_files(path.parent)
    for each in (store, plain):
        each.record([reached()])

    assert path.stat().st_ino == prepared
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == plain.path.read_bytes()
    assert not path.with_name(".health.json.new").exists()
    store.release()
    assert unnamed_files(path.parent) == []


def unnamed_files(folder: Path) -> list[int]:
    """The inodes of the files without a name in a folder that this process has open."""
    opened = [str(each.resolve()) for each in Path("/proc/self/fd").iterdir()]
    start, end = f"{folder}/#", " (deleted)"
    return [int(each[len(start) : -len(end)]) for each in opened if each.startswith(start)]


@pytest.mark.parametrize("between", ["another process's record", "a failure", "a deleted file"])
def test_prepared_file_is_dropped_if_it_is_not_the_next(
    store: HealthStore, path: Path, between: str
) -> None:
    store.record([reached()])
    store.prepare(reached())
    outcome = missed() if between == "a failure" else reached()
    if between == "another process's record":
        assert quick_update.count(str(path), "gpu", "direct", (), NOW)  # by `ringtasks connect`
    if between == "a deleted file":
        path.unlink()

    store.record([outcome])

    health = store.get("gpu")
    counts = (health.total_successes, health.total_failures)
    assert counts == {"a failure": (1, 1), "a deleted file": (1, 0)}.get(between, (3, 0))


def test_sigkill_at_any_point_leaves_a_valid_file_with_every_recorded_outcome(
    store: HealthStore, path: Path
) -> None:
    # A process of its own does the forking: this one may have threads.
    code = """
        import json, os, pathlib, random, signal, sys, time
        from ringtasks.health.model import HostOutcome
        from ringtasks.health.store import HealthStore

        path = pathlib.Path(sys.argv[1])
        draft = path.with_name(f".{path.name}.new")
        store = HealthStore(path)
        store.record([HostOutcome(f"other-{number}", True) for number in range(60)])
        is_prepared = False

        def write_for_ever(acknowledge):
            while True:
                if is_prepared:
                    store.prepare(HostOutcome("gpu", True))
                store.record([HostOutcome("gpu", True)])
                os.write(acknowledge, b".")

        total, torn_drafts = 0, 0
        chance = random.Random(1)
        for _ in range(200):
            is_prepared = not is_prepared
            reader, writer = os.pipe()
            child = os.fork()
            if not child:
                write_for_ever(writer)
            os.close(writer)
            time.sleep(chance.uniform(0.0005, 0.01))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with open(reader, "rb") as pipe:
                acknowledged = len(pipe.read())
            found = json.loads(path.read_bytes())["hosts"].get("gpu", {"total_successes": 0})
            count = found["total_successes"]
            assert total + acknowledged <= count <= total + acknowledged + 1, (total, count)
            total = count
            torn_drafts += draft.exists()
        print(total, torn_drafts)
    """

    ended = subprocess.run(python(code, path), capture_output=True, text=True, timeout=100)

    assert (ended.returncode, ended.stderr) == (0, "")
    total, torn_drafts = map(int, ended.stdout.split())
    assert torn_drafts > 0  # or no kill has hit a write, and this test shows nothing
    store.record([reached()])
    assert store.get("gpu").total_successes == total + 1
    assert files_beside(path) == [".health.json.lock", "health.json"]


def test_wait_for_a_hanging_writer_is_limited(path: Path, warnings: list[str]) -> None:
    store = HealthStore(path, warn=warnings.append, lock_timeout=0.1)
    store.record([reached()])
    with (path.parent / ".health.json.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = time.monotonic()

        store.record([reached()])

        assert 0.1 <= time.monotonic() - started < 2
        assert store.get("gpu").total_successes == 1  # readers do not wait
    assert warnings == [f"{path}: was locked for 0.1 s; the run goes on without it"]
    store.record([reached()])
    assert store.get("gpu").total_successes == 2


def test_wait_for_busy_writers_is_longer_than_for_a_hanging_one(
    path: Path, warnings: list[str]
) -> None:
    store = HealthStore(path, warn=warnings.append, lock_timeout=0.4)
    store.record([reached()])

    def write_under_one_lock() -> None:
        # To a writer that is passed over, many short locks of others look like this.
        with (path.parent / ".health.json.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            locked.set()
            for _ in range(50):
                path.with_name("draft").write_bytes(path.read_bytes())
                path.with_name("draft").replace(path)
                time.sleep(0.02)

    locked = threading.Event()
    others = threading.Thread(target=write_under_one_lock)
    others.start()
    locked.wait()
    started = time.monotonic()

    store.record([reached()])

    assert time.monotonic() - started > 0.8  # the lock was held for more than one limit
    others.join()
    assert warnings == []
    assert store.get("gpu").total_successes == 2


def test_child_forked_while_the_health_lock_is_held_does_not_keep_it(path: Path) -> None:
    children: list[int] = []
    reader, writer = os.pipe()

    def fork_a_child(_: str) -> None:
        children.append(os.fork())
        if not children[0]:
            os.close(writer)
            os.read(reader, 1)  # until the parent closes its end
            os._exit(0)

    put_file(path, "damaged")
    HealthStore(path, warn=fork_a_child).record([reached()])  # warns under the lock

    warned: list[str] = []
    HealthStore(path, warn=warned.append, lock_timeout=0.2).record([reached()])

    os.close(writer)
    os.waitpid(children[0], 0)
    os.close(reader)
    assert warned == []
    assert HealthStore(path).get("gpu").total_successes == 2


# --- Trouble ---

DAMAGED = {
    "empty": "",
    "cut off": '{"version": 1, "hosts": {"gpu": {',
    "not UTF-8": "\udcff",
    "not a mapping": "[]",
    "no hosts": '{"version": 1}',
    "hosts not a mapping": '{"version": 1, "hosts": []}',
    "no version": '{"hosts": {}}',
    "another version": '{"version": 2, "hosts": {}}',
    "version true": '{"version": true, "hosts": {}}',
    "entry not a mapping": '{"version": 1, "hosts": {"gpu": 1}}',
    "transports not a mapping": '{"version": 1, "hosts": {"gpu": {"transports": 1}}}',
    "route not a mapping": '{"version": 1, "hosts": {"gpu": {"transports": {"direct": 1}}}}',
    "text for a count": '{"version": 1, "hosts": {"gpu": {"total_failures": "1"}}}',
    "true for a count": '{"version": 1, "hosts": {"gpu": {"total_failures": true}}}',
    "fraction for a count": '{"version": 1, "hosts": {"gpu": {"total_failures": 1.5}}}',
    "count below zero": '{"version": 1, "hosts": {"gpu": {"total_failures": -1}}}',
    "text for a time": '{"version": 1, "hosts": {"gpu": {"last_failure": "now"}}}',
    "true for a time": '{"version": 1, "hosts": {"gpu": {"last_failure": true}}}',
    "NaN for a time": '{"version": 1, "hosts": {"gpu": {"last_failure": NaN}}}',
    "huge time": '{"version": 1, "hosts": {"gpu": {"probing_since": 1' + "0" * 400 + "}}}",
    "number for a reason": '{"version": 1, "hosts": {"gpu": {"last_reason": 1}}}',
    "nested without end": '{"version": 1, "hosts": ' + '{"a":' * 100_000,
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_health_file_is_set_aside_with_a_warning(
    store: HealthStore, path: Path, warnings: list[str], text: str
) -> None:
    put_file(path, "")
    damaged = text.encode("utf-8", "surrogateescape")
    path.write_bytes(damaged)

    store.record([reached()])

    assert store.load() == {"gpu": SSHHealth().after(reached())}
    (aside,) = path.parent.glob("health.json.damaged-*")
    assert aside.read_bytes() == damaged
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}: is damaged (")
    assert warnings[0].endswith(f"): set aside as {aside}; the run goes on without it")


def test_reading_a_damaged_health_file_warns_once(
    store: HealthStore, path: Path, warnings: list[str]
) -> None:
    put_file(path, "{")

    assert store.get("gpu") == SSHHealth()
    assert store.load() == {}

    assert len(warnings) == 1
    assert not path.exists()


def test_deeply_nested_health_file_is_not_fatal(store: HealthStore, path: Path) -> None:
    # How deep is too deep to read, and how deep to write, differs between Pythons.
    for depth in [100, 500, *range(850, 1000, 5), 3000, 9000, 100_000]:
        nested = "[" * depth + "]" * depth
        put_file(path, f'{{"version": 1, "hosts": {{}}, "later": {nested}}}')

        store.record([reached()])

        assert store.get("gpu").total_successes in (0, 1)


def test_two_damaged_files_are_both_kept(
    store: HealthStore, path: Path, warnings: list[str]
) -> None:
    for text in ("first", "second"):
        put_file(path, text)
        store.record([reached()])

    asides = sorted(path.parent.glob("health.json.damaged-*"))
    assert [aside.read_text() for aside in asides] == ["first", "second"]
    assert len(warnings) == 2


def test_directory_in_place_of_the_health_file_gives_a_warning(
    store: HealthStore, path: Path, warnings: list[str]
) -> None:
    path.mkdir(parents=True)

    store.record([reached()])

    assert store.get("gpu") == SSHHealth()
    assert store.reset(None) == 0
    assert warnings == [f"{path}: is not a regular file; the run goes on without it"]
    assert files_beside(path) == ["health.json"]


@pytest.mark.timeout(10)
def test_pipe_or_device_as_health_file_is_neither_opened_nor_replaced(
    store: HealthStore, path: Path, warnings: list[str]
) -> None:
    path.parent.mkdir()
    os.mkfifo(path)

    store.record([reached()])
    assert store.load() == {}

    assert path.is_fifo()
    assert len(warnings) == 1


def test_health_directory_that_cannot_be_created_gives_a_warning(
    tmp_path: Path, warnings: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    store = HealthStore(tmp_path / "file" / "health.json", warn=warnings.append)

    store.record([reached()])

    assert store.load() == {}
    assert warnings
    assert all("Not a directory" in text for text in warnings)


def test_missing_health_directories_are_created(tmp_path: Path, warnings: list[str]) -> None:
    store = HealthStore(tmp_path / "a" / "b" / "health.json", warn=warnings.append)

    store.record([reached()])

    assert store.get("gpu").total_successes == 1
    assert warnings == []


def test_health_warning_is_printed_once_per_process(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.mkdir(parents=True)

    for _ in range(3):
        HealthStore(path).record([reached()])

    said = f"ringtasks: warning: {path}: is not a regular file; the run goes on without it\n"
    assert capsys.readouterr() == ("", said)


# --- File systems that refuse, in a mount namespace of their own ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []  # mounted in another namespace


def on_small_disk(folder: Path, code: str) -> Any:
    """Return the JSON that ``code`` prints, with a disk of 64 KiB mounted on ``folder``.

    ``code`` may use ``store`` and ``warnings``.
    """
    prelude = """
import json, pathlib, subprocess, sys
from ringtasks.health.model import HostOutcome
from ringtasks.health.store import HealthStore
folder = pathlib.Path(sys.argv[1])
mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", folder]
subprocess.run(mount, check=True)
warnings = []
store = HealthStore(folder / "health.json", warn=warnings.append)
store.record([HostOutcome("gpu", True)])
"""
    # Not root: a user namespace of one's own makes one root enough to mount.
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "-m"]
    command = [*unshare, sys.executable, "-c", prelude + textwrap.dedent(code), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


@on_linux
def test_full_disk_keeps_the_old_health_file_and_gives_one_warning(small_disk: Path) -> None:
    seen = on_small_disk(
        small_disk,
        """
        def fill():
            with (folder / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
        try:
            fill()
        except OSError:
            pass
        for _ in range(3):
            store.record([HostOutcome("gpu", True)])
        full = store.get("gpu").total_successes
        files = sorted(entry.name for entry in folder.iterdir())
        (folder / "filler").unlink()
        store.record([HostOutcome("gpu", True)])
        print(json.dumps([warnings, full, files, store.get("gpu").total_successes]))
        """,
    )

    file = small_disk / "health.json"
    trouble = "cannot be written: No space left on device; the run goes on without it"
    files = [".health.json.lock", "filler", "health.json"]
    assert seen == [[f"{file}: {trouble}"], 1, files, 2]


@on_linux
@pytest.mark.parametrize("is_damaged", [False, True])
def test_read_only_disk_gives_a_warning_and_the_run_continues(
    small_disk: Path, is_damaged: bool
) -> None:
    seen = on_small_disk(
        small_disk,
        f"""
        if {is_damaged}:
            store.path.write_text("damaged")
        store.record([HostOutcome("slow", False, at=1.0)] * 3)
        if {is_damaged}:
            store.path.write_text("damaged")
            warnings.clear()
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        for _ in range(3):
            store.record([HostOutcome("gpu", True)])
        claims = [store.claim_probe("slow", None, 1e9) for _ in range(2)]
        print(json.dumps([warnings, claims, store.get("gpu").total_successes]))
        """,
    )

    trouble = "cannot be locked: Read-only file system; the run goes on without it"
    warning = f"{small_disk / 'health.json'}: {trouble}"
    assert seen == [[warning], [True, True], 0 if is_damaged else 1]


def test_a_rehearsal_changes_a_copy_of_the_file(tmp_path: Path) -> None:
    store = HealthStore(tmp_path / "health.json")
    store.record([HostOutcome("a", success=True)])
    before = store.path.read_bytes()

    with rehearsing("direct=down"):
        store.record([HostOutcome("a", success=False)])
        assert (store.get("a").total_successes, store.get("a").total_failures) == (1, 1)

    assert store.get("a").total_failures == 0
    assert store.path.read_bytes() == before


def test_outcomes_that_wait_for_a_daemon_thread_are_written_at_the_end_of_the_process(
    path: Path,
) -> None:
    program = """
        import fcntl, os, pathlib, sys, threading
        from ringtasks.health.model import HostOutcome
        from ringtasks.health.store import HealthStore, _queues
        path = pathlib.Path(sys.argv[1])
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = HealthStore(path)
        def record():
            threading.Thread(
                target=store.record, args=([HostOutcome("gpu", True)],), daemon=True
            ).start()
        record()
        while not any(queue.writing.locked() for queue in _queues.values()):
            pass
        record()
        while not any(queue.has_next_writer for queue in _queues.values()):
            pass
        store.record([HostOutcome("gpu", True)])
        fcntl.flock(lock, fcntl.LOCK_UN)
    """
    path.parent.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), path], check=True, timeout=30)

    assert HealthStore(path).get("gpu").total_successes == 3

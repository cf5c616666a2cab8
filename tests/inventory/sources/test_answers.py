"""Answers of sources: cached, refreshed side by side, kept while a source is down, limited."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtasks.inventory.files import locate
from ringtasks.inventory.loader import load_inventory, load_located
from ringtasks.inventory.model import Inventory
from ringtasks.inventory.selection import select
from tests.support.runs import is_running
from tests.support.sources import Api, Programs

Load = Callable[..., Inventory]


@pytest.fixture
def load(tmp_path: Path, programs: Programs) -> Load:
    """Loads an inventory with these sources, each a program in the folder of the stand-ins."""

    def load_with(
        *names: str, refresh: str = "5m", hosts: str = "{}", **options: float
    ) -> Inventory:
        entries = [
            f"{{from: command, command: {programs.folder / name}, refresh: {refresh}}}"
            for name in names
        ]
        file = tmp_path / "hosts.yaml"
        new = tmp_path / f"hosts.{threading.get_ident()}"  # threads replace it with the same
        new.write_text(f"hosts: {hosts}\nsources: [{', '.join(entries)}]\n")
        new.replace(file)
        return load_located(locate(file), **options)  # type: ignore[arg-type]

    return load_with


def cache_files() -> list[Path]:
    return sorted((Path(os.environ["XDG_STATE_HOME"]) / "ringtasks" / "sources").glob("*.json"))


def age(seconds: float) -> None:
    """Make all cached answers older."""
    for file in cache_files():
        stored = json.loads(file.read_text())
        stored["fetched_at"] -= seconds
        stored["tried_at"] -= seconds
        file.write_text(json.dumps(stored))


def test_fresh_answer_is_used_without_asking(load: Load, programs: Programs) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    load("one")
    programs.install("one", "exit 1")

    inventory = load("one")

    assert (list(inventory.hosts), inventory.warnings) == (["a"], ())
    assert len(programs.calls("one")) == 1


def test_answer_is_refreshed_when_it_is_older_than_refresh(load: Load, programs: Programs) -> None:
    programs.prints("one", {"a": {"ssh_host": "old"}})
    load("one", refresh="10m")
    programs.prints("one", {"a": {"ssh_host": "new"}})

    age(599)
    before = load("one", refresh="10m").get("a").ssh_host
    age(1)
    after = load("one", refresh="10m").get("a").ssh_host

    assert (before, after) == ("old", "new")


def test_answer_from_the_future_is_not_fresh(load: Load, programs: Programs) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    load("one")

    age(-1000)
    load("one")

    assert len(programs.calls("one")) == 2


def test_old_answer_is_used_with_its_age_while_a_source_is_down(
    load: Load, programs: Programs
) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    load("one")
    programs.install("one", "echo 'quota exceeded' >&2; exit 3")
    age(7200)

    inventory = load("one")

    assert list(inventory.hosts) == ["a"]
    (warning,) = inventory.warnings
    assert "source one: one ended with exit status 3: quota exceeded" in warning
    assert "its answer of 2 h 0 min ago is used" in warning


def test_cache_files_are_private_and_a_damaged_one_is_replaced(
    load: Load, programs: Programs
) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    load("one")
    (file,) = cache_files()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    for damage in ("", "{", "[]", '{"version": 1}', '{"version": 1, "hosts": 7}', "[" * 100_000):
        file.write_text(damage)
        assert load("one").get("a").ssh_host == "h"

    assert len(programs.calls("one")) == 7


def test_tampered_cache_is_checked_as_an_answer_is(load: Load, programs: Programs) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    load("one")
    (file,) = cache_files()
    file.write_text(file.read_text().replace('"h"', '"-oProxyCommand=x"'))

    assert load("one").hosts == {}


def test_folder_that_cannot_be_written_costs_the_cache_only(
    load: Load, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    programs.prints("one", {"a": {"ssh_host": "h"}})

    assert [load("one").get("a").ssh_host for _ in range(2)] == ["h", "h"]
    assert len(programs.calls("one")) == 1  # this process remembers


def test_sources_are_asked_side_by_side(load: Load, programs: Programs) -> None:
    # Each of them waits for the other one.
    meet = "touch {own}; for n in $(seq 500); do [ -e {other} ] && break; sleep 0.01; done"
    for own, other in (("one", "two"), ("two", "one")):
        files = {"own": programs.folder / f"{own}.here", "other": programs.folder / f"{other}.here"}
        answer = f'[ -e {files["other"]} ] && echo "{own}: {{ssh_host: h}}"'
        programs.install(own, f"{meet.format(**files)}; {answer}")

    assert list(load("one", "two").hosts) == ["one", "two"]


def test_processes_that_need_one_answer_ask_once(load: Load, programs: Programs) -> None:
    programs.install("one", "sleep 0.3; echo 'a: {ssh_host: h}'")
    found: list[Inventory] = []
    # Threads lock as processes do: each opens the file.
    threads = [threading.Thread(target=lambda: found.append(load("one"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [list(inventory.hosts) for inventory in found] == [["a"]] * 5
    assert len(programs.calls("one")) == 1


def test_hanging_source_is_given_up_within_ten_seconds(load: Load, programs: Programs) -> None:
    pids = programs.folder / "pids"
    programs.install("hangs", f"sleep 1000 & echo $$ $! > {pids}; wait")
    programs.prints("works", {"b": {"ssh_host": "h"}})
    started = time.monotonic()

    inventory = load("hangs", "works", hosts="{a: {ssh_host: h}}")

    assert time.monotonic() - started < 20  # the limit is 8 s; a busy machine adds
    assert list(inventory.hosts) == ["a", "b"]
    assert "source hangs: no answer within 8 s; its hosts are not known" in inventory.warnings[0]
    for pid in pids.read_text().split():
        assert not is_running(int(pid))
    started = time.monotonic()
    again = load("hangs", "works", hosts="{a: {ssh_host: h}}")
    assert time.monotonic() - started < 6  # it is not waited for each time
    assert again.warnings == inventory.warnings


def test_output_without_end_is_refused(load: Load, programs: Programs) -> None:
    programs.install("one", "exec yes -- '- {name: a, ssh_host: h}'")

    assert "source one: printed more than 32 MiB" in load("one").warnings[0]


def test_errors_without_end_are_bounded(load: Load, programs: Programs) -> None:
    programs.install("one", "yes 'no such quota' | head -c 50000000 >&2; exit 1")

    (warning,) = load("one").warnings

    assert "exit status 1" in warning
    assert len(warning) < 600


def test_child_that_keeps_the_output_open_is_not_waited_for(load: Load, programs: Programs) -> None:
    programs.install("one", "sleep 20 & echo 'a: {ssh_host: h}'")
    started = time.monotonic()

    assert list(load("one").hosts) == ["a"]
    assert time.monotonic() - started < 6


def test_five_thousand_hosts_are_read_and_selected(load: Load, programs: Programs) -> None:
    many = {
        f"box{n:04}": {"ssh_host": f"10.0.{n // 256}.{n % 256}", "ssh_port": 22000, "zone": "eu"}
        for n in range(5000)
    }
    programs.prints("one", many)
    load("one")
    started = time.process_time()

    inventory = load("one")

    assert time.process_time() - started < 5  # the limit is for a loaded machine
    assert len(select("box[0000-0009],zone=eu", inventory)) == 5000


def test_key_of_another_account_has_answers_of_its_own(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["/instances"] = [
        (200, {"data": [{"id": "1", "name": name, "ip": "192.0.2.1", "status": "active"}]})
        for name in ("first", "second")
    ]
    file = tmp_path / "hosts.yaml"
    file.write_text(f"sources: [{{from: lambda, url: '{api.url}'}}]\n")
    names = []
    for key in ("key-of-one-team", "key-of-another", "key-of-one-team"):
        monkeypatch.setenv("LAMBDA_API_KEY", key)
        names += load_inventory(file).hosts

    assert names == ["first", "second", "first"]
    assert all("key-of" not in path.name + path.read_text() for path in cache_files())


def test_keys_are_masked_in_what_a_program_says(
    load: Load, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "0123456789abcdef")
    programs.install("one", 'echo "bad key: $VAST_API_KEY" >&2; exit 1')

    assert "exit status 1: bad key: ***" in load("one").warnings[0]
    assert "0123456789abcdef" not in cache_files()[0].read_text()


def test_newer_answer_is_asked_for(load: Load, programs: Programs) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    load("one")

    load("one", newer_than=time.time())
    load("one", newer_than=time.time() - 60)

    assert len(programs.calls("one")) == 2


def test_cached_answers_need_no_program(load: Load, programs: Programs) -> None:
    programs.prints("one", {"a": {"ssh_host": "h"}})
    assert load("one", may_fetch=False).hosts == {}

    load("one")
    age(10_000)

    assert list(load("one", may_fetch=False).hosts) == ["a"]
    assert len(programs.calls("one")) == 1


def test_sources_of_one_program_on_one_line_are_all_waited_for(
    tmp_path: Path, programs: Programs
) -> None:
    program = programs.install(
        "mine", '[ "$1" = b ] || sleep 0.3; printf \'{"%s": {"ssh_host": "h"}}\' "$1"'
    )
    file = tmp_path / "hosts.yaml"
    entries = (f"{{from: command, command: {program} {name}}}" for name in "ab")
    file.write_text(f"sources: [{', '.join(entries)}]\n")

    assert sorted(load_inventory(file).hosts) == ["a", "b"]

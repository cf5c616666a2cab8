"""A host cannot choose the names under which files of a run are fetched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringtasks import SSHClient, SSHConfig
from ringtasks.training.files import TimeLimit
from ringtasks.training.outputs import fetch_written, note_files
from ringtasks.training.records import is_own_name
from tests.support.fixtures import MakeSshd
from tests.support.hostile_shell import Answers, HostileShell

MINE = "mine"


@pytest.fixture
def shell(tmp_path: Path) -> HostileShell:
    return HostileShell(tmp_path / "answers")


@pytest.fixture
def config(make_sshd: MakeSshd, client_key: Path, shell: HostileShell) -> SSHConfig:
    server = make_sshd(config=shell.config)
    cwd = server.home / "run"
    (cwd / "sub").mkdir(parents=True)
    for name in ("run.json", "tasks.py", "RUN.JSON", "sub/out.txt"):
        (cwd / name).write_text("evil()")
    return SSHConfig(
        server.address, server.port, server.user, str(client_key), name="evil", work_dir=str(cwd)
    )


def test_host_cannot_name_files_that_were_not_asked_for(
    config: SSHConfig, client: SSHClient, shell: HostileShell, tmp_path: Path
) -> None:
    cwd, folder = Path(str(config.work_dir)), tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(MINE)
    (folder / "tasks.py").write_text(MINE)
    note_files(client, str(cwd), ["out.txt", "o*.txt", "*.json"], "key")
    (cwd / "out.txt").write_text("good")

    told = []
    for name in ("./run.json", "./tasks.py", "./sub/out.txt", "./../run/tasks.py", "./*", "./o*"):
        shell.answer(Answers(replaced={"file ./out.txt": f"file {name}"}))
        told += fetched_texts(client, cwd, "out.txt", folder)
    shell.answer(Answers())
    told += fetched_texts(client, cwd, "o*.txt", folder)

    assert all("refused" in text for text in told[:-1]), told
    assert told[-1] == f"o*.txt fetched into {folder}"
    assert (folder / "run.json").read_text() == MINE
    assert (folder / "tasks.py").read_text() == MINE
    assert sorted(path.name for path in folder.iterdir()) == ["out.txt", "run.json", "tasks.py"]


def fetched_texts(
    client: SSHClient, cwd: Path, item: str, folder: Path, seconds: float = 20
) -> list[str]:
    return list(fetch_written(client, str(cwd), [item], "key", folder, TimeLimit(seconds)))


def test_items_are_not_fetched_after_the_time_limit(
    config: SSHConfig, client: SSHClient, tmp_path: Path
) -> None:
    cwd = Path(str(config.work_dir))
    note_files(client, str(cwd), ["out.txt"], "key")
    (cwd / "out.txt").write_text("good")

    told = fetched_texts(client, cwd, "out.txt", tmp_path, seconds=1e-6)

    assert told == ["out.txt was not fetched: the fetch_timeout of 1e-06 s has passed"]
    assert not (tmp_path / "out.txt").exists()


def test_match_that_cannot_be_fetched_keeps_back_no_other(
    config: SSHConfig, client: SSHClient, tmp_path: Path
) -> None:
    cwd, folder = Path(str(config.work_dir)), tmp_path / "here"
    note_files(client, str(cwd), ["*.out"], "key")
    os.mkfifo(cwd / "a.out")
    (cwd / "b.out").write_text("good")

    told = fetched_texts(client, cwd, "*.out", folder)

    assert [text.partition(": ")[0] for text in told] == [
        "a.out was not fetched", f"*.out fetched into {folder}",
    ]  # fmt: skip
    assert (folder / "b.out").read_text() == "good"


def test_fetched_files_never_replace_the_record_of_the_run(
    config: SSHConfig, client: SSHClient, tmp_path: Path
) -> None:
    cwd, folder = Path(str(config.work_dir)), tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(MINE)
    note_files(client, str(cwd), ["*.json", "."], "key")
    (cwd / "run.json").write_text("evil() again")

    for item in ("*.json", "."):
        told = fetched_texts(client, cwd, item, folder)
        assert told[0].startswith("run.json was not fetched: "), told

    assert (folder / "run.json").read_text() == MINE


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("run.json", True),
        ("Run.JSON", True),
        ("env.json", True),
        ("attempt-1.log", True),
        ("attempt-2-3.log", True),
        (".attempt-1.log.new", True),
        (".run.json.123", True),
        ("metrics.json", False),
        ("my-run.json", False),
        ("attempt.log", False),
    ],
)
def test_names_of_a_record_are_known(name: str, is_own: bool) -> None:
    assert is_own_name(name) is is_own

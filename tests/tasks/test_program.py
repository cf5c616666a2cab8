"""The console script ``ringtasks``, in folders of other people."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.fixtures import Ringtasks
from tests.support.inv_program import PROGRAMS, InvProgram

PROGRAM = PROGRAMS["ringtasks"]


def test_python_files_of_the_current_folder_are_never_run(tmp_path: Path) -> None:
    for name in ("invoke.py", "tasks.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    done = subprocess.run([*PROGRAM, "--list"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0
    assert not (tmp_path / "ran").exists()
    assert "invoke.py is not read" in done.stderr


def test_settings_of_the_current_directory_are_used(ringtasks: Ringtasks, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("box: {ssh_host: h}\n")
    (tmp_path / "invoke.yaml").write_text("ringtasks: {inventory: other.yaml}\n")

    done = ringtasks("hosts", cwd=tmp_path)

    assert "box" in done.stdout, done.stderr
    assert "is not read" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("invoke.yaml", b"a: 1\ntrain: {x: [\n", "invoke.yaml:3: is not YAML: "),
        ("invoke.yaml", b"train:\n\tcommand: x\n", "invoke.yaml:2: is not YAML: "),
        ("invoke.yaml", b"- a\n", "invoke.yaml: expected a mapping of sections, found list"),
        ("invoke.yaml", b"ringtasks: hosts\n", "invoke.yaml:1: ringtasks: expected a mapping"),
        ("invoke.yaml", b"run: 5\n", "invoke.yaml:1: run: expected a mapping of settings, found 5"),
        ("invoke.yaml", b"a: \xff\n", "invoke.yaml: is not UTF-8: "),
        ("invoke.yml", b"a: '\x1b[2J\n", "invoke.yml:1: is not YAML: "),
        ("invoke.json", b'{"a": \n x', "invoke.json:2: is not JSON: "),
        ("invoke.yaml", b"run:\n  echo: {a: 1}\n", "invoke.yaml:2: run: echo: expected a value"),
        ("invoke.yaml", b"a: 1\ntrain: {1: x}\n", "invoke.yaml:2: train: 1: a name is expected"),
        ("invoke.yaml", b"a_b: 1\na: {b: 2}\n", "a_b and a: b have one variable, INVOKE_A_B"),
    ],
)
def test_broken_configuration_file_is_told_by_file_and_line(
    inv_program: InvProgram, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "tasks.py").write_text("from ringtasks.tasks import namespace\n")

    for program in PROGRAMS:
        done = inv_program.call([program, "hosts"], cwd=tmp_path, text=True)

        assert done.stderr.startswith("ringtasks: "), done.stderr
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.returncode == 2


@pytest.mark.parametrize(
    ("words", "variables", "told"),
    [
        (["-fother.yaml", "hosts"], {}, "other.yaml:1: is not YAML"),
        (["--config=other.yaml", "hosts"], {}, "other.yaml:1: is not YAML"),
        (["-f", "notes.txt", "hosts"], {}, "notes.txt: expected a file that ends in .yaml"),
        (["hosts"], {"INVOKE_RUNTIME_CONFIG": "other.yaml"}, "other.yaml:1: is not YAML"),
        (["hosts"], {"INVOKE_RUN_WATCHERS": "x"}, "INVOKE_RUN_WATCHERS: a variable cannot replace"),
        (["hosts"], {"INVOKE_TRAIN_FETCH": "x"}, "INVOKE_TRAIN_FETCH: a variable cannot replace"),
        (["hosts"], {"INVOKE_TRAIN_GPUS": "x"}, "INVOKE_TRAIN_GPUS: expected int, got 'x'"),
        (["--dry", "train"], {"INVOKE_TRAIN_HOSTS": "@x"}, "unknown group '@x'"),
    ],
)
@pytest.mark.matrix(5)
def test_configuration_that_invoke_cannot_use_is_told_in_one_line(
    ringtasks: Ringtasks,
    tmp_path: Path,
    words: list[str],
    variables: dict[str, str],
    told: str,
) -> None:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "hosts.yaml").write_text("hosts: {a: {ssh_host: h}}\n")
    (tmp_path / "other.yaml").write_text("a: b: c\n")
    (tmp_path / "invoke.yaml").write_text("train: {command: x, fetch: [y], gpus: 1}\n")

    done = ringtasks(*words, cwd=tmp_path, env={**os.environ, **variables})

    assert told in done.stderr
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_unknown_settings_of_ringtasks_are_told_once_with_a_near_name(
    ringtasks: Ringtasks, tmp_path: Path
) -> None:
    (tmp_path / "box.yaml").write_text("box: {ssh_host: h}\n")
    settings = "ringtasks: {inventory: box.yaml, inventroy: x, zzz: 1}\n"
    (tmp_path / "invoke.yaml").write_text(settings)

    done = ringtasks("hosts", "hosts", cwd=tmp_path)

    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "ringtasks: warning: ringtasks: inventroy: is not a setting; did you mean inventory?",
        "ringtasks: warning: ringtasks: zzz: is not a setting; there is inventory",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ray"], "ray is not a task; did you mean ray.down, ray.status, "),
        (["deployy"], "deployy is not a task; did you mean deploy"),
        (["run", "--hsot", "m"], "--hsot is not a flag of run; did you mean --host"),
        (["health", "-H", "m"], "-H is not a flag of health.show; 'ringtasks health.show --help' "),
        (["put", "--hots", "m", "a", "b"], "--hots is not a flag of put; did you mean --host"),
        (["stop", "--alll"], "--alll is not a flag of stop; 'ringtasks stop --help' lists"),
        (["put", "--list", "a", "b"], "'--list' cannot follow a task"),
        (["stop", "--dry"], "positional arguments: 'job': 'ringtasks stop JOB'; "),
        (["put", "a"], "'dst': 'ringtasks put SRC DST'; 'ringtasks put --help' explains them"),
        (["\x1b[2J"], "is not a task; 'ringtasks --list' lists the tasks"),
    ],
)
@pytest.mark.matrix(3)
def test_unknown_task_or_flag_gets_the_near_names(
    ringtasks: Ringtasks, tmp_path: Path, words: list[str], told: str
) -> None:
    done = ringtasks(*words, cwd=tmp_path)

    assert told in done.stderr
    assert "\x1b" not in done.stderr
    assert done.returncode == 2


def test_module_in_the_current_directory_never_shadows_a_ringtasks_module(
    tmp_path: Path,
) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit('taken')\n")

    done = subprocess.run([*PROGRAM, "--list"], cwd=tmp_path, capture_output=True, text=True)

    assert (done.returncode, "taken" in done.stderr) == (0, False)

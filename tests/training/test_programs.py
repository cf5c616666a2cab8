"""The programs of a training run in the shells that hosts have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ringtasks import training
from ringtasks.remote.programs import Program
from ringtasks.training import ray
from tests.support.shells import SHELLS, run_in


class Host:
    """A home with a run's folder."""

    def __init__(self, shell: str, home: Path) -> None:
        self.shell, self.home, self.cwd = shell, home, home / "a run"
        self.cwd.mkdir()

    def said(self, program: str, *, status: int = 0, **parameters: str | int | list[str]) -> str:
        """Run a program; return its stdout."""
        text = Program(training.__file__, program).render(**parameters)
        found = run_in(self.shell, f"({text})", self.home)
        assert (found.returncode, found.stderr) == (status, b""), found
        return found.stdout.decode()

    def claim(self, run: str, keeps_own: str = "true") -> str:
        return self.said(
            "claim_checkpoint.sh", parent=str(self.cwd), name="it's", run=run, label=run,
            keeps_own=keeps_own, ended="one", owned=67,
        ).strip()  # fmt: skip

    def set_up(
        self,
        status: int = 0,
        commands: str = 'printf %s "$0 $#" >>made',
        inputs: list[str] | None = None,
    ) -> None:
        self.said(
            "set_up.sh", status=status, rt_cwd=str(self.cwd), rt_commands=commands, rt_key="k",
            rt_activate="", rt_done_before=76, inputs=inputs or ["./needs it", "./missing"],
        )  # fmt: skip


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(request.param, tmp_path)


def test_checkpoint_of_another_run_is_set_aside(host: Host) -> None:
    said = [host.claim("one")]
    (host.cwd / "it's").mkdir()
    (host.cwd / "it's" / "model").write_text("of one")
    said += [host.claim("one"), host.claim("two")]

    aside = host.cwd / ".it's.before-two"
    assert said == ["", "", str(aside)]
    assert (aside / "model").read_text() == "of one"


def test_owner_of_a_checkpoint_is_written_through_no_link_or_pipe(host: Host) -> None:
    owner, other = host.cwd / ".it's.ringtasks-run", host.home / "other"
    other.write_text("mine")
    for plant in (os.mkfifo, lambda path: path.symlink_to(other)):
        plant(owner)

        assert host.claim("one") == ""

        assert (owner.read_text(), other.read_text()) == ("one\n", "mine")
        owner.unlink()


def test_complete_checkpoints_are_listed(host: Host) -> None:
    for name in ("step 1", "step 2", "last"):
        (host.cwd / name).mkdir()
        (host.cwd / name / "model").write_text(name)
    for name in ("step 1", "last"):
        (host.cwd / name / "done").write_text("x")
    os.utime(host.cwd / "last" / "done", (1, 1))  # written over since
    os.utime(host.cwd / "step 1" / "done", (1, 1))  # other files of the same save came after it

    said = {
        last: host.said(
            "list_checkpoint.sh",
            folder=str(host.cwd),
            last_file=last,
            takes_overtaken="false",
            no_checkpoint=66,
        )
        for last in ("done", "")
    }

    names = {last: sorted(line.rpartition(" ./")[2] for line in text.splitlines())
             for last, text in said.items()}  # fmt: skip
    assert names == {
        "done": ["incomplete last", "incomplete step 2", "step 1/done", "step 1/model"],
        "": ["last/done", "last/model", "step 1/done", "step 1/model", "step 2/model"],
    }


def test_outputs_are_told_from_those_that_were_there(host: Host) -> None:
    for name in ("old one.txt", "changed.txt"):
        (host.cwd / name).write_text("1")
    shared = {"cwd": str(host.cwd), "list": ".ringtasks/runs/k", "items": ["./*.txt", "./out"]}
    host.said("compare_outputs.sh", status=66, **shared, no_list=66)
    host.said("note_outputs.sh", **shared)
    (host.cwd / "changed.txt").write_text("12")
    (host.cwd / "out").mkdir()
    (host.cwd / "out" / "new").touch()

    said = host.said("compare_outputs.sh", **shared, no_list=66).splitlines()

    told = [" ".join([line.split()[0], line.rpartition("./")[2]]).strip() for line in said]
    assert told == ["item item", "file changed.txt", "new changed.txt", "file old one.txt",
                    "old old one.txt", "item item", "folder out", "new out/new"]  # fmt: skip


def test_setup_is_repeated_when_an_input_changes(host: Host) -> None:
    host.set_up()
    host.set_up(status=76)
    (host.cwd / "needs it").symlink_to(host.home / "elsewhere")
    (host.home / "elsewhere").write_text("1")
    host.set_up()
    host.set_up(status=76)

    assert (host.cwd / "made").read_text() == "sh 0sh 0"


def test_setup_that_names_its_folder_is_repeated_when_a_file_in_it_changes(host: Host) -> None:
    host.set_up(commands="true", inputs=["./."])
    host.set_up(commands="true", inputs=["./."], status=76)
    (host.cwd / "module").write_text("1")
    host.set_up(commands="true", inputs=["./."])


def test_failed_setup_is_not_recorded(host: Host) -> None:
    host.set_up(status=4, commands="(exit 4)\ntrue")
    host.set_up(status=1, commands="exit 76")  # that of a setup that was done before


def test_cdpath_of_the_host_does_not_replace_a_linked_checkpoint(host: Host) -> None:
    for folder in (host.home / "other" / "model", host.home / "disk"):
        folder.mkdir(parents=True)
        (folder / "weights").touch()
    (host.cwd / "model").symlink_to(host.home / "disk")
    text = Program(training.__file__, "claim_checkpoint.sh").render(
        parent=str(host.cwd), name="model", run="two", label="two", keeps_own="true",
        ended="", owned=67,
    )  # fmt: skip

    run_in(host.shell, f"export CDPATH={host.home}/other\n{text}", host.home)

    assert (host.home / "other" / "model" / "weights").exists()
    assert (host.home / ".disk.before-two" / "weights").exists()


@pytest.mark.parametrize("tool", ["ls", "find"])
def test_failed_look_at_checkpoints_is_not_an_empty_folder(host: Host, tool: str) -> None:
    (host.cwd / "model").mkdir()
    (host.cwd / "model" / "weights").touch()
    known = {"parent": str(host.cwd), "name": "model", "run": "two", "label": "two"}
    listing = {
        "folder": f"{host.cwd}/model",
        "last_file": "",
        "takes_overtaken": "false",
        "no_checkpoint": 66,
    }
    program, given = {
        "ls": ("claim_checkpoint.sh", {**known, "keeps_own": "true", "ended": "", "owned": 67}),
        "find": ("list_checkpoint.sh", listing),
    }[tool]
    text = Program(training.__file__, program).render(**given)

    found = run_in(host.shell, f"{tool}() {{ return 127; }}\n{text}", host.home)

    assert found.returncode not in (0, 66), found


@pytest.mark.parametrize("foreign", ["folder", "link", "file"])
def test_folder_for_ray_that_another_user_made_is_not_taken(host: Host, foreign: str) -> None:
    if foreign == "folder" and os.geteuid() != 0:
        pytest.skip("only root can make a folder of another user")
    temp, elsewhere = host.home / "tmp" / "ray-1", host.home / "elsewhere"
    for folder in (temp.parent, elsewhere):
        folder.mkdir(mode=0o755)
    if foreign == "link":
        temp.symlink_to(elsewhere)
    elif foreign == "file":
        temp.touch()
    else:
        temp.mkdir()
        os.chown(temp, 65534, 65534)

    found = _write_ray_files(host, temp)

    assert found.returncode == 1
    assert found.stderr.startswith(f"{temp} is no folder of this user: remove it".encode())
    assert not (host.home / "ray" / "temp").exists()  # else its content would be removed later
    assert elsewhere.stat().st_mode & 0o777 == 0o755


def test_folder_for_ray_is_made_or_an_own_one_taken_and_shut_to_others(host: Host) -> None:
    shared = host.home / "shared" / "ray-1"
    modes = []
    for _ in "new", "own":
        found = _write_ray_files(host, shared)
        assert (found.returncode, found.stderr) == (0, b"")
        modes.append(shared.stat().st_mode & 0o777)
        shared.chmod(0o755)

    assert modes == [0o700, 0o700]
    assert (host.home / "ray" / "temp").read_text() == str(shared)
    assert (host.home / "ray" / "token").read_text() == "secret"


def _write_ray_files(host: Host, temp: Path) -> subprocess.CompletedProcess[bytes]:
    text = Program(ray.__file__, "write_files.sh").render(
        folder=str(host.home / "ray"), temp=str(temp), program="pass", name="reaper.py"
    )
    return run_in(host.shell, f"TOKEN=secret\n{text}", host.home)

"""Shell programs are files with quoted parameters, which every shell can read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ringtasks
from ringtasks import remote
from ringtasks.remote.programs import Program, Word
from tests.support.shells import SHELLS, run_in

PACKAGE = Path(ringtasks.__file__).parent
HOSTILE = "a 'b' \"c\" $HOME `id` $(id) \\ *\n-n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_program_of_the_package_can_be_read(shell: str, tmp_path: Path) -> None:
    programs = [Program(str(file), file.name).text for file in sorted(PACKAGE.rglob("*.sh"))]
    for number, text in enumerate(programs):
        (tmp_path / str(number)).write_text(text)

    refused = [
        found.stderr
        for number in range(len(programs))
        if (found := subprocess.run(
            [*shell.split(), "-n", str(tmp_path / str(number))], capture_output=True, check=False
        )).returncode
    ]  # fmt: skip

    assert (len(programs) > 20, refused) == (True, [])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_machine_without_its_files_gives_no_message(shell: str) -> None:
    """zsh reports a file that it cannot open on the stderr of the shell, not of the command."""
    machine = Program(remote.__file__, "machine.sh").text
    without = f'mount -t tmpfs none /proc; mount -t tmpfs none /etc; exec {shell} -c "$1"'

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", without, "sh", f"{machine}\nrt_machine"],
        capture_output=True,
        check=True,
    )

    assert (done.stdout, done.stderr) == (b"", b"")


def test_programs_are_read_as_utf_8_in_any_locale() -> None:
    file = PACKAGE / "training" / "rendezvous_probe.py"
    code = f"import ringtasks.remote.programs as p; p.Program({str(file)!r}, {file.name!r}).text"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}

    subprocess.run([sys.executable, "-X", "utf8=0", "-c", code], env=environ, check=True)

    assert not file.read_bytes().isascii()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("sleep", "printed"),
    [
        ("case $1 in *.*) return 1; esac; echo slept >&2", b"slept\n"),
        ("return 1", b"failed\n"),
    ],
    ids=["whole seconds only", "no process"],
)
def test_pause_does_not_spin(shell: str, tmp_path: Path, sleep: str, printed: bytes) -> None:
    clock = Program(remote.__file__, "clock.sh").text

    found = run_in(
        shell, f"sleep() {{ {sleep}; }}\n{clock}\npause 0.2 || echo failed >&2", tmp_path
    )

    assert found.stderr == printed


def test_every_program_waits_where_sleep_takes_whole_seconds_only() -> None:
    lines = [
        f"{file.name}: {line.strip()}"
        for file in PACKAGE.rglob("*.sh")
        for line in file.read_text().splitlines()
        if re.search(r"\bsleep 0?\.", line) and not re.search(r"\|\| sleep 1|^ *if ", line)
    ]

    assert not lines


@pytest.mark.parametrize("shell", SHELLS)
def test_parameters_arrive_as_they_are(shell: str, tmp_path: Path) -> None:
    (tmp_path / "show.sh").write_text(
        '# parameters: one place items...\nprintf "%s\\0" "$one" "$place" "$@"\n'
    )
    program = Program(str(tmp_path / "x"), "show.sh")

    found = run_in(
        shell, program.render(one=HOSTILE, place=Word('"$HOME"/x'), items=["", HOSTILE]), tmp_path
    )

    shown = found.stdout.decode().split("\0")[:-1]
    assert shown == [HOSTILE, f"{tmp_path}/x", "", HOSTILE]


def test_empty_list_leaves_no_positional_parameters(tmp_path: Path) -> None:
    (tmp_path / "show.sh").write_text("# parameters: items...\necho $#\n")
    text = Program(str(tmp_path / "x"), "show.sh").render(items=[])

    found = subprocess.run(["sh", "-c", text, "sh", "given"], capture_output=True, check=True)

    assert found.stdout == b"0\n"


def test_misspelled_parameter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "show.sh").write_text('# parameters: one\necho "$one"\n')

    with pytest.raises(TypeError, match=r"show.sh: expected the parameters \['one'\], got \['on'"):
        Program(str(tmp_path / "x"), "show.sh").render(on="x")


@pytest.mark.matrix(2)
@pytest.mark.parametrize("shell", SHELLS)
def test_resources_are_read_without_a_program_that_one_of_them_needs(
    shell: str, tmp_path: Path
) -> None:
    script = Program(remote.__file__, "resources.sh").text + "rt_resources 1 /\necho end\n"

    for program in ("getconf", "getconf() { echo undefined; }; df", "date"):
        found = run_in(shell, f"{program}() {{ return 127; }}\n{script}", tmp_path)

        names = {line.split()[0] for line in found.stdout.decode().splitlines()}
        assert (found.stderr, {"memory", "load", "end"} - names) == (b"", set()), found
        assert ("up" in names) == (program == "date")


@pytest.mark.matrix(2)
@pytest.mark.parametrize("shell", SHELLS)
def test_gpu_tool_is_not_said_to_hang_if_sleep_fails(shell: str, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nsleep 0.3\necho 0, GPU-1, A100, 1, 1, 1\n")
    tool.chmod(0o755)
    script = Program(remote.__file__, "gpus.sh").text + "rt_gpus 20\n"

    for body in ("return 1", "case $1 in *.*) return 1 ;; esac; command sleep 0.4"):
        text = f"PATH={tmp_path}:$PATH\nsleep() {{ {body}; }}\n{script}"
        said = run_in(shell, text, tmp_path).stdout.decode().splitlines()

        assert said[:2] == ["tool nvidia-smi 0", "gpu 0, GPU-1, A100, 1, 1, 1"]

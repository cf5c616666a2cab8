"""The console script ``ringtasks``, in folders of other people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = [str(Path(sys.executable).with_name("ringtasks"))]


def test_python_files_of_the_current_folder_are_never_run(tmp_path: Path) -> None:
    for name in ("invoke.py", "tasks.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")

    done = subprocess.run([*PROGRAM, "--list"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0
    assert not (tmp_path / "ran").exists()
    assert "invoke.py is not read" in done.stderr


def test_settings_of_the_current_directory_are_used(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("box: {ssh_host: h}\n")
    (tmp_path / "invoke.yaml").write_text("ringtasks: {inventory: other.yaml}\n")

    done = subprocess.run([*PROGRAM, "hosts"], cwd=tmp_path, capture_output=True, text=True)

    assert "box" in done.stdout, done.stderr
    assert "is not read" not in done.stderr


def test_module_in_the_current_directory_never_shadows_a_ringtasks_module(
    tmp_path: Path,
) -> None:
    (tmp_path / "yaml.py").write_text("raise SystemExit('taken')\n")

    done = subprocess.run([*PROGRAM, "--list"], cwd=tmp_path, capture_output=True, text=True)

    assert (done.returncode, "taken" in done.stderr) == (0, False)

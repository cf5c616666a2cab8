"""Runs on two machines of their own: a power cut, and the run of another that lies in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.boxes import Box
from tests.support.fixtures import Inv
from tests.support.training import WriteSettings, await_job, run_of, start_train
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

#: Saves straight into folders, the last file last; the third one is half there at the power cut.
PROGRAM = """
import os, pathlib, time
root, first = pathlib.Path("ckpt"), 0
done = sorted(root.glob("checkpoint-*"))
if done:
    first = int((done[-1] / "model").read_text())
    assert (done[-1] / "trainer_state.json").exists()
print("attempt", os.environ["RINGTASKS_ATTEMPT"], "from", first, flush=True)
for step in range(first + 1, 5):
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model").write_text(str(step))
    os.sync()
    if os.environ["RINGTASKS_ATTEMPT"] == "1" and step == 3:
        time.sleep(600)
    (folder / "trainer_state.json").write_text("{}")
    os.sync()
    time.sleep(2)
"""


def test_run_resumes_from_its_last_complete_checkpoint_after_a_power_cut(
    inv: Inv, two_boxes: dict[str, Box], write_settings: WriteSettings, tmp_path: Path
) -> None:
    write_settings(
        command="python3 save.py",
        retries=1,
        checkpoint="ckpt",
        checkpoint_done="trainer_state.json",
        checkpoint_interval=1,
        lost_after=120,
        fetch=[],
    )
    (tmp_path / "src" / "save.py").write_text(PROGRAM)
    a, b = two_boxes["a"], two_boxes["b"]
    stale = b.home / "run" / "ckpt" / "checkpoint-9"
    stale.mkdir(parents=True)
    for name in ("model", "trainer_state.json"):
        (stale / name).write_text("9")
    process = start_train(tmp_path)
    job = await_job(tmp_path)
    eventually(lambda: list(tmp_path.glob("runs/*/checkpoint/checkpoint-2")), 60)
    eventually((a.home / "run" / "ckpt" / "checkpoint-3" / "model").exists, 60)

    a.power_off()
    a.power_on()
    out, err = process.communicate(timeout=200)
    stopped = inv("stop", job)
    listed = [json.loads(line) for line in inv("jobs", "--all", "--json").stdout.splitlines()]

    assert process.returncode == 0, err
    assert out.splitlines() == [b"attempt 1 from 0", b"attempt 2 from 2"]
    assert b"a: lost the host was rebooted: another host takes over" in err
    kept = sorted(file.name for file in (run_of(tmp_path)[0] / "checkpoint").iterdir())
    assert kept == [f"checkpoint-{n}" for n in range(1, 5)]
    assert (b.home / "run" / "ckpt" / "checkpoint-9").exists() is False
    assert stopped.returncode == 0
    assert [own["state"] for own in listed if own["id"] == job] == ["lost"]

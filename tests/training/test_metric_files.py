"""Files that trainers write beside their log: event files, tables and JSON."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.training.curves import Curves
from ringtasks.training.logs.event_files import event_records
from ringtasks.training.logs.metric_files import json_lines

FILES = Path(__file__).parents[1] / "logs" / "files"
EVENTS = FILES / "events.out.tfevents.tensorboard"


def points_of(path: Path) -> dict[str, list[tuple[Any, float]]]:
    curves = Curves()
    curves.read_file(path)
    found = {name: curves.curve(name) for name in curves.names}
    return {name: list(zip(curve.xs, curve.ys, strict=True)) for name, curve in found.items()}


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_event_file_scalars_are_read_in_each_encoding() -> None:
    found = points_of(EVENTS)

    assert list(found) == ["train/loss", "epoch_loss", "val/acc", "lr"]
    assert found["val/acc"] == [(10, 0.25), (20, 0.5), (30, 0.75)]
    assert found["lr"] == [(10, 0.001), (20, 0.001), (30, 0.001)]
    for name, first in (("train/loss", 1.0), ("epoch_loss", 0.5)):
        assert [x for x, _ in found[name]] == [10, 20, 30]
        assert [y for _, y in found[name]] == pytest.approx([first, first / 2, first / 3])
    other = points_of(FILES / "events.out.tfevents.tensorboardx")
    assert [y for _, y in other.pop("loss")] == pytest.approx([2, 1, 2 / 3])
    assert not other


def test_an_event_file_is_read_up_to_its_first_damaged_record() -> None:
    data = EVENTS.read_bytes()
    whole = len(list(event_records(data)))

    for at in range(12, len(data) // 2, 7):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert len(list(event_records(changed))) < whole
        assert len(list(event_records(data[:at]))) < whole
    huge = struct.pack("<Q", 1 << 62) + data[8:]
    assert list(event_records(huge)) == []


@given(st.binary(max_size=200))
def test_no_event_file_content_raises_an_error(data: bytes) -> None:
    list(event_records(data))


@pytest.mark.parametrize(
    ("name", "content", "points"),
    [
        # Lightning's CSVLogger
        ("metrics.csv", "epoch,step,train_loss,val_loss\n0,49,0.5,\n0,49,,0.7\n1,99,0.25,\n",
         {"train_loss": [(49, 0.5), (99, 0.25)], "val_loss": [(49, 0.7)]}),
        # ultralytics
        ("results.csv", "                  epoch,         train/box_loss,   metrics/mAP50-95(B)\n"
         "                      1,                 1.5,                 0.1\n"
         "                      2,                 1.25,                nan\n",
         {"train/box_loss": [(1, 1.5), (2, 1.25)], "metrics/mAP50-95(B)": [(1, 0.1)]}),
        # Keras' CSVLogger, in a file of another program's line ends
        ("log.csv", "epoch,loss\r\n0,0.5\r\n1,0.25\r\n", {"loss": [(0, 0.5), (1, 0.25)]}),
        ("trainer_state.json", json.dumps({"global_step": 20, "log_history": [
            {"epoch": 0.5, "loss": 2.5, "step": 10}, {"epoch": 1.0, "eval_loss": 2.25, "step": 20},
         ]}), {"loss": [(10, 2.5)], "eval_loss": [(20, 2.25)]}),
        ("metrics.jsonl", '{"step": 1, "split": "val", "loss": 2}\n{"step": 2, "loss": 1}\n',
         {"val_loss": [(1, 2)], "loss": [(2, 1)]}),
        ("history.csv", ',loss\n0,0.5\n1,0.25\n', {"loss": [(1, 0.5), (2, 0.25)]}),
        ("history.json", '{"loss": [0.5, 0.25], "val_loss": [2, 1]}',
         {"loss": [(1, 0.5), (2, 0.25)], "val_loss": [(1, 2), (2, 1)]}),
        ("local.csv", 'step,loss,acc\n1,"0,5","1,234.5"\n', {"acc": [(1, 1234.5)]}),
        ("train/progress.csv", "step,loss\n1,2\n", {"train_loss": [(1, 2)]}),
        # still being written, or cut short
        ("cut.csv", "step,loss\n1,2\n2,1.2", {"loss": [(1, 2)]}),
        ("cut.jsonl", '{"step": 1, "loss": 2}\n{"step": 2, "loss": 1.2', {"loss": [(1, 2)]}),
        ("cut.json", '[{"step": 1, "loss": 2}, {"step": 2, "loss": 1.2', {"loss": [(1, 2)]}),
        ("cut/trainer_state.json", '{\n "epoch": 1,\n "log_history": [\n  {\n   "loss": 2,\n'
         '   "step": 1\n  },\n  {\n   "loss": 1.2', {"loss": [(1, 2)]}),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-6:] else "",
)  # fmt: skip
def test_csv_or_json_file_of_a_trainer_gives_its_curves(
    tmp_path: Path, name: str, content: str, points: dict[str, list[tuple[float, float]]]
) -> None:
    assert points_of(written(tmp_path, name, content)) == points


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "step,loss\nnan,1\ninf,1\n1e999,1\n1\n1,2,3\n,\n"),
        ("x.csv", "name,loss\na,1\n"),
        ("x.csv", "step," + ",".join(f"a{n}" for n in range(1000)) + "\n" + "1," * 1000 + "1\n"),
        ("x.csv", 'step,loss\n1,"' + "9" * 200_000 + '"\n'),
        ("x.json", '{"step": NaN, "loss": 1}'),
        ("x.json", "[" * 100_000),
        ("x.csv", "step,loss\n1,1.2"),
        ("x.json", '{"lr": 0.1, "epochs": 3, "batch_size": 8}'),
    ],
)
def test_metric_file_without_an_unambiguous_point_gives_none(
    tmp_path: Path, name: str, content: str
) -> None:
    assert points_of(written(tmp_path, name, content)) in ({}, {"loss": [(1.0, 1.0)]})


def test_json_is_read_as_records_only_if_it_is_a_list() -> None:
    assert json_lines(b'{"step": 1, "loss": 2}') is None
    assert json_lines(b'[{"step": 1, "loss": 2}, 3]') == b'{"step": 1, "loss": 2}\n'

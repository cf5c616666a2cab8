"""Layouts of further trainers: lines as their sources print them, with numbers of our own."""

from __future__ import annotations

import pytest

from ringtasks.training.logs import History, LogReader
from tests.support.training import curves_of

PANDAS = (
    "   train-rmse-mean  train-rmse-std  test-rmse-mean  test-rmse-std{0}\n"
    "0         0.421571        0.001231        0.433451       0.004567\n"
    "..             ...             ...             ...            ...\n"
    "99        0.391571        0.001431        0.413451       0.004767\n"
)
ULTRALYTICS = (
    "      Epoch    GPU_mem   box_loss   {0}_loss   cls_loss   dfl_loss  Instances       Size\n"
    "        1/3      2.31G      1.234      2.345      1.111       0.91         21        640: "
    "100%|█| 8/8 [00:02<00:00,  3.21it/s]\n"
    "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95)     "
    "{1}(P          R      mAP50  mAP50-95): 100%|█| 4/4 [00:01<00:00,  2.31it/s]\n"
    "                   all        128        929      0.641      0.537      0.605      0.446"
    "      0.741      0.637      0.705      0.546\n"
)
RULER = "─" * 80 + "\n"
MMCV = (
    '{"mode": "train", "epoch": 1, "iter": 50, "lr": 0.01, "memory": 3, "loss": 1.2, "time": 1}\n'
    '{"mode": "val", "epoch": 1, "iter": 625, "lr": 0.02, "bbox_mAP": 0.211, '
    '"bbox_mAP_copypaste": "0.211 0.4 0.2"}\n'
)
MMENGINE = (
    '{"lr": 0.02, "data_time": 0.01, "loss": 1.2, "time": 0.3, "epoch": 1, "step": 50}\n'
    '{"coco/bbox_mAP": 0.21, "data_time": 0.01, "time": 0.1, "step": 1}\n'
    '{"lr": 0.02, "data_time": 0.01, "loss": 1.1, "time": 0.3, "epoch": 2, "step": 100}\n'
    '{"coco/bbox_mAP": 0.31, "data_time": 0.01, "time": 0.1, "step": 2}\n'
)
FLAIR = "{0} epoch 1 - iter {1}/101 - loss {2} - samples/sec: 141.21 - lr: 0.100000\n"
CLU = "I0101 10:00:10.123456 1400000 metric_writers.py:101] [{}] collection={} acc=0.5, loss={}\n"

Places = dict[str, int]


LAYOUTS = [
    pytest.param(PANDAS.format(""), "test-rmse-mean",
                 [(0.433451, {"round": 0}), (0.413451, {"round": 99})], id="XGBoost, cv"),
    pytest.param(PANDAS.format("  \\"), "train-rmse-std",
                 [(0.001231, {"round": 0}), (0.001431, {"round": 99})], id="pandas, wrapped"),
    pytest.param("   iterations  test-Logloss-mean  test-Logloss-std\n"
                 "0           0           0.612345          0.001234\n"
                 "1          10           0.512345          0.002234\n", "test-Logloss-mean",
                 [(0.612345, {"round": 0}), (0.512345, {"round": 10})], id="CatBoost, cv"),
    pytest.param(ULTRALYTICS.format("seg", "Mask"), "mAP50-95(M)",
                 [(0.546, {"epoch": 1, "total_epochs": 3})], id="ultralytics, masks"),
    pytest.param(ULTRALYTICS.format("seg", "Mask"), "mAP50-95",
                 [(0.446, {"epoch": 1, "total_epochs": 3})], id="ultralytics, boxes"),
    pytest.param(ULTRALYTICS.format("pose", "Pose"), "precision(P)",
                 [(0.741, {"epoch": 1, "total_epochs": 3})], id="ultralytics, poses"),
    pytest.param(RULER + "     Validate metric           DataLoader 0        \n" + RULER
                 + "        val_loss            0.33515408635139465     \n" + RULER,
                 "val_loss", [(0.33515408635139465, {})], id="Lightning, validate"),
    pytest.param("┃   Test metric   ┃  DataLoader 0  ┃  DataLoader 1  ┃\n".join(
                     ["┏" + "━" * 40 + "┓\n", "┡" + "━" * 40 + "┩\n"])
                 + "│    test_loss    │     0.335      │     0.435      │\n└" + "─" * 40 + "┘\n",
                 "test_loss/dataloader_idx_1", [(0.435, {})], id="Lightning, two loaders"),
    pytest.param("[1] step 1 loss 6\n[0] step 1 loss 5\n[1] step 2 loss 6\n[0] step 2 loss 4\n",
                 "loss", [(5, {"step": 1}), (4, {"step": 2})], id="ranks of mpiexec"),
    pytest.param("[0]<stdout>:step 1 loss 5\n[1]<stdout>:step 1 loss 6\n", "loss",
                 [(5, {"step": 1})], id="ranks of Horovod"),
    pytest.param("[1] step 100 loss 5\n[1] step 200 loss 4\n[2] step 100 loss 3\n", "loss",
                 [(5, {"step": 100}), (4, {"step": 200}), (3, {"step": 100})], id="no ranks"),
    pytest.param(MMCV, "val_bbox_mAP", [(0.211, {"epoch": 1})], id="mmdet 2, JSON"),
    pytest.param(MMCV, "lr", [(0.01, {"epoch": 1, "step": 50})], id="mmdet 2, JSON, lr"),
    pytest.param(MMENGINE, "coco/bbox_mAP", [(0.21, {"epoch": 1}), (0.31, {"epoch": 2})],
                 id="MMEngine, JSON"),
    pytest.param("Iter [100/80000]\tlr: 9.9e-03, loss: 2.5\nIter(val) [500]\tmIoU: 0.65\n",
                 "val_miou", [(0.65, {"step": 100, "total_steps": 80000})], id="mmseg"),
    pytest.param("INFO:tensorflow:Step 100 per-step time 1.002s\n"
                 "INFO:tensorflow:{'Loss/a_loss': 0.5,\n 'Loss/total_loss': 0.9,\n 'lr': 0.1}\n",
                 "Loss/total_loss", [(0.9, {"step": 100})], id="TensorFlow's object detection"),
    pytest.param("Epoch[5] Batch [0-20]\tSpeed: 25.77 samples/sec\tacc=0.5\n"
                 "Epoch[5] Batch [20-40]\tSpeed: 25.69 samples/sec\tacc=0.6\n", "acc",
                 [(0.5, {"epoch": 5, "batch": 20}), (0.6, {"epoch": 5, "batch": 40})],
                 id="MXNet, ranges of batches"),
    pytest.param("iteration:1 step:10/90, NER loss:3.5\niteration:2 step:10/90, NER loss:2.5\n",
                 "ner_loss", [(3.5, {"epoch": 1, "step": 10, "total_steps": 90}),
                              (2.5, {"epoch": 2, "step": 10, "total_steps": 90})],
                 id="steps of an iteration"),
    pytest.param("  Epoch   gpu_mem      GIoU       obj       cls     total   targets  img_size\n"
                 "  0/2     9.87G      6.75      1.64      1.89      10.3        44       416: "
                 "100%|█| 33/33 [00:36<00:00,  1.11s/it]\n"
                 "     Class    Images   Targets         P         R   mAP@0.5        F1: "
                 "100%|█| 4/4 [00:03<00:00,  1.09it/s]\n"
                 "       all        58  3.58e+04     0.107     0.749     0.557     0.182\n",
                 "F1", [(0.182, {"epoch": 0, "total_epochs": 2})], id="YOLOv3"),
    pytest.param(FLAIR.format("", 10, 2.3) + FLAIR.format("", 20, 2.1)
                 + "EPOCH 1 done: loss 1.9 - lr 0.1\n", "loss",
                 [(2.3, {"epoch": 1, "step": 10}), (2.1, {"epoch": 1, "step": 20})], id="Flair"),
    pytest.param(FLAIR.format("", 10, 2.3) + "EPOCH 1 done: loss 1.9 - lr 0.1\nDEV : loss 1.2\n",
                 "dev_loss", [(1.2, {"epoch": 1})], id="Flair, dev"),
    pytest.param("1epoch:train:1-50batch: loss=181.1\n1epoch results: [train] loss=131.1, "
                 "[valid] loss=108.1\n", "epoch_train_loss", [(131.1, {"epoch": 1})],
                 id="ESPnet, means of an epoch"),
    pytest.param("[Eval batch=10/10] Eval on eval data:\n\t Eval metrics/eval/CrossEntropy: 8.2\n",
                 "metrics/eval/CrossEntropy", [(8.2, {})], id="Composer, evaluation"),
    pytest.param("Epoch 1 | iter 2 step 1 | loss train: 2.2, val: 1.9 | iter time: 4.3 ms (step)",
                 "val_loss", [(1.9, {"epoch": 1, "step": 2})], id="LitGPT"),
    pytest.param(CLU.format(200, "train", 2.3) + CLU.format(200, "training_eval", 2.4),
                 "training_eval_loss", [(2.4, {"step": 200})], id="t5x"),
    pytest.param("***** Evaluating perplexity, Epoch 1/2 *****\nppl: 9.4, loss: 2.2\n",
                 "eval_loss", [(2.2, {"epoch": 1, "total_epochs": 2})], id="DeepSpeed-Chat"),
    pytest.param("ppocr INFO: epoch: [1/5], global_step: 10, acc: 0.1, loss: 81\n"
                 "ppocr INFO: cur metric, acc: 0.31, fps: 1201.1\n", "eval_acc",
                 [(0.31, {"epoch": 1, "step": 10})], id="PaddleOCR"),
    pytest.param("Progress on:train 101it/10.0kit rate:2.1it/s remaining:1:18:01 elapsed:00:47 "
                 "postfix:loss=7.01", "train_loss", [(7.01, {"step": 101})], id="tqdm_loggable"),
    pytest.param("INFO:tensorflow:loss = 0.3, step = 100 (0.8 sec)\n"
                 "INFO:tensorflow:Loss for final step: 0.2012.\n", "loss",
                 [(0.3, {"step": 100})], id="TensorFlow's Estimator"),
    pytest.param("steps/nnet3/train.py:529 - INFO ] Iter: 1/120  Jobs: 3  loss: 0.5", "loss",
                 [(0.5, {"step": 1, "total_steps": 120})], id="Kaldi"),
]  # fmt: skip


@pytest.mark.parametrize(("log", "metric", "points"), LAYOUTS)
def test_metric_of_a_layout_is_read_with_its_positions(
    log: str, metric: str, points: list[tuple[float, Places]]
) -> None:
    read = [*curves_of([[log.encode()]]).objects(metric)]

    assert [point["value"] for point in read] == [value for value, _ in points]
    for point, (_, own) in zip(read, points, strict=True):
        assert {name: point.get(name) for name in own} == own
        assert not {"step", "epoch", "round"} & point.keys() - own.keys()


@pytest.mark.parametrize(("log", "metric", "points"), LAYOUTS)
def test_layout_is_read_alike_whole_in_pieces_and_line_by_line(
    log: str, metric: str, points: list[tuple[float, Places]]
) -> None:
    text = log.rstrip("\n").encode() + b"\n"
    text *= 4000 // len(text) + 2

    line_by_line = history_of(text, len(text), one_by_one=True)

    assert history_of(text, len(text), one_by_one=False) == line_by_line
    assert history_of(text, 1000, one_by_one=False) == line_by_line


def history_of(log: bytes, size: int, *, one_by_one: bool) -> str:
    """Return all that is known after a log that is read in pieces of that size."""
    history = History()
    reader = LogReader(history, one_by_one=one_by_one)
    for start in range(0, len(log), size):
        reader.feed(log[start : start + size])
    reader.end()
    points = {name: list(series) for name, series in history.series.items()}
    return repr((points, history.progress, history.totals, history.serial))

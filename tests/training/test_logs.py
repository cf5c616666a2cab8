"""Logs of training programs: what is read from a line, and from whole logs of real trainers."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtasks.training.curves import Curves, RunProgress
from ringtasks.training.logs.lines import LineSplitter
from tests.support.training import curves_of

LOGS = Path(__file__).parents[1] / "logs"
PLACES = ("epoch", "step", "batch", "round", "sample")


def points_of(log: str) -> dict[str, list[dict[str, Any]]]:
    """Return the points of each metric of a log."""
    curves = curves_of([[log.encode()]])
    return {name: list(curves.objects(name)) for name in curves.names}


def values_of(log: str) -> dict[str, list[float]]:
    return {name: [point["value"] for point in points] for name, points in points_of(log).items()}


def normalized(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


# --- whole logs ------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", sorted(LOGS.glob("*.truth")), ids=lambda path: path.stem)
def test_log_of_a_real_trainer_gives_its_reported_curves(truth: Path) -> None:
    curves = curves_of([[truth.with_suffix(".log").read_bytes()]], max_points=None)
    read = {normalized(name): list(curves.objects(name)) for name in curves.names}

    expected: dict[str, list[dict[str, Any]]] = {}
    for line in truth.read_text().splitlines():
        point = json.loads(line)
        expected.setdefault(normalized(point["metric"]), []).append(point)
    for name, points in expected.items():
        assert len(read[name]) == len(points), name
        for got, wanted in zip(read[name], points, strict=True):
            assert got["value"] == pytest.approx(wanted["value"], rel=5e-3, abs=5e-5, nan_ok=True)
            places = {key: place for key, place in wanted.items() if key not in ("metric", "value")}
            assert {key: got.get(key) for key in places} == places, name


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda path: path.stem)
def test_x_values_of_a_curve_are_sorted_and_distinct(log: Path) -> None:
    curves = curves_of([[log.read_bytes()]], max_points=None)

    for name in curves.names:
        xs = [point["x"] for point in curves.objects(name)]
        assert xs == sorted(set(xs)), name  # type: ignore[type-var]


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda path: path.stem)
def test_first_metric_of_a_log_changes_during_training(log: Path) -> None:
    curves = curves_of([[log.read_bytes()]], max_points=None)

    values = curves.curve(curves.names[0]).ys
    assert len(set(values)) > 1 or len(values) == 1


@pytest.mark.parametrize("log", sorted(LOGS.glob("*.log")), ids=lambda path: path.stem)
def test_followed_log_gives_the_same_points_as_the_whole_log(log: Path) -> None:
    whole, followed = Curves(), Curves()
    text = log.read_bytes()
    whole.feed(text)
    for start in range(0, len(text), 17):
        followed.feed(text[start : start + 17])
    whole.end()
    followed.end()

    assert {n: list(whole.objects(n)) for n in whole.names} == {
        n: list(followed.objects(n)) for n in followed.names
    }


# --- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ("loss=0.12", {"loss": 0.12}),
        ("loss: 0.12, acc: 91.2%", {"loss": 0.12, "acc": 91.2}),
        ("train/loss: 1.5e-3 | lr=1e-4", {"train/loss": 0.0015, "lr": 0.0001}),
        ("iter 100: loss 2.3456, time 12.34ms", {"loss": 2.3456}),
        ("step 0: train loss 4.28, val loss 4.27", {"train_loss": 4.28, "val_loss": 4.27}),
        ("[rank0]: loss=1", {"loss": 1.0}),
        ("val_loss=-inf", {"val_loss": -math.inf}),
        ("Test set: Average loss: 0.0501, Accuracy: 9833/10000 (98%)", {"test_loss": 0.0501}),
        ("loss: 0.5.", {"loss": 0.5}),
        ("Epoch: 1/5 Train steps: 9 Val steps: 3 1.2s loss: 0.5 val_loss: 0.4",
         {"loss": 0.5, "val_steps": 3, "val_loss": 0.4}),
        ("Training acc over epoch: 0.7", {"training_acc": 0.7}),
        ("Generator loss: 1 Discriminator loss: 2", {"generator_loss": 1, "discriminator_loss": 2}),
        ("epoch 1 train: loss 0.1, acc 1; val: loss 0.2, acc 2",
         {"train_loss": 0.1, "train_acc": 1, "val_loss": 0.2, "val_acc": 2}),
        ("[7]\tvalid_0's l2: 0.5\tvalid_1's l2: 0.6", {"valid_0's l2": 0.5, "valid_1's l2": 0.6}),
        ("Epoch(val) [1][10/10]  accuracy/top1: 50.0", {"val_accuracy/top1": 50.0}),
        ("| epoch   1 |   200/ 2983 batches | lr 20.00 | loss  7.62 | ppl  2042.94",
         {"lr": 20.0, "loss": 7.62, "ppl": 2042.94}),
    ],
)  # fmt: skip
def test_line_gives_its_metrics(line: str, metrics: dict[str, float]) -> None:
    assert values_of(line) == {name: [value] for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ("{'loss': '2.341', 'learning_rate': '5e-05', 'epoch': '0.5'}",
         {"loss": 2.341, "learning_rate": 5e-5}),
        ('{"num_updates": "100", "loss": "12.3"}', {"loss": 12.3}),
        ("{'loss': 0.3, 'learning_rate': 5e-05}", {"loss": 0.3, "learning_rate": 5e-5}),
        ('{"loss": 0.5, "lr": null, "done": true, "note": "3"}', {"loss": 0.5}),
        ("{'step': 1, 'loss': np.float64(0.25)}", {"loss": 0.25}),
        ("{'loss': tensor(0.25, device='cuda:0', grad_fn=<NllLossBackward0>)}", {"loss": 0.25}),
        ("{'loss': Array(0.25, dtype=float32), 'norms': [1.0, 2.0], 'lr': [0.1]}",
         {"loss": 0.25, "lr": 0.1}),
        ("{'loss': <tf.Tensor: shape=(), dtype=float32, numpy=0.25>}", {"loss": 0.25}),
        ('{"train": {"loss": 0.1}, "val": {"loss": 0.2}, "step": 3}',
         {"train.loss": 0.1, "val.loss": 0.2}),
        ('{"step": 3, "metrics": {"loss": 0.1}}', {"loss": 0.1}),
        ('{"split": "val", "loss": 0.3, "epoch": 1}', {"val_loss": 0.3}),
        ('{"metric": "loss", "value": 0.1, "step": 3}', {"loss": 0.1}),
        ('{"level": "INFO", "message": "step 3 loss=0.1"}', {"loss": 0.1}),
        ("INFO:root:epoch 3: {'loss': 0.5, 'acc': np.float32(0.9)}", {"loss": 0.5, "acc": 0.9}),
        ("epoch 3 train: {'loss': 0.5} val: {'loss': 0.6}", {"train_loss": 0.5, "val_loss": 0.6}),
        ('{\n  "step": 3,\n  "loss": 0.1\n}', {"loss": 0.1}),
    ],
)  # fmt: skip
def test_printed_dict_gives_its_metrics(line: str, metrics: dict[str, float]) -> None:
    assert values_of(line) == {name: [value] for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("line", "metric", "point"),
    [
        # fairseq, log formats "simple" and "json"
        ("2021-01-01 00:00:00 | INFO | train_inner | epoch 001:     10 / 100 loss=5.3, ppl=29.9, "
         "wps=1234, num_updates=10, lr=1e-05", "train_inner_loss",
         {"value": 5.3, "epoch": 1, "batch": 10, "total_batches": 100, "step": 10}),
        ("2021-01-01 00:00:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 5.1 | "
         "ppl 26 | num_updates 100", "valid_loss", {"value": 5.1, "epoch": 1, "step": 100}),
        ('2021-01-01 00:00:00 | INFO | train | {"epoch": 1, "train_loss": "5.3", '
         '"train_num_updates": "100"}', "train_loss", {"value": 5.3, "epoch": 1, "step": 100}),
        # torchtitan
        ("[rank0]:[titan] 2025-02-01 10:00:00,123 - root - INFO - \x1b[31mstep:  1  \x1b[32mloss: "
         "12.2539  \x1b[34mtps: 1,234  \x1b[39m", "loss", {"value": 12.2539, "step": 1}),
        # torchtune
        ("1|7|Loss: 1.25: 100%|██████████| 6/6 [00:00<00:00, 9.1it/s]", "Loss",
         {"value": 1.25, "epoch": 1, "step": 7}),
        # Megatron-LM
        (" [2025-02-01 10:00:00] iteration       10/    1000 | consumed samples:           80 | "
         "lm loss: 9.100000E+00 | loss scale: 1.0 |", "lm_loss",
         {"value": 9.1, "step": 10, "total_steps": 1000}),
        # DeepSpeed
        ("[2025-02-01 10:00:00,000] [INFO] [timer.py:260:stop] epoch=0/micro_step=10/"
         "global_step=10, CurrSamplesPerSec=80.2, MemAllocated=0.1GB", "CurrSamplesPerSec",
         {"value": 80.2, "epoch": 0, "step": 10}),
        ("steps: 10 loss: 0.5 iter time (s): 0.1 samples/sec: 80.0", "loss",
         {"value": 0.5, "step": 10}),
        # llm.c
        ("step 1/20 | loss 10.982 (+nanz)| norm 1.2345 (+nanz)| lr 1.00e-04 | 123.45 ms", "loss",
         {"value": 10.982, "step": 1, "total_steps": 20}),
        # MaxText
        ("completed step: 1, seconds: 1.2, TFLOP/s/device: 12.3, loss: 10.876", "loss",
         {"value": 10.876, "step": 1}),
        # verl
        ("step:1 - actor/kl_loss:0.001 - critic/score/mean:0.25 - training/global_step:1.000",
         "critic/score/mean", {"value": 0.25, "step": 1}),
        # detectron2
        ("[01/01 00:00:00 d2.utils.events]:  eta: 0:01:00  iter: 19  total_loss: 1.2  lr: 0.0001  "
         "max_mem: 100M", "total_loss", {"value": 1.2, "step": 19}),
        # torchvision's references, Swin, YOLOX
        ("Epoch: [0]  [  10/100]  eta: 0:01:00  lr: 0.1  loss: 6.9 (6.9)  time: 0.1  max mem: 100",
         "loss", {"value": 6.9, "epoch": 0, "batch": 10, "total_batches": 100}),
        ("Train: [0/90][100/5004]\teta 0:10:00 lr 0.0001\tloss 6.9 (6.95)\tmem 1234MB",
         "train_loss", {"value": 6.9, "epoch": 0, "total_epochs": 90, "batch": 100}),
        ("2025-02-01 10:00:00.123 | INFO     | yolox.core.trainer:after_iter:262 - epoch: 1/300, "
         "iter: 10/100, mem: 1234Mb, total_loss: 12.3, ETA: 1:00:00", "total_loss",
         {"value": 12.3, "epoch": 1, "step": 10, "total_steps": 100}),
        # PyTorch's tutorials and examples
        ("[2,  2000] loss: 1.250", "loss", {"value": 1.25, "epoch": 2, "batch": 2000}),
        ("[12/25][300/1583]\tLoss_D: 0.4321\tD(x): 0.8765\tD(G(z)): 0.1234 / 0.0567", "D(x)",
         {"value": 0.8765, "epoch": 12, "batch": 300}),
        ("====> Epoch: 1 Average loss: 164.1234", "loss", {"value": 164.1234, "epoch": 1}),
        ("Episode 100\tLast reward: 35.00\tAverage reward: 28.75", "last_reward",
         {"value": 35.0, "episode": 100}),
        # PyTorch Geometric, text classification with two sets on a line
        ("Epoch: 001, Loss: 1.9451, Train: 0.2857, Val: 0.1640", "Val",
         {"value": 0.164, "epoch": 1}),
        ("Epoch: 10 | Train Loss: 0.345 | Val. Loss: 0.301 |  Val. Acc: 87.54%", "val_loss",
         {"value": 0.301, "epoch": 10}),
        # Flair, OpenNMT, Marian
        ("2021-01-01 00:00:00,000 epoch 1 - iter 10/100 - loss 1.25 - samples/sec: 80.0", "loss",
         {"value": 1.25, "epoch": 1, "step": 10, "total_steps": 100}),
        ("Step 50/100000; acc: 5.1; ppl: 1234.5; 1234/1234 tok/s;     10 sec;", "ppl",
         {"value": 1234.5, "step": 50, "total_steps": 100_000}),
        ("Ep. 1 : Up. 100 : Sen. 10,000 : Cost 9.5123 * 12,345 @ 123 after 12,345", "Cost",
         {"value": 9.5123, "epoch": 1, "step": 100}),
        # TensorFlow's Estimator, Keras' custom loops, MXNet, MindSpore
        ("INFO:tensorflow:loss = 0.123, step = 100 (0.123 sec)", "loss",
         {"value": 0.123, "step": 100}),
        ("Training loss (for one batch) at step 0: 132.2082", "training_loss",
         {"value": 132.2082, "step": 0}),
        ("Epoch[0] Batch [100]\tSpeed: 1234.5 samples/sec\taccuracy=0.512345", "accuracy",
         {"value": 0.512345, "epoch": 0, "batch": 100}),
        ("epoch:  1 step:  10, loss is 2.3012", "loss", {"value": 2.3012, "epoch": 1, "step": 10}),
        # LightGBM's command line
        ("[LightGBM] [Info] Iteration:10, training auc : 0.9", "training_auc",
         {"value": 0.9, "step": 10}),
        # Catalyst, ESPnet, PyTorch's DDP tutorial
        ("2/3 * Epoch (train): loss: 0.7 | accuracy01: 0.6", "train_loss",
         {"value": 0.7, "epoch": 2, "total_epochs": 3}),
        ("[gpu] 2025-01-01 10:00:00,000 (trainer:763) INFO: 1epoch:train:51-100batch: "
         "forward_time=0.2, loss_ctc=90.1, loss=60.5, train_time=1.0", "train_loss",
         {"value": 60.5, "epoch": 1, "batch": 100}),
        ("Epoch 3 | GPU 0 | Training loss 0.25", "training_loss", {"value": 0.25, "epoch": 3}),
        # bars that count images, samples or batches; Composer, Ray's actors
        ("Epoch 1/5:  50%|#####     | 500/1000 [00:05<00:05, 98.1img/s, loss (batch)=0.25]",
         "loss(batch)", {"value": 0.25, "epoch": 1, "sample": 500, "total_samples": 1000}),
        ("train:  50%|#####     | 500/1000 [00:05<00:05, 98.12 samples/s, loss=0.25]", "loss",
         {"value": 0.25, "sample": 500}),
        ("train  Epoch 0: 1%|#| 1/100 [00:01<01:40,  1.0ba/s, loss/train/total=2.3]",
         "loss/train/total", {"value": 2.3, "epoch": 0, "batch": 1, "total_batches": 100}),
        ("[epoch=1][batch=10/100]:\n\t Train time/epoch: 0\n\t Train loss/train/total: 2.3",
         "loss/train/total", {"value": 2.3, "epoch": 1, "batch": 10}),
        ("[t] 2025-01-01 10:00:00,000 (trainer:338) INFO: 2epoch results: [train] loss=60.5, "
         "[valid] loss=50.5", "valid_loss", {"value": 50.5, "epoch": 2}),
        # MMEngine by iterations, RSL-RL, scikit-learn's LDA
        ("06/01 10:00:00 - mmengine - INFO - Iter(val) [10/10]    mIoU: 40.1", "val_miou",
         {"value": 40.1}),
        ("Learning iteration 3/1500\n  Value function loss: 0.12", "value_function_loss",
         {"value": 0.12, "step": 3, "total_steps": 1500}),
        ("iteration: 1 of max_iter: 10, perplexity: 12.5", "perplexity",
         {"value": 12.5, "step": 1, "total_steps": 10}),
        # logfmt, Ray's actors
        ('time="2025-02-01T10:00:00Z" level=info msg="epoch done" epoch=1 loss=0.5', "loss",
         {"value": 0.5, "epoch": 1}),
        ("(RayTrainWorker pid=1234, ip=192.0.2.2) epoch 1 loss=0.5", "loss",
         {"value": 0.5, "epoch": 1}),
    ],
)  # fmt: skip
def test_line_of_a_trainer_is_parsed_as_its_source_prints_it(
    line: str, metric: str, point: dict[str, float]
) -> None:
    (found,) = points_of(line)[metric]

    assert {key: found.get(key) for key in point} == point


@pytest.mark.parametrize(
    "line",
    [
        "[rank 1]: loss=1\n[rank 0]: loss=2",
        "[default12]: loss=1\n[default0]: loss=2",
        '{"rank": 3, "loss": 1}\n{"rank": 0, "loss": 2}',
        "Epoch 0 | GPU 1 | loss: 1\nEpoch 0 | GPU 0 | loss: 2",
        "[GPU1] Epoch 0 | loss 1\n[GPU0] Epoch 0 | loss 2",
        "1: step 5 loss 1\n0: step 5 loss 2",
        "trainer-1  | step 5 loss 1\ntrainer-0  | step 5 loss 2",
        "Process 1: step 5 loss 1\nProcess 0: step 5 loss 2",
        "worker 1 | epoch 5 | loss 1\nworker 0 | epoch 5 | loss 2",
        "cuda:1 step 5 loss 1\ncuda:0 step 5 loss 2",
        "10:00:00 - INFO - [RANK 1] loss: 1\n10:00:00 - INFO - [RANK 0] loss: 2",
    ],
)  # fmt: skip
def test_metrics_are_read_from_the_first_rank_only(line: str) -> None:
    assert values_of(line) == {"loss": [2.0]}


@pytest.mark.parametrize(
    "log",
    [
        "Fold 1\nEpoch 1 loss: 1\nFold 2\nEpoch 1 loss: 2",
        "===== Fold 1/5 =====\nEpoch 1/2 - loss: 1\n===== Fold 2/5 =====\nEpoch 1/2 - loss: 2",
        "Training fold 1 ...\nepoch 1 loss 1\nTraining fold 2 ...\nepoch 1 loss 2",
        "fold 1 epoch 1 loss 1\nfold 2 epoch 1 loss 2",
        '{"fold": 1, "epoch": 1, "loss": 1}\n{"fold": 2, "epoch": 1, "loss": 2}',
        "Fold 1 Epoch 1: 100%|#####| 2/2 [00:00<00:00, 9.0it/s, loss=1]\n"
        "Fold 2 Epoch 1: 100%|#####| 2/2 [00:00<00:00, 9.0it/s, loss=2]",
        "Fold 1\nEpoch 1/1\n2/2 [=====] - 0s 1ms/step - loss: 1.0\n"
        "Fold 2\nEpoch 1/1\n2/2 [=====] - 0s 1ms/step - loss: 2.0",
    ],
)
def test_folds_of_a_cross_validation_have_curves_of_their_own(log: str) -> None:
    assert values_of(log) == {"fold_1/loss": [1.0], "fold_2/loss": [2.0]}


def test_trials_of_a_search_have_curves_of_their_own() -> None:
    end = "finished with value: 0.8 and parameters: {'lr': 0.001}. Best is trial 0 with value: 0.8."
    unnamed = f"epoch 1 loss 1\n[I 10:00:01] Trial 0 {end}\nepoch 1 loss 2\nTrial 1 {end}"
    named = "[Trial 0] epoch 1 loss 1\n[Trial 1] epoch 1 loss 2"

    assert values_of(unnamed) == {"loss": [1.0], "trial_1/loss": [2.0]}
    assert values_of(named) == {"trial_0/loss": [1.0], "trial_1/loss": [2.0]}


def test_values_that_are_not_finite_are_not_part_of_a_name() -> None:
    assert values_of("step 2 loss inf acc 0.5") == {"loss": [math.inf], "acc": [0.5]}


@pytest.mark.parametrize(
    "line",
    [
        "at 12:30:01 from http://x:80/ ip=10.1.2.3 version=1.2.3 pid=17",
        "seed: 7, world_size=8, num_epochs=3, took: 12ms",
        "no numbers here: none",
        '{"broken": ',
        '{"loss": 0.1',
        "[1, 2]",
        "Namespace(batch_size=4, lr=0.1, loss_weight=0.5, loss=0.5)",
        "engine/trainer: amp=True, batch=16, epochs=3, box=7.5, cls=0.5, iou=0.7, time=None",
        "python train.py --lr 0.1 --loss=0.5 --epochs 3",
        "{'lr': 0.001, 'batch_size': 4, 'epochs': 3, 'loss': 'mse'}",
        "Adam (lr: 0.001, weight_decay: 0, amsgrad: False, loss: 3)",
        "[LightGBM] [Warning] No further splits with positive gain, best gain: -inf",
        "[LightGBM] [Info] [binary:BoostFromScore]: pavg=0.503333 -> initscore=0.013334",
        "[LightGBM] [Info] Start training from score 0.013334",
        "UserWarning: loss: 0.5 is deprecated",
        "x.py:3: UserWarning: no\n  loss = 0.5",
        "Epoch 00003: val_loss improved from 0.6 to 0.5, saving model to x.h5",
        "*** Best metric: 50.0 (epoch 0)",
        "Overriding: loss_scale = 128",
        "W0101 10:00:00.000000 1 x.cc:3] loss 5.0 is too large",
        "[W1126 15:45:32.884935668 socket.cpp:207] [c10d] The hostname of the client socket cannot"
        " be retrieved. err=-3",
        "[rank 0]: [rank0]:[W1126 15:45:36.5 ProcessGroupNCCL.cpp:1575] loss 5.0",
        "model:\n  dropout: 0.1\n  loss:\n    focal_loss: 2.0\noptim:\n  lr: 0.1",
        "wandb:     loss 0.1",
        "epoch 1: loss 0.9 -> 0.5",
        "epoch 2 | best_loss: 0.4",
        "epoch 2: best: 0.4 @ epoch 1",
        "epoch 1: loss: 0.9 → 0.5",
        "Total training time: 24.4s, final loss 0.4",
        "[CV 1/5] END ....C=0.1, gamma=1;, score=0.933 total time=   0.0s",
        "loss: 0,5",
        "loss: 1.5.2",
        "loss: 3/4",
        "loss: 12ms",
        "loss: 1e999",
        "loss=[0.1, 0.2]",
    ],
)
def test_ambiguous_line_gives_no_metric(line: str) -> None:
    assert values_of(line) == {}


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("epoch 3/100 loss=1", {"epoch": 3, "total_epochs": 100}),
        ("Epoch [3/100], Loss: 0.1", {"epoch": 3, "total_epochs": 100}),
        ("Epoch [0]/[199]\tloss: 0.5", {"epoch": 0, "total_epochs": 199}),
        ("Epoch 1 i=20/530 loss=0.5", {"epoch": 1, "batch": 20, "total_batches": 530}),
        ("batch_idx: 20/530 loss=0.5", {"batch": 20, "total_batches": 530}),
        ("step 10 of 500 loss=1", {"step": 10, "total_steps": 500}),
        ("step 1,000/10,000 loss=1", {"step": 1000, "total_steps": 10_000}),
        ("iter 100: loss 2.3", {"step": 100}),
        ("epoch 3/0 loss=1", {"epoch": 3}),
        ("[batch=20/1000]:\n\t Train time/batch: 9\n\t Train loss: 4.1",
         {"batch": 20, "total_batches": 1000}),
        ('{"epoch": 2, "epochs": 8, "loss": 1}', {"epoch": 2, "total_epochs": 8}),
        ('{"global_step": 20, "max_steps": 50, "loss": 1}', {"step": 20, "total_steps": 50}),
        ("Epoch: [0][ 10/5005]\tLoss 6.9e+00 (7.0e+00)",
         {"epoch": 0, "batch": 10, "total_batches": 5005}),
        ("Train: 0 [   2/6 ( 17%)]  Loss: 0.738 (0.738)",
         {"epoch": 0, "batch": 2, "total_batches": 6}),
        ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.3",
         {"epoch": 1, "sample": 640, "total_samples": 60000}),
        ("[7]\ttrain-logloss:0.5\ttrain-error:0.1", {"round": 7}),
        ("[7/50] train loss: 0.5", {"step": 7, "total_steps": 50}),
        ("Epoch 2\n-----\nstep 5: loss=1", {"epoch": 2, "step": 5}),
        (" 45%|####      | 1.00k/20.0k [00:01<00:01, 30it/s, loss=1]",
         {"step": 1000, "total_steps": 20_000}),
    ],
)  # fmt: skip
def test_line_gives_its_epoch_and_step(line: str, place: dict[str, float]) -> None:
    (points, *_) = points_of(line).values()

    assert {key: points[0].get(key) for key in place} == place
    assert not {key for key in PLACES if key in points[0]} - set(place)


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ("\x1b[31mstep:  1  \x1b[32mloss: 12.26\x1b[39m", {"loss": [12.26]}),
        ("loss=\x1b[36m0.1\x1b[0m", {"loss": [0.1]}),
        ("step 3 perplexity: 6,666.7", {"perplexity": [6666.7]}),
        ('{"step": 3, "loss": Infinity}', {"loss": [math.inf]}),
        ("\rstep 1 loss=3\rstep 2 loss=2\r\n", {"loss": [3.0, 2.0]}),
        ("step 1 loss=3\x08\x08\x08step 2 loss=2", {"loss": [3.0, 2.0]}),
        ("\x1b]0;title loss=5\x07step 1 loss=3", {"loss": [3.0]}),
    ],
)
def test_numbers_are_parsed_despite_colours_redrawn_lines_and_separators(
    line: str, metrics: dict[str, list[float]]
) -> None:
    assert values_of(line) == metrics


def test_nan_loss_is_read_as_nan() -> None:
    assert math.isnan(values_of("loss=nan")["loss"][0])
    assert math.isnan(values_of('{"loss": NaN}')["loss"][0])


@given(st.text(max_size=300))
def test_no_log_line_raises_an_error(line: str) -> None:
    points_of(line)
    points_of("{" + line + "}")
    points_of(f"loss: {line}\n| epoch {line} | 1/{line}\n50%|#| 1/2 [0, {line}]")


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_parsed_lines_do_not_depend_on_log_chunk_boundaries(log: bytes, cuts: list[int]) -> None:
    whole, cut = LineSplitter(), LineSplitter()
    places = [0, *sorted(min(place, len(log)) for place in cuts), len(log)]

    expected = [whole.feed(log), whole.rest()]
    pieces = [log[start:end] for start, end in itertools.pairwise(places)]
    got = [*map(cut.feed, pieces), cut.rest()]

    assert [*filter(None, b"\n".join(got).split(b"\n"))] == [
        *filter(None, b"\n".join(expected).split(b"\n"))
    ]


# --- state over lines ------------------------------------------------------------------------


def test_training_and_validation_metrics_do_not_share_a_curve() -> None:
    log = (
        "Epoch 1/2\ntrain Loss: 3 Acc: 0.1\nval Loss: 4 Acc: 0.2\nEpoch 2/2\ntrain Loss: 1 Acc: 0.5"
    )

    points = points_of(log)

    assert [(p["epoch"], p["value"]) for p in points["train_loss"]] == [(1, 3), (2, 1)]
    assert [(p["epoch"], p["value"]) for p in points["val_loss"]] == [(1, 4)]
    assert [(p["epoch"], p["value"]) for p in points["val_acc"]] == [(1, 0.2)]


def test_points_within_an_epoch_lie_between_it_and_the_next() -> None:
    points = points_of(
        "\n".join(f"epoch {e} step {s}/4 loss={e + s}" for e in (1, 2) for s in (1, 4))
    )

    assert [(p["axis"], p["x"]) for p in points["loss"]] == [
        ("epoch", 0.25), ("epoch", 1), ("epoch", 1.25), ("epoch", 2),
    ]  # fmt: skip


def test_points_before_a_resume_are_replaced_by_those_after_it() -> None:
    points = points_of(
        "step 1 loss 9\nstep 2 loss 8\nstep 3 loss 7\n"
        "INFO: Resuming training from checkpoint ckpt-1\nstep 2 loss 6\nstep 3 loss 5"
    )

    assert [(p["axis"], p["x"], p["value"]) for p in points["loss"]] == [
        ("step", 1, 9), ("step", 2, 6), ("step", 3, 5),
    ]  # fmt: skip


def test_ultralytics_rows_followed_by_a_progress_bar_are_parsed() -> None:
    def bar(done: int) -> str:
        return f"{done * 25}%|{'█' * done}| {done}/4 [00:02<00:00,  1.9it/s]"

    log = "".join(
        "      Epoch    GPU_mem   box_loss   cls_loss  Instances       Size\n"
        f"        {n}/2         0G      1.{n}       2.{n}         12        640: {bar(2)}\r"
        f"        {n}/2         0G      1.{n}5      2.{n}5        12        640: {bar(4)}\n"
        "           Class     Images  Instances      Box(P          R      mAP50  mAP50-95): "
        f"{bar(4)}\n           all          4         17        0.1      0.2     0.3     0.{n}\n"
        for n in (1, 2)
    )

    found = points_of(log)

    assert [(p["epoch"], p["value"]) for p in found["box_loss"]] == [(1, 1.15), (2, 1.25)]
    assert [(p["epoch"], p["value"]) for p in found["mAP50-95"]] == [(1, 0.1), (2, 0.2)]


def test_value_printed_twice_gives_one_point() -> None:
    assert values_of("[1]\ttrain's auc: 0.5\nBest:\n[1]\ttrain's auc: 0.5") == {
        "train's auc": [0.5]
    }


def test_redrawn_progress_bar_is_read_at_every_state() -> None:
    curves = curves_of([[b" 10%|# | 1/10 [a, loss=3]\r 20%|##| 2/10 [a, loss=2]\r"]])

    assert curves.curve("loss").ys == (3.0, 2.0)
    assert curves.curve("loss").xs == (1.0, 2.0)


def test_progress_is_that_of_the_outermost_bar_with_a_total() -> None:
    curves = curves_of([[b"epoch 2/4\nstep 7/10\n"]])

    assert curves.progress == RunProgress("epoch", 2, 4)
    assert curves.fraction == 0.5
    assert curves_of([[b"epoch 2\nstep 7/10\n"]]).fraction == 0.7
    assert curves_of([[b"epoch 2\n"]]).fraction is None


def test_progress_bar_within_an_epoch_is_not_the_progress_of_the_run() -> None:
    curves = curves_of([[b"Epoch 0: 100%|##| 10/10 [00:00<00:00, 9it/s, loss=3]\r"]])

    assert curves.fraction is None


def test_validation_of_yolov5_and_its_older_versions_belongs_to_the_epoch() -> None:
    log = """\
      Epoch    GPU_mem   box_loss   obj_loss   cls_loss  Instances       Size
        0/2      0.84G    0.04512    0.06789    0.01234        123        640: 100%|###| 8/8 [00:05<00:00,  1.5it/s]
                 Class     Images  {}: 100%|###| 4/4 [00:01<00:00,  2.2it/s]
                   all        128        929      0.678      0.534      0.617      0.405
"""  # noqa: E501  # as it is printed
    for columns in (
        "Instances          P          R      mAP50   mAP50-95",
        "   Labels          P          R     mAP@.5 mAP@.5:.95",
    ):
        points = points_of(log.format(columns))
        assert [(point["epoch"], point["value"]) for point in points["mAP50-95"]] == [(0, 0.405)]
        assert [point["value"] for point in points["box_loss"]] == [0.04512]


def test_accuracy_of_an_ultralytics_classifier_belongs_to_the_epoch() -> None:
    points = points_of(
        "      Epoch    GPU_mem       loss  Instances       Size\n"
        "     1/3      1.23G      1.234   16        224: 100%|##| 8/8 [00:02<00:00, 3it/s]\n"
        "               classes   top1_acc   top5_acc: 100%|##| 4/4 [00:01<00:00,  3it/s]\n"
        "                   all      0.642      0.936\n"
    )

    assert [(point["epoch"], point["value"]) for point in points["top1_acc"]] == [(1, 0.642)]


def test_result_of_rllib_goes_on_after_a_dict_in_it() -> None:
    log = "Result for PPO_a1b2_00000:\n  episode_reward_mean: 22.5\n  info:\n    learner:\n" + (
        "      total_loss: 8.9\n  timesteps_total: 4000\n  training_iteration: 1\n\n"
    )

    points = points_of(log)["PPO_a1b2_00000/episode_reward_mean"]

    assert [(point["step"], point["value"]) for point in points] == [(4000, 22.5)]
    assert len(points_of(log)) == 1

"""Numbers of a log that are no metrics, or only under a fuller name."""

from __future__ import annotations

import pytest

from tests.support.training import curves_of


def values_of(log: str) -> dict[str, list[float]]:
    curves = curves_of([[log.encode()]])
    return {name: [point["value"] for point in curves.objects(name)] for name in curves.names}


LOSS = "step 1 loss 3\n"


@pytest.mark.parametrize(
    "log",
    [
        "Config:\nTrainerConfig(\n    steps=30,\n    rgb_loss_scale=1.0,\n    depth_loss=0.5,\n)\n",
        "model = dict(\n    head=dict(\n        test_acc=1.5,\n    ),\n)\n",
        "I 10:00 Model: DistributedDataParallel(\n  (drop): Dropout(p=0.1)\n  loss=0.5\n)\n",
        "SOLVER:\n  STEPS: [40, 70]\n  CENTER_LOSS: 0.0005\nMODEL:\n  IOU_THRESHOLDS: [0.5]\n",
        "(Worker pid=71) {'actor': {'target_kl': 0.1,\n(Worker pid=71)  'kl_loss': 0.01,\n",
        "2026-01-02 10:00:00,123 - INFO -   'cls_loss': 0.5,\n",
        "+ LOSS=1\n++ MAX_ERROR=2\n+ python3 train.py loss.alpha=0.5 val.loss=1\n",
        "export HYDRA_FULL_ERROR=1\nset the environment variable HYDRA_FULL_ERROR=1 to see it\n",
        "[1/6] Loading 3 shards of the data\n[6/6] Saving the model\n",
        "max GPU_mem cost is 3806.5 MB\nmemory error: 12 GiB\n",
        "mAP@0.50:0.95\nval mAP_0.5:0.95\n",
        "[1/3] c++ -MMD -DUSE_LOSS=0 -D_GLIBCXX_USE_ABI=0 -c x.cpp -o x.o\n[2/3] nvcc -DERROR=1\n",
        "accuracy: 100% 313/313 [11:14<00:00,  3.02s/it]\n",
        "Step 2: Loading the data\n**Step 3: Calculate the total distance**\n",
        "  name = crf_loss/transition:0, shape = (17, 17), *INIT_FROM_CKPT*\n",
        "        val_loss = 0\n        for _ in range(val_steps):\n",
        "[step=1] Preserving the checkpoint (on keep_period=5000)\n",
        "Jaccard distance computing time cost: 64.15\nMax accuracy: 0.5%\n",
        "Traceback (most recent call last):\nKeyError: 8\n",
        "125 iterations per epoch. 12500 in all\nTokens / optimizer step : 32,768\n",
        "10:00:01 | did not beat best ppl: 5.1 impatience: 1\nimproving ppl: inf --> 5.25.\n",
        "MODEL:\n  LR: 0.1\nTRAIN:\n  k_mse: 1.0\nWORKERS: 6\n",
        "to use it, with a note or not,\nit, with a note or not,\n1, 2, 3\n",
        "it, no job of another user has reserved it, even\n1, 2, 3\n",
        "[NeMo I 2026-01-02 10:00:00 wer_bpe:300] reference: a b\n[NeMo W 10:00 x:7] loss=5\n",
        "step 1 loss: 1.#QNAN\n",
        "fps step: 9000 fps step and policy inference: 8000 fps total: 7000\n",
    ],
)  # fmt: skip
def test_settings_stages_and_sizes_are_no_metrics(log: str) -> None:
    curves = curves_of([[(log + LOSS).encode()]])

    assert values_of(log + LOSS) == {"loss": [3]}
    assert curves.progress is not None
    assert (curves.progress.done, curves.progress.total) == (1, None)


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        (
            "2026-01-02 10:00:00.123\tnode-03:0\tolmo.train:990\tINFO\t[step=1/10] loss=0.5",
            {"loss": [0.5]},
        ),
        ("2026-01-02 10:00:00 host=a rank:3 app.train INFO: step 1 loss=0.5", {"loss": [0.5]}),
        (
            "step 1: Time (mins): 0.015, loss: 0.5, data 3 s, save_duration_secs: 5, get_secs=3",
            {"loss": [0.5]},
        ),
        (
            "Epoch: 20 | mAP@0.5: 0.3 | mAP@0.50:0.95: 0.1",
            {"mAP@0.5": [0.3], "mAP@0.50:0.95": [0.1]},
        ),
        ("epoch 1 mAP_0.5:0.95=0.1 mAP_0.5=0.3", {"mAP_0.5:0.95": [0.1], "mAP_0.5": [0.3]}),
        ("AP@[0.5:0.95]: 0.1, AP@[0.5]: 0.3", {"AP@0.5:0.95": [0.1], "AP@0.5": [0.3]}),
        (
            "accuracy:  97.9%; precision:  80.5%\n  PARK: precision:   70.5%; recall:  60.0%",
            {"accuracy": [97.9], "precision": [80.5], "park_precision": [70.5],
             "park_recall": [60]},
        ),
        (
            "Generator: loss: 0.5, Discriminator: loss: 0.4, lr: 0.1",
            {"generator_loss": [0.5], "discriminator_loss": [0.4], "lr": [0.1]},
        ),
        ("Loss: total: 0.5, cls: 0.3", {"loss_total": [0.5], "loss_cls": [0.3]}),
        ("Validation - Decoder: loss: 0.5", {"validation_decoder_loss": [0.5]}),
        ("Metrics: loss: 0.5, acc: 0.9", {"loss": [0.5], "acc": [0.9]}),
        ("[NEW BEST] Epoch #0: train_loss=0.5, time=0.9s", {"train_loss": [0.5]}),
        ("Episode: 10, reward: 20, done: True", {"reward": [20]}),
        ("iter 100:, hard_loss=0.5, mode='full'", {"hard_loss": [0.5]}),
        ("<epoch: 10, Average PSNR : 18.25dB, SSIM: 0.5dBm", {"PSNR": [18.25]}),
        ("Prec@1   0 4.125 (2.5)\tPrec@5 05 9.5 (8.5)", {}),
        ("Prec@1     4.125 (2.5)\tPrec@5     9.5 (8.5)", {"Prec@1": [4.125], "Prec@5": [9.5]}),
        ("train --- batch:200/1600  loss:[ 0.5]", {"train_loss": [0.5]}),
        ("Epoch 2 - Validation BLEU: BLEU-1 71.5, BLEU-2 65.5",
         {"validation_bleu_bleu-1": [71.5], "validation_bleu_bleu-2": [65.5]}),
        ("RMSE 30.5, MAPE 0.25", {"RMSE": [30.5], "MAPE": [0.25]}),
        ("Accuracy on Test-Set: 10.5% (1050 / 10000)", {"test_accuracy": [10.5]}),
        ("Nov 26 10:00:00 box python3[1234]: [1]    train-rmse:0.5", {"train-rmse": [0.5]}),
        ("(train, pid=1234) epoch 1/2 loss 0.5", {"loss": [0.5]}),
        ("[32mepoch 1/9 [1mloss=0.5[0m", {"loss": [0.5]}),
        ("^[[32mepoch 1/9 #033[1mloss=0.5^[[0m", {"loss": [0.5]}),
        ("current step: 1th step\nbatch loss:0.5", {"batch_loss": [0.5]}),
    ],
)  # fmt: skip
def test_metrics_keep_the_words_that_tell_them_apart(
    line: str, metrics: dict[str, list[float]]
) -> None:
    assert values_of(line) == metrics

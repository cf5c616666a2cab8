"""Metrics of two parts of the data, or of two ranks, never share a curve."""

from __future__ import annotations

import pytest

from tests.support.training import curves_of


def values_of(log: str) -> dict[str, list[float]]:
    curves = curves_of([[log.encode()]])
    return {name: [point["value"] for point in curves.objects(name)] for name in curves.names}


TRAIN = "Epoch 1\n-------\nloss: 0.9  [   64/60000]\n"


@pytest.mark.parametrize(
    ("log", "metrics"),
    [
        pytest.param(
            TRAIN + "Test Error: \n Accuracy: 44.7%, Avg loss: 2.15 \n\n" + TRAIN,
            {"loss": [0.9, 0.9], "test_accuracy": [44.7], "test_loss": [2.15]},
            id="PyTorch's quickstart",
        ),
        pytest.param(
            "Epoch 1\nTrain:\n  loss: 3\nValidation:\n  loss: 4\n  acc: 5\n"
            "Epoch 2\nTrain:\n  loss: 2",
            {"loss": [3, 2], "validation_loss": [4], "validation_acc": [5]},
            id="indented",
        ),
        pytest.param(
            "epoch 1 loss 3\n--- Evaluation ---\nloss: 4\nacc: 5\nepoch 2 loss 2",
            {"loss": [3, 2], "evaluation_loss": [4], "evaluation_acc": [5]},
            id="not indented",
        ),
        pytest.param(
            "epoch 1 loss 3\nEvaluating on the test set...\n100%|##| 2/2 [00:00<00:00, 9it/s]\n"
            "loss=4\nsaved\nloss=2",
            {"loss": [3, 2], "test_loss": [4]},
            id="work and data",
        ),
        pytest.param(
            "epoch 1 loss 3\nEvaluating ...\n100%|##| 2/2 [00:00<00:00, 9it/s]\n"
            "loss=4\nsaved\nloss=2",
            {"loss": [3, 2], "eval_loss": [4]},
            id="bar between",
        ),
        pytest.param(
            "Epoch: [0/5] Iter:[0/9], Loss: 5, Acc:4\nLoss: 3.5, MeanIU:  0.25, Best_mIoU:  0.5",
            {"Loss": [5], "Acc": [4], "val_loss": [3.5], "val_meaniu": [0.25]},
            id="HRNet",
        ),
        pytest.param(
            "Validating\na note\nanother\na third\nloss=3", {"loss": [3]}, id="too far away"
        ),
        pytest.param("Evaluating...\n{'loss': 4}\nepoch 2 loss 3", {"loss": [3], "eval_loss": [4]},
                     id="dict"),
        pytest.param(
            "[Epoch: 0, numImages: 146]\nLoss: 3\nTest:\n[Epoch: 0, numImages:  14]\nLoss: 4\n"
            "[Epoch: 1, numImages: 146]\nLoss: 2",
            {"Loss": [3, 2], "test_loss": [4]},
            id="DeepLab",
        ),
        pytest.param(
            "".join(f"[INFO] {name}. Step: 12000. Time Elapsed: 20.1 s. Mean Reward: {reward}.5. "
                    "Std of Reward: 0.7. Training.\n" for name, reward in (("A", 1), ("B", 2))),
            {"A/mean_reward": [1.5], "B/mean_reward": [2.5]},
            id="ML-Agents",
        ),
        pytest.param(
            "Run: 01, Epoch: 01, Loss: 3, Valid: 11.2%\nRun: 02, Epoch: 01, Loss: 2, Valid: 12.2%",
            {"run_1/Loss": [3], "run_1/Valid": [11.2], "run_2/Loss": [2], "run_2/Valid": [12.2]},
            id="runs",
        ),
        pytest.param("DEBUG TRAIN Batch 0/9 loss 3\nDEBUG CV Batch 0/0 loss 4",
                     {"train_loss": [3], "cv_loss": [4]}, id="WeNet"),
        pytest.param("[Step 9] Train / Test accuracy: 0.1 / 0.2.\nValidation loss 1000: 1.5", {},
                     id="names for several values"),
        pytest.param("epoch 1 loss: 3 / 0.6\nepoch 1 Reward 12.5 / 200",
                     {"loss": [3], "Reward": [12.5]}, id="value of a limit"),
        pytest.param("Epoch 1 loss 3 | train 2.1s | Acc 9.5%", {"loss": [3], "Acc": [9.5]},
                     id="time of a part"),
        pytest.param("step 1, loss: 3, Reg(kl) loss: 2", {"loss": [3], "Reg(kl)_loss": [2]},
                     id="terms"),
        pytest.param("step 1 9.5 records/second. Loss is 3.", {"Loss": [3]}, id="sentences"),
        pytest.param("Validation losses:\nloss=3", {"validation_loss": [3]}, id="of losses"),
        pytest.param("Training |  Validation\nloss=3", {"loss": [3]}, id="two parts"),
        pytest.param("Training...\nloss: 3\nsaved\nloss: 2", {"loss": [3, 2]}, id="training"),
        pytest.param("epoch 1 loss 3 (train)\nepoch 1 loss 4 [val]",
                     {"train_loss": [3], "val_loss": [4]}, id="behind"),
        pytest.param(
            "Epoch: [0]  [  20/1251]  loss: 3 (3)\nTest:  [ 0/50]  loss: 4 (4)\n"
            "* Acc@1 5 Acc@5 6 loss 7",
            {"loss": [3], "test_loss": [4], "test_avg_loss": [7], "test_avg_acc@1": [5],
             "test_avg_acc@5": [6]},
            id="means of a test",
        ),
        pytest.param(
            "-" * 89 + "\n| end of epoch   1 | time: 40.12s | valid loss  5 | valid ppl   6\n"
            + "-" * 89 + "\n| epoch   2 |   200/ 2983 batches | loss  7 | ppl  8\n",
            {"loss": [7], "valid_loss": [5], "ppl": [8], "valid_ppl": [6]},
            id="rulers around a line",
        ),
        pytest.param(
            "    Epoch 1/2\n    step 1/2 - loss: 3\n    Eval begin...\n    step 1/1 - loss: 4\n"
            "    Eval samples: 9\n    Epoch 2/2\n    step 1/2 - loss: 2\n",
            {"loss": [3, 2], "eval_loss": [4]},
            id="Paddle, all lines indented",
        ),
        pytest.param(
            "--> STEP: 4/9 -- GLOBAL_STEP: 4\n | > loss: 3 (3)\n > EVALUATION\n--> STEP: 0\n"
            " | > loss: 4 (4)\n--> STEP: 1\n | > loss: 5 (5)\n > EPOCH: 1/9\n"
            "--> STEP: 4/9 -- GLOBAL_STEP: 9\n | > loss: 2 (2)\n",
            {"loss": [3, 2], "evaluation_loss": [4, 5]},
            id="Coqui",
        ),
        pytest.param(
            "INFO:tensorflow:loss = 3, step = 9\nINFO:tensorflow:***** Eval results *****\n"
            "INFO:tensorflow:  eval_acc = 5\nINFO:tensorflow:  global_step = 9\n"
            "INFO:tensorflow:  loss = 4\n",
            {"loss": [3], "eval_acc": [5], "eval_loss": [4]},
            id="BERT",
        ),
        pytest.param(
            "===== fold: 0 training =====\nloss: 3\n===== CV =====\nloss: 4",
            {"fold_0/loss": [3], "loss": [4]},
            id="after the folds",
        ),
        pytest.param(
            "Epoch 1 Update 9 Cost 3.5\n" + "".join(
                f"compute {part} set score:\ntokenization...\nsetting up scorers...\n"
                "computing Bleu score...\n{'reflen': 4, 'guess': [7, 5]}\nratio: 0.5\n"
                f"Bleu_1: 0.{n}\nBleu_4: 0.1\ncomputing METEOR score...\nMETEOR: 0.2\n"
                for n, part in ((5, "validation"), (4, "test"))
            ),
            {"Cost": [3.5], "validation_bleu_1": [0.5], "validation_bleu_4": [0.1],
             "validation_meteor": [0.2], "test_bleu_1": [0.4], "test_bleu_4": [0.1],
             "test_meteor": [0.2]},
            id="captions",
        ),
    ],
)  # fmt: skip
def test_metrics_below_a_heading_belong_to_its_part_of_the_data(
    log: str, metrics: dict[str, list[float]]
) -> None:
    assert {n: v for n, v in values_of(log).items() if "max_mem" not in n} == metrics


@pytest.mark.parametrize(
    "line",
    [
        "Epoch: 0, Step: 10, Rank: {}, loss = {}",
        "GPU {}: epoch 1 loss {}",
        "Device {} | epoch 1 | loss {}",
        "<rank {}> step 1 loss {}",
        "step 1 | rank {} | loss {}",
        "step:1 - rank:{} - loss:{}",
        "2023-01-01 10:00:00,123 INFO [train.py:904] ({}/4) Epoch 1, batch 50, loss={}",
        "10.0.0.{}: {{'epoch': 1, 'loss': {}}}",
        "node{}: step 1 loss {}",
        "[1,mpirank:{},algo-1]<stdout>:epoch 1 loss {}",
        "[pod/train-{}/main] step 1 loss {}",
    ],
)
def test_rank_is_found_as_a_field_of_the_line(line: str) -> None:
    log = "\n".join(line.format(rank, rank + 1) for rank in (1, 0))

    assert values_of(log) == {"loss": [1]}


@pytest.mark.parametrize("line", ["loss {1} rank {0}", "step 1 loss {1} world 4 local_rank={0}"])
def test_rank_is_found_at_the_end_of_the_line(line: str) -> None:
    log = "\n".join(line.format(rank, rank + 1) for rank in (1, 0))

    assert values_of(log) == {"loss": [1]}


def test_rank_of_retrieval_is_no_process() -> None:
    assert values_of("step 1 loss 0.5 mean rank 7\nstep 2 loss 0.4 mean rank 3")["loss"] == [
        0.5,
        0.4,
    ]

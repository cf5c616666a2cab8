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
# skorch leaves a cell empty if no checkpoint was written.
SKORCH = (
    "  epoch    train_loss    valid_loss    cp     dur\n"
    "-------  ------------  ------------  ----  ------\n"
    "      1        0.6905        0.6749     +  0.0521\n"
    "      2        0.6648        0.6633        0.0468\n"
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
COCO = (
    "Epoch: [{epoch}]  [0/9]  eta: 0:00:01  loss: 2.5 (2.5)\nIoU metric: bbox\n"
    " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.{epoch}1\n"
    " Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = -1.000\n"
    " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.{epoch}2\n"
    "IoU metric: segm\n"
    " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.{epoch}3\n"
)
COCO = COCO.format(epoch=1) + COCO.format(epoch=2)
COPYPASTE = "[01/02 10:00:00 d2.evaluation.testing]: copypaste: {}\n"
DETECTRON2 = "[01/02 10:00:00 d2.utils.events]:  iter: 39  total_loss: 1.5\n" + "".join(
    COPYPASTE.format(f"Task: {task}") + COPYPASTE.format("AP,AP50,APs") + COPYPASTE.format(row)
    for task, row in (("bbox", "9.5,19.5,nan"), ("segm", "8.5,18.5,4.5"))
)
SLOWFAST = (
    'json_stats: {"_type": "train_epoch", "epoch": "1/200", "loss": 2.4, "top1_err": 79.5}\n'
    'json_stats: {"_type": "val_epoch", "epoch": "1/200", "top1_err": 59.5}\n'
)
DARKNET = (
    "Region 82 Avg IOU: 0.2, Class: 0.6, Obj: 0.6, No Obj: 0.5, .5R: 0.0, .75R: 0.0,  count: 3\n"
    "Region 94 Avg IOU: 0.5, Class: 0.2, Obj: 0.3, No Obj: 0.5, .5R: 0.0, .75R: 0.0,  count: 1\n"
    "18: 799.25, 810.5 avg, 0.001 rate, 1.09 seconds, 2304 images\n"
)
DINO = (
    "Epoch: [3]  [0/9]  loss: 2.5 (2.5)\n* Acc@1 0.7 Acc@5 2.5 loss 7.1\n"
    "Accuracy at epoch 3 of the network on the 10000 test images: 0.7%\n"
    "Max accuracy so far: 0.9%\n20-NN classifier result: Top1: 0.6, Top5: 13.1\n"
)
RSL_RL = (
    "                     Learning iteration 7/1500\n\n"
    "               Value function loss: 0.25\n                  Total timesteps: 98304\n"
)
KALDI = (
    "LOG (nnet3-train:Print():nnet-training.cc:276) {} objective function for 'output'{} is {} "
    "over 52300 frames.\n"
)
RICH = (
    "Epoch {0}/1  ━━━━━━━━━━ 22/22 0:01:42 •       9.22it/s v_num: 0.000 train_loss:\n"
    "                                    0:00:00           0.{0}5 acc: 0.5\n"
)
QUICKSTART = "Epoch {0}\n-------\nloss: 2.5  [   64/60000]\nTest Error: \n Avg loss: 1.{0} \n\n"
ALLENNLP = "2026-01-02 10:00:00,123 - INFO - allennlp.training.{}\n"
ALLENNLP = "".join(
    ALLENNLP.format(f"trainer - Epoch {n}/1")
    + ALLENNLP.format("trainer - Training")
    + f"accuracy: 0.{n}1, loss: 6.{n} ||:  11%|#         | 1/9 [00:04<00:32,  4.11s/it]\r"
    + f"accuracy: 0.{n}1, loss: 4.{n} ||: 100%|##########| 9/9 [00:37<00:00,  4.11s/it]\n"
    + ALLENNLP.format("trainer - Validating")
    + f"accuracy: 0.{n}2, loss: 5.{n} ||: 100%|##########| 3/3 [00:02<00:00, 14.47it/s]\n"
    + ALLENNLP.format("callbacks.console_logger -            Training |  Validation")
    + ALLENNLP.format(f"callbacks.console_logger - loss     |     4.{n}1  |     5.{n}1")
    + ALLENNLP.format(f"callbacks.console_logger - f1       |       N/A  |     0.{n}5")
    for n in (0, 1)
)
PARLAI = (
    "10:00:0{0} | time:{0}s total_exs:{0} total_steps:{0} epochs:0.01 time_left:100s\n"
    "    clip  ctpb  loss    lr  total_train_updates  ups\n"
    "       1 149.9 4.{0} 7e-06                    {0} 1.801\n\n"
)
PARLAI = (
    PARLAI.format(1) + "10:00:01 | running eval: valid\n10:00:01 | valid:\n"
    "    accuracy  loss  total_train_updates\n          .5  5.5                    1\n\n"
    "10:00:01 | did not beat best ppl: 5.1 impatience: 1\n" + PARLAI.format(2)
)
VOWPAL_WABBIT = (
    "average  since         example        example  current  current  current\n"
    "loss     last          counter         weight    label  predict features\n"
    "0.75 0.65            1            1.0   1.0000   0.0000       22\n"
    "0.55 0.45            2            2.0  unknown   0.1233       24\n"
    "\nfinished run\naverage loss = 0.5\n"
)
NEQUIP = (
    "\n\ntraining\n# Epoch batch         loss       loss_f\n      1     1         1.25        0.9\n"
    "\nvalidation\n# Epoch batch         loss       loss_f\n      1     1         2.25        0.9\n"
    "\n\n  Train        #    Epoch      wal       LR       loss_f         loss\n"
    "! Train               1   11.000    0.005        0.768         1.5\n"
    "! Validation          1   11.000    0.005        0.768         2.5\nWall time: 11.0\n"
    "! Best model        1    2.500\n"
)
SPEECHBRAIN = (
    " 50%|## | 5/10 [00:01<00:01,  5.0it/s, train_loss=5.{0}]\r"
    "train_logger - epoch: {0}, lr: 1.0 - train loss: 3.{0} - valid loss: 2.{0}\n"
)
#: As a terminal of 80 columns shows it: the second line of each pair goes on within a number.
WRAPPED = (
    "".join(
        f"2026-01-02 10:00:0{n} INFO root: epoch 1/9, step {n}00/1000 acc: 0.5 train loss: {n}.3\n"
        f"4567 lr: 0.1\n"
        for n in (1, 2, 3)
    )
    + "{'loss': 0.5}\n"
)
NESTED = "".join(
    f"\rEpochs:  10%|#  | {n}/2 [00:00<00:01, 9it/s]\n"
    f"\rtrain:   0%|   | 0/1 [00:00<?, ?it/s]\x1b[A\n"
    f"\rtrain: 100%|###| 1/1 [00:01<00:00, 9it/s, loss={n}.5]\x1b[A\n"
    for n in (0, 1)
)
BARS_AND_LINES = "".join(
    f"\rEpoch {n}/2:   0%|   | 0/3 [00:00<?, ?it/s]"
    f"\rEpoch {n}/2: 100%|###| 3/3 [00:01<00:00, 9it/s]\n"
    f"train_loss={n}.5\n"
    for n in (1, 2)
)
TABLE = ("epoch    train_loss   val_loss", "    1   0.5   0.6", "    2   0.4   0.5")
RANK_BAR = "[rank {0}]: Epoch 1:  50%|#  | {1}/2 [00:01<00:01,  1.0it/s, loss={1}.{0}]\n"

Places = dict[str, int]


LAYOUTS = [
    pytest.param(SKORCH, "valid_loss", [(0.6749, {"epoch": 1}), (0.6633, {"epoch": 2})],
                 id="skorch, an empty cell"),
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
    pytest.param("Epoch-1 | loss 5\nEpoch-2 | loss 4", "loss", [(5, {}), (4, {})], id="no service"),
    pytest.param("2026-01-04 | epoch 1 | loss 5\n2026-01-05 | epoch 2 | loss 4", "loss",
                 [(5, {"epoch": 1}), (4, {"epoch": 2})], id="dates are no services"),
    pytest.param("".join(f"[{n}] epoch 0 loss={n}.5\n" for n in range(3)), "loss",
                 [(n + 0.5, {"epoch": 0}) for n in range(3)], id="counts in brackets"),
    *(pytest.param("".join(f"{before.format(rank)}{row}\n" for row in TABLE for rank in (1, 0)),
                   "val_loss", [(0.6, {"epoch": 1}), (0.5, {"epoch": 2})], id=f"table, {before}")
      for before in ("{}: ", "trainer-{}  | ", "[rank{}]: ")),
    pytest.param("epoch  loss  auc   val_loss\n1      0.5   0.25\n2      0.4         0.6\n",
                 "val_loss", [(0.6, {"epoch": 2})], id="empty cells"),
    pytest.param("**** Epoch 1 (1/20) ****\nTrain Accuracy: 0.5\n", "train_accuracy",
                 [(0.5, {"epoch": 1, "batch": None})], id="two counts of epochs"),
    pytest.param("INFO  Train:    1/80 (  1%) [  10/3712 (  0%)]  Loss: 2.345 (3.456)\n",
                 "train_loss",
                 [(2.345, {"epoch": 1, "total_epochs": 80, "batch": 10, "total_batches": 3712})],
                 id="OpenPCDet"),
    pytest.param("\rTrain Epoch: [2/5] Loss: 5.5:   9%|# | 9/97 [00:10<01:38,  1.12s/it]\n",
                 "train_loss",
                 [(5.5, {"epoch": 2, "total_epochs": 5, "step": 9, "total_steps": 97})],
                 id="epoch in brackets before a bar"),
    pytest.param("epoch;loss;acc\n1;0.5;0.1\n2;0.4;1,234\n", "loss",
                 [(0.5, {"epoch": 1}), (0.4, {"epoch": 2})], id="semicolons"),
    pytest.param("step 1 id=abc loss=0.5\n", "loss", [(0.5, {"step": 1})], id="words as values"),
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
    pytest.param(COCO, "bbox_AP@0.50:0.95", [(0.11, {"epoch": 1}), (0.21, {"epoch": 2})],
                 id="pycocotools, boxes"),
    pytest.param(COCO, "segm_AP@0.50:0.95", [(0.13, {"epoch": 1}), (0.23, {"epoch": 2})],
                 id="pycocotools, masks"),
    pytest.param(COCO, "bbox_AR@0.50:0.95_10", [(0.12, {"epoch": 1}), (0.22, {"epoch": 2})],
                 id="pycocotools, recall"),
    pytest.param(DETECTRON2, "segm/AP50", [(18.5, {"step": 39})], id="detectron2"),
    pytest.param(SLOWFAST, "val_top1_err", [(59.5, {"epoch": 1, "total_epochs": 200})],
                 id="SlowFast"),
    pytest.param(DARKNET, "avg_loss", [(810.5, {"step": 18})], id="darknet"),
    pytest.param("s:0 tel:11.5\ns:0 trl:11.25 lr:0.001 norm:15.5\ns:1 trl:10.25\n", "trl",
                 [(11.25, {"step": 0}), (10.25, {"step": 1})], id="llm.c"),
    pytest.param(DINO, "test_accuracy", [(0.7, {"epoch": 3})], id="DINO, accuracy"),
    pytest.param(DINO, "20-nn_top5", [(13.1, {"epoch": 3})], id="DINO, neighbours"),
    pytest.param(RSL_RL, "value_function_loss", [(0.25, {"step": 7, "total_steps": 1500})],
                 id="RSL-RL"),
    pytest.param(KALDI.format("Average", " for minibatches 0-9", -3.5)
                 + KALDI.format("Overall average", "", -3.75), "overall_objective",
                 [(-3.75, {})], id="Kaldi, objective"),
    pytest.param("10:00:00.402 [main] INFO ScoreIterationListener - Score at iteration 9 is 1.5",
                 "score", [(1.5, {"step": 9})], id="DL4J"),
    pytest.param("Epoch 3, Step 25, total used time 7.1 (s), avg loss so far is 0.25",
                 "loss", [(0.25, {"epoch": 3, "step": 25})], id="a mean so far"),
    pytest.param("Iters: 9/20\nOverall validation pixAcc: 2.5, mIoU: 0.25\n", "mIoU",
                 [(0.25, {"step": 9, "total_steps": 20})], id="words in camel case"),
    pytest.param(RICH.format(0) + RICH.format(1) + RICH.format(1).replace("0.15", "0.25"),
                 "train_loss", [(0.05, {"epoch": 0, "batch": 22, "total_batches": 22}),
                                (0.25, {"epoch": 1, "batch": 22})], id="Lightning, rich, wrapped"),
    pytest.param(QUICKSTART.format(1) + QUICKSTART.format(2), "loss",
                 [(2.5, {"epoch": 1, "sample": 64, "total_samples": 60000}),
                  (2.5, {"epoch": 2, "sample": 64})], id="PyTorch's quickstart"),
    pytest.param("INFO - Epoch 7: Train Loss: 3.5, MAP: {'test_map@20': 0.25}, k: {'a': 1}\n",
                 "train_loss", [(3.5, {"epoch": 7})], id="dicts in a line"),
    pytest.param("[fold_0] 001/200:  25%|## | 1/4 [00:14<00:42, 1.14s/it, loss=3.5]\n"
                 "[fold_0] 002/200:  25%|## | 1/4 [00:14<00:42, 1.14s/it, loss=2.5]\n",
                 "fold_0/loss", [(3.5, {"epoch": 1, "total_epochs": 200, "step": 1}),
                                 (2.5, {"epoch": 2, "step": 1})], id="epochs before a bar"),
    pytest.param("Step 2: Loading the data\n**Step 3: Find the total**\nloss: 0.5\n", "loss",
                 [(0.5, {})], id="steps of a plan"),
    pytest.param("Total number of steps: 20\nstep 10 loss 0.5\n", "loss",
                 [(0.5, {"step": 10, "total_steps": 20})], id="number of steps"),
    pytest.param(ALLENNLP, "training_loss", [(4.01, {"epoch": 0, "total_epochs": 1}),
                                             (4.11, {"epoch": 1})], id="AllenNLP, training"),
    pytest.param(ALLENNLP, "validation_f1", [(0.05, {"epoch": 0}), (0.15, {"epoch": 1})],
                 id="AllenNLP, validation"),
    pytest.param(ALLENNLP, "loss", [(6, {"step": 1}), (4, {"step": 9}), (6.1, {"step": 1}),
                                    (4.1, {"step": 9})], id="AllenNLP, bars"),
    pytest.param(PARLAI, "loss", [(4.1, {"step": 1, "total_steps": None}), (4.2, {"step": 2})],
                 id="ParlAI"),
    pytest.param(PARLAI, "valid_loss", [(5.5, {"step": 1})], id="ParlAI, validation"),
    pytest.param("{'loss': 2.5, 'epoch': 0.0, 'global_step/max_steps': '1/90', 'elapsed': '3s'}\n"
                 "{'loss': 2.0, 'epoch': 0.0, 'global_step/max_steps': '2/90', 'elapsed': '6s'}\n",
                 "loss", [(2.5, {"epoch": 0, "step": 1, "total_steps": 90}),
                          (2.0, {"epoch": 0, "step": 2})], id="ms-swift"),
    pytest.param("[E1] step 9 loss 2.5\nEpoch 1 took 3 s\n[E2] step 0 loss 2.0\n", "loss",
                 [(2.5, {"epoch": 1, "step": 9}), (2.0, {"epoch": 2, "step": 0})],
                 id="epochs in brackets"),
    pytest.param(VOWPAL_WABBIT, "average_loss", [(0.75, {"sample": 1}), (0.55, {"sample": 2})],
                 id="Vowpal Wabbit"),
    pytest.param(NEQUIP, "loss", [(1.25, {"epoch": 1, "batch": 1})], id="NequIP, batches"),
    pytest.param(NEQUIP, "validation_loss_f", [(0.9, {"epoch": 1, "batch": 1})],
                 id="NequIP, batches of the validation"),
    pytest.param(NEQUIP, "epoch_validation_loss", [(2.5, {"epoch": 1})], id="NequIP, epochs"),
    pytest.param("Epoch 1/9 - Train Loss: 4.5, Val Loss: 3.5\n  saved (val_loss=3.5)\n"
                 "Epoch 2/9 - Train Loss: 4.0, Val Loss: 3.0\n  saved (val_loss=3.0)\n", "val_loss",
                 [(3.5, {"epoch": 1}), (3.0, {"epoch": 2})], id="a value printed again"),
    pytest.param("2026-01-02 10:00:00.12: Epoch 3\n2026-01-02 10:00:00.12: train_loss -0.5\n",
                 "train_loss", [(-0.5, {"epoch": 3})], id="nnU-Net"),
    pytest.param("INFO:tensorflow:loss = 1.5, step = 90\n"
                 "INFO:tensorflow:Saving dict for global step 100: acc = 0.5, loss = 2.5\n",
                 "eval_loss", [(2.5, {"step": 100})], id="Estimator, evaluation"),
    pytest.param(WRAPPED, "train_loss", [(n + 0.34567, {"epoch": 1, "step": n * 100})
                                         for n in (1, 2, 3)], id="cut at 80 columns"),
    pytest.param(WRAPPED.replace(" root:", " root.of.the.training.log:"), "train_loss",
                 [(n + 0.34567, {"epoch": 1, "step": n * 100}) for n in (1, 2, 3)],
                 id="cut at 100 columns"),
    pytest.param(WRAPPED.replace("INFO", "INFO:"), "train_loss",
                 [(n + 0.3, {"epoch": 1, "step": n * 100}) for n in (1, 2, 3)],
                 id="lines of 81 columns"),
    pytest.param("Epoch1/300|Iter100(100/1000)| lr:1.00e-03| loss_qfl:1.5| \n", "loss_qfl",
                 [(1.5, {"epoch": 1, "total_epochs": 300, "step": 100})], id="NanoDet"),
    pytest.param("{'loss': 1.5, 'epoch': 0.1}{'loss': 1.4, 'epoch': 0.2}\n", "loss",
                 [(1.5, {"epoch": 0.1})], id="two dicts without a line's end"),
    pytest.param("| Training Loss | Epoch | Step | Validation Loss |\n|:---:|:---:|:---:|:---:|\n"
                 "| No log        | 1.0   | 12   | 0.5             |\n", "Validation_Loss",
                 [(0.5, {"epoch": 1, "step": 12})], id="transformers, a model's card"),
    pytest.param(NESTED, "loss", [(n + 0.5, {"epoch": n, "total_epochs": 2, "step": 1})
                                  for n in (0, 1)], id="bars in a bar of epochs"),
    pytest.param(BARS_AND_LINES, "train_loss", [(n + 0.5, {"epoch": n, "total_epochs": 2})
                                                for n in (1, 2)], id="lines behind bars"),
    pytest.param("2026-01-02T10:00:00.123456789Z epoch  loss\n2026-01-02T10:00:01.123456789Z \n"
                 "2026-01-02T10:00:01.123456789Z 1      0.5\n", "loss", [(0.5, {"epoch": 1})],
                 id="table behind the stamps of docker"),
    pytest.param("".join(RANK_BAR.format(rank, n) for n in (1, 2) for rank in (0, 1)), "loss",
                 [(n, {"epoch": 1, "step": n}) for n in (1, 2)], id="bars of two ranks"),
    pytest.param("i=7 loss=0.5\ni=8 loss=0.4\n", "loss",
                 [(0.5, {"batch": 7}), (0.4, {"batch": 8})], id="index without a total"),
    pytest.param("it 7 loss 0.5\niter_num: 8, loss: 0.4\n", "loss",
                 [(0.5, {"step": 7}), (0.4, {"step": 8})], id="short names of iterations"),
    pytest.param("epoch 1/9\n 1/32, loss: 0.5\nepoch 2/9\n1/32 - loss: 0.4\n", "loss",
                 [(0.5, {"epoch": 1, "step": 1, "total_steps": 32}),
                  (0.4, {"epoch": 2, "step": 1})], id="a count alone before the metrics"),
    pytest.param("[  3]     520 || B: 3.5 | loss: 12.5 || ETA: 2 days\n", "loss",
                 [(12.5, {"epoch": 3, "step": 520})], id="YOLACT"),
    pytest.param("-" * 30 + "\n| loss/policy     | 0.5 |\n| misc/total_timesteps | 2048 |\n"
                 + "-" * 30, "loss/policy", [(0.5, {"step": 2048})], id="OpenAI Baselines"),
    pytest.param(SPEECHBRAIN.format(1) + SPEECHBRAIN.format(2), "epoch_train_loss",
                 [(3.1, {"epoch": 1}), (3.2, {"epoch": 2})], id="SpeechBrain, epochs"),
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

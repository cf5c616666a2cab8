"""Words of training logs: measures, names of positions in a run, and all others.  Pure.

A name is judged by its words: ``binary_logloss`` measures, ``loss_weight`` does not.
"""

from __future__ import annotations

import functools
import re

__all__ = [
    "HELD_OUT_LOSS",
    "NO_METRIC",
    "SPLITS",
    "UNITS",
    "is_argument",
    "is_loss",
    "is_metric",
    "is_neutral",
    "is_split",
    "is_unrecorded",
    "metric_order",
    "name_in",
    "names_part",
    "position_field",
    "split_name",
    "total_of",
]  # fmt: skip

#: The kinds of positions in a run, outermost first.
UNITS = ("epoch", "step", "round", "episode", "batch", "sample")

#: The parts that data is split into.  ``train_inner`` is fairseq's name of a training interval.
SPLITS = (
    r"train_inner|train(?:ing)?|trn|valid(?:ation|ate|ating)?|val|vld|test(?:ing)?|tst|eval(?:uation|uating"
    r"|uate)?|dev(?:el)?|holdout"
)
_SPLIT = re.compile(rf"(?:{SPLITS})\Z", re.IGNORECASE)

_METRICS = frozenset(
    """
    loss losses logloss mlogloss acc accuracy ppl perplexity err error merror auc auroc auprc aucpr
    roc f1 fscore precision prec recall specificity sensitivity mae mse rmse rmsle mape smape r2
    bleu sacrebleu rouge rougel meteor cider wer cer ter reward rewards rew return returns score iou
    miou map ap ar dice nll bpc bpb entropy kl kld elbo cost objective psnr ssim lpips fid ndcg mrr
    trl tel
    inertia likelihood loglik gnorm xent crossentropy bce mcc kappa pearson spearman residual
    fitness regret eer brier ece deviance
    """.split()
)
_LOSSES = frozenset(
    "loss losses logloss mlogloss nll ppl perplexity err error merror mae mse rmse rmsle mape "
    "smape trl tel xent crossentropy bce cost elbo deviance bpc bpb objective".split()
)
#: Of names written as one word: "celoss", "languagecrossentropy".
_LOSS_ENDINGS = ("loss", "crossentropy", "perplexity")
# A name with one of these is a setting or a count, whatever its other words are.
_SETTINGS = frozenset(
    """
    weight weights coef coeff coeffs coefficient type factor alpha beta gamma
    lambda smoothing threshold thresh patience reduction margin clip decay bound delta scale mode
    dim size every interval freq frequency steps epochs warmup tol tolerance init limit iters min
    workers seed dropout momentum layers heads thresholds thres mult mem memory timing
    """.split()
)
#: As the last word: "value_function_loss" is a measure, "loss_fn" is not.
_LAST_OF_SETTINGS = frozenset(("fn", "func", "function"))
_ARGUMENTS = frozenset(
    """
    batch_size bs seed random_seed num_workers workers dropout weight_decay wd momentum hidden_size
    hidden_dim n_layer n_layers n_head n_embd num_layers num_heads d_model vocab_size block_size
    max_length seq_len seq_length max_seq_length warmup_steps warmup_ratio save_steps logging_steps
    eval_steps log_interval eval_interval save_interval patience min_delta num_classes
    label_smoothing
    gradient_accumulation_steps gradient_accumulation accumulate max_grad_norm clip_grad
    betas eps nesterov amsgrad dampening imgsz img_size image_size input_size crop_pct optimizer
    start_epoch start_iter world_size n_gpu n_gpus ngpus gpus num_gpus nodes num_nodes port version
    v_num pid worker process proc cuda
    rank local_rank global_rank mpirank node node_rank device gpu line lineno attempt num_samples
    num_examples num_train fold trial run num_images num_params params parameters trainable flops
    """.split()
)
#: Clocks and the work that they time: they grow with the run and measure the machine.
_UNRECORDED = frozenset(
    """
    time data data_time batch_time iter_time last_time last_data eta elapsed remaining dur duration
    seconds sec secs ms timestamp ts _timestamp created date datetime asctime unix_time wall wal
    wall_time walltime time_total_s time_this_iter_s time_since_restore percentage percent progress
    remaining_time elapsed_time s h min gb mb gib mib instances labels images jobs data_cost
    time_taken time_ms sample
    """.split()
)
_ENDINGS_OF_UNRECORDED = (
    "size", "_time", "reader_cost", "batch_cost", "(t)", "_pid", "_secs", "_seconds", "_duration",
    "_period",
)  # fmt: skip
#: Measures of the machine, not of the model: rates, sizes, memory.
_OF_MACHINE = frozenset(
    """
    wps ups wpb bsz tps ips qps fps sps mfu hfu tflops tflop flops flos throughput wall runtime
    speed memory mem gb mb gib mib free alloc allocated reserved consumed timing perf ms tok tokens
    samples examples sents seqlen cpu gpu ram vram util utilization latency updates skipped
    """.split()
)
_RATE = re.compile(
    r"(?:/s|/sec|/second|per_s|per_sec|per_second|\(t\))(?:\W|_|\Z)|(?:\A|\W)(?:it|s)/\w"
)
#: Printed beside the metrics of one split, without belonging to it.
_NEUTRAL = frozenset(
    "lr learning_rate lrs loss_scale scale mem memory max_mem gpu_mem gpu_memory".split()
) | _UNRECORDED | _ARGUMENTS  # fmt: skip

#: The names of positions; if a line has several of one unit, the first in this order is taken.
_POSITIONS = {
    "epoch": ("epoch", "ep", "epoch_num", "current_epoch", "cur_epoch", "epoch_idx"),
    "step": (
        "trainer/global_step", "train/global_step", "global_step", "globalstep", "step", "_step",
        "train_step", "training_step", "current_step", "current_steps", "cur_step",
        "optimizer_step", "opt_step", "update_step", "completed_steps", "num_updates",
        "train_num_updates", "num_update", "total_timesteps", "num_timesteps", "timesteps_total",
        "timesteps", "timestep", "env_step", "env_steps", "num_env_steps", "iteration",
        "training_iteration", "iter", "iters", "itr", "it", "n_iter", "cur_iter", "current_iter",
        "iter_num", "step_num", "update", "updates", "n_updates", "policy_step",
        "total_train_updates",
    ),
    "round": ("round", "boosting_round", "tree", "stage"),
    "episode": ("episode", "i_episode", "episodes"),
    "batch": ("batch", "batch_idx", "batch_id", "batch_num", "minibatch", "mini_batch", "i", "idx"),
}  # fmt: skip
_PROGRESS_GROUPS = frozenset("train trainer training global progress time".split())
_POSITION_OF = {
    name: (unit, n) for unit, names in _POSITIONS.items() for n, name in enumerate(names)
}
_TOTAL = re.compile(
    r"(?:(?:num|max|total|scheduled|n)_(?:number_of_)?)?(?:(?:train|training|optimization|optimizer|update|global)"
    r"_)?(epoch|step|iter|iteration|update|round|batch)(?:s|es)\Z"
    r"|max_(epoch|step|iter|iteration|update|round)\Z"
)
_UNIT_OF_WORD = {"iter": "step", "iteration": "step", "update": "step"}
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: "loss2", "fid50k"
_COUNT_BEHIND = re.compile(r"\d+k?\Z", re.ASCII)
_SEPARATORS = re.compile(r"[^A-Za-z0-9]+")


@functools.lru_cache(maxsize=4096)
def split_name(name: str) -> tuple[str, ...]:
    """Return the words of a name, in lower case: ``trainLoss/box`` has three."""
    return tuple(word.lower() for word in _SEPARATORS.split(_CAMEL.sub("_", name)) if word)


@functools.lru_cache(maxsize=4096)
def is_metric(name: str) -> bool:
    """Return whether a number of that name measures how well the model performs."""
    words = split_name(name)
    if any(word in _SETTINGS for word in words) or (words[-1:] and words[-1] in _LAST_OF_SETTINGS):
        return False
    # "mIoU" is one word.
    return any(_measures(word, _METRICS) for word in (*words, *_SEPARATORS.split(name.lower())))


@functools.lru_cache(maxsize=4096)
def is_loss(name: str) -> bool:
    """Return whether it is a measure that falls."""
    return is_metric(name) and any(_measures(word, _LOSSES) for word in split_name(name))


def _measures(word: str, known: frozenset[str]) -> bool:
    if word in known or _COUNT_BEHIND.sub("", word) in known or word.endswith(_LOSS_ENDINGS):
        return True
    return known is _METRICS and (
        word.endswith(("accuracy", "acc")) or bool(re.fullmatch(r"top\d+", word))
    )


@functools.lru_cache(maxsize=4096)
def is_split(word: str) -> bool:
    """Return whether it names a part of the data."""
    return _SPLIT.match(word) is not None


@functools.lru_cache(maxsize=4096)
def names_part(name: str) -> bool:
    """Return whether a word of a name is a part of the data."""
    return any(map(is_split, split_name(name)))


@functools.lru_cache(maxsize=4096)
def name_in(part: str, name: str) -> str:
    """Return the name of a metric of a ``part`` of the data."""
    return name if not part or is_neutral(name) or names_part(name) else f"{part}_{name}"


def is_argument(name: str) -> bool:
    """Return whether it names a setting of the run or of its process."""
    return name.lower().replace(" ", "_") in _ARGUMENTS


@functools.lru_cache(maxsize=4096)
def is_unrecorded(name: str) -> bool:
    """Return whether it names a clock, a setting, a count, or the best value so far."""
    plain = name.lower().replace(" ", "_")
    return (
        plain.partition("(")[0] in _UNRECORDED
        or "_".join(split_name(name)) in _ARGUMENTS
        or plain in _ARGUMENTS
        or plain.endswith(_ENDINGS_OF_UNRECORDED)
        or "best" in split_name(name)
        or split_name(name)[-2:] == ("time", "cost")
    )


@functools.lru_cache(maxsize=4096)
def is_neutral(name: str) -> bool:
    """Return whether a number of that name belongs to no part of the data."""
    return name.lower().replace(" ", "_") in _NEUTRAL


@functools.lru_cache(maxsize=4096)
def position_field(name: str) -> tuple[str, int] | None:
    """Return the unit whose position ``name`` gives, and its priority: the lowest is taken."""
    plain = name.lower().replace(" ", "_")
    found = _POSITION_OF.get(plain)
    group, _, last = plain.rpartition("/")
    if found is None and group in _PROGRESS_GROUPS and last in _POSITION_OF:
        unit, priority = _POSITION_OF[last]
        if group == "time" and unit in ("batch", "epoch"):
            return None  # the seconds of a batch; Composer's epoch, which a line before gives
        return unit, priority + 50  # "training/global_step", unless a plainer name gives it
    return found


def total_of(name: str) -> str | None:
    """Return the unit whose total ``name`` gives."""
    plain = name.lower().replace(" ", "_").replace("-", "_")
    found = _TOTAL.match(plain)
    if found is None or plain in _POSITION_OF:
        return None
    word = found[1] or found[2]
    return _UNIT_OF_WORD.get(word, word)


#: The rank of losses of held-out data, behind those of training (`metric_order`).
HELD_OUT_LOSS = 3
#: The lowest rank of numbers that do not measure the model: settings, rates, memory.
NO_METRIC = 8


@functools.lru_cache(maxsize=4096)
def metric_order(name: str) -> int:
    """Return the sort key of a metric: the training loss first, settings last."""
    words = split_name(name)
    if is_unrecorded(name):
        return NO_METRIC + 1
    if name.lower() == "loss":
        return 0
    if not is_metric(name):
        if _RATE.search(name.lower()) or not _OF_MACHINE.isdisjoint(words):
            return NO_METRIC + 1
        return NO_METRIC if "learning" in words or words[-1:] in (("lr",), ("norm",)) else 7
    held_out = any((is_split(w) and not w.startswith("tr")) or w == "tel" for w in words)
    if "loss" in words:
        return 2 + held_out if len(words) > 2 else 1 + 2 * held_out
    return 4 + held_out if is_loss(name) else 6

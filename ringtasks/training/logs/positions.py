"""The position of a line in the run: ``epoch 3/100``, ``[ 10/500]``, ``max_steps = 24``.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .numbers import WHOLE
from .parsed import ParsedPosition, Span
from .words import SPLITS, position_field, total_of

__all__ = ["UNIT_WORDS", "find_positions", "find_totals", "is_stage", "overlaps"]

_FLAGS = re.ASCII | re.IGNORECASE

UNIT_WORDS = {
    "epoch": "epoch", "ep": "epoch", "step": "step", "iter": "step", "iteration": "step",
    "it": "step", "itr": "step", "update": "step", "timestep": "step", "up": "step",
    "batch": "batch", "minibatch": "batch", "round": "round", "tree": "round",
    "episode": "episode", "i_episode": "episode",
}  # fmt: skip
_PLURAL = r"(?:e?s)?"
_UNIT = (
    r"(?P<unit>epoch|ep(?=[. ])|step|iteration|iter|itr|it(?=[ :=#]*\d+/)"
    r"|(?<!.)it(?=[ :=#]{1,3}\d)|update|timestep|up(?=\. \d)|minibatch|batch|round|tree"
    r"|(?:i_)?episode)"
)
_AFTER = r"(?![\w%]|[.]\w|:\d|[-/.][A-Za-z]|/\d|,\d|-\d)"
_POSITION = re.compile(
    # Not a rate: "125 iterations per epoch. 12500 in all", "tokens / optimizer step: 32,768".
    rf"(?<![\w./%-])(?<!\bper )(?<!\bover )(?<!/ )"
    rf"(?:(?:global|train|training|optimizer|completed)[ _]?)?{_UNIT}"
    rf"(?P<plural>{_PLURAL})(?:\b|(?<=epoch)|(?<=iter))[.]?(?:\s?[\[(](?P<split>{SPLITS})[\])])?\s{{0,4}}[:=#]{{0,2}}\s{{0,8}}"
    rf"[\[(]?\s{{0,8}}(?:\d+-(?=\d+\]))?(?P<done>{WHOLE}(?:\.\d+)?)(?:[snrt][tdh])?"
    rf"(?:\]?\s{{0,4}}(?:/|of\b|out of\b)\s{{0,8}}\[?(?P<total>{WHOLE}))?{_AFTER}",
    _FLAGS,
)
# "batch_idx=20/530", "i=20/530"
_COUNT_OF_NAME = re.compile(
    rf"(?<![\w./-])(?P<name>[A-Za-z_]\w*)\s?[=:]\s?(?P<done>{WHOLE})/(?P<total>{WHOLE})(?![\w/.])",
    re.ASCII,
)
_INDICES = ("i", "idx")
_COUNT_BEFORE = re.compile(
    rf"(?<![\w./:-])(?P<done>{WHOLE})\s{{0,2}}/\s{{0,8}}(?P<total>{WHOLE})\s"
    r"(?P<unit>batches|steps|epochs|iterations|iters|updates|rounds)\b",
    _FLAGS,
)
# After an epoch, or a split's name and an epoch: "Epoch: [0][ 1/100]", "Train: 0 [   0/6 ( 17%)]".
_INNER = re.compile(
    rf"\s?[\])]?[:,|]?\s{{0,4}}[\[(]?\s{{0,8}}(?P<done>{WHOLE})\s{{0,2}}/\s{{0,8}}(?P<total>{WHOLE})"
    r"(?=\s|\]|\)|$|[:,|])",
    re.ASCII,
)
#: A heading: "**** Epoch 1 (1/200) ****".
_COUNT_OF_EPOCHS = re.compile(r"\s\(\d+/\d+\)\W*\Z", re.ASCII)
_SPLIT_POSITION = re.compile(
    rf"(?<![\w./-])(?P<split>{SPLITS})(?:\s?\([A-Za-z]+\))?:?\s{{0,4}}(?P<epoch>\d+)?\s{{0,4}}"
    rf"\[\s{{0,8}}(?P<done>{WHOLE})\s{{0,2}}/\s{{0,8}}(?P<total>{WHOLE})(?=\s|\])",
    _FLAGS,
)
_AT_START = re.compile(
    r"\s*\[\s*(?P<done>\d+)(?:\s*/\s*(?P<total>\d+))?\s*\](?P<after>[\t ])", re.ASCII
)
# "10/100 - loss: 0.5"; YOLACT: "[  3]     520 || B: 3.451".
_COUNT_AT_START = re.compile(
    r"\s*(?P<done>\d+)/(?P<total>\d+)(?:,|:|\s[-|])?\s+(?=[A-Za-z_][\w/ ]{0,30}[:=]|loss )",
    re.ASCII,
)
_BEFORE_BARS = re.compile(r"\s*\[\s*(?P<epoch>\d+)\]\s+(?P<done>\d+)(?P<total>) \|\| ", re.ASCII)
# PyTorch's quickstart: "loss: 2.303  [   64/60000]".
_AT_END = re.compile(r"\d\s\s\[\s*(?P<done>\d+)/\s*(?P<total>\d+)\]\s*\Z", re.ASCII)
# "[2/6] Loading the model": a stage of the program, unless metrics follow.
# "Step 2: Loading the data", "**Step 2: Find x = 3**" in a text that a model wrote.
_STAGE = re.compile(
    r"\s*\[\s*\d+\s*/\s*\d+\s*\][\t ]+[A-Za-z]|\W*Step \d+(?:\.\d+)?\s?[:.)-]\W*[A-Za-z]", re.ASCII
)
# Two counts in brackets: "[12/25][300/1583]", "Train: [0/90][100/5004]".
_TWO = re.compile(
    rf"(?:(?<![\w./-])(?:{SPLITS}):?\s?|^\s*)\[\s*(?P<epoch>{WHOLE})/\s*(?P<epochs>{WHOLE})\]\s?"
    rf"\[\s*(?P<done>{WHOLE})/\s*(?P<total>{WHOLE})\]",
    _FLAGS,
)
_EVAL_BEFORE = re.compile(r"\b(?:eval|val|valid|validation|test)\s\Z", _FLAGS)
# Catalyst: "1/3 * Epoch (train): loss: 0.5".
_STAR = re.compile(r"\s*(?P<done>\d+)/(?P<total>\d+) \* Epoch\b", re.ASCII)
# ESPnet: "1epoch:train:51-100batch: loss=0.5".
_GLUED = re.compile(
    r"(?<![\w.])(?P<epoch>\d+)epoch:\w+:\d+-(?P<done>\d+)batch(?P<total>):", re.ASCII
)
_RESULTS = re.compile(r"(?<![\w.])(?P<done>\d+)epoch results:(?P<total>)", re.ASCII)
# OpenPCDet: "Train:    1/80 (  1%) [  10/3712 (  0%)]".
_SHARES = re.compile(
    r"\b(?:Train|Eval|Test):\s+(?P<epoch>\d+)/(?P<epochs>\d+) \(\s*\d+%\) "
    r"\[\s*(?P<done>\d+)/(?P<total>\d+) \(",
    re.ASCII,
)
# PyTorch's tutorial: "[1,  2000] loss: 2.217".
_COMMA = re.compile(r"\s*\[(?P<epoch>\d+),\s+(?P<done>\d+)\](?P<total>)\s", re.ASCII)
# DeepSpeed: "epoch=0/micro_step=10/global_step=10".
_SLASHES = re.compile(
    r"\bepoch=(?P<epoch>\d+)/micro_step=\d+/global_step=(?P<done>\d+)(?P<total>),", re.ASCII
)
# "[E1] step 9/100: loss 0.5"
_SHORT = re.compile(r"\[E(?P<epoch>\d+)\] step (?P<done>\d+)(?:/(?P<total>\d+))?", re.ASCII)
#: The pattern, the unit of the inner count, and a part that each such line has.
_TWO_COUNTS = (
    (_SHORT, "step", "[E"),
    (_TWO, "batch", "]"),
    (_SHARES, "batch", "%) ["),
    (_BEFORE_BARS, "step", " || "),
    (_COMMA, "batch", "["),
    (_GLUED, "batch", "epoch:"),
    (_SLASHES, "step", "micro_step"),
)
# tqdm_loggable: "Progress on:train 100it/10.0kit rate:2.1it/s remaining:01:18 elapsed:00:47".
_LOGGABLE = re.compile(
    r"\bProgress on:\S* (?P<done>\d+)it/(?P<total>\d+(?=it)|)\S* rate:", re.ASCII
)
_CATBOOST = re.compile(r"(?P<done>\d+)(?P<total>):\t(?=learn: |test: )", re.ASCII)
_TOTALS = re.compile(
    r"(?<![\w-])[`'\"]?(?P<name>(?:num|max|total|scheduled|n)[ _-](?:number of )?"
    r"(?:(?:train|training|optimi[sz]ation|optimizer|update|global)[ _-])?"
    r"(?:epoch|step|iter|iteration|update|round)s?)[`'\"]?"
    rf"\s{{0,4}}[:=]\s{{0,4}}(?P<total>{WHOLE})(?![\w.])",
    _FLAGS,
)
# transformers: the lines after the heading "***** Running training *****".
_FACTS = re.compile(
    r"\b(?:(?P<examples>Num examples)|(?P<device_batch>Instantaneous batch size per device)"
    r"|(?P<total_batch>Total train batch size)[^=]*|(?P<accumulation>Gradient Accumulation steps))"
    rf"\s=\s(?P<number>{WHOLE})\s*$",
    re.ASCII,
)


def find_totals(text: str, start: int) -> tuple[tuple[str, Span], ...]:
    """Return the number of epochs or steps of the run, and sizes from which it follows."""
    if found := _FACTS.search(text, start):
        fact = next(name for name, value in found.groupdict().items() if value)
        return ((fact, found.span("number")),)
    return tuple(
        (unit, found.span("total"))
        for found in _TOTALS.finditer(text)
        if (unit := total_of(found["name"]))
    )


def find_positions(text: str, start: int, taken: Sequence[Span]) -> list[ParsedPosition]:
    """Return the positions in a text, one of each unit; ``taken`` spans are not positions."""
    for pattern, unit, part in _TWO_COUNTS:
        if part in text and (found := pattern.search(text, start)):
            total = found.span("epochs") if "epochs" in found.groupdict() else None
            return [ParsedPosition("epoch", found.span("epoch"), total), _position(unit, found)]
    if found := _STAR.match(text, start) or _results_in(text, start):
        return [_position("epoch", found)]
    if "Progress on" in text and (found := _LOGGABLE.search(text, start)):
        return [_position("step", found)]
    positions, ends = _named_positions(text, start, taken)
    for found in _COUNT_OF_NAME.finditer(text, start) if "/" in text else ():
        unit = _unit_of(found["name"])
        if unit and all(position.unit != unit for position in positions):
            positions.append(_position(unit, found))
    if len(positions) < 2 and (found := _COUNT_BEFORE.search(text, ends or start)):
        counted = _position(total_of(found["unit"]) or "step", found)
        if all(position.unit != counted.unit for position in positions):
            positions.append(counted)
    if not positions and (found := _AT_START.match(text, start)):
        # "[7]<tab>" is a boosting round; "[ 7/100] " counts anything else.
        unit = "round" if found["after"] == "\t" and not found["total"] else "step"
        positions.append(_position(unit, found))
    if not positions and "/" in text and (found := _COUNT_AT_START.match(text, start)):
        positions.append(_position("step", found))
    if not positions and (found := _AT_END.search(text, start)):
        positions.append(_position("sample", found))
    if not positions and (found := _CATBOOST.match(text, start)):
        positions.append(_position("round", found))
    return positions


def _unit_of(name: str) -> str:
    named = ("batch",) if name in _INDICES else position_field(name)
    return named[0] if named else ""


def _results_in(text: str, start: int) -> re.Match[str] | None:
    return _RESULTS.search(text, start) if "epoch results:" in text else None


def _named_positions(
    text: str, start: int, taken: Sequence[Span]
) -> tuple[list[ParsedPosition], int]:
    """Return the positions behind the names of their units, and the end of the last one."""
    positions: list[ParsedPosition] = []
    ends = 0
    if found := _SPLIT_POSITION.search(text, start):
        if found["epoch"]:
            positions.append(ParsedPosition("epoch", found.span("epoch")))
        positions.append(ParsedPosition("batch", found.span("done"), found.span("total")))
        ends = found.end()
    for found in _POSITION.finditer(text, start):
        unit = UNIT_WORDS[found["unit"].lower()]
        if found.start() < ends or overlaps(found.span("done"), taken):
            continue
        if found["plural"] and not found["total"] and not _is_counted_plural(text, found):
            continue
        if unit != "epoch" and found["done"].partition(".")[2].strip("0"):
            continue  # "Loss for final step: 0.25"
        if any(position.unit == unit for position in positions):
            if not _is_within_iteration(text, positions, found):
                continue
            positions = [positions[0]._replace(unit="epoch")]
        if unit == "step" and found["split"] and not found["split"].lower().startswith("tr"):
            continue  # MMEngine's "Iter(val) [10/10]" counts the batches of the validation
        if unit == "batch" and _EVAL_BEFORE.search(text, start, found.start()):
            continue  # Composer: "[Eval batch=10/10] Eval on eval data:"
        positions.append(_position(unit, found))
        ends = found.end()
        is_named_twice = _COUNT_OF_EPOCHS.match(text, ends) is not None
        if unit == "epoch" and not is_named_twice and (inner := _INNER.match(text, ends)):
            positions.append(_position(_inner_unit(text, found), inner))
            ends = inner.end()
    return positions, ends


def _is_within_iteration(
    text: str, positions: Sequence[ParsedPosition], found: re.Match[str]
) -> bool:
    """Return whether an iteration is an epoch: "iteration:1 step:10/90"."""
    if not found["total"] or found["unit"].lower() != "step" or len(positions) > 1:
        return False
    before = text[: positions[0].done[0]].rstrip(" :=#[").lower()
    return positions[0].total is None and before.endswith("iteration")


def is_stage(text: str, start: int) -> bool:
    """Return whether a line that holds no metric counts the program's stages."""
    return _STAGE.match(text, start) is not None


def _is_counted_plural(text: str, found: re.Match[str]) -> bool:
    """Return whether "steps: 10" is a position, as DeepSpeed prints it, and no setting."""
    return (
        not _EVAL_BEFORE.search(text, 0, found.start("unit"))  # Poutyne: "Val steps: 10"
        and found["unit"].lower() == "step"
        and found[0].lower().startswith("steps: ")
        and "[" not in found[0]
    )


def _inner_unit(text: str, epoch: re.Match[str]) -> str:
    # PyTorch's MNIST example counts samples: "Train Epoch: 1 [640/60000 (1%)]".
    is_share = re.match(r"\D*\d+/\d+ \(\d+%\)", text[epoch.end() :], re.ASCII)
    return "sample" if epoch[0].lower().startswith("train") and is_share else "batch"


def _position(unit: str, found: re.Match[str]) -> ParsedPosition:
    total = found["total"]
    return ParsedPosition(unit, found.span("done"), found.span("total") if total else None)


def overlaps(span: Span, taken: Sequence[Span]) -> bool:
    """Return whether a span shares a character with one of the others."""
    return any(span[0] < end and start < span[1] for start, end in taken)

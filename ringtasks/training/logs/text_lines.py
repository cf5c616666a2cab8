"""The content of a line of text, of any trainer.  Pure.

Numbers with names are everywhere in a log: arguments, sizes, warnings.  They are metrics only on an
anchored line: it gives a position in the run (``step 3``), or a name on it is a measure (``loss``).
A line that prints settings or warns gives none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .logger_prefix import rank_in, skip_prefixes
from .numbers import END, NUMBER
from .parsed import Parsed, ParsedPosition, Span, Value
from .positions import UNIT_WORDS, find_positions, find_totals, is_stage, overlaps
from .words import (
    SPLITS,
    is_metric,
    is_neutral,
    is_split,
    is_unrecorded,
    names_part,
    position_field,
    split_name,
    total_of,
)

__all__ = ["SPLIT_WORD", "has_number", "is_warning", "parse_fields", "parse_text"]

_FLAGS = re.ASCII | re.IGNORECASE
_HAS_NUMBER = re.compile(r"\d|\bnan\b|\binf", _FLAGS)

# A warning or an instruction to the user measures nothing.
_WARNING = re.compile(
    r"warning\b|\bwarn\b|(?-i:\b(?:Key|Value|Index|Type|Runtime|Assertion|OS|IO|Attribute|Memory)Error:)|\bdeprecat|(?<![\w-])error:(?!\s*[-\d.])|\btraceback\b|\bcritical\b|\bexception\b|\busage:"
    r"|\bERROR\b(?=[\]:| ]|\s-)(?-i:(?<=ERROR))"
    # glog: Warning, Error, Fatal; from PyTorch's C++ code "[rank0]:[W1126 15:45:32.884935668".
    r"|(?<!\w)(?-i:[WEF])\d{4}\s\d\d:\d\d:\d\d\.\d"
    r"|(?-i:\[NeMo W)|\benvironment variable\b",
    _FLAGS,
)
#: A part that a warning has, in lower case: finding one is faster than the pattern.
_PARTS_OF_WARNING = (
    "warn", "deprecat", "error", "traceback", "critical", "exception", "usage:",
    "environment variable",
)  # fmt: skip
_GLOG = re.compile(r"[WEF]\d{4}\s|\[NeMo W", re.ASCII)
# The best value so far, one read from a file, or a hypothetical one: not measured at this position.
_SUMMARY = re.compile(
    r"^(?!\W*\[[^\[\]]*\]\s*(?:epoch|step|iter))"  # "[NEW BEST] Epoch 3: loss=0.5"
    r"\W*(?:(?:new|the|final|current|overall)\s+)?best\b|\bimproved\b|\bdid not (?:improve|beat)\b"
    r"|(?:^|\s)max(?:imum)? accuracy\b"
    r"|\bbest (?:iteration|epoch|step|score|model|metric|trial|value|result)\b|\bearly.?stopp"
    r"|\b(?:restor|resum|load)(?:ed|ing)\b|\bfinal (?:\w+ )?loss\b|^\[CV \d+/\d+|^wandb:"
    r"|^Averaged stats:",  # DETR, MAE, DINO: medians of the last batches, beside their means
    _FLAGS,
)
_PARTS_OF_SUMMARY = (
    "best", "improv", "did not", "max", "stopp", "restor", "resum", "load", "final ", "[cv",
    "wandb:", "averaged stats",
)  # fmt: skip
# A call with keywords is the repr of settings, unless it holds one number (tensor, float64).
_REPR = re.compile(r"\b(?!tensor|array|Array|float|int|loss)[A-Za-z_]\w*\(\s*\w+=", re.ASCII)
_FLAG_OF_COMMAND = re.compile(
    r"(?:^|\s)--[a-z][\w-]*[ =]|^\s*(?:\+{1,3}|\$)\s(?:\w+=|\S*python)|^\W*export\s\w", re.ASCII
)
# "Episode 10: reward=5, done=True": beside metrics of a position, such values are no settings.
_STARTS_WITH_POSITION = re.compile(
    r"\W*(?:epoch|iter|iteration|step|batch|round|episode)s?\W{0,3}\d", _FLAGS
)
_NOT_A_NUMBER = re.compile(
    r"[\w\]]\s?[=:]\s?(?:True|False|None|null|true|false)\b|\w=(?:['\"/~]|\./|<)", re.ASCII
)
# A line of a dict that is printed over several lines, each behind a prefix.
_PART_OF_DICT = re.compile(r"[{\[\s]*([\"'])[\w./ -]+\1:\s.*[,{\[}]\s*\Z", re.ASCII)
_LOGFMT = re.compile(r"\blevel=\w+\s.*\bmsg=", re.ASCII)
_SOURCE_CODE = re.compile(
    rf"=\s*{NUMBER}\s?\*|^\s*(?:def|class|import|from|return)\b"
    r"|^(?: {4})+[a-z_]\w* = 0(?:\.0)?\Z",  # a script that prints itself
    re.ASCII,
)

_WORD = r"[A-Za-z](?:[\w'/]{0,4}\.|[\w'/]*)"  # "val. loss"; a longer word ends a sentence
_NAME = r"[A-Za-z_](?:[\w./@%']|[-+](?=[A-Za-z\d]))*"
#: "mAP@0.50:0.95: 0.4": without a value behind it, the range holds no number.
_RANGE = r"(?::0?\.\d+(?=[\"']?\s{0,4}[=:])|(?!(?<=\.\d):0?\.\d)(?!(?<=\.\d\d):0?\.\d))"
_OPEN = r"(?:[A-Za-z_][\w.]{0,30}\(\s?)?\[{0,2}\s?[\"']?"  # np.float64(0.25), [ 0.25], "0.25"
#: "loss 0.9 -> 0.5" is one value before and one after.
_NO_ARROW = r"(?!\s?(?:-{1,2}>|=>|\xe2\x86\x92)\s?\d)"
_NEXT_VALUE = re.compile(r"\s/\s{1,2}[-+]?\.?\d", re.ASCII)
_PAIR = re.compile(
    rf"""(?<![\w.\\/<$])(?<!--)(?<!\w-)(?<!\s-)(?<!=\s)(?<![Tt]ime\s)["']?(?P<name>{_NAME}{_RANGE})["']?
    (?P<bracket>\s?[\[(][^\[\](){{}}=]{{1,24}}[\])])?
    \s{{0,8}}(?P<mark>[=:])\s{{0,12}}{_OPEN}(?P<number>{NUMBER}){END}(?!\s*[,\]]\s*-?\d[^|]*\])(?!(?:\s-?\d+\.\d+){{2}}){_NO_ARROW}""",
    re.VERBOSE | re.ASCII,
)
_SOURCE_FILE = re.compile(r"\.(?:py|cc|cpp|cu|rs|go)\Z", re.ASCII)
_BARE_NAME = (
    r"(?:(?:acc|prec|err|top)@\d+|loss|cost|m?iou|accuracy|acc|perplexity|ppl|bleu(?:-\d)?|auc|reward|error|wer|cer|f1|mae|mape|mse|rmse|bpc"
    r"|bpb|psnr|ssim|lpips|dice"
    r"|(?:learn|train|test|valid|val)(?=\s+\d+\.\d))"
)
_BARE = re.compile(
    rf"(?<![\w./-])(?P<name>(?:[A-Za-z]\w{{0,30}}[_/])?{_BARE_NAME})\s{{1,8}}(?:so\sfar\s)?(?:is\s)?"
    r"(?!\d+:?\s+\d+\.\d)"  # "Prec@1 05 0.125", "loss 1000: 0.5": the value is behind
    rf"(?P<number>{NUMBER}){END}{_NO_ARROW}",
    _FLAGS,
)
# "Loss after iteration 100: 0.123", "Training loss (for one batch) at step 0: 132.2",
# "Training acc over epoch: 0.7".
_NAME_AT = re.compile(
    r"(?P<name>[A-Za-z][\w ]{1,40}?)(?:\s\([^()]*\))?\s"
    r"(?:(?:at|after|in|for)\s(?:the\s)?(?:end of\s)?(?:epoch|step|iteration|iter|batch|round)"
    r"\s#?\d+|over\s(?:the\s)?epoch)"
    rf"(?:\s?[:=]|\sis)\s{{0,4}}(?P<number>{NUMBER}){END}",
    _FLAGS,
)
#: Parts of `_NAME_AT` that are found faster.
_BEFORE_COUNT = tuple(
    f"{a}{word}{b}" for word in ("at", "after", "in", "for", "over") for a in " \t" for b in " \t"
)
_COUNTED = re.compile(r"\s(?:epoch|step|iteration|iter|batch|round)(?:\s#?|\s?[:=]\s?)\d", _FLAGS)
#: "Reg(kl) loss: 0.5"
_TERM_BEFORE = re.compile(r"(?<![\w(])[A-Za-z_]\w+\([A-Za-z]\w+\) \Z", re.ASCII)
_WORDS_BEFORE = re.compile(rf"(?:(?<![\w./'=-])|(?<=[\])]))((?:{_WORD} ){{1,4}})\Z", re.ASCII)
_NO_QUALIFIER = frozenset(
    """
    a an and are at avg average after before by current currently done end ended epoch epochs final
    finished for from got had has have in info is iter iteration mean new now of on our over reached
    round running step steps that the then this to took total was we were will with set debug batch
    completed finished it its got inf nan infinity fold trial saved saving
    """.split()
)
_PROSE = frozenset("from to than least most below above threshold until".split())

# "PERSON: precision: 90.1%; recall: 88.0%", "Generator: loss: 0.5, Discriminator: loss: 0.4".
_LABEL = re.compile(r"(?:\A|[\s|,;(\[])(?P<label>[A-Z][\w-]{0,30}):\s{1,4}\Z", re.ASCII)
_NO_LABEL = frozenset(
    "metrics metric results result scores summary stats statistics log logs info performance "
    "report losses output values value message model trainer status".split()
)
#: The number before is of memory or of time.
_UNIT_OF_MEMORY = re.compile(r"\s?(?:[kKMGT]i?B|[Mm]ega[Bb]ytes)\b(?!/)", re.ASCII)
#: "F1: 100% 313/313 [11:14<00:00": the number is that of a bar.
_BAR_OF_NOTEBOOK = re.compile(r"%\s+\d+/\d+\s\[\d", re.ASCII)
_UNIT_OF_TIME = re.compile(r"\s(?:s|secs?|seconds?|ms|mins?|minutes?|hours?|hrs?)\b(?!/)", re.ASCII)

#: "loss 0.5 | train 2.1s | acc 0.9": there it is the work that took so long.
SPLIT_WORD = re.compile(
    rf"(?<![\w./'-])(?P<split>{SPLITS})(?![\w/'=-]|\.\w|[ :=]{{1,3}}[\d.]+\s?m?s\b)", _FLAGS
)
# The part of the data behind the metrics, or the means of a test as PyTorch's examples print them.
_SPLIT_BEHIND = re.compile(rf"[\[(]\s?(?P<split>{SPLITS})(?:\s(?:set|data))?\s?[\])]\s*\Z", _FLAGS)
_TEST_MEANS = re.compile(r"(?:^|\bINFO:?\s|[\]):-]\s)\s*\*\s+(?:acc|prec|err|top)@", _FLAGS)
# t5x: "[200] collection=training_eval accuracy=0.5, loss=2.4".
_SET_OF_LINE = re.compile(
    r"\b(?:collection|split|mode|phase|subset)[=:]\s?[\"']?(?P<split>[a-z]\w*)", re.ASCII
)
_MEASURE_BEFORE = re.compile(
    r"\b(?P<measure>loss|losses|acc|accuracy|error|perplexity|ppl|auc|f1|bpb)\W{1,3}\Z", _FLAGS
)
_BETWEEN = re.compile(r"\s?%?(?:[,/|;]|\s-)?\s{0,3}", re.ASCII)
_FIELD_BREAK = re.compile(r"\s?[|;\t]\s?|,\s|\s-\s")
_FIELD = re.compile(
    rf"\s*(?P<name>[A-Za-z_][\w/.@%]*(?: [A-Za-z_][\w/.@%]*){{0,2}})\s{{1,8}}(?P<number>{NUMBER})"
    rf"{END}\s?%?(?:\s*\([^()]*\)|\s?(?:\xc2\xb1|\+/-)\s?{NUMBER})?\.?\s*",
    re.ASCII,
)


def is_warning(text: str) -> bool:
    """Return whether a line warns, so that the next line may quote source code."""
    if not _has_part(text, _PARTS_OF_WARNING) and not _GLOG.search(text):
        return False
    return _WARNING.search(text) is not None


def _has_part(text: str, parts: Sequence[str]) -> bool:
    lower = text.lower()
    return any(part in lower for part in parts)


def has_number(text: str) -> bool:
    """Return whether a line can hold a metric at all."""
    return _HAS_NUMBER.search(text) is not None


def parse_text(text: str) -> Parsed:
    """Return the positions and metrics of a line of text."""
    start = skip_prefixes(text)
    rank = rank_in(text)
    totals = find_totals(text, start)
    if _is_settings(text, start):
        return Parsed(totals=totals, rank=rank)
    if _has_part(text, _PARTS_OF_SUMMARY) and _SUMMARY.search(text[start:]):
        return Parsed(totals=totals)
    taken = [span for _, span in totals]
    positions = find_positions(text, start, taken)
    taken += [position.done for position in positions] + [
        position.total for position in positions if position.total
    ]
    anchored = any(position.unit != "batch" or position.total for position in positions)
    numbers = list(_numbers(text, start, taken, anchored=anchored))
    positions += _positions_by_name(numbers, positions, text)
    anchored = anchored or bool(positions)
    if not anchored and not any(is_metric(name) for name, _, _ in numbers):
        return Parsed(tuple(positions), (), totals, rank)
    kept = [each for each in numbers if not (is_unrecorded(each[0]) or total_of(each[0]))]
    if not kept and is_stage(text, start):
        return Parsed(totals=totals, rank=rank)
    return Parsed(tuple(positions), tuple(_named(kept)), totals, rank)


def parse_fields(text: str, offset: int) -> tuple[Value, ...]:
    """Return the metrics of a piece of a line that is known to hold some."""
    return tuple(
        Value(name, (start + offset, end + offset))
        for name, (start, end) in _named(_numbers(text, 0, [], anchored=True))
        if not is_unrecorded(name)
    )


def _is_settings(text: str, start: int) -> bool:
    if _LOGFMT.search(text):
        return False  # its words are in quotes
    return bool(
        _REPR.search(text)
        or _FLAG_OF_COMMAND.search(text)
        or (_NOT_A_NUMBER.search(text) and not _STARTS_WITH_POSITION.match(text, start))
        or _SOURCE_CODE.search(text)
        or _PART_OF_DICT.match(text, start)
    )


#: A number, its name, and whether the name includes its own part of the data.
_Number = tuple[str, Span, bool]


def _numbers(text: str, start: int, taken: Sequence[Span], *, anchored: bool) -> Iterator[_Number]:
    """Yield the numbers that have a name, each under the split of the data that it belongs to."""
    last, of_line, label = start, _set_of_line(text, start), ""
    current = of_line or _split_of_line(text, start)
    for found, name, begin in _named_numbers(text, start, taken, anchored=anchored):
        labels = [word["split"] for word in SPLIT_WORD.finditer(text, last, max(last, begin))]
        current = labels[-1].lower() if labels and not of_line else current
        words = split_name(name)
        own = names_part(name)
        is_total = total_of(found["name"]) is not None  # Poutyne: "Val steps: 10 loss: 0.5"
        begins_own = own and is_split(words[0]) and begin < found.start("name")
        if begins_own and not of_line and not is_total:
            current = words[0]  # "train Loss: 0.5 Acc: 0.9"
        label = _label_before(text, last, begin) or label
        last = found.end("number")
        if overlaps(found.span("number"), taken):
            current = name.lower() if is_split(name) else current  # "Train: 0 [0/6]"
            continue
        if not is_neutral(name) and position_field(name) is None:
            name = f"{label}_{name}".lower() if label else name
            name = f"{current}_{name}".lower() if current and not own else name
        yield name, found.span("number"), own


def _label_before(text: str, start: int, end: int) -> str:
    """Return the label of a group of metrics: a class, a network."""
    found = _LABEL.search(text[start:end])
    label = found["label"] if found else ""
    plain = label.lower()
    is_other = plain in _NO_LABEL or plain in _NO_QUALIFIER or is_unrecorded(plain)
    return "" if is_other or is_split(plain) or position_field(plain) else label


def _named_numbers(
    text: str, start: int, taken: Sequence[Span], *, anchored: bool
) -> list[tuple[re.Match[str], str, int]]:
    """Return the numbers that have a name, in their order: the match, the name and its start."""
    sentence = _sentence(text, start)
    found = [
        each for each in _PAIR.finditer(text, start)
        if not _SOURCE_FILE.search(each["name"])
        and (sentence is None or each.span("number") != sentence.span("number"))
    ]  # fmt: skip
    names = [_full_name(text, each, start) for each in found]
    if sentence is not None:
        found.append(sentence)
        names.append((sentence["name"].strip().replace(" ", "_").lower(), sentence.start("name")))
    spans = [each.span("number") for each in found] + list(taken)
    extra = [
        each for each in _BARE.finditer(text, start) if not overlaps(each.span("number"), spans)
    ]
    for each in extra:
        name, begin = _with_qualifiers(text, each["name"], each.start("name"), start)
        if text[:begin].rstrip().split(" ")[-1].lower() not in _PROSE:
            found.append(each)
            names.append((name, begin))
    if anchored:
        spans += [each.span("number") for each in extra]
        for field in _fields(text, start):
            if not overlaps(field.span("number"), spans):
                found.append(field)
                names.append((field["name"].replace(" ", "_"), field.start("name")))
    _name_after_measure(text, found, names)
    named = [
        (each, name, begin)
        for each, (name, begin) in zip(found, names, strict=True)
        if not _has_unit_of_machine(text, each.end("number"), name)
        # "Train / test accuracy: 0.5 / 0.6" has one of each part.
        and not (text[:begin].endswith("/ ") and _NEXT_VALUE.match(text, each.end("number")))
    ]
    return sorted(named, key=lambda each: each[0].start("number"))


def _sentence(text: str, start: int) -> re.Match[str] | None:
    """Return a metric that a sentence gives at a position, or over an epoch."""
    is_possible = _has_part(text, _BEFORE_COUNT) and _COUNTED.search(text, start)
    found = _NAME_AT.search(text, start) if is_possible else None
    return found if found and is_metric(found["name"]) else None


def _has_unit_of_machine(text: str, end: int, name: str) -> bool:
    if _UNIT_OF_MEMORY.match(text, end) or _BAR_OF_NOTEBOOK.match(text, end):
        return True
    return _UNIT_OF_TIME.match(text, end) is not None and not is_metric(name)


def _name_after_measure(
    text: str, found: Sequence[re.Match[str]], names: list[tuple[str, int]]
) -> None:
    """Name numbers that a measure before them names: "loss train: 0.5, val: 0.6"."""
    measure, end = "", -1
    for n, each in sorted(enumerate(found), key=lambda pair: pair[1].start("number")):
        own = each["name"]
        if not is_split(own):
            measure = ""
            continue
        if before := _MEASURE_BEFORE.search(text[: each.start("name")]):
            measure = before["measure"]
        elif not measure or _BETWEEN.fullmatch(text, end, each.start("name")) is None:
            measure = ""
        if measure:
            names[n] = f"{own}_{measure}".lower(), each.start("name")
        end = each.end("number")


def _set_of_line(text: str, start: int) -> str:
    """Return the part of the data that a field of the line names."""
    found = _SET_OF_LINE.search(text, start)
    name = found["split"] if found else ""
    return name.lower() if names_part(name) else ""


def _split_of_line(text: str, start: int) -> str:
    if _TEST_MEANS.search(text):
        return "test_avg"
    if " CV Batch " in text:  # WeNet
        return "cv"
    # PaddleOCR and TensorFlow's Estimator, of a validation
    if "cur metric, " in text or "Saving dict for global step " in text:
        return "eval"
    if "MeanIU: " in text and "Best_mIoU" in text:  # HRNet and its kin
        return "val"
    found = _SPLIT_BEHIND.search(text, start)
    return found["split"].lower() if found else ""


def _full_name(text: str, found: re.Match[str], start: int) -> tuple[str, int]:
    name, bracket = found["name"].rstrip("./-'"), found["bracket"]
    name, begin = _with_qualifiers(text, name, found.start("name"), start)
    if bracket:
        inside = bracket.strip()[1:-1].strip()
        if is_split(inside):
            name = f"{inside.lower()}_{name}"
        elif name.endswith("@"):
            name += inside  # "AP@[0.5:0.95]"
        elif inside.isidentifier() and not is_unrecorded(inside):
            name = f"{name}({inside})"
    return name, begin


def _with_qualifiers(text: str, name: str, begin: int, start: int) -> tuple[str, int]:
    """Return ``policy_loss`` for "policy loss", and the offset at which it begins."""
    before = _WORDS_BEFORE.search(text[start:begin])
    # Composer's ``loss/train/total`` is a path with a part of the data.
    if not before or position_field(name) or ("/" in name and names_part(name)):
        term = _TERM_BEFORE.search(text, start, begin) if is_metric(name) else None
        return (f"{term[0].strip()}_{name}", term.start()) if term else (name, begin)
    words: list[str] = []
    for word in reversed(before[1].split()):
        if position_field(word) and is_metric(name) and not words:
            words = [word]  # "epoch loss" is another metric than "loss"
            break
        plain = word.rstrip(".").lower()
        if plain in _NO_QUALIFIER or plain in _PROSE or position_field(plain):
            break
        words.insert(0, word.rstrip("."))
    if not words or is_split(name) or len(words) > 3:
        return name, begin
    begin = text.rindex(words[0], start, begin)
    if words[-1].endswith("'s"):  # LightGBM: "valid's auc"
        return " ".join([*words, name]), begin
    return "_".join([*words, name]).lower(), begin


def _fields(text: str, start: int) -> Iterator[re.Match[str]]:
    """Yield fields such as "loss  7.6" between separators."""
    at = start
    for each in [*_FIELD_BREAK.finditer(text, start), None]:
        end = each.start() if each else len(text)
        field = _FIELD.fullmatch(text, at, end)
        words = field["name"].lower().split() if field else []
        if field and not (UNIT_WORDS.keys() | _NO_QUALIFIER).intersection(words):
            yield field
        at = each.end() if each else end


def _positions_by_name(
    numbers: list[_Number], positions: Sequence[ParsedPosition], text: str
) -> list[ParsedPosition]:
    """Take the numbers whose name is a unit's out of ``numbers``: ``global_step=100``."""
    found: dict[str, tuple[int, Span]] = {}
    has_metric = any(is_metric(name) for name, _, _ in numbers)
    for each in list(numbers):
        named_unit = position_field(each[0])
        if named_unit is None:
            continue
        numbers.remove(each)
        if each[0] == "timesteps" and "total timesteps" in text.lower() and not has_metric:
            continue  # a setting, or a count beside that of the iterations (RSL-RL)
        unit, priority = named_unit
        is_count = unit == "epoch" or not text[slice(*each[1])].partition(".")[2].strip("0")
        if is_count and not any(position.unit == unit for position in positions):
            found[unit] = min(found.get(unit, (99, each[1])), (priority, each[1]))
    return [ParsedPosition(unit, span) for unit, (_, span) in found.items()]


def _named(numbers: Sequence[_Number] | Iterator[_Number]) -> Iterator[Value]:
    """Yield each name once: of two numbers of one name, only the first is certain."""
    seen: set[str] = set()
    for name, span, _ in numbers:
        if name not in seen:
            seen.add(name)
            yield Value(name, span)

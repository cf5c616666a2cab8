"""The part of the data that a heading names for the lines below it.  Pure.

    Test Error:
     Accuracy: 44.7%, Avg loss: 2.15

Without it, the loss of the test would be a point of the training loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .logger_prefix import skip_prefixes
from .parsed import Parsed
from .words import is_split, name_in

__all__ = ["NO_SECTION", "DataSection", "heading_of", "in_section", "labelled", "section_after"]

_FLAGS = re.ASCII | re.IGNORECASE
_MAX_CHARS = 100
#: So many lines without a metric may stand between a heading and its metrics: a ruler, a note.
_LINES_BEFORE = 3
_POSITION = re.compile(
    r"\b(?:global[ _])?(?:epoch|step|iter|iteration)s?\s?[:=#]?\s?\d+(?:\s?(?:/|of)\s?\d+)?\b",
    _FLAGS,
)
_STEMS = ("train", "trn", "val", "vld", "test", "tst", "eval", "dev", "holdout")
_WORDS = frozenset(
    """
    running run start starting started begin beginning now on the of for at after in end
    result results metric metrics error errors set loop phase performance score scores stats
    statistics data dataset summary report model epoch loss losses accuracy perplexity compute
    computing
    """.split()
)
#: pycocoevalcap says this before and between its metrics.
_OF_CAPTIONS = re.compile(
    r"\s*(?:tokenization|setting up scorers|computing \w+ score)\.\.\.\s*\Z", re.ASCII
)
#: Words for the work, which may name the data, too: "Evaluating on the test set".
_EVALUATION = {"eval": "eval", "evaluation": "evaluation", "evaluating": "eval", "evaluate": "eval",
               "validating": "val", "validate": "val", "testing": "test"}  # fmt: skip


class DataSection(NamedTuple):
    """``left``: the number of lines that may still come before its first metric.

    ``indent``: the heading's indentation; ``has_steps``: its lines count its batches.
    """

    split: str = ""
    is_indented: bool = False
    left: int = 0
    has_steps: bool = False
    indent: int = 0


NO_SECTION = DataSection()


def heading_of(text: str) -> str:
    """Return the part of the data that a line names for those below it; an empty text if none."""
    lower = text.lower()
    if len(text) > _MAX_CHARS or not any(stem in lower for stem in _STEMS):
        return ""
    plain = _POSITION.sub(" ", text[skip_prefixes(text) :])
    words: list[str] = re.findall(r"[^\W_]+", plain.lower())
    splits = {word for word in words if is_split(word)}
    if not splits or not all(word in splits or word in _WORDS for word in words):
        return ""
    data = splits - _EVALUATION.keys()
    if len(data) == 1:
        return data.pop()
    return _EVALUATION[min(splits)] if not data else ""


def section_after(
    section: DataSection, text: str, heading: str, parsed: Parsed
) -> tuple[str, DataSection]:
    """Return the part of the data that a line belongs to, and the section of the next line."""
    if heading:
        is_held_out = not heading.startswith("tr")
        has_steps = text.lstrip().startswith("Eval begin")  # Paddle: then "step 10/157 - loss: 0.5"
        section = DataSection(
            heading, left=_LINES_BEFORE, has_steps=has_steps, indent=_indent(text)
        )
        return "", section if is_held_out else NO_SECTION
    if not section.split or (not parsed and _OF_CAPTIONS.match(text)):
        return "", section
    is_indented = _indent(text) > section.indent
    if section.left and not parsed:
        return "", section._replace(left=section.left - 1) if section.left > 1 else NO_SECTION
    is_first = section.left > 0
    if is_first:
        section = section._replace(is_indented=is_indented, left=0)
    units = {position.unit for position in parsed.positions}
    of_steps = bool(units) and units <= {"step", "batch"}
    if is_first and of_steps and not parsed.values:  # Coqui: below it "--> STEP: 0", then metrics
        section = section._replace(has_steps=True)
    if is_first and units == {"epoch"} and "numImages" in text:
        return "", section._replace(left=_LINES_BEFORE)  # DeepLab: "[Epoch: 0, numImages: 1449]"
    is_step = of_steps and (section.has_steps or (not parsed.values and "global_step" in text))
    goes_on = is_step or (bool(parsed.values) and not units)
    goes_on = is_indented if section.is_indented else goes_on
    return (section.split, section) if goes_on else ("", NO_SECTION)


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def in_section(parsed: Parsed, split: str) -> Parsed:
    """Return what a line gives, with the part of the data in its metrics' names."""
    if not split or not parsed.values:
        return parsed
    return parsed.named(labelled([value.name for value in parsed.values], split))


def labelled(names: Sequence[str], split: str) -> list[str]:
    """Return the names of a line's metrics of a part of the data.

    If the line has ``loss`` beside ``val_loss``, it names the parts itself.
    """
    found = [own if (own := name_in(split, name)) == name else own.lower() for name in names]
    return found if len({*found}) == len({*names}) else [*names]

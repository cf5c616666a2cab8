"""The folds of a cross-validation, and the trials of a search: many runs in one log.  Pure.

Their metrics have the same names, so each metric gets the name of its run: ``fold_2/loss``.
"""

from __future__ import annotations

import re

from .records import Record

__all__ = ["in_trial", "named_in_trial", "trial_after", "trial_of"]

_FLAGS = re.ASCII | re.IGNORECASE
# "fold 0 epoch 1 loss 0.5", "[Trial 3] loss: 0.5", '{"fold": 1, "loss": 0.5}', OGB's "Run: 01, ".
_ON_LINE = re.compile(
    r"(?:(?<![\w-])(?P<kind>fold|trial)[\"']?[ _]?\s?[:=#]?|^Run:)\s?#?"
    r"(?P<number>\d{1,6})(?![\w.])",
    _FLAGS,
)
# "===== Fold 1/5 =====", "Training fold 3", "Starting trial 2 of 10 ...".
_HEADING = re.compile(
    r"\W*(?:[a-z]+\W+){0,2}(?P<kind>fold|trial)\s?[:=#]?\s?#?(?P<number>\d{1,6})"
    r"(?:\s?(?:/|of)\s?\d+)?\W*(?:(?:start|begin|train)\w*)?\W*\Z",
    _FLAGS,
)
# optuna: "Trial 0 finished with value: 0.8 and parameters: {…}".
_FINISHED = re.compile(r"\bTrial (?P<number>\d{1,6}) (?:finished|pruned|failed)\b", re.ASCII)
# After all folds: "========== CV ==========", "Overall OOF score: 0.8".
_OVERALL = re.compile(r"\W*(?:overall )?(?:cv|oof)\b(?! ?(?:fold )?\d)", _FLAGS)
_NAMED = re.compile(r"(?:fold|trial|run)_\d+/")


def trial_of(text: str) -> str:
    """Return the fold or trial that a line names beside its metrics; an empty text if none."""
    found = _ON_LINE.search(text, 0, 200)
    return f"{(found['kind'] or 'run').lower()}_{int(found['number'])}" if found else ""


def trial_after(text: str) -> str | None:
    """Return the fold or trial to which the next lines belong; None if the line tells nothing.

    An empty text: this line, too, belongs to none.
    """
    if _OVERALL.match(text, 0, 200):
        return ""
    if len(text) > 400 or not ("rial" in text or "old" in text or "FOLD" in text):
        return None
    if found := _FINISHED.search(text):
        return f"trial_{int(found['number']) + 1}"
    found = _HEADING.match(text)
    return f"{found['kind'].lower()}_{int(found['number'])}" if found else None


def in_trial(record: Record, trial: str) -> Record:
    """Return a record whose metrics have the name of their fold or trial."""
    if not trial or not record.values:
        return record
    values = [(named_in_trial(name, trial), value) for name, value in record.values]
    return record._replace(values=values)


def named_in_trial(name: str, trial: str) -> str:
    """Return a metric's name with that of its trial, unless the line gave it one."""
    return name if not trial or _NAMED.match(name) else f"{trial}/{name}"

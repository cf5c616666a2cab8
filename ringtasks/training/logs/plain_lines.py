"""Lines that no rule of a reader can tell from one another: prose, requests, notes.  Pure.

A log is full of lines that come only once and hold no metric: the texts that a model writes, the
requests of a server.  Each would be a template of its own, which is read for nothing.  A line is
plain if it has neither the structure nor a word that a rule looks for; the check is coarse, but a
line that it calls plain gives nothing, and leaves the reader as any other plain line of its kind
would.
"""

from __future__ import annotations

import functools
import operator
import re

from .positions import UNIT_WORDS
from .sections import heading_of
from .words import is_metric, is_split, position_field

__all__ = ["MAYBE_ROWS", "NOT_PLAIN", "PLAIN_KINDS", "plain_kind"]

NOT_PLAIN = 0
#: At the margin; indented; behind a bracket; as in a dump of settings ("- a", "a: b").
_AT_MARGIN, _INDENTED, _IN_BRACKET, _LIKE_SETTINGS = 1, 2, 3, 4
#: Added to the kind of a line that may be the row of a table: it has two numbers.
_ROW = 4
PLAIN_KINDS = range(1, 9)
MAYBE_ROWS = range(5, 9)

#: What rules look for, apart from words: other alphabets, boxes, bars and dicts; counts, headings
#: and quoted source, after one of a few characters; and how a line begins.  ``0`` is any digit.
_NOT_USED = bytes({*range(32), 127} - {9}) + b"{|%#"
_DRAWN = re.compile(rb"\xe2(?:[\x94-\x96]|\x80\xa2|\x86\x92)")
_STRUCTURE = re.compile(
    rb"[/:\[(=-](?:(?:(?<=0/)|(?<=0\s/)|(?<=0\s\s/))\s*0|(?<=s/)it|(?<=it/)s|(?<=0:)\t|(?<=\.py:)|(?<=v_num=)"
    rb"|(?<=-)(?:mean|std)|(?<=.\[)[\s0]|(?<=[:(])\s*\Z)"
)
_BEGINNING = re.compile(rb"\s*(?:[\"']|\[(?!0000-)|all\s|s:0)|GPU available: |Sanity Checking|`")
#: A row of Ray Tune's older reports, which are read as a whole.
_ROW_OF_RESULT = re.compile(rb"  [\w/.@-]+: ")
_SETTING = re.compile(rb"-\s|[A-Za-z_]\w*:(?:\s|\Z)")
_IT = re.compile(rb"(?<![A-Za-z])it[\"']?\s*[=:]", re.IGNORECASE)
#: F1, R2, valF1
_SHORT_METRIC = re.compile(rb"[fFrR](?:(?<![A-Za-z0-9].)|(?<=[a-z][FR]))0(?![0-9A-Za-z])")
_GAP = re.compile(r"[\t,;]|\s{2,}")
_NUMERIC_CELL = re.compile(rb"(?<![^\s,;])[-+]?(?:0[0_]*\.?0*|\.0+)(?:[eE][-+]?0+)?(?![^\s,;])")
_WORD = re.compile(rb"[A-Za-z]+")

#: A word that counts anywhere; beside a number; as a name of columns or before a number; in a
#: heading.
_ANYWHERE, _BY_NUMBER, _AS_NAME, _IN_HEADING, _IS_NUMBER = 1, 2, 4, 8, 16
_STATES = frozenset(
    """
    fold trial cv oof resume resuming resumed restarting restarted continuing continued annotation
    iou copypaste dataloader pt labels instances targets tokenization scorers computing
    """.split()
)
_CONTENT = frozenset("examples accumulation avg region nn exs progress learn top prec".split())
_SHORT_NAMES = frozenset("e n it up counter".split())
_UNITS = UNIT_WORDS.keys() - _SHORT_NAMES


@functools.lru_cache(maxsize=1 << 16)
def _weight_of(own: bytes) -> int:
    word = own.decode("ascii")
    plain = word.lower()
    stem = plain.removesuffix("s")
    weight = _ANYWHERE if plain in _STATES or plain.startswith("evaluat") else 0
    if plain in ("nan", "inf", "infinity"):
        weight |= _IS_NUMBER
    if plain in _CONTENT or is_metric(word) or is_metric(stem):
        weight |= _BY_NUMBER
    if is_split(plain):
        weight |= _IN_HEADING
    if plain in _SHORT_NAMES:
        weight |= _AS_NAME
    elif {plain, stem, plain.removesuffix("es")} & _UNITS or position_field(plain):
        weight |= _AS_NAME | _BY_NUMBER
    return weight


def plain_kind(template: bytes, *, has_results: bool = False) -> int:
    """Return the kind of the lines of a template; `NOT_PLAIN` if they have to be read.

    :param has_results: the log has results of Ray Tune.
    """
    words = _WORD.findall(template)
    if not template.isascii() and _DRAWN.search(template):
        return NOT_PLAIN
    if (not words and template.isascii()) or len(template.translate(None, _NOT_USED)) < len(
        template
    ):
        return NOT_PLAIN
    if _STRUCTURE.search(template) or _BEGINNING.match(template) or b"up. 0" in template:
        return NOT_PLAIN
    if has_results and _ROW_OF_RESULT.match(template):
        return NOT_PLAIN
    weight = functools.reduce(operator.or_, map(_weight_of, words), 0)
    has_number = weight & _IS_NUMBER or b"0" in template
    if weight & _ANYWHERE or (weight & _BY_NUMBER and has_number):
        return NOT_PLAIN
    if has_number and _SHORT_METRIC.search(template):
        return NOT_PLAIN
    if weight & _IN_HEADING and heading_of(template.decode("latin-1")):
        return NOT_PLAIN
    if weight & _AS_NAME and (_IT.search(template) or _names_columns(template)):
        return NOT_PLAIN
    numbers = len(_NUMERIC_CELL.findall(template)) + bool(weight & _IS_NUMBER)
    return _place_of(template) + _ROW * (numbers > 1)


def _names_columns(template: bytes) -> bool:
    """Return whether a unit alone is a column of a heading."""
    cells = [cell.strip().lower() for cell in _GAP.split(template.decode("latin-1").strip())]
    names = (cell in _SHORT_NAMES or position_field(cell) is not None for cell in cells)
    return len(cells) > 1 and any(names)


def _place_of(template: bytes) -> int:
    if template[:1].isspace():
        return _INDENTED
    if template.startswith(b"["):
        return _IN_BRACKET
    return _LIKE_SETTINGS if _SETTING.match(template) else _AT_MARGIN

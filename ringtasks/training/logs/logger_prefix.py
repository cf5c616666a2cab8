"""The prefix of a line as loggers print it: the time, the level, the module, the rank.  Pure."""

from __future__ import annotations

import re

from .parsed import Span

__all__ = ["SERVICE", "rank_in", "skip_prefixes"]

_FLAGS = re.ASCII | re.IGNORECASE

# The prefixes of loggers: times, levels, the logger's name, a source line.
_PREFIX = re.compile(
    r"""\s*(?:
      [\[(<]?\d{2,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ,]+\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?
        (?:\s?(?:Z|UTC|[+-]\d\d:?\d\d|[AP]M))?[\])>]?
    | [\[(]?\d{1,2}:\d\d:\d\d(?:[.,]\d+)?[\])]?(?=[\s|,-])
    | \[NeMo\sI\s[^\[\]]{1,80}\]
    | [IWEFD]\d{4}\s\d\d:\d\d:\d\d\.\d+\s+\d+\s[\w./]+:\d+\]
    | (?-i:INFO\s?:\s?[\w.]+\s?:|INFO|DEBUG|NOTICE|TRACE)(?=\W|$)
    | (?-i:[\[(]\s*(?:INFO|DEBUG|I|info|debug)\s*[\])])(?=\W|$)
    | [\[(][\w./<>-]+\.(?:py|cc|cpp|rs|go):\d+(?::[\w<>]+)?[\])]
    | [\w./-]+\.py:\d+\b
    | [\w.]+:[\w<>.]+:\d+(?=\s-)
    | [a-z_]\w*(?:\.[a-z_]\w*)+:\d+(?=\s-\s)
    | \([a-z_]\w*:\d+\)
    | \((?:[\w.-]+,?\s)?(?:rank=\d+,\s)?pid=\d+(?:,\sip=[\d.]+)?\)
    | [A-Z][a-z]{2}\s{1,2}\d{1,2}\s\d\d:\d\d:\d\d\s\S+\s[\w./-]+(?:\[\d+\])?:(?=\s)
    | \[\w[\w. -]*\](?=\s*(?:\d{4}-|INFO|-))
    | (?:root|__main__|[a-z_]\w*(?:\.\w+)+)(?=\s*[-:|]\s)
    | [-:|>]+(?=\s|$)
    )""",
    re.VERBOSE | _FLAGS,
)
# "2026-01-02 10:00:00.123 host:0 train:97 INFO": all fields of the logger before the level.
_BEFORE_LEVEL = re.compile(
    r"[\[(]?\d{2,4}[-/.]\d{1,2}[-/.]\d{1,4}[T ,_]+\d{1,2}:\d\d:\d\d[^={}]{0,90}?"
    r"[\s\[|:](?:INFO|DEBUG|NOTICE|TRACE)(?=[\s\]|:,-])",
    re.ASCII,
)
#: docker compose; "epoch-3 | " and "2026-11-05 | " name no service.
SERVICE = r"(?!(?:(?:epoch|step|iter|iteration|batch)-)?[\d-]+\s)[\w.-]+-(\d+)\s+\|\s"
# torch/distributed/run.py --tee; accelerate and DeepSpeed loggers; mpirun --tag-output.
_RANK = re.compile(
    r"\[(?:rank|default)\s?:?\s?(\d+)\]|[\[(]rank[ =:]\s?(\d+)[\])]"
    r"|^\s*(?:rank|process|proc|worker|gpu|device)[ =:#]?\s?(\d+)\s?[:|]"
    # A field among others, or at the end: "Epoch: 0, Rank: 1, loss = 0.5", "loss 0.5 rank 1".
    r"|(?:^|[,|(<\[]\s?|\s-\s)rank\s?[:= ]\s?(\d+)(?=\s?[,|)>\]]|\s-\s|\s*$)"
    r"|(?<!mean)(?<!median)(?<!average)(?<!avg)(?<!lora)\s(?:local_|global_)?rank[:= ]\s?(\d+)\s*$"
    r"|\.py:\d+\]\s\((\d+)/\d+\)\s"  # icefall
    # pdsh in front of all lines, kubectl logs --prefix.
    r"|^(?:(?:\d+\.){3}|[\w.-]*(?:node|worker|host|box|gpu|server|rank|dgx)[\w.-]*?)(\d+):\s(?=.*\b(?:epoch|step|iter)|\s*\Z)"
    r"|^\[\d+,mpirank:(\d+)[^\]]{0,40}\]<std"  # SageMaker
    r"|^\[pod/[^\]/]*?-(\d+)/[^\]]*\]\s"
    rf"|^{SERVICE}"
    # srun --label, a device.
    r"|^\s*(\d{1,3}): (?=.*\b(?:epoch|step|iter)|\s*\Z)|^\[?cuda:(\d+)\]?:?\s"
    r"|\[GPU\s?(\d+)\]|\|\s?GPU:?\s?(\d+)\s?\|"
    r"|^\s*\((?:[\w.]+\s)?pid=(\d+)(?:,\sip=[\d.]+)?\)|^\[(?:\d+,)?(\d+)\]<std|\b(?:local_|global_)?rank=(\d+)\b",
    _FLAGS,
)
#: Parts that lines with a rank have, in lower case, unless they begin with one.
_PARTS_OF_RANK = (
    "rank", "default", "proc", "worker", "gpu", "device", ".py:", " |", "\t|", "cuda:", "pid=",
    "<std", "[pod/", "node", "host", "box", "server", "dgx",
)  # fmt: skip


def skip_prefixes(text: str) -> int:
    """Return the offset at which the text begins after a logger's prefix."""
    fields = _BEFORE_LEVEL.match(text)
    at = fields.end() if fields else 0
    for _ in range(12):
        found = _PREFIX.match(text, at)
        if not found or found.end() == at:
            break
        at = found.end()
    return at


def rank_in(text: str) -> Span | None:
    """Return the span of the rank that printed a line, if the line gives it."""
    begin = text[:200].lower()
    if not (any(part in begin for part in _PARTS_OF_RANK) or begin.lstrip()[:1].isdigit()):
        return None
    found = _RANK.search(text, 0, 200)
    if not found:
        return None
    group = next(n for n, value in enumerate(found.groups(), 1) if value is not None)
    return found.span(group)

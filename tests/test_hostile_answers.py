"""Each parser of hosts' answers, with answers that no honest host gives.

A parser may return a value or raise `AnswerError`, nothing else; and its value can be shown.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from ringtasks.client.process_memory import memory_of
from ringtasks.deploy.records import parse_precheck, parse_state
from ringtasks.errors import AnswerError
from ringtasks.jobs.host_status import parse_overview
from ringtasks.jobs.logs import parse_offset
from ringtasks.jobs.probe import parse_probe
from ringtasks.jobs.stop_job import parse_stopped
from ringtasks.remote.answers import json_fields
from ringtasks.remote.gpus import parse_gpus
from ringtasks.remote.marks import Mark, MarkedOutput
from ringtasks.training import probe as training_probe
from ringtasks.transfer.rsync_output import RsyncOutput
from tests.support.mutations import mutated

JOBS = """\
ringtasks-boot:1b4e-28ba
ringtasks-now:1010
ringtasks-asked:60 70
/proc/70/stat:70 (py) S 1 70 70 0 -1 4194560 160 0 0 0 0 0 0 0 20 0 1 0 5000 2654208
first/command:echo a
first/process:70 1b4e-28ba 5000 1000
first/monitor:60 1b4e-28ba 4990 999
first/about:{"name": "train", "by": "ann@laptop", "log_file": "~/x.log"}
first/gpus:0 3
second/exit_status:3
second/ended_at:1005
second/stopped:ann@x
"""
RESOURCES = """\
gpu 0, GPU-a, H100, 81559, 1, 0
app GPU-a, 12, 1
tool nvidia-smi 0
said a warning
clock 1000
disk /dev/sda 488245288 1 244000000 50% /
memory MemTotal:       1000 kB
memory memsize: 17179869184
memory Pages free:     100.
memory Mach Virtual Memory Statistics: (page size of 16384 bytes)
cpus 8
load 0.52 0.58 0.59 1/977 4242
"""
OVERVIEW = f"""\
{RESOURCES}
ringtasks-jobs:
{JOBS}"""
STATE = """\
current releases/20250101T000000Z-abcdef0-1234
release 20250101T000000Z-abcdef0-1234
content 0123
history 2025-01-01T00:00:00Z\tgood\t20250101T000000Z-abcdef0-1234\tabcdef\tann\thttps://x\tnote
held token=0123456789abcdef
held who=ann
held since=1000
held until=1100
held now=1050
problem no space
lacks .env
disk /dev/sda 488245288 1 244000000 50% /
"""
SURVEY = f"""\
{RESOURCES}
python /usr/bin/python3
missing torch: no
reserved GPU-a j
"""
RSYNC = """\
ringtasks-file >f+++++++++ 1,234 a b
ringtasks-file *deleting   0 x\\#012y
     32,768   7%   31.25MB/s    0:00:13
Total bytes sent: 1,234
"""
PROCESSES = "  PID  PPID STAT   RSS COMMAND\n 1 0 S 12m init\n 7 1 R 1024 python3\n"
STATUSES = "Name:\tx\nState:\tS (sleeping)\nPid:\t7\nPPid:\t1\nVmRSS:\t 12 kB\n"


def rsync(text: str) -> object:
    reading = RsyncOutput(on_meter=lambda _: None)
    reading.read(text)
    return reading.changes, reading.stats


def mark(text: str) -> object:
    answer = MarkedOutput(Mark("ab", 1, 2), has_end=True)
    return answer.take(text.encode("utf-8", "replace")), answer.pid, answer.status


PARSERS: dict[str, tuple[Callable[[str], object], str]] = {
    "jobs": (lambda text: [job.to_dict() for job in parse_probe(text, "h").values()], JOBS),
    "overview": (lambda text: parse_overview(text, "h").to_dict(), OVERVIEW),
    "GPUs": (lambda text: parse_gpus(text, text), "0, GPU-a, H100, 81559, 10, 5\n"),
    "stop": (
        lambda text: str(parse_stopped(text)),
        "before 70 py\nafter 70 py\nreserved GPU-a\nholds GPU-a, 12, 9\n",
    ),
    "log": (lambda text: parse_offset(text.encode("utf-8", "replace")), "ringtasks-offset:12\nx"),
    "deploy": (lambda text: (str(parse_state(text).held), parse_state(text).drift), STATE),
    "precheck": (parse_precheck, STATE),
    "training": (lambda text: training_probe.parse(text).free_gpus, SURVEY),
    "rsync": (rsync, RSYNC),
    "memory": (lambda text: memory_of(7, text), PROCESSES),
    "memory of /proc": (lambda text: memory_of(7, text), STATUSES),
    "mark": (mark, "ringtasks:ab:3:70\nx\nringtasks:ab:3:end:0\n"),
    "JSON": (json_fields, '{"a": [1, 2.5, {"b": null}], "c": "x"}'),
}


def survives(name: str, examples: int) -> None:
    parse, honest = PARSERS[name]
    for seed in range(examples):
        text = mutated(honest, random.Random(f"{name} {seed}"))
        try:
            value: Any = parse(text)
        except AnswerError as error:
            assert len(str(error)) < 400, seed
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed}: {text[:2000]!r}") from error
        else:
            repr(value)


@pytest.mark.parametrize("name", PARSERS)
def test_valid_answer_is_parsed(name: str) -> None:
    parse, honest = PARSERS[name]

    assert parse(honest) is not None


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_answer_raises_only_the_parsers_error(name: str) -> None:
    survives(name, 100)


@pytest.mark.long
@pytest.mark.parametrize("name", PARSERS)
def test_twenty_thousand_mutated_answers_raise_only_the_parsers_error(name: str) -> None:
    survives(name, 20_000)

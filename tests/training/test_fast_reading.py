"""Lines that are read together give what they give one by one."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringtasks.training.logs import History, LogReader, template_ids
from ringtasks.training.logs.line_reader import LineReader
from ringtasks.training.logs.number_columns import NumberColumns, TextBlock
from ringtasks.training.logs.patterns import find_pattern
from ringtasks.training.logs.template_cache import masked

LOGS = sorted((Path(__file__).parents[1] / "logs").glob("*.log"))
SIZE = 40_000
DIGITS = re.compile(rb"\d")


def read(log: bytes, max_points: int | None, *, one_by_one: bool, has_stamps: bool = False) -> str:
    """Return all that is known after a log; as text, because NaN is not equal to itself."""
    history = History(max_points)
    reader = LogReader(history, one_by_one=one_by_one, has_stamps=has_stamps)
    reader.feed(log)
    reader.end()
    series = {name: list(points) for name, points in history.series.items()}
    totals, times = sorted(history.totals.items()), (history.started, history.time)
    return repr((series, history.progress, totals, history.serial, times))


def with_other_digits(log: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    return DIGITS.sub(
        lambda digit: b"%d" % chance.randrange(10) if chance.random() < 0.3 else digit[0], log
    )


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.matrix(24)
def test_lines_of_known_shapes_parsed_in_bulk_give_the_same_result(
    path: Path, seed: int | None
) -> None:
    log = path.read_bytes().rstrip(b"\n") + b"\n"
    log *= SIZE // len(log) + 2
    if seed is not None:
        log = with_other_digits(log, seed)

    assert read(log, 64, one_by_one=False) == read(log, 64, one_by_one=True)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Epoch {n}", "train loss: 0.{n}", "val loss: 0.{n} acc: 0.{n}"], id="sets"),
        pytest.param(["epoch 1 step {n} loss: 0.{n}", "epoch 2 loss: 0.5", "acc: 0.5"], id="place"),
        pytest.param(["[rank1]: step {n} loss=0.{n}", "[rank0]: step {n} loss=0.{n}"], id="ranks"),
        pytest.param(["step {n} mAP50-95: 0.{n} mAP50: 0.{n}"], id="digits in names"),
        pytest.param(["step {n} loss: 0.{n}", "step {n} loss: 0.{n}"], id="printed twice"),
        pytest.param(["step {n}/1{n} loss: 0.{n}", "step {n}/0 loss: 1"], id="totals"),
        pytest.param(["step {n} loss: 1e{n}", "step {n} loss: nan"], id="too large"),
        pytest.param(["step: {n},567 loss: 0.5", "step: {n}_567 loss: 0.5"], id="thousands"),
        pytest.param(["epoch,loss", "{n},0.{n}", "epoch,acc", "{n},0.{n}", "{n},0.5"], id="tables"),
        pytest.param(["a.py:{n}: UserWarning: x", "  loss: 0.{n}", "loss: 0.{n}"], id="warnings"),
        pytest.param(["step {n} loss: 0.{n}", "Test:", "  loss: 0.{n}", "loss: 1"], id="headings"),
        pytest.param(["Validation:", "{{'loss': 0.{n}}}", "note", "loss: {n}"], id="far headings"),
        pytest.param(
            ["-" * 9, "| end of epoch {n} | val loss 0.{n} | x", "loss: {n}"], id="rulers"
        ),
        pytest.param(
            ["Fold {n}", "step {n} loss: 0.{n}", "CV", "trial {n} loss: 0.{n}"], id="folds"
        ),
        pytest.param(["{{'loss': 0.{n}, 'f1': {n}}}", "{{", "'loss': {n}", "}}"], id="dicts"),
        pytest.param(["-" * 9, "| step | {n} |", "| loss | 0.{n} |", "-" * 9], id="boxes"),
        pytest.param(["Result for f_{n}_00:", "  step: {n}", "  loss: 0.{n}", "end"], id="results"),
        pytest.param(["Run: | | {n}/? [00:01<?, loss=0.{n}]", "step {n} loss: 1"], id="no rate"),
        pytest.param(["step {n} loss: 0.5", "Resuming from checkpoint at step 7"], id="attempts"),
        pytest.param(
            ["Epoch {n}/9", "1/1 - 0s - loss: 0.{n}", "1/1 - 0s - auc: 0.{n}"], id="keras"
        ),
        pytest.param(
            ["Epoch 1/9", "{n}/5 - 0s - loss: 0.{n}", "5/5 - 0s - loss: 0.{n} - auc: 0.{n}"],
            id="keras, evaluated",
        ),
        pytest.param(
            ["step: 0,{n:03} loss: 0.{n}", "acc: 0,{n:03} auc: 0.{n}", "lr: 0,{n:03}"], id="zeros"
        ),
        pytest.param(
            ["{{'loss': 0.5, 'epoch': {n}}}"] * 2
            + ["Run: 9%|#| {n}/999 [00:01<00:01, 3epoch/s, loss=0.{n}]"],
            id="dict twice, then a bar",
        ),
        pytest.param(["{{", " 9%|#| {n}/999 [00:01<00:01, 3it/s, loss=0.{n}]"], id="bar, cut dict"),
        pytest.param(["{{", "{n}/9 - 0s - loss: 0.{n}", "Epoch {n}/9"], id="Keras, cut dict"),
        pytest.param(
            ["Fold 1", " 0%|  | 0/9 [00:00<?, ?it/s, loss=0.{n}]", "CV", "step {n} acc: 0.{n}"],
            id="fold ends before its bar counts",
        ),
        pytest.param(["[{n}] step 1 loss: 0.{n}", "[0] step 1 loss: 1", "note"], id="prefixes"),
        pytest.param(
            ["epoch 1 step {n} loss: 1", "epoch 1 loss: 0.{n}", "acc: 0.{n}"], id="whole epochs"
        ),
        pytest.param(["{{", "  a, b", "'loss': {n}", "}}", "{{", "  note", "}}"], id="cut, note"),
        pytest.param(["epoch  loss  name", "{n} 0.{n} a", "a note {n}"], id="rows, notes"),
        pytest.param(
            [
                *(
                    "-" * 9,
                    " Validate metric  DataLoader 0",
                    "-" * 9,
                    " depth  0.{n}",
                    " loss  0.1",
                ),
                *("-" * 9, " Validate metric  DataLoader 0", " a note", " loss  0.3", "-" * 9),
            ],
            id="loaders",
        ),
        pytest.param(["  Test:", "    loss: 0.{n}", "    a", " b", "    loss: 1"], id="indents"),
        pytest.param(["Config:", "  loss: {n}", "- a", "b: {n}", " c {n}", "d {n}"], id="settings"),
        pytest.param(["a.py:1: UserWarning: x", "[2026-01-{n}] a", "loss: 0.{n}"], id="brackets"),
        pytest.param(["Validation:", "note {n}", "loss: 0.{n}", "it, was {n}"], id="notes"),
        pytest.param(
            [
                "Validation DataLoader {n}:  9%|#  | {n}/99 [00:01<00:01, 9it/s]",
                "Epoch {n}:  9%|#  | {n}/99 [00:01<00:01, 9it/s, loss=0.{n}]",
            ],
            id="loaders of Lightning",
        ),
        pytest.param(["step 1 loss {n}e{n}b{n} 5", "step 1 loss {n}e9db 5"], id="decibels"),
        pytest.param(
            ["Validating", "epoch  loss  val_loss", "{n}  0.{n}1  0.{n}2", "loss: {n} val_loss: 1"],
            id="parts below a heading",
        ),
        pytest.param(["q{n:x}z: step {n} loss: inf acc: nan"], id="numbers without digits"),
        pytest.param(["[1][ {n}/9]", "Epoch: [1][ {n}/9]", "loss: 0.{n}", "step 1"], id="batches"),
    ],
)
def test_state_across_lines_is_the_same_for_bulk_parsing(lines: list[str]) -> None:
    chance = random.Random(1)
    numbers = [chance.randrange(100) if chance.random() < 0.3 else n // 7 for n in range(300)]
    text = [lines[k % len(lines)].format(n=n) for k, n in enumerate(numbers)]
    in_order = "\n".join(text).encode() + b"\n"
    chance.shuffle(text)
    mixed = "\n".join(text).encode() + b"\n"

    for log in (in_order, mixed):
        assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)
        assert read(log, 16, one_by_one=False) == read(log, 16, one_by_one=True)


def test_lines_that_hold_no_metric_are_not_read() -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("bdfghkmz", k=6)) for _ in range(500)]
    notes = [f"/{chance.choice(words)}-{chance.choice(words)}: {n}, {words[n]}" for n in range(500)]
    starts = ["", "  ", "[2026-01-02 10:00] ", "10.0.0.1 GET ", "it is, ", "— "]
    lines = [f"{chance.choice(starts)}{note}" for note in notes]
    log = "\n".join(f"{line}\nstep {n} loss 0.{n:03}" for n, line in enumerate(lines)).encode()
    log = b"epoch  auc  name\n1  0.5  a\n" + log
    history = History()
    reader = LogReader(history)

    reader.feed(log + b"\n")

    assert len([*history.series["loss"]]) == 500
    assert reader.read_alone < 50


def test_many_tables_do_not_have_all_lines_numbered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    for n in range(60):
        lines += [f"epoch{' ' * n}  loss", f"{n}  0.5", *[f"we got {n} of a b c {n} left"] * 3]
    log = "\n".join(lines).encode() + b"\n"
    sizes = []
    monkeypatch.setattr(
        template_ids, "masked", lambda text: sizes.append(len(text)) or masked(text)
    )

    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)
    assert sum(sizes) < 30 * len(log)


def test_more_names_than_are_told_apart_by_their_digits_are_read_one_by_one() -> None:
    log = "".join(f"step {n} f{n % 400}: 0.{n % 89}\n" for n in range(2000)).encode()

    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)


def test_numbers_that_only_some_digits_make_too_large_are_read_one_by_one() -> None:
    log = "".join(f"loss=1e{n} acc=0.5 step={n}\n" for n in range(150, 450)).encode()

    line_by_line = read(log, None, one_by_one=True)

    assert "1e+308" in line_by_line  # the largest exponent of a number
    assert read(log, None, one_by_one=False) == line_by_line


@pytest.mark.parametrize("line", [b"trial 3 loss: 0.5", b"Fold 2", b"trial 3: {'loss': 0.5}"])
def test_line_whose_digits_tell_more_than_numbers_has_no_pattern(line: bytes) -> None:
    mode = LineReader().mode
    assert mode is not None

    assert find_pattern(mode, [line]) is None
    assert find_pattern(mode, [b"step 3 loss: 0.5"]) is not None


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["{t} epoch {e} step {n} loss: 0.{n}", "note", "loss: 0.{n}"], id="lines"),
        pytest.param(["{t} Epoch {e}", "{t} loss: 0.{n}", "acc: nan"], id="headings"),
        pytest.param(["{t} [rank1]: step {n} loss=1", "{t} [rank0]: step {n} loss=2"], id="ranks"),
        pytest.param(["note", "{t} batch {n}", "{t} loss: 0.{n}"], id="one by one"),
        pytest.param(
            ["note", "{t} Run: {n:3}%|#| {n}/999 [00:01<00:01, 9it/s, loss=0.{n}]"], id="bars"
        ),
    ],
)
def test_stamps_of_lines_read_together_are_those_of_their_lines(lines: list[str]) -> None:
    text = [
        line.format(n=n, e=n // 200, t=f"2026-11-26 10:{n // 60 % 60:02}:{n % 60:02},{n % 7}00")
        for n in range(1, 900)
        for line in lines
    ]
    log = "\n".join(["started", *text, ""]).encode()

    for max_points in (None, 16):
        together = read(log, max_points, one_by_one=False, has_stamps=True)
        assert together == read(log, max_points, one_by_one=True, has_stamps=True)
        assert ", time=17" in together


def test_windows_of_equal_and_of_infinite_values_are_thinned_out_alike() -> None:
    odd = {0: "nan", 1: "inf", 2: "-inf"}
    values = ["0.5" if n > 5500 else odd.get(n % 97, f"0.{n % 89}") for n in range(9000)]
    log = "".join(f"step {n:04} loss: {value}\n" for n, value in enumerate(values)).encode()

    assert read(log, 16, one_by_one=False) == read(log, 16, one_by_one=True)


class Loop:
    """A training loop with bars: draws them as tqdm does, and at times in ways that it does not."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lines: list[str] = []
        self.total = self.chance.choice([5, 12, 60])
        self.digits = self.chance.choice([1, 4, 20])
        self.style = self.chance.choice(["before", "after", "told", "any"])
        self.stride = self.chance.choice([1, 2, 5])
        heads = ["Epoch {}: "], ["Epoch {}/99: ", "Val: "], [""], ["Train {}: ", "Validation {}: "]
        self.heads = self.chance.choice(heads)

    def draw(self, head: str, count: int, total: int, shown: dict[str, str]) -> None:
        rate = "?it/s" if not count else f"{self.chance.choice(['4.93', '110.2'])}it/s"
        fill = f"{100 * count // total:3}%|{'█' * (10 * count // total):<10}|"
        values = "".join(f", {name}={value}" for name, value in shown.items())
        self.lines.append(f"{head}{fill} {count}/{total} [00:01<00:01, {rate}{values}]")

    def value(self) -> str:
        if self.chance.random() < 0.02:
            return self.chance.choice(["nan", "1e-05", "-0.5", "1e+20"])
        return f"{self.chance.random() * self.chance.choice([1, 1, 30]):.{self.digits}f}"

    def run(self) -> bytes:
        shown: dict[str, str] = {}
        for epoch in range(120 // self.total):
            for n, head in enumerate(self.heads):
                total = self.total if n == 0 else self.chance.choice([2, 3])
                is_bare = n > 0 and self.chance.random() < 0.6
                shown = self.epoch(head.format(epoch), epoch, total, {} if is_bare else shown)
                if self.chance.random() < 0.1:
                    self.lines.append(self.chance.choice(["Fold 2", "GPU available: True", " "]))
        return "\r".join([*self.lines, ""]).encode()

    def epoch(self, head: str, epoch: int, total: int, shown: dict[str, str]) -> dict[str, str]:
        drawn, is_bare = 0, not shown and epoch > 0
        for count in range(total + 1):
            same = self.chance.random() < 0.1
            new = shown if same and shown else {"loss": self.value(), "lr": self.value()}
            if epoch > 2 and count == total:
                new = {**new, "val_loss": self.value()}
            if is_bare:
                self.draw(head, count, total, {})
            elif self.style == "before":
                self.draw(head, drawn, total, new)
                drawn = count if count - drawn >= self.stride else drawn
            elif self.style == "after":
                if count % self.stride == 0:
                    self.draw(head, count, total, shown)
                    self.draw(head, count, total, new)
            elif self.style == "told":
                self.draw(head, count, total, {"step": str(epoch * total + count), **new})
            else:
                self.draw(head, max(0, count - self.chance.randrange(3)), total, new)
            if self.chance.random() < 0.05:
                self.lines.append(self.chance.choice([self.lines[-1], f"step {count} loss 0.5"]))
            shown = {} if is_bare else new
        return shown


@pytest.mark.matrix(6)
@pytest.mark.parametrize("seed", range(200))
def test_bars_of_any_loop_give_the_same_values_together_as_one_by_one(seed: int) -> None:
    log = Loop(seed).run() * 5  # templates are known after the first times

    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)


def test_loop_that_sets_values_and_never_counts_holds_few_of_them() -> None:
    bar = "  0%|          | 0/9 [00:00<?, ?it/s, loss=0.{n:04}]"
    log = "\n".join(["epoch 1", *(bar.format(n=n) for n in range(2500)), ""]).encode()

    history = History()
    reader = LogReader(history)
    reader.feed(log)

    assert len(list(history.series["loss"])) == 2002  # two times what is held
    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)


def test_bar_of_a_held_out_set_gives_no_name_twice() -> None:
    log = b"Val: 10%|#  | 1/9 [00:01<00:01, 1it/s, loss=0.5, val_loss=0.7, acc=1]\n"

    history = History()
    reader = LogReader(history)
    reader.feed(log * 2)
    reader.end()

    assert {name: series.last.value for name, series in history.series.items() if series.last} == {
        "val_loss": 0.7,
        "val_acc": 1,
    }


@pytest.mark.parametrize(
    ("start", "lines"),
    [
        pytest.param("", "step {n:5} loss: 0.{n:05} lr: 1e-4\nnote\n", id="text"),
        pytest.param(" Iter  Train Loss  Time\n", "{n:5}  0.{n:05}  0.{n:05}s\n", id="table"),
        pytest.param("epoch  loss\n", "a note {n} of {n} b{n:05}\n", id="notes below a table"),
        pytest.param("", "{n:5}%|| {n}/90000 [00:01<00:01, 1it/s, loss=0.{n:05}]\n", id="bar"),
    ],
)
def test_most_lines_of_a_long_log_are_parsed_in_bulk(start: str, lines: str) -> None:
    log = (start + "".join(lines.format(n=n) for n in range(1, 5000))).encode()
    reader = LogReader(History())
    reader.feed(log)

    assert reader.read_alone < 100
    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)


def test_lines_that_differ_in_the_widths_of_numbers_are_parsed_in_bulk() -> None:
    chance = random.Random(1)
    lines = [
        f"{{'loss': {chance.random()}, 'lr': {chance.random() / n}, 'epoch': {n / 97}}}\n"
        f"step {n} loss: {chance.random() * 10 ** (n % 5):.{1 + n % 6}f}, took {n * n} s\n"
        for n in range(1, 2500)
    ]
    log = "".join(lines).encode()
    reader = LogReader(History())
    reader.feed(log)

    assert reader.read_alone < 150
    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)


@pytest.mark.parametrize(
    ("line", "alone"),
    [
        pytest.param("{w}: step {n} loss: 0.{n} {i} acc: 0.{m} ({w}.txt)", 200, id="words"),
        pytest.param("step={n} loss={n}e-{m} hash={h} lr=-0.{m}", 500, id="hashes"),
        pytest.param("{n} | loss_{c} 0.{n} | {i}", 200, id="words that are names"),
        pytest.param("epoch {n} f{d}: 0.{m} {w}_{m:06}.jpg", 200, id="digits that are names"),
        pytest.param("{{'loss': 0.{n}, 'epoch': {m}.{n}, 'id': '{i}'}}", 200, id="dicts"),
        pytest.param("step {n} loss: 0.{n:<{k}} lr: 0.{m:<{k}} {c}", 80, id="gaps"),
        pytest.param("step {n} loss: 0.{m} of {t}", 150, id="several words"),
        pytest.param("step {n} {w} acc@{d}: 0.{m}", 1000, id="words and digits of names"),
    ],
)
def test_lines_with_words_of_their_own_are_parsed_in_bulk(line: str, alone: int) -> None:
    chance = random.Random(1)

    def own(n: int) -> dict[str, object]:
        word = "".join(chance.choices("jkqvxzw", k=chance.randrange(4, 12)))
        number, bits = chance.randrange(1, 10 ** chance.randrange(1, 6)), chance.getrandbits(64)
        ident = f"{bits >> 32:08x}-{bits & 0xFFFF:04x}-q{word}"
        return {
            "n": n,
            "m": number,
            "w": word,
            "i": ident,
            "h": f"{bits:016x}",
            "d": n % 2 + 1,
            "c": "ab"[n % 2],
            "k": chance.randrange(1, 30),
            "t": " ".join("".join(chance.choices("jkvxzw", k=k % 5 + 2)) for k in range(n % 9)),
        }

    log = "".join(line.format(**own(n)) + "\n" for n in range(1, 1000)).encode()
    reader = LogReader(History())
    reader.feed(log)

    assert reader.read_alone < alone
    assert read(log, None, one_by_one=False) == read(log, None, one_by_one=True)


@given(
    st.from_regex(r"[-+]?(\d{1,20}(\.\d{0,20})?|\.\d{1,18})([eE][-+]?\d{1,2})?", fullmatch=True)
    | st.floats(0, 1e9).map(repr)
)
# Between two floats: a wider float lies in the middle when the number does not.
@example("5008.99619557226697")
@example("4.83624002261218644")
@example("330117.259147263685")
def test_numbers_converted_together_equal_those_of_float(number: str) -> None:
    if not number.isascii():
        return
    block = TextBlock(f"loss {number}\nloss {number}".encode())
    columns = NumberColumns(block)
    column = columns.add(masked(number.encode()), block.starts + 5)

    assert columns.values(column).tolist() == [float(number)] * 2


def test_reading_a_short_log_does_not_import_numpy() -> None:
    program = (
        "import sys; from ringtasks.training.curves import Curves; curves = Curves();"
        "[curves.feed(b'step %d loss 0.5\\n' % n) for n in range(300)];"
        "print('numpy' in sys.modules, curves.latest('loss'))"
    )

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert run.stdout == "False 0.5\n"


@pytest.mark.parametrize("start", ["", "loss: 1 ", "{'loss': 1, ", "1%|", "step 1 it/s "])
def test_parsing_time_of_a_long_line_is_linear(start: str) -> None:
    pieces = ["9", "a ", "{", "[1/2]", "=1 ", "a:", "{'a':1,", "'", "| a ", "--", " ", "1%|#", "\\"]

    before = time.process_time()
    for piece in pieces:
        read(f"{start}{piece * (100_000 // len(piece))}\n".encode(), None, one_by_one=False)

    assert time.process_time() - before < 5

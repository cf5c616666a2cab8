"""Cost of reading a training log, and of following one.

    python benchmarks/logs.py [--mb 100] [LOG …]

Each log of tests/logs is repeated to that size with other digits in its metrics, so that no two
parts of it are equal.  "Following" is the share of one core that 100 lines a second cost, each
arriving by itself.  Read the figures beside the first line, which shows how fast this machine is.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ringtasks.training.curves import Curves  # noqa: E402  # needs the path above

LOGS = ROOT / "tests" / "logs"
VARIANTS = 20
LINES_PER_SECOND = 100
FRACTION = re.compile(rb"(?<=\d\.\d)\d+")


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--mb", type=float, default=100)
    options.add_argument("logs", nargs="*", type=Path, default=sorted(LOGS.glob("*.log")))
    given = options.parse_args()
    print(f"ten million additions: {additions():.2f} s of CPU\n")
    print(f"{'log':38} {'100 MB':>9} {'a line':>9} {'following':>10}")
    for path in given.logs:
        log = path.read_bytes().rstrip(b"\n") + b"\n"
        data, lines = repeated(log, int(given.mb * 1e6))
        seconds = reading(data)
        share = following(log) * LINES_PER_SECOND
        print(
            f"{path.stem:38} {seconds * 1e8 / len(data):7.1f} s {seconds * 1e6 / lines:6.2f} µs "
            f"{share:10.2%}",
            flush=True,
        )


def additions() -> float:
    start, total = time.process_time(), 0
    for n in range(10_000_000):
        total += n
    return time.process_time() - start


def repeated(log: bytes, size: int) -> tuple[bytes, int]:
    """Return a log of that size, with its number of lines."""
    digits = random.Random(1)
    variants = [FRACTION.sub(lambda found: other(found[0], digits), log) for _ in range(VARIANTS)]
    data = b"".join(variants) * (size // (len(log) * VARIANTS) + 1)
    return data, data.count(b"\n") + data.count(b"\r")


def other(number: bytes, digits: random.Random) -> bytes:
    return b"%0*d" % (len(number), digits.randrange(10 ** len(number)))


def reading(data: bytes) -> float:
    curves = Curves()
    with tempfile.NamedTemporaryFile() as log:
        log.write(data)
        log.flush()
        start = time.process_time()
        curves.read_file(Path(log.name))
        for name in curves.names[:1]:
            curves.curve(name)
        return time.process_time() - start


def following(log: bytes) -> float:
    """Return the CPU time for a line."""
    lines = re.split(rb"(?<=[\r\n])", log) * (1 + 4000 // len(log.splitlines()))
    curves = Curves()
    start = time.process_time()
    for line in lines:
        curves.feed(line)
    return (time.process_time() - start) / len(lines)


if __name__ == "__main__":
    main()

"""Changes of an honest answer that a hostile host might make."""

from __future__ import annotations

import random
import re

__all__ = ["HOSTILE", "mutated"]

#: Values in place of an honest one: numbers out of bounds, digits of other scripts, control text.
HOSTILE = (
    "9" * 5000, "-1", "0", "²", "٣", "1_0", "nan", "inf", "-inf", "1e400", "0x10",
    "99999999999999", "18446744073709551616", "", " ", "\t", "\r", "\n", "\0", "\x1b[2J",
    "\x1b]0;owned\x07", "\x9b2J", "\u202e", "::error::x", "##[error]x", "../../x", "$(id)",
    "`id`", "'", '"', "%", "{}", "[" * 5000, "a" * 70000,
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9.]+")


def mutated(honest: str, chance: random.Random) -> str:
    """An honest answer after a few changes; now and then nothing but noise."""
    if chance.random() < 0.05:
        return "".join(chr(chance.choice((chance.randrange(256), 10, 58))) for _ in range(200))
    text = honest
    for _ in range(chance.randint(1, 4)):
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        words = list(_WORD.finditer(lines[at]))
        change = chance.randrange(5)
        if change == 0:
            del lines[at]
        elif change == 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif change == 2:
            lines[at:] = [lines[at][: chance.randint(0, len(lines[at]))]]
        elif words:
            word = chance.choice(words)
            own = lines[at]
            lines[at] = own[: word.start()] + chance.choice(HOSTILE) + own[word.end() :]
        text = "\n".join(lines) or "\n"
    return text

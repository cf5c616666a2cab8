"""Exclude patterns without rsync mean what rsync makes of them: compared with rsync itself."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from ringtasks.remote.globs import matches
from ringtasks.transfer.patterns import Filter, encoded, filter_rules
from ringtasks.transfer.rsync_flags import Rules
from tests.support.fixtures import Require

_NAMES = [
    "a", "b", "ab", "ba", "a.log", "x]", "[x", "a-b", "-", "!a", "^", "B", "é", " a", "a b", "1",
    "a*", "b?", "\\a", ".a", "logs", "[a]",
]  # fmt: skip
_PARTS = [
    "a", "b", "*", "**", "?", "/", "***", "[!a]", "[^a]", "[]x]", "[!]x]", "[[:alpha:]]",
    "[[:digit:]]", "[![:alpha:]]", "[a-c]", "[b-]", "[-b]", "[c-a]", "[[:upper:]a]", "\\a", "\\*",
    "\\", ".log", "logs", "-", "!a", "é", "[", "[a", "]", "[]", "[\\]]", "[\\a]", ".", " ",
    "[[:bogus:]]", "[[:space:]]", "[a-]", "[*]", "[?]", "[/]", "[a/b]", "^",
    "[!]", "[^]", "a-[:alpha:]", "[+-[:alpha:]]", "[[:alpha:]", "[[::]]", "[[:a", "[a[:digit:]",
]  # fmt: skip
#: rsync reads these as other rules, or refuses them.
_NOT_PATTERNS = ("!", "+ ", "- ")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in folders, with a file of each name in each."""
    top = tmp_path_factory.mktemp("tree")
    folders = ("", "a", "logs", "b/a", "logs/[x/a", "a.log")
    for folder in folders:
        (top / folder).mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for name in _NAMES:
            path = top / folder / name
            if not path.exists():
                path.write_text("")
    return top


@pytest.mark.parametrize(
    "count", [40, pytest.param(500, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_random_patterns_select_what_rsync_selects(
    tree: Path, count: int, given_seeds: range | None, require: Require
) -> None:
    require("rsync")
    for seed in given_seeds or range(count):
        chance = random.Random(seed)
        patterns = tuple(_pattern(chance) for _ in range(chance.randint(1, 4)))
        _assert_as_rsync(tree, patterns)


@pytest.mark.parametrize(
    "patterns",
    [
        ("[+-[:digit:]]",), ("[a-[:digit:]]",), ("[[:digit:]-[:upper:]]",), ("*\\",),
        ("[!]", "[^]*"), ("[[:alpha:]x",), ("[[::]]",), ("[[:1:]]*",),
        ("[!a]",), ("[[:alpha:]]",), ("[]x]",), ("a/**",), ("**/a",), ("/a/***",), ("a/***",),
        ("/logs/*/a",), ("logs/",), ("*", "!/a", "!/a/b"), ("[!a]*", "!b"), ("**b**",), ("/**/a",),
        ("a//b",), ("**",), ("***",), ("/*/",), ("\\[x",), ("[a", "x]"), ("logs/**/a",),
    ],
)  # fmt: skip
def test_a_pattern_selects_what_rsync_selects(tree: Path, patterns: tuple[str, ...]) -> None:
    _assert_as_rsync(tree, patterns)


@pytest.mark.parametrize("pattern", ["[!]", "[^]", "[]"])
def test_bracket_without_an_end_is_a_plain_name_in_a_pattern_for_the_host(pattern: str) -> None:
    assert matches(pattern, pattern)
    assert not matches(pattern, "a")


def _pattern(chance: random.Random) -> str:
    while True:
        parts = [chance.choice(_PARTS) for _ in range(chance.randint(1, 4))]
        pattern = chance.choice(["", "", "", "/"]) + "".join(parts) + chance.choice(["", "", "/"])
        pattern = chance.choice(["", "", "", "!"]) + pattern
        if pattern.strip("/!") and not pattern.lstrip("!").startswith(_NOT_PATTERNS):
            return pattern


def _assert_as_rsync(tree: Path, patterns: tuple[str, ...]) -> None:
    rules = Rules(exclude=patterns)
    done = subprocess.run(
        [
            "rsync",
            "-r",
            "-n",
            "-8",
            "--from0",
            "--exclude-from=-",
            "--out-format=%n",
            f"{tree}/",
            "/x/",
        ],
        input=encoded(filter_rules(rules)),
        capture_output=True,
        check=True,
    )
    expected = {line.rstrip("/") for line in _unescaped(done.stdout).splitlines()} - {".", ""}
    assert _selected(tree, Filter(rules)) == expected, patterns


def _unescaped(stdout: bytes) -> str:
    lines = (line for line in stdout.splitlines() if not line.startswith(b"created directory"))
    return b"\n".join(lines).decode("utf-8", "surrogateescape")


def _selected(tree: Path, rules: Filter) -> set[str]:
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        for path in waiting.pop().iterdir():
            name = str(path.relative_to(tree))
            if not rules.excludes(name, is_folder=path.is_dir()):
                found.add(name)
                if path.is_dir():
                    waiting.append(path)
    return found

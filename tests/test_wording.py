"""The wording of the package: plain technical English, one term for each thing."""

from __future__ import annotations

import ast
import builtins
import functools
import io
import re
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import ringtasks

PACKAGE = Path(ringtasks.__file__).parent
PARTS = sorted(
    path.name
    for path in PACKAGE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
)

ROOT = PACKAGE.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *PACKAGE.rglob("*.sh")]
QUESTION = re.compile(r"(What|Who|Whoever|Whose|Where|How)\b")
# Terms of this project's own that were given up, and what is said instead.
RETIRED = {
    r"braille": "terminal plot",
    r"complaints": "stderr errors",
    r"conduits?": "fd session",
    r"crews?": "workers",
    r"detours?": "fallback note",
    r"doors?": "route, address or sshd",
    r"far end": "remote host",
    r"going by": "connected via",
    r"hauls?": "host transfer",
    r"is meant": "the name that matched",
    r"keepers?": "monitor, link pool",
    r"mend(ed|s)?": "fix",
    r"next_door": "dial_next",
    r"nobody": "no user, no process, no host",
    r"put_back|puts? back": "revert, roll back",
    r"somebody": "another user, another process",
    r"strays?": "orphans",
    r"whoever": "the caller, the user, the process",
}
#: A file that the documentation names as an example.
OF_A_USER = {"hosts/cloud.py"}
#: A name between single backquotes: its first two parts.
REFERENCE = re.compile(r"(?<![`\w\"])`([A-Za-z_]\w*)(?:\.(\w+)[\w.]*)?`(?![`_\w])")
DEFINITION = re.compile(
    r"\b(?:def|class|import) (\w+)|self\.(\w+)|(\w+)(?:: |=| =)|^    (\w+),$", re.MULTILINE
)
PATTERN = re.compile("|".join(rf"(?:\b|_)(?:{word})(?:\b|_)" for word in RETIRED), re.IGNORECASE)


def files_of(part: str) -> list[Path]:
    path = PACKAGE / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


class Texts(NamedTuple):
    """Strings of a file, each with its line, and names of classes, imports and attributes."""

    docstrings: list[tuple[int, str]]
    others: list[tuple[int, str]]
    names: set[str]


@functools.cache
def texts_of(file: Path) -> Texts:
    """The texts of a file; the docstrings of attributes are some."""
    found = Texts([], [], set())
    documented = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text)) as constant):
                documented.add(constant)
                found.docstrings.append((node.lineno, text.strip()))
            case ast.Constant(value=str(text)) if node not in documented:
                found.others.append((node.lineno, text))
            case ast.ClassDef(name=name) | ast.alias(name=name) | ast.Attribute(attr=name):
                found.names.add(name)
    return found


def words(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each name, text and comment."""
    kinds = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT}
    kinds.add(getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield token.start[0], token.string


@pytest.mark.parametrize("part", PARTS)
def test_messages_name_the_program_that_was_typed(part: str) -> None:
    # A text that tells a command gets the program from `ringtasks.common.program_name.as_typed`.
    for file in files_of(part):
        fixed = [text for text in texts_of(file).others if re.search(r"(?<![\w/.-])inv ", text[1])]

        assert fixed == [], f"{file}: {fixed}"


@pytest.mark.parametrize("part", PARTS)
def test_no_docstring_begins_with_a_question_word(part: str) -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {text.splitlines()[0]}"
        for file in files_of(part)
        for line, text in texts_of(file).docstrings
        if QUESTION.match(text)
    ]

    assert found == []


def test_no_docstring_of_a_test_begins_with_a_question_word() -> None:
    files = [file for name in ("tests", "benchmarks") for file in (ROOT / name).rglob("*.py")]
    found = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in files
        for text in re.findall(rf'^ *"""({QUESTION.pattern}.*)', file.read_text(), re.MULTILINE)
    ]

    assert found == []


def test_errors_in_docstrings_exist() -> None:
    known = {*dir(builtins), "or", "and"}
    raised: dict[str, str] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        texts = texts_of(file)
        known |= texts.names
        for line, text in texts.docstrings:
            for names in re.findall(r":raises ([^:]+):", text):
                place = f"{file.relative_to(PACKAGE)}:{line}: "
                raised |= {place + name: name for name in re.findall(r"[\w.]+", names)}

    unknown = [said for said, name in raised.items() if name.rpartition(".")[2] not in known]

    assert unknown == []


def test_names_in_docstrings_and_comments_exist() -> None:
    known = {*dir(builtins), *sys.stdlib_module_names}
    texts = {file: file.read_text() for file in PACKAGE.rglob("*.py")}
    #: The text of each module, and the names in each folder.
    within: defaultdict[str, str] = defaultdict(str)
    for file, text in texts.items():
        known.update(*DEFINITION.findall(text))
        within[file.stem] += text
        for folder in (file.parent, *file.parent.parents):
            within[folder.name] += f" {file.stem} {file.parent.name} "

    unknown = [
        f"{file.relative_to(PACKAGE)}: {name}.{part}"
        for file, text in texts.items()
        for name, part in REFERENCE.findall(text)
        if (name not in known and name not in within)
        or (name in within and not re.search(rf"\b{part}\b", within[name]))
    ]

    assert unknown == []


def test_no_two_classes_have_one_name() -> None:
    found = Counter(
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"^ *class _*(\w+)", file.read_text(), re.MULTILINE)
    )

    assert [name for name, count in found.items() if count > 1] == []


@pytest.mark.parametrize("part", PARTS)
def test_no_retired_term_is_used(part: str) -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {match.group()}"
        for file in files_of(part)
        if PATTERN.search(source := file.read_text())
        for line, text in words(source)
        for match in PATTERN.finditer(text)
    ]

    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_retired_term_is_used_in_documentation(page: Path) -> None:
    lines = page.read_text().splitlines()

    assert [(n, line) for n, line in enumerate(lines, 1) if PATTERN.search(line)] == []


def test_files_that_the_documentation_names_exist() -> None:
    folders = [PACKAGE, *(ROOT / name for name in ("benchmarks", "script", "tests"))]
    files = {f"/{file.relative_to(ROOT)}" for folder in folders for file in folder.rglob("*.*")}
    missing = []
    for page in (page for page in PAGES if page.suffix == ".md"):
        text = page.read_text()
        links = re.findall(r"\]\(([^):#]+)[#)]", text)
        missing += [f"{page.name}: {link}" for link in links if not (page.parent / link).exists()]
        named = set(re.findall(r"`([a-z]+/[\w/]+\.(?:py|sh))`", text)) - OF_A_USER
        missing += [
            f"{page.name}: {name}"
            for name in named
            if not any(file.endswith(f"/{name}") for file in files)
        ]

    assert missing == []

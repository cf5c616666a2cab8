"""The security page names a test for each promise, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
ROWS = [
    line for line in PAGE.partition("## Promises")[2].splitlines()
    if line.startswith("| ") and not re.match(r"\| (promise|-)", line)
]  # fmt: skip


def functions_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test_that_exists() -> None:
    missing = [f"{file}::{name}" for file, name in NAMED if name not in functions_in(ROOT / file)]

    assert missing == []
    assert len(ROWS) == len(NAMED) > 15


def test_security_page_explains_how_to_report_a_vulnerability() -> None:
    assert "Report a vulnerability" in (ROOT / "SECURITY.md").read_text()
    assert "SECURITY.md" in PAGE

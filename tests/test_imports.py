"""Tests share through tests/support, and see what users of a module see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_no_test_module_imports_another_one_or_a_private_name(file: Path) -> None:
    imported = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]

    others = [
        f"{module}: {name}"
        for module, name in imported
        if name.startswith("_")
        or any(part.startswith(("_", "conftest", "test_")) for part in str(module).split("."))
    ]

    assert others == []

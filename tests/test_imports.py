"""Tests share through tests/support, and see what users of a module see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FOLDERS = sorted({file.parent for file in TESTS.rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(TESTS)))
def test_no_test_module_imports_another_one_or_a_private_name(folder: Path) -> None:
    imported = [
        (file.name, str(node.module), alias.name)
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]

    others = [
        f"{file}: {module}: {name}"
        for file, module, name in imported
        if name.startswith("_")
        or any(part.startswith(("_", "conftest", "test_")) for part in module.split("."))
    ]

    assert others == []

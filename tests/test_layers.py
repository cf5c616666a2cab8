"""The package's modules import each other in one direction."""

from __future__ import annotations

import graphlib

import grimp

from tests.support.fixtures import ROOT

MOST_LINES = 450


def test_imports_have_no_cycle() -> None:
    # All imports count: those within functions, and those for the type checker only.
    graph = grimp.build_graph("ringtasks", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    order = list(graphlib.TopologicalSorter(imports).static_order())  # CycleError names the cycle

    assert len(order) > 250


def test_no_file_is_too_long_to_have_one_subject() -> None:
    files = sorted((ROOT / "ringtasks").rglob("*.py"))

    long = [file.name for file in files if file.read_bytes().count(b"\n") > MOST_LINES]

    assert len(files) > 250
    assert long == []

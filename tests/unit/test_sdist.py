"""The source archive has all files that its tests need."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_source_archive_includes_what_the_tests_read() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    needed = {"/src", "/tests", "/docs", "/examples", "/benchmarks", "/conftest.py", "/*.md"}
    assert needed <= set(included)

"""Run mypy and pyright, each in its strict or usual mode, and return the lines that they report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

__all__ = ["CHECKERS", "ROOT", "Finding", "check", "write_page"]

CHECKERS: Final = ("mypy", "pyright")

ROOT: Final = Path(__file__).parents[3]

SEARCH_PATH: Final = (ROOT / "src", ROOT / "tests" / "support")

_MYPY_LINE: Final = re.compile(r"(.+?\.py):(\d+): error: (.*)")


class Finding(NamedTuple):
    """An error that a checker reports."""

    file: str
    line: int
    text: str


def write_page(page: Path, folder: Path, names: str = "") -> Path:
    """Write the Python blocks of a page as one module, in order; return its path.

    A line of the page is the same line of the module. names: a line of code that defines what
    the page is run with.
    """
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for region in PythonCodeBlockParser()(Document(text, str(page))):
        start = text.count("\n", 0, region.start) + 1  # the line after the fence
        block = region.parsed.splitlines()
        lines[start : start + len(block)] = block
    lines[0] = names
    module = folder / f"{page.stem.lower().replace('-', '_')}_page.py"
    module.write_text("\n".join(lines), encoding="utf-8")
    return module


def check(checker: str, files: Iterable[Path], folder: Path) -> list[Finding]:
    """Return the errors that `checker` reports in `files`, all of them in `folder`.

    It writes files of its own there. Raises RuntimeError if the files were not checked.
    """
    names = [str(file.relative_to(folder)) for file in files]
    return _mypy(names, folder) if checker == "mypy" else _pyright(names, folder)


def _mypy(files: list[str], folder: Path) -> list[Finding]:
    command = [
        *("-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--no-pretty"),
        *("--follow-imports=silent", "--explicit-package-bases", "--hide-error-context"),
        f"--cache-dir={folder / 'mypy_cache'}",
        *files,
    ]
    path = os.pathsep.join(map(str, SEARCH_PATH))
    done = _run(command, folder, MYPYPATH=path, MYPY_FORCE_COLOR="0")
    findings = [
        Finding(Path(match[1]).name, int(match[2]), match[3])
        for match in map(_MYPY_LINE.match, done.stdout.splitlines())
        if match
    ]
    if done.returncode > 1 or (done.returncode == 1) != bool(findings):
        raise RuntimeError(f"mypy failed: {done.stdout}{done.stderr}")
    return findings


def _pyright(files: list[str], folder: Path) -> list[Finding]:
    settings = {"include": files, "extraPaths": [str(path) for path in SEARCH_PATH]}
    config = folder / "pyrightconfig.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = ["-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(config)]
    done = _run(command, folder, PYRIGHT_PYTHON_IGNORE_WARNINGS="1")
    try:
        report: dict[str, Any] = json.loads(done.stdout)
        checked = report["summary"]["filesAnalyzed"]
    except (ValueError, KeyError):
        checked = 0
    if done.returncode > 1 or checked < len(files):
        raise RuntimeError(f"pyright failed: {done.stdout}{done.stderr}")
    return [
        Finding(Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"])
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def _run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited: Mapping[str, str] = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )

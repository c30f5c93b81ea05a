"""The example in the docstring of the conformance suite runs under pytest as it stands."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from ratelimit_mail.testing import BackendConformance, conformance


def documented_example() -> str:
    """Return the indented block of the docstring, dedented."""
    docstring = inspect.getdoc(conformance)
    assert docstring is not None
    [block] = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*$", docstring, re.MULTILINE)
    return textwrap.dedent(block).strip() + "\n"


def test_the_example_in_the_docstring_is_a_suite_that_passes(tmp_path: Path) -> None:
    file = tmp_path / "test_my_backend.py"
    file.write_text(documented_example())
    tests = [name for name in dir(BackendConformance) if name.startswith("test_")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(tests)} passed" in done.stdout

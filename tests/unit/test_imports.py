"""The house: imports run one way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"

BROKEN = """
[importlinter]
root_package = ratelimit_mail

[importlinter:contract:1]
name = the wrong way round
type = layers
layers =
    ratelimit_mail.envelope
    ratelimit_mail.policy
"""


def lint(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_imports_keep_to_the_contracts_of_the_project() -> None:
    done = lint(PROJECT / "pyproject.toml")
    assert "0 broken" in done.stdout, done.stdout + done.stderr
    assert "2 kept" in done.stdout
    assert done.returncode == 0


def test_a_broken_contract_would_be_found(tmp_path: Path) -> None:
    config = tmp_path / ".importlinter"
    config.write_text(BROKEN)
    done = lint(config)
    assert "1 broken" in done.stdout, done.stdout + done.stderr
    assert done.returncode != 0

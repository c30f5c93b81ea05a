"""The modules import each other in one direction, as the contracts in pyproject.toml say."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
CONTRACTS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]

REVERSED = """
[importlinter]
root_package = ratelimit_mail

[importlinter:contract:1]
name = upside down
type = layers
layers =
    {lower}
    {higher}
"""


def lint(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "container",
    [
        "ratelimit_mail",
        "ratelimit_mail.backends",
        "ratelimit_mail.limiter",
        "ratelimit_mail.outbox",
        "ratelimit_mail.policy",
    ],
)
def test_a_contract_orders_the_modules_of(container: str) -> None:
    layered = [contract for contract in CONTRACTS if contract["type"] == "layers"]
    assert [container] in [contract["containers"] for contract in layered]


def test_imports_keep_to_every_contract() -> None:
    result = lint(PROJECT / "pyproject.toml")
    assert "0 broken" in result.stdout, result.stdout + result.stderr
    assert f"{len(CONTRACTS)} kept" in result.stdout
    assert result.returncode == 0


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("ratelimit_mail.envelope", "ratelimit_mail.policy"),
        ("ratelimit_mail.limiter.verdicts", "ratelimit_mail.limiter.operations"),
    ],
)
def test_a_broken_contract_is_reported(tmp_path: Path, lower: str, higher: str) -> None:
    config = tmp_path / ".importlinter"
    config.write_text(REVERSED.format(lower=lower, higher=higher))
    result = lint(config)
    assert "1 broken" in result.stdout, result.stdout + result.stderr
    assert result.returncode != 0

"""The command on a full disk, and into a pipe that nobody reads: one line or nothing, no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rlm_testkit.command_line import write_lines

FULL = Path("/dev/full")

COMMANDS = [
    ["--help"],
    ["--version"],
    ["check-policy", "leeds-office365"],
    ["check-policy", "--toml", "leeds-office365"],
    ["check-policy", "--help"],
    ["presets"],
    ["presets", "--json"],
    ["presets", "leeds-office365"],
    ["plan", "--policy", "leeds-office365", "--messages", "100"],
    ["plan", "--policy", "leeds-office365", "--messages", "100", "--json"],
    ["plan", "--all", "--messages", "100"],
    ["replay", "log.csv", "--policy", "leeds-office365"],
    ["replay", "log.csv", "--policy", "leeds-office365", "--json"],
    ["replay", "log.csv", "--policy", "leeds-office365", "--suggest"],
]

commands = pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)


@pytest.fixture(autouse=True)
def _log(tmp_path: Path) -> None:
    write_lines(tmp_path / "log.csv", "time,sender,recipients", "1,a@x.y,1", "wrong", "2,b@x.y,2")


def run(arguments: list[str], folder: Path, **streams: object) -> subprocess.CompletedProcess[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    program = [sys.executable, "-m", "ratelimit_mail.cli", *arguments]
    return subprocess.run(program, cwd=folder, text=True, check=False, **streams)  # type: ignore[call-overload, no-any-return]


@commands
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line_on_stderr(arguments: list[str], tmp_path: Path) -> None:
    with FULL.open("w") as full:
        result = run(arguments, tmp_path, stdout=full)
    lines = [each for each in result.stderr.splitlines() if not each.startswith("skipped")]
    assert lines == ["Error: the output cannot be written: No space left on device"]
    assert result.returncode == 2


@pytest.mark.parametrize("arguments", [*COMMANDS, ["presets", "nonsense"], ["check-policy", "x"]])
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_full_disks_for_both_streams_end_in_an_exit_code(
    arguments: list[str], tmp_path: Path
) -> None:
    with FULL.open("w") as full:
        result = run(arguments, tmp_path, stdout=full, stderr=full)
    assert result.returncode == 2


@commands
def test_a_closed_pipe_ends_the_command_silently(arguments: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run(arguments, tmp_path, stdout=writer)
    finally:
        os.close(writer)
    lines = [each for each in result.stderr.splitlines() if not each.startswith("skipped")]
    assert lines == []
    assert result.returncode == 1

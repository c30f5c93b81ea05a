"""The command on a full disk, and into a pipe that nobody reads: one line or nothing, no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rlm_testkit.command_line import write_lines
from rlm_testkit.forked_commands import CLOSED_PIPE, Ended, run_forked

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

WRONG_COMMANDS = [["presets", "nonsense"], ["check-policy", "x"]]

NO_SPACE = "Error: the output cannot be written: No space left on device\n"

needs_full_disk = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")


@pytest.fixture(autouse=True)
def _log(tmp_path: Path) -> None:
    write_lines(tmp_path / "log.csv", "time,sender,recipients", "1,a@x.y,1", "wrong", "2,b@x.y,2")


def without_skipped_lines(ended: dict[str, Ended]) -> dict[str, Ended]:
    """Return how commands ended, without what they say about the wrong line of the log."""
    return {
        command: Ended(
            code,
            "".join(
                line for line in stderr.splitlines(True) if not line.startswith("skipped line 3")
            ),
        )
        for command, (code, stderr) in ended.items()
    }


def each_of(commands: list[list[str]], *ended: object) -> dict[str, Ended]:
    return {" ".join(command): Ended(*ended) for command in commands}  # type: ignore[arg-type]


@needs_full_disk
@needs_fork
def test_a_full_disk_is_one_line_on_stderr(tmp_path: Path) -> None:
    ended = run_forked(COMMANDS, tmp_path, stdout=str(FULL))
    assert without_skipped_lines(ended) == each_of(COMMANDS, 2, NO_SPACE)


@needs_full_disk
@needs_fork
def test_full_disks_for_both_streams_end_in_an_exit_code(tmp_path: Path) -> None:
    commands = COMMANDS + WRONG_COMMANDS
    ended = run_forked(commands, tmp_path, stdout=str(FULL), stderr=str(FULL))
    assert ended == each_of(commands, 2, "")


@needs_fork
def test_a_closed_pipe_ends_the_command_silently(tmp_path: Path) -> None:
    ended = run_forked(COMMANDS, tmp_path, stdout=CLOSED_PIPE)
    assert without_skipped_lines(ended) == each_of(COMMANDS, 1, "")


@needs_full_disk
@pytest.mark.parametrize("stderr", [subprocess.PIPE, None], ids=["for stdout", "for both"])
def test_a_full_disk_ends_a_process_that_was_not_forked_alike(stderr: int | None) -> None:
    with FULL.open("w") as full:
        program = [sys.executable, "-m", "ratelimit_mail.cli", "presets"]
        done = subprocess.run(program, stdout=full, stderr=stderr or full, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, NO_SPACE if stderr else None)


BUFFERED_LINE = """
import sys
import ratelimit_mail.cli.command as module
from ratelimit_mail.cli import main

def command(prog_name):
    sys.stderr.reconfigure(line_buffering=False, write_through=False)
    print("a line that is still in the buffer", file=sys.stderr)
    sys.exit(1)

module.command = command
main()
"""


@needs_full_disk
def test_a_line_that_cannot_be_written_at_the_end_leaves_the_exit_code() -> None:
    with FULL.open("w") as full:
        done = subprocess.run([sys.executable, "-c", BUFFERED_LINE], stderr=full, check=False)
    assert done.returncode == 1

"""Run the command many times, each in a process that ends as any does, but starts without imports.

The process is forked from one that has imported the command: to start Python each time takes longer
than most commands do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["CLOSED_PIPE", "Ended", "run_forked"]

CLOSED_PIPE: Final = "|"
"""Instead of a file: a pipe that nothing reads."""


class Ended(NamedTuple):
    """How a process ended, and what it wrote to stderr, if that is not a device."""

    code: int
    stderr: str


def run_forked(
    commands: Sequence[Sequence[str]], folder: Path, *, stdout: str, stderr: str | None = None
) -> dict[str, Ended]:
    """Run commands in a folder, and return how each ended, by its arguments.

    stdout: the path of a file, or `CLOSED_PIPE`. stderr: the path of a file; None reads it.
    """
    errors = [stderr or str(folder / f"stderr-{i}") for i in range(len(commands))]
    jobs = [(arguments, stdout, path) for arguments, path in zip(commands, errors, strict=True)]
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=True,
    )
    texts = ["" if stderr else Path(path).read_text(encoding="utf-8") for path in errors]
    ended = map(Ended, json.loads(done.stdout), texts)
    return dict(zip(map(" ".join, commands), ended, strict=True))


def _serve(jobs: list[tuple[list[str], str, str]]) -> None:
    """Fork a process for each job, and write the exit codes to stdout as JSON."""
    codes = []
    for arguments, stdout, stderr in jobs:
        process = os.fork()
        if process == 0:
            _run(arguments, stdout, stderr)
            return
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    json.dump(codes, sys.stdout)


def _run(arguments: list[str], stdout: str, stderr: str) -> None:
    from ratelimit_mail.cli import main

    os.dup2(_open(stdout), 1)
    os.dup2(_open(stderr), 2)
    sys.argv = ["ratelimit-mail", *arguments]
    main()


def _open(path: str) -> int:
    if path == CLOSED_PIPE:
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)


if __name__ == "__main__":
    from ratelimit_mail.cli.man_page import man_page

    man_page("")  # loads the modules of every command
    todo: Any = json.load(sys.stdin)
    _serve(todo)

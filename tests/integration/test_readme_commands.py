"""The commands of README.md work when they are pasted from top to bottom."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rlm_testkit.command_line import run_command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `ratelimit-mail (.+?)` \|", re.MULTILINE)


def test_each_command_of_the_readme_works_after_those_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    first = next(block for block in re.findall(r"```console\n(.+)\n```", README))
    install, script, replay = first.split(" && ")
    assert install == "python -m pip install '.[cli]'"
    subprocess.run([sys.executable, *shlex.split(script)[1:]], check=True)
    commands = [replay.removeprefix("ratelimit-mail "), *ROW.findall(README)]
    assert len(commands) > 10
    for each in commands:
        result = run_command(*shlex.split(each))
        assert result.exit_code == 0, (each, result.output)
        assert result.stdout or "--sample" in each, each
    assert list(Path("mail").rglob("*")), "letters were sent into the folder"

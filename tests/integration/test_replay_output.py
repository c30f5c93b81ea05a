"""The command as a shell meets it: streams, exit codes, hostile text, the example's mailbox."""

from __future__ import annotations

import importlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from ratelimit_mail.cli import main
from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.progress import watched
from ratelimit_mail.cli.replay import command as module
from ratelimit_mail.presets import PRESETS

EXAMPLE = Path(__file__).parents[2] / "examples" / "make_mailbox.py"
SHELL = [sys.executable, "-m", "ratelimit_mail.cli"]


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["time,sender,recipients", *rows]) + "\n", encoding="utf-8")
    return path


class Terminal(io.StringIO):
    """A terminal as far as the progress bar can tell."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "log.csv", *["1700000000,ann@x.org,1"] * 31)


def test_the_command_runs_as_a_module(file: Path) -> None:
    arguments = [*SHELL, "replay", str(file), "--policy", "leeds-office365", "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["messages"]["deferred"]["messages"] == 1
    assert done.stderr == ""


def test_tables_fit_80_columns_and_carry_no_escape_codes_into_a_file(file: Path) -> None:
    env = {**os.environ, "COLUMNS": "80"}
    arguments = [*SHELL, "replay", str(file), "--policy", "western-convergence"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=env)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout + done.stderr
    assert "…" not in done.stdout


def test_a_terminal_without_unicode_gets_escapes_and_no_traceback(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *["1700000000,jörg@x.org,1"] * 31)
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = [*SHELL, "replay", str(file), "--policy", "leeds-office365"]
    done = subprocess.run(arguments, capture_output=True, check=True, env=env)
    assert b"j\\xf6rg@x.org" in done.stdout


def test_ctrl_c_ends_quietly(tmp_path: Path) -> None:
    # The first row's complaint tells that reading has begun; there is far more to read.
    file = write(tmp_path / "log.csv", "soon,x,1", *["1700000000,ann@x.org,1"] * 300_000)
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from ratelimit_mail.cli import main; main()"
    )
    arguments = [sys.executable, "-c", start, "replay", str(file), "--policy", "leeds-office365"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith("left out, line 2")
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
    assert process.returncode == 130


def test_ctrl_c_while_replaying_ends_quietly(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "replay", interrupted)
    result = CliRunner().invoke(command, ["replay", str(file), "--policy", "leeds-office365"])
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["tables", "json"])
def test_a_reader_that_goes_away_ends_it_quietly(file: Path, option: list[str]) -> None:
    read, write_end = os.pipe()
    os.close(read)
    arguments = [*SHELL, "replay", str(file), "--policy", "leeds-office365", *option]
    with os.fdopen(write_end, "w") as nobody:
        done = subprocess.run(arguments, stdout=nobody, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_libraries_the_command_says_what_to_install(missing: str) -> None:
    start = (
        f"import sys; sys.modules[{missing!r}] = None; from ratelimit_mail.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "pip install 'ratelimit-mail[cli]'" in line


def test_the_way_in_names_missing_libraries_and_hides_no_other_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "ratelimit_mail.cli.command")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "click", None)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert "click and rich: pip install" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ratelimit_mail.cli.command", None)
    with pytest.raises(ModuleNotFoundError):
        main()


def test_importing_the_module_that_runs_the_command_does_not_run_it() -> None:
    assert importlib.import_module("ratelimit_mail.cli.__main__").main is main


def test_ctrl_c_while_starting_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "ratelimit_mail.cli.command":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "ratelimit_mail.cli.command")
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_the_command_prints_to_any_stream(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["ratelimit-mail", "replay", str(file), "--policy", "leeds-office365", "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.delitem(sys.modules, "ratelimit_mail.cli.__main__", raising=False)
    monkeypatch.setattr(sys, "stdout", stream := io.StringIO())
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("ratelimit_mail.cli", run_name="__main__")
    assert ended.value.code == 0
    assert json.loads(stream.getvalue())["policy"] == "leeds-office365"


def test_markup_in_data_is_printed_as_it_stands(tmp_path: Path) -> None:
    sender = '"[red]:smile:[/red]"@x.org'
    cell = sender.replace('"', '""')
    rows = [f'1700000000,"{cell}",1'] * 31
    file = write(tmp_path / "[bold]log.csv", *rows, "1,[link=x]a[/link]@@x.org,1")
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        command, ["replay", str(file), "--policy", "leeds-office365"], color=True
    )
    assert sender in result.stdout
    assert "[bold]log.csv" in result.stdout.replace("\n", "")
    assert "[link=x]a[/link]@" in result.stderr


@pytest.mark.parametrize(
    "row",
    [
        "1,\x1b[31mred\x1b[0m@x.org,1",
        "1,\x1b]0;title\x07,1",
        "\x1b[2J,ann@x.org,1",
        "1,ann@x.org,b\u202eob@x.org \x9b31m",
        "1,ann@x.org,\x08\x7f",
    ],
)
def test_control_characters_of_data_never_reach_the_terminal(tmp_path: Path, row: str) -> None:
    file = write(tmp_path / "log.csv", "1700000000,ann@x.org,1", row)
    result = CliRunner().invoke(command, ["replay", str(file), "--policy", "leeds-office365"])
    assert result.exit_code == 0
    assert all(ch.isprintable() or ch == "\n" for ch in result.output)
    assert "left out, line 3" in result.stderr


def test_control_characters_of_a_header_or_file_name_never_reach_the_terminal(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a\x1b[31m\nb.csv"
    file.write_text("\x1b[31mtime,sender,count\n1,ann@x.org,1\n")
    result = CliRunner().invoke(command, ["replay", str(file), "--policy", "leeds-office365"])
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.isprintable()
    assert "a\\x1b[31m\\nb.csv" in line


def test_the_longest_sender_is_shown_whole(tmp_path: Path) -> None:
    sender = "a" * 200 + "@x.org"
    file = write(tmp_path / "log.csv", *[f"1700000000,{sender},1"] * 31)
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        command, ["replay", str(file), "--policy", "leeds-office365"]
    )
    assert result.stdout.count("a" * 20) >= 200 // 40
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_progress_is_shown_to_a_terminal_only() -> None:
    console = Console(stderr=True)
    items = [1, 2, 3]
    assert watched(items, "Reading", console) is items
    terminal = Terminal()
    shown = watched(items, "Reading", Console(file=terminal, force_terminal=True), total=3)
    assert list(shown) == items
    assert "Reading" in terminal.getvalue()


def test_help_tells_what_the_command_does_not_do() -> None:
    text = " ".join(CliRunner().invoke(command, ["replay", "--help"]).stdout.split())
    for words in [*PRESETS, "nothing is retried", "sorted by time", "recipient-1@replay.invalid"]:
        assert words in text


def test_the_examples_mailbox_is_the_same_each_time_and_never_overwrites(tmp_path: Path) -> None:
    for name in ("one", "two"):
        arguments = [sys.executable, str(EXAMPLE), str(tmp_path / name)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert "made up" in done.stdout
    content = (tmp_path / "one").read_bytes()
    assert (tmp_path / "two").read_bytes() == content
    subprocess.run(arguments, capture_output=True, check=True)
    assert (tmp_path / "two").read_bytes() == content
    (tmp_path / "two").write_bytes(b"somebody's mail")
    again = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert "holds something else" in again.stderr
    assert (tmp_path / "two").read_bytes() == b"somebody's mail"


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [
        ("leeds-office365", {"accepted", "deferred", "rejected"}),
        ("western-office365", {"accepted", "deferred"}),
        ("western-convergence", {"accepted", "rejected"}),
    ],
)
def test_the_examples_mailbox_meets_the_limits_of_every_preset(
    tmp_path: Path, policy: str, kinds: set[str]
) -> None:
    file = tmp_path / "sample.mbox"
    subprocess.run([sys.executable, str(EXAMPLE), str(file)], capture_output=True, check=True)
    result = CliRunner().invoke(command, ["replay", str(file), "--policy", policy, "--json"])
    assert result.exit_code == 0
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert 200 < report["messages"]["total"] < 1000
    found = {
        name
        for name in ("accepted", "deferred", "rejected")
        if report["messages"][name]["messages"]
    }
    assert found == kinds
    # Honest people, and they only, are left alone.
    assert {x["sender"].partition("@")[0] for x in report["most_touched"]} <= {
        "kim",
        "newsletter",
        "events",
    }

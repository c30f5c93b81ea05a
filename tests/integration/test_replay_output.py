"""`replay` in a shell: streams, exit codes, hostile text, and the mailbox of the example."""

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
from rich.console import Console
from rlm_testkit.command_line import replay_json, run_command, run_replay, write_lines

from ratelimit_mail.cli import main
from ratelimit_mail.cli.progress import with_progress
from ratelimit_mail.cli.replay import command as module
from ratelimit_mail.presets import PRESETS

EXAMPLE = Path(__file__).parents[2] / "examples" / "make_mailbox.py"
SHELL = [sys.executable, "-m", "ratelimit_mail.cli"]


def write(path: Path, *rows: str) -> Path:
    return write_lines(path, "time,sender,recipients", *rows)


class Terminal(io.StringIO):
    """A stream that the progress bar takes for a terminal."""

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


def test_tables_fit_80_columns_and_have_no_escape_codes_in_a_file(file: Path) -> None:
    env = {**os.environ, "COLUMNS": "80"}
    arguments = [*SHELL, "replay", str(file), "--policy", "western-convergence"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=env)
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80
    assert "\x1b" not in done.stdout + done.stderr
    assert "…" not in done.stdout


def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *["1700000000,jörg@x.org,1"] * 31)
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    arguments = [*SHELL, "replay", str(file), "--policy", "leeds-office365"]
    done = subprocess.run(arguments, capture_output=True, check=True, env=env)
    assert b"j\\xf6rg@x.org" in done.stdout


def test_ctrl_c_while_reading_exits_without_output(tmp_path: Path) -> None:
    # The error of the first row shows that reading has started; there is far more to read.
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
        assert process.stderr.readline().startswith("skipped line 2")
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
    assert process.returncode == 130


def test_ctrl_c_while_replaying_exits_without_output(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "replay", interrupt)
    result = run_replay(file, "leeds-office365")
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["tables", "json"])
def test_a_closed_output_pipe_causes_no_error_output(file: Path, option: list[str]) -> None:
    read, write_end = os.pipe()
    os.close(read)
    arguments = [*SHELL, "replay", str(file), "--policy", "leeds-office365", *option]
    with os.fdopen(write_end, "w") as closed_pipe:
        done = subprocess.run(arguments, stdout=closed_pipe, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b""


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_dependencies_the_command_says_what_to_install(missing: str) -> None:
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


def test_main_reports_missing_dependencies_and_raises_other_import_errors(
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


def test_importing_main_does_not_run_the_command() -> None:
    assert importlib.import_module("ratelimit_mail.cli.__main__").main is main


def test_ctrl_c_while_starting_exits_without_output(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_markup_in_data_is_printed_unchanged(tmp_path: Path) -> None:
    sender = '"[red]:smile:[/red]"@x.org'
    cell = sender.replace('"', '""')
    rows = [f'1700000000,"{cell}",1'] * 31
    file = write(tmp_path / "[bold]log.csv", *rows, "1,[link=x]a[/link]@@x.org,1")
    result = run_command("replay", str(file), "--policy", "leeds-office365", color=True)
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
def test_control_characters_in_data_are_escaped(tmp_path: Path, row: str) -> None:
    file = write(tmp_path / "log.csv", "1700000000,ann@x.org,1", row)
    result = run_replay(file, "leeds-office365")
    assert result.exit_code == 0
    assert all(ch.isprintable() or ch == "\n" for ch in result.output)
    assert "skipped line 3" in result.stderr


def test_control_characters_in_a_header_or_file_name_are_escaped(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a\x1b[31m\nb.csv"
    file.write_text("\x1b[31mtime,sender,count\n1,ann@x.org,1\n")
    result = run_replay(file, "leeds-office365")
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.isprintable()
    assert "a\\x1b[31m\\nb.csv" in line


def test_a_long_sender_is_shown_completely(tmp_path: Path) -> None:
    sender = "a" * 200 + "@x.org"
    file = write(tmp_path / "log.csv", *[f"1700000000,{sender},1"] * 31)
    result = run_replay(file, "leeds-office365")
    assert f"\n  {sender}\n" in result.stdout  # in one line, to be copied
    others = [line for line in result.stdout.splitlines() if sender not in line]
    assert max(map(len, others[1:])) <= 80


def test_progress_is_shown_only_on_a_terminal() -> None:
    console = Console(stderr=True)
    items = [1, 2, 3]
    assert with_progress(items, "Reading", console) is items
    terminal = Terminal()
    shown = with_progress(items, "Reading", Console(file=terminal, force_terminal=True), total=3)
    assert list(shown) == items
    assert "Reading" in terminal.getvalue()


def test_the_help_names_the_presets_and_the_assumptions() -> None:
    text = " ".join(run_command("replay", "--help").stdout.split())
    for words in [*PRESETS, "is tried once", "sorted by time", "recipient-1@replay.invalid"]:
        assert words in text


def test_the_example_always_writes_the_same_mailbox_and_never_overwrites_another(
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        arguments = [sys.executable, str(EXAMPLE), str(tmp_path / name)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert "made up" in done.stdout
    content = (tmp_path / "one").read_bytes()
    assert (tmp_path / "two").read_bytes() == content
    (tmp_path / "two").write_bytes(b"somebody's mail")
    again = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert "holds something else" in again.stderr
    assert (tmp_path / "two").read_bytes() == b"somebody's mail"


KINDS_BY_POLICY = {
    "leeds-office365": {"accepted", "deferred", "rejected"},
    "western-office365": {"accepted", "deferred"},
    "western-convergence": {"accepted", "rejected"},
}


def test_the_mailbox_of_the_example_exceeds_the_limits_of_every_preset(tmp_path: Path) -> None:
    file = tmp_path / "sample.mbox"
    for _ in range(2):  # the second time it is there already
        subprocess.run([sys.executable, str(EXAMPLE), str(file)], capture_output=True, check=True)
    for policy, kinds in KINDS_BY_POLICY.items():
        assert_some_are_affected(file, policy, kinds)


def assert_some_are_affected(file: Path, policy: str, kinds: set[str]) -> None:
    assert run_replay(file, policy).stderr == ""
    report = replay_json(file, policy)
    assert 200 < report["messages"]["total"] < 1000
    decisions = {
        name
        for name in ("accepted", "deferred", "rejected")
        if report["messages"][name]["messages"]
    }
    assert decisions == kinds
    # Only the three senders that send too much are affected.
    assert {x["sender"].partition("@")[0] for x in report["most_affected"]} <= {
        "kim",
        "newsletter",
        "events",
    }


def test_messages_of_a_blocked_sender_are_counted_under_the_block(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "campus"\n[[limits]]\nkind = "message rate limit"\nrate = "2/minute"\n'
        'on_excess = "block"\n'
    )
    rows = [f"{1700000000 + 3600 * i // 4},{who}@x.org,1" for i in range(5) for who in ("a", "b")]
    file = write(tmp_path / "log.csv", *rows, *["1700009000,a@x.org,1"] * 4, "1700019000,a@x.org,1")
    result = replay_json(file, str(policy))
    assert result["messages"]["rejected"]["messages"] == 3
    assert result["limits"] == [
        {"limit": "2 messages per minute per sender", "deferred": 0, "rejected": 1}
    ]
    assert result["rules"] == [
        {"rule": "block: exceeded 2 messages per minute per sender", "rejected": 2, "held": 0}
    ]

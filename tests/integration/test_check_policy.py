"""The command `check-policy`: fine and what it means, or all that is wrong; and `--policy FILE`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ratelimit_mail import Client, Policy, RecipientLimit, presets
from ratelimit_mail.cli import check_policy as module
from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.describe import remarks_on
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Grant, Override

EXAMPLE = Path(__file__).parents[2] / "examples" / "campus.toml"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, [*arguments])


def checked(file: Path | str) -> str:
    """What the command says of a policy that is fine, as one line."""
    result = run("check-policy", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    return " ".join(result.stdout.split())


def test_a_policy_that_is_fine_is_told_in_words() -> None:
    words = checked(EXAMPLE)
    assert words.startswith(f"{EXAMPLE}: fine policy campus everybody 500 recipients per message")
    for wanted in (
        "tier 2 clients by webmail or tagged wireless or without an address in 129.100.0.0/16,",
        "50 external recipients per 15 minutes per sender; above it rejected; refused attempts",
        "tier 1 any other client: 500 external recipients per day per sender",
        "each mailbox 3600 received messages per hour per recipient",
        "registrar@uwo.ca (Start of term): recipients a message: 5000, recipients a day: 20000/day",
        "exempt lists.uwo.ca (The list server)",
        "aliases 200 of one mailbox",
        "directory 2 aliases, 1 list",
    ):
        assert wanted in words
    assert "note" not in words


def test_the_table_fits_80_columns_and_carries_no_escape_codes() -> None:
    lines = run("check-policy", str(EXAMPLE)).stdout.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert "\x1b" not in "".join(lines)


def test_all_errors_stand_on_the_error_stream_and_the_exit_code_is_2(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "a"\nnoise = 1\nlimits = 5\n')
    result = run("check-policy", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {file}: limits: a list of tables is needed, not 5\n"
        f"{file}: noise: there is no such key; did you mean 'node'?\n"
    )


def test_escape_codes_in_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text(
        'name = "a"\ngrants = [{ senders = ["a@uwo.ca"], reason = "\\u001b[31m" }]\n'
        '[[tiers]]\nname = "t"\nwhen = { tag = "\\u001b[31m" }\n'
    )
    assert "\x1b" not in checked(file)
    file.write_text('name = "a"\n"\\u001b[31m" = "\\u001b"\n')
    result = run("check-policy", str(file))
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_with_toml_a_preset_becomes_a_file_to_start_from(tmp_path: Path) -> None:
    result = run("check-policy", "western-convergence", "--toml")
    assert result.exit_code == 0
    file = tmp_path / "mine.toml"
    file.write_text(result.stdout)
    assert Policy.load(file) == presets.western_convergence()
    assert run("check-policy", str(file), "--toml").stdout == result.stdout


def own_condition(_: Client) -> bool:
    return True


def test_with_toml_what_cannot_be_written_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(name="a", exemptions=[Exemption(when=own_condition)])
    monkeypatch.setattr(module, "find_policy", lambda _: policy)
    result = run("check-policy", "a", "--toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: exemptions[0].when: <function own_condition")


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--messages", "3", "--policy"),
        ("presets",),
        ("check-policy",),
        ("replay", str(EXAMPLE), "--policy"),
    ],
)
def test_every_command_that_takes_a_policy_says_what_is_wrong_with_its_file(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "a"\nnoise = 1\n')
    result = run(*words, str(file))
    assert result.exit_code == 2
    assert f"{file}: noise: there is no such key" in result.stderr


def test_a_policy_file_is_planned_by(tmp_path: Path) -> None:
    file = tmp_path / "Slow.TOML"
    file.write_text('name = "slow"\n[[limits]]\nkind = "message rate limit"\nrate = "1/minute"\n')
    result = run("plan", "--messages", "3", "--policy", str(file))
    assert result.exit_code == 0, result.stderr
    assert "1 message per minute per sender" in " ".join(result.stdout.split())


def test_a_name_with_a_slash_is_a_file_and_any_other_a_preset() -> None:
    result = run("check-policy", "./leeds-office365")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: ./leeds-office365: cannot be read: No such file or directory\n"
    assert checked("leeds-office365").startswith("leeds-office365: fine")
    assert "did you mean leeds-office365" in run("check-policy", "leeds-office356").stderr
    assert "policy files, whose names end in .toml" in run("check-policy", "qqqq").stderr


LIMIT = RecipientLimit(5, name="recipients a message")


def ending(ends: date) -> list[tuple[str, str]]:
    override = Override({"recipients a message": 9}, senders=["ann@uwo.ca"], ends=ends)
    policy = Policy(name="a", limits=[LIMIT], overrides=[override])
    return list(remarks_on(policy, NOW))


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (date(2026, 11, 21), "ended on 2026-11-21; it does nothing any more"),
        (NOW, "ended on 2026-11-22 12:00:00+00:00; it does nothing any more"),
        (date(2026, 11, 22), "ends on 2026-11-22, within 30 days"),
        (
            NOW + timedelta(milliseconds=1),
            "ends on 2026-11-22 12:00:00.001000+00:00, within 30 days",
        ),
        (date(2026, 12, 21), "ends on 2026-12-21, within 30 days"),
    ],
)
def test_what_has_ended_or_ends_soon_is_pointed_out(ends: date, words: str) -> None:
    assert ending(ends) == [("note", f"overrides[0] of ann@uwo.ca {words}")]


@pytest.mark.parametrize("ends", [date(2026, 12, 22), NOW + timedelta(days=30, milliseconds=1)])
def test_what_ends_later_is_not(ends: date) -> None:
    assert ending(ends) == []


def test_what_has_not_started_is_pointed_out_by_whom_it_is_for() -> None:
    senders = [f"{name}@uwo.ca" for name in "abcde"]
    policy = Policy(
        name="a",
        grants=[Grant(senders=senders, starts=date(2026, 11, 23))],
        exemptions=[
            Exemption(when=own_condition, starts=date(2026, 11, 22)),
            Exemption(when=own_condition, starts=date(2027, 1, 1)),
        ],
    )
    assert list(remarks_on(policy, NOW)) == [
        ("note", "exemptions[1] starts on 2027-01-01"),
        ("note", "grants[0] of a@uwo.ca, b@uwo.ca, c@uwo.ca and 2 more starts on 2026-11-23"),
    ]


def test_a_policy_under_which_nobody_may_send_is_pointed_out() -> None:
    assert list(remarks_on(Policy(name="a", grants=[]), NOW)) == [
        ("note", "nobody may send: grants are asked for, and there are none")
    ]


def test_the_size_of_the_directory_and_where_it_counts_is_told() -> None:
    lists = [MailingList("all@uwo.ca"), MailingList("few@uwo.ca")]
    policy = Policy(
        name="a",
        directory=Directory({"a@uwo.ca": "b@uwo.ca"}, lists),
        per_node=True,
        node="mail1",
        shard_by="sender_domain",
    )
    assert list(remarks_on(policy, NOW)) == [
        ("directory", "1 alias, 2 lists"),
        ("mail servers", "this one counts as mail1"),
        ("Redis Cluster", "counts stand together by sender domain"),
    ]


def test_without_what_policy_files_need_it_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> Policy:
        raise ModuleNotFoundError("policy files need cattrs: pip install 'ratelimit-mail[files]'")

    monkeypatch.setattr(Policy, "load", load)
    result = run("check-policy", str(EXAMPLE))
    assert result.exit_code == 2
    assert "pip install 'ratelimit-mail[files]'" in result.stderr

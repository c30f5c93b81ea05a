"""`check-policy`: the policy in words, or all errors in its file; and `--policy FILE`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rlm_testkit.command_line import run_command

from ratelimit_mail import Client, Policy, RecipientLimit, presets
from ratelimit_mail.cli import check_policy as module
from ratelimit_mail.cli.remarks import remarks_on
from ratelimit_mail.directory import Directory, MailingList
from ratelimit_mail.overrides import Exemption, Grant, Override

EXAMPLE = Path(__file__).parents[2] / "examples" / "campus.toml"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def description_of(file: Path | str) -> str:
    """Return the output of the command for a valid policy, as one line."""
    result = run_command("check-policy", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    return " ".join(result.stdout.split())


def test_a_valid_policy_is_described_in_words() -> None:
    words = description_of(EXAMPLE)
    assert words.startswith(f"{EXAMPLE}: valid policy campus everybody 500 recipients per message")
    for wanted in (
        "tier 2 clients by webmail or tagged wireless or without an address in 129.100.0.0/16,",
        "50 external recipients per 15 minutes per sender; excess messages are rejected; refused",
        "tier 1 any other client: 500 external recipients per day per sender",
        "each mailbox 3600 received messages per hour per recipient",
        "registrar@uwo.ca (Start of term): recipients a message: 5000, recipients a day: 20000/day",
        "exempt lists.uwo.ca (The list server)",
        "aliases at most 200 for one mailbox; they count as one recipient",
        "directory 2 aliases, 1 list",
    ):
        assert wanted in words
    assert "note" not in words


def test_the_table_fits_80_columns_and_has_no_escape_codes() -> None:
    lines = run_command("check-policy", str(EXAMPLE)).stdout.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert "\x1b" not in "".join(lines)


def test_all_errors_are_printed_on_stderr_and_the_exit_code_is_2(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "a"\nnoise = 1\nlimits = 5\n')
    result = run_command("check-policy", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {file}: limits: a list of tables is needed, not 5\n"
        f"{file}: noise: there is no such key; did you mean 'node'?\n"
    )


def test_a_folder_stands_for_all_its_policy_files(tmp_path: Path) -> None:
    for name, text in (("b.toml", 'name = "b"\n'), ("a.toml", 'name = "a"\n'), ("x.txt", "?")):
        (tmp_path / name).write_text(text)
    result = run_command("check-policy", str(tmp_path), "leeds-smtp")
    assert (result.exit_code, result.stderr) == (0, "")
    valid = [line for line in result.stdout.splitlines() if line.endswith(": valid")]
    assert valid == [f"{tmp_path}/a.toml: valid", f"{tmp_path}/b.toml: valid", "leeds-smtp: valid"]


def test_an_error_in_one_file_does_not_hide_the_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('noise = 1\nname = "a"\n')
    (tmp_path / "b.toml").write_text('name = "b"\n')
    result = run_command("check-policy", str(tmp_path))
    assert result.exit_code == 2
    assert f"{tmp_path}/b.toml: valid" in result.stdout
    assert result.stderr.startswith(f"Error: {tmp_path}/a.toml: noise: there is no such key")


def test_a_folder_without_policy_files_is_an_error(tmp_path: Path) -> None:
    result = run_command("check-policy", str(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no file that ends in .toml in the folder" in result.stderr
    two = run_command("check-policy", "leeds-smtp", "gmail", "--toml")
    assert "--toml prints one policy" in two.stderr


def test_escape_codes_in_a_file_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / "campus.toml"
    file.write_text(
        'name = "a"\ngrants = [{ senders = ["a@uwo.ca"], reason = "\\u001b[31m" }]\n'
        '[[tiers]]\nname = "t"\nwhen = { tag = "\\u001b[31m" }\n'
    )
    assert "\x1b" not in description_of(file)
    file.write_text('name = "a"\n"\\u001b[31m" = "\\u001b"\n')
    result = run_command("check-policy", str(file))
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_toml_prints_a_preset_as_a_policy_file(tmp_path: Path) -> None:
    result = run_command("check-policy", "western-convergence", "--toml")
    assert result.exit_code == 0
    file = tmp_path / "mine.toml"
    file.write_text(result.stdout)
    assert Policy.load(file) == presets.western_convergence()
    assert run_command("check-policy", str(file), "--toml").stdout == result.stdout


def own_condition(_: Client) -> bool:
    return True


def test_toml_reports_what_a_file_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(name="a", exemptions=[Exemption(when=own_condition)])
    monkeypatch.setattr(module, "find_policy", lambda _: policy)
    result = run_command("check-policy", "a", "--toml")
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
def test_every_command_with_a_policy_reports_errors_in_its_file(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "a"\nnoise = 1\n')
    result = run_command(*words, str(file))
    assert result.exit_code == 2
    assert f"{file}: noise: there is no such key" in result.stderr


def test_plan_accepts_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "Slow.TOML"
    file.write_text('name = "slow"\n[[limits]]\nkind = "message rate limit"\nrate = "1/minute"\n')
    result = run_command("plan", "--messages", "3", "--policy", str(file))
    assert result.exit_code == 0, result.stderr
    assert "1 message per minute per sender" in " ".join(result.stdout.split())


def test_a_name_with_a_slash_is_a_file_and_any_other_name_a_preset() -> None:
    result = run_command("check-policy", "./leeds-office365")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: ./leeds-office365: cannot be read: No such file or directory\n"
    assert description_of("leeds-office365").startswith("leeds-office365: valid")
    assert "did you mean leeds-office365" in run_command("check-policy", "leeds-office356").stderr
    assert (
        "or a policy file, whose name ends in .toml" in run_command("check-policy", "qqqq").stderr
    )


LIMIT = RecipientLimit(5, name="recipients a message")


def remarks_on_override(ends: date) -> list[tuple[str, str]]:
    override = Override({"recipients a message": 9}, senders=["ann@uwo.ca"], ends=ends)
    policy = Policy(name="a", limits=[LIMIT], overrides=[override])
    return list(remarks_on(policy, NOW))


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (date(2026, 11, 21), "ended on 2026-11-21 and has no effect"),
        (NOW, "ended on 2026-11-22 12:00:00+00:00 and has no effect"),
        (date(2026, 11, 22), "ends on 2026-11-22, within 30 days"),
        (
            NOW + timedelta(milliseconds=1),
            "ends on 2026-11-22 12:00:00.001000+00:00, within 30 days",
        ),
        (date(2026, 12, 21), "ends on 2026-12-21, within 30 days"),
    ],
)
def test_an_override_that_has_ended_or_ends_soon_is_noted(ends: date, words: str) -> None:
    assert remarks_on_override(ends) == [("note", f"overrides[0] of ann@uwo.ca {words}")]


@pytest.mark.parametrize("ends", [date(2026, 12, 22), NOW + timedelta(days=30, milliseconds=1)])
def test_an_override_that_ends_later_is_not_noted(ends: date) -> None:
    assert remarks_on_override(ends) == []


def test_grants_and_exemptions_that_have_not_started_are_noted() -> None:
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


def test_a_policy_without_any_grant_is_noted() -> None:
    assert list(remarks_on(Policy(name="a", grants=[]), NOW)) == [
        ("note", "nobody may send: senders need a grant, and there are no grants")
    ]


def test_the_size_of_the_directory_and_the_place_of_the_counts_are_listed() -> None:
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
        ("mail servers", "this server counts as mail1"),
        ("Redis Cluster", "counts are grouped by sender domain"),
    ]


def test_missing_dependencies_of_policy_files_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> Policy:
        raise ModuleNotFoundError("policy files need cattrs: pip install 'ratelimit-mail[files]'")

    monkeypatch.setattr(Policy, "load", load)
    result = run_command("check-policy", str(EXAMPLE))
    assert result.exit_code == 2
    assert "pip install 'ratelimit-mail[files]'" in result.stderr

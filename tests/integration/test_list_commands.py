"""The commands `ratelimit-mail list …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_command

from ratelimit_mail.directory import ListFile

NEWS = "news@uwo.ca"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "lists.json"
    result = run_command("list", "create", str(file), NEWS, "--moderator", "ed@uwo.ca")
    assert result.output == "news@uwo.ca: created\n"
    return file


def paste(file: Path, text: str | bytes, *options: str) -> Result:
    arguments = ("list", "subscribe", str(file), NEWS, *options)
    return run_command(*arguments, text=text)


def shown(file: Path, *arguments: str) -> Any:
    result = run_command("list", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_pasted_text_subscribes_and_the_history_says_who_asked(file: Path) -> None:
    result = paste(file, "Ann Smith <ann@uwo.ca>\nbob@uwo.ca, ANN@uwo.ca\n", "--by", "ed@uwo.ca")
    assert result.exit_code == 0, result.output
    assert result.output == (
        "news@uwo.ca: 2 addresses subscribed, 0 already a member, 1 repeated\n"
    )
    result = run_command("list", "unsubscribe", str(file), NEWS, "BOB@uwo.ca", "--by", "bob@uwo.ca")
    assert result.output == "news@uwo.ca: 1 address left\n"
    changes = shown(file, "history", str(file), NEWS)
    assert [(each["action"], each["address"], each["by"]) for each in changes] == [
        ("subscribed", "ann@uwo.ca", "ed@uwo.ca"),
        ("subscribed", "bob@uwo.ca", "ed@uwo.ca"),
        ("left", "bob@uwo.ca", "bob@uwo.ca"),
    ]
    assert all(each["at"].endswith("+00:00") for each in changes)
    assert len(shown(file, "history", str(file), NEWS, "--member", "Bob@uwo.ca")) == 2
    [member] = shown(file, "show", str(file), NEWS)["members"]
    assert (member["address"], member["name"]) == ("ann@uwo.ca", "Ann Smith")


def test_text_comes_from_a_file_too(file: Path, tmp_path: Path) -> None:
    text = tmp_path / "people.txt"
    text.write_text("ann@uwo.ca\n")
    result = run_command("list", "subscribe", str(file), NEWS, str(text))
    assert "1 address subscribed" in result.output


def test_without_by_the_user_of_the_command_is_recorded(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "postmaster")
    paste(file, "ann@uwo.ca")
    [change] = ListFile(file).history(NEWS)
    assert change.by == "postmaster"


def test_a_text_with_something_unreadable_changes_nothing_and_each_piece_is_named(
    file: Path,
) -> None:
    before = file.read_bytes()
    result = paste(file, "ann@uwo.ca\nbob\n\x1b[2J\n")
    assert result.exit_code == 2
    assert "line 2: 'bob' is not an address" in result.stderr
    assert "\x1b" not in result.output
    assert "2 pieces of the text cannot be read; nothing was changed" in result.stderr
    assert file.read_bytes() == before
    result = paste(file, "ann@uwo.ca\nbob\n", "--skip-unreadable")
    assert result.exit_code == 0
    assert [each.address for each in ListFile(file).members(NEWS)] == ["ann@uwo.ca"]


def test_a_dry_run_names_the_new_members_and_changes_nothing(file: Path) -> None:
    paste(file, "ann@uwo.ca")
    result = paste(file, "Ann@uwo.ca bob@uwo.ca", "--dry-run")
    assert result.stdout.splitlines() == [
        "bob@uwo.ca",
        "1 address would be subscribed; nothing was changed",
    ]
    assert len(ListFile(file).members(NEWS)) == 1


def test_a_text_can_replace_the_members(file: Path) -> None:
    paste(file, "ann@uwo.ca bob@uwo.ca")
    result = paste(file, "bob@uwo.ca cy@uwo.ca", "--replace", "--dry-run")
    assert result.stdout.splitlines() == [
        "cy@uwo.ca",
        "- ann@uwo.ca",
        "1 address would be subscribed and 1 would leave; nothing was changed",
    ]
    result = paste(file, "BOB@uwo.ca cy@uwo.ca", "--replace", "--by", "ed@uwo.ca")
    assert result.output == (
        "news@uwo.ca: 1 address subscribed, 1 already a member, 0 repeated, 1 left\n"
    )
    assert [each.address for each in ListFile(file).members(NEWS)] == ["bob@uwo.ca", "cy@uwo.ca"]
    assert paste(file, "bob", "--replace").exit_code == 2
    assert len(ListFile(file).members(NEWS)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "FILE", "old@uwo.ca"), "there is no list 'old@uwo.ca'; there are 'news@uwo.ca'"),
        (("unsubscribe", "FILE", NEWS, "ann@uwo.ca"), "'ann@uwo.ca' is not a member"),
        (("create", "FILE", "News@uwo.ca"), "there is a list 'news@uwo.ca' already"),
        (("create", "FILE", "no address"), "address: "),
        (("set", "FILE", NEWS), "a setting is needed"),
        (("show", "MISSING"), "`ratelimit-mail list create` creates one"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    file: Path, arguments: tuple[str, ...], message: str
) -> None:
    paths = {"FILE": str(file), "MISSING": str(file) + "x"}
    result = run_command("list", *(paths.get(each, each) for each in arguments))
    assert message in error_line(result)


def test_text_that_is_not_utf8_is_an_error_that_names_the_line(file: Path) -> None:
    result = paste(file, b"ann@uwo.ca\n\xff")
    assert result.exit_code == 2
    assert "the text is not UTF-8 (line 2)" in result.stderr


def test_lists_and_members_are_shown_in_tables(file: Path) -> None:
    assert "No members." in run_command("list", "show", str(file), NEWS).output
    assert "No changes." in run_command("list", "history", str(file), NEWS).output
    paste(file, "Ann <ann@uwo.ca>")
    run_command("list", "set", str(file), NEWS, "--posting", "named", "--poster", "it.uwo.ca")
    lines = run_command("list", "show", str(file), NEWS).output.splitlines()
    assert lines[0] == NEWS
    assert [line.split() for line in lines[1:5]] == [
        ["subscription", "closed"],
        ["posting", "named"],
        ["posters", "it.uwo.ca"],
        ["moderators", "ed@uwo.ca"],
    ]
    assert lines[-1].split()[0] == "ann@uwo.ca"
    assert lines[-1].split()[-1] == "Ann"
    assert run_command("list", "show", str(file)).output.splitlines()[-1].split() == [
        NEWS,
        "1",
        "closed",
        "named",
    ]
    history = run_command("list", "history", str(file), NEWS).output.splitlines()
    assert history[-1].split()[2:4] == ["subscribed", "ann@uwo.ca"]


def test_a_list_is_deleted_with_its_history(file: Path) -> None:
    assert run_command("list", "delete", str(file), NEWS).output == "news@uwo.ca: deleted\n"
    assert shown(file, "show", str(file)) == []


def test_check_policy_counts_the_lists_of_the_file(file: Path) -> None:
    policy = file.parent / "campus.toml"
    policy.write_text('name = "campus"\n[directory]\nlists_file = "lists.json"\n')
    result = run_command("check-policy", str(policy))
    assert result.exit_code == 0
    assert "0 aliases, 1 list" in result.output
    file.write_text("{")
    result = run_command("check-policy", str(policy))
    assert result.exit_code == 2
    assert "lists.json" in result.stderr

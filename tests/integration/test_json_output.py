"""What the commands print with --json that are not tested with their other output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rlm_testkit.command_line import error_line, run_command

from ratelimit_mail import Envelope, Limiter, presets
from ratelimit_mail.backends import SQLiteBackend
from ratelimit_mail.presets import PRESETS

LEEDS = ("--policy", "leeds-office365")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RATELIMIT_MAIL_STORE", raising=False)
    return tmp_path


def printed(*arguments: str, text: str | None = None, exit_code: int = 0) -> Any:
    """Run a command with --json, and return what it prints."""
    result = run_command(*arguments, "--json", text=text)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_check_policy_prints_an_object_for_each_file(folder: Path) -> None:
    Path("wrong.toml").write_text('name = "x"\npartiall = true\n[[limits]]\nrate = "30/minut"\n')
    [preset, wrong] = printed("check-policy", "western-convergence", "./wrong.toml", exit_code=2)
    assert preset["valid"]
    assert preset["errors"] == []
    assert [tier["name"] for tier in preset["policy"]["tiers"]] == ["tier 2", "tier 1"]
    assert not wrong["valid"]
    assert wrong["policy"] is None
    assert any("partiall" in each for each in wrong["errors"])
    assert all(each["valid"] for each in printed("check-policy", *PRESETS))


def test_merge_prints_its_numbers_and_its_plan(folder: Path) -> None:
    files = printed("merge", "people.csv", "letter.txt", "--sample")["written"]
    assert files == ["people.csv", "letter.txt"]
    arguments = ("merge", *files, "--outbox", "outbox.db", *LEEDS)
    dry = printed(*arguments, "--dry-run")
    assert dry["put"] is None
    assert dry["letters"] >= 1
    done = printed(*arguments, "--preview", "1")
    assert [Path(each).suffix for each in done["previews"]] == [".eml"]
    done = printed(*arguments)
    assert done["put"] == dry["letters"]
    assert done["plan"]["first"] <= done["plan"]["last"]
    assert printed(*arguments) == {
        "letters": dry["letters"],
        "in_outbox": dry["letters"],
        "put": 0,
        "previews": [],
        "plan": None,
    }


def test_each_change_of_a_list_is_printed() -> None:
    name = "news@lists.uwo.ca"
    made = printed("list", "create", "lists.json", name, "--posting", "named")
    assert (made["list"], made["posting"]) == (name, "named")
    assert printed("list", "set", "lists.json", name, "--posting", "open")["posting"] == "open"
    text = "ann@x.org, bob@x.org, ann@x.org"
    trial = printed("list", "subscribe", "lists.json", name, "--dry-run", text=text)
    done = printed("list", "subscribe", "lists.json", name, text=text)
    assert done == {
        "changed": True,
        "subscribed": ["ann@x.org", "bob@x.org"],
        "left": [],
        "already_members": 0,
        "repeated": 1,
        "unreadable": [],
    }
    assert trial == {**done, "changed": False}
    done = printed("list", "subscribe", "lists.json", name, "--replace", text="ann@x.org")
    assert (done["subscribed"], done["left"], done["already_members"]) == ([], ["bob@x.org"], 1)
    assert printed("list", "unsubscribe", "lists.json", name, "ann@x.org") == {
        "left": ["ann@x.org"]
    }
    assert printed("list", "delete", "lists.json", name) == {"list": name, "deleted": True}


def test_watch_prints_an_object_each_time() -> None:
    Limiter(presets.leeds_office365(), SQLiteBackend("counts.db")).try_acquire(
        Envelope("ann@leeds.ac.uk", ["bob@example.com"])
    )
    seen = printed("watch", "--once", "--store", "sqlite:///counts.db", *LEEDS)
    assert [each["subject"] for each in seen["top"]] == ["ann@leeds.ac.uk"]
    assert seen["blocks"] == []
    assert seen["status"]["policy"] == "leeds-office365"


@pytest.mark.parametrize("name", ["top", "blocks", "usage ann@x.org", "watch --once"])
def test_a_store_that_is_not_there_is_an_error_and_is_not_created(name: str, folder: Path) -> None:
    error = error_line(run_command(*name.split(), "--store", "sqlite:///count.db", *LEEDS))
    assert f"there is no file {folder / 'count.db'}" in error
    assert "check the path" in error
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("arguments", [("replay", "mail.mbox"), ("serve",)])
def test_a_policy_that_is_not_named_is_an_error_that_says_how_to_find_one(
    arguments: tuple[str, ...],
) -> None:
    result = run_command(*arguments)
    assert result.exit_code == 2
    assert "`ratelimit-mail presets` lists the presets" in result.stderr

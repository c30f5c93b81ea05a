"""A command loads its own modules, and not those of the other commands."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import ratelimit_mail.cli
from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.lazy_commands import LazyCommands


def imported_by(*arguments: str) -> set[str]:
    """Return the modules that are loaded when the command ends."""
    code = (
        "import atexit, sys; from ratelimit_mail.cli import main;"
        "atexit.register(lambda: print('loaded:', *sys.modules)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("loaded:")[2].split())


OWN = {
    ("presets", "--help"): "presets",
    ("list", "show", "--help"): "lists",
    ("serve", "--help"): "serve.command",
    ("replay", "--help"): "replay.command",
    ("outbox", "list", "--help"): "outbox.look",
}


@pytest.mark.parametrize("arguments", OWN, ids=" ".join)
def test_a_command_does_not_load_the_modules_of_another(arguments: tuple[str, ...]) -> None:
    imported = imported_by(*arguments)
    loaded = {name for name in OWN.values() if f"ratelimit_mail.cli.{name}" in imported}
    assert loaded == {OWN[arguments]}
    assert "ratelimit_mail.cli.outbox.run" not in imported
    assert not {"ratelimit_mail.testing.conformance", "limits"} & imported


def test_the_version_is_printed_without_loading_a_command() -> None:
    imported = imported_by("--version")
    assert "ratelimit_mail.cli.command" in imported
    assert not {"rich", "attrs", "ratelimit_mail.policy"} & imported


def commands_in(group: click.Group) -> Iterator[click.Command]:
    for each in group.commands.values():
        yield each
        if isinstance(each, click.Group):
            yield from commands_in(each)


def test_every_command_of_the_package_is_in_a_group() -> None:
    modules = pkgutil.walk_packages(ratelimit_mail.cli.__path__, "ratelimit_mail.cli.")
    defined = [
        value
        for info in modules
        if not info.name.endswith("__main__")
        for value in vars(importlib.import_module(info.name)).values()
        if isinstance(value, click.Command) and value is not command
    ]
    assert {each.name for each in defined} > {"serve", "plan", "approve", "subscribe"}
    in_groups = list(commands_in(command))
    assert [each.name for each in defined if each not in in_groups] == []


def test_each_command_has_the_name_by_which_its_group_finds_it() -> None:
    outbox = command.commands["outbox"]
    assert isinstance(outbox, click.Group)
    for group in (command, outbox):
        assert isinstance(group.commands, LazyCommands)
        assert [each.name for each in group.commands.values()] == list(group.commands)


def test_a_command_may_be_added_replaced_and_deleted() -> None:
    commands = LazyCommands({"one": "there.is.no:module"})
    commands["two"] = two = click.Command("two")
    assert (list(commands), len(commands), commands["two"]) == (["one", "two"], 2, two)
    del commands["one"]
    assert dict(commands) == {"two": two}


@pytest.mark.parametrize(("error", "code"), [("KeyboardInterrupt", 130), ("rich", 2)])
def test_an_error_while_a_command_is_loaded_is_that_of_the_start(
    error: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "late_command":
                if error == "KeyboardInterrupt":
                    raise KeyboardInterrupt
                raise ModuleNotFoundError(name=error)

    monkeypatch.setattr(sys, "meta_path", [Failing(), *sys.meta_path])
    group = click.Group("group", commands=LazyCommands({"late": "late_command:late"}))
    result = CliRunner().invoke(group, ["late"])
    assert result.exit_code == code
    assert ("pip install 'ratelimit-mail[cli]'" in result.output) == (code == 2)

"""The commands of a group, each of which is imported when it is first used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click

from ratelimit_mail.cli.loading_errors import loading_errors

__all__ = ["LazyCommands"]


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands of a group by name; to list the names imports none of them."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """places: the module and the name of each command in it, as `module:name`."""
        self._commands: dict[str, click.Command | str] = dict(places)

    def __getitem__(self, name: str) -> click.Command:
        command = self._commands[name]
        if isinstance(command, str):
            module, _, attribute = command.partition(":")
            with loading_errors():
                command = self._commands[name] = getattr(import_module(module), attribute)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)

"""Find the policy that the command line names, a preset or a policy file, and complete names."""

from __future__ import annotations

import difflib
import os
from typing import Final

import click
from click.shell_completion import CompletionItem

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.exceptions import PolicyFileError
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

__all__ = ["POLICY_NAME", "complete_policy", "complete_preset", "find_policy"]


class _PolicyName(click.types.StringParamType):
    """The name of a preset or of a policy file."""

    def get_missing_message(
        self,
        param: click.Parameter,  # noqa: ARG002 - click passes it
        ctx: click.Context | None = None,  # noqa: ARG002
    ) -> str:
        """Return what stands in the error if the name is missing."""
        return "`ratelimit-mail presets` lists the presets; a policy file is possible too."


POLICY_NAME: Final = _PolicyName()

SEPARATORS: Final = tuple({"/", os.sep})


def find_policy(name: str | Policy) -> Policy:
    """Return the preset of this name, or load the policy file; a Policy is returned as it is.

    The name of a file ends in `.toml` or contains a slash. Raises CommandError with the nearest
    names if there is no such preset, or with all errors in the file.
    """
    if isinstance(name, Policy):  # of a program that has these commands among its own
        return name
    if name in PRESETS:
        return PRESETS[name]()
    if name.lower().endswith(".toml") or any(each in name for each in SEPARATORS):
        try:
            return Policy.load(name)
        except (PolicyFileError, ModuleNotFoundError) as error:
            raise CommandError(str(error)) from None
    near = difflib.get_close_matches(name[:100].lower(), PRESETS, cutoff=0.4)
    shown = escape(name) if len(name) <= 100 else show(name)
    if near:
        raise CommandError(f"there is no policy {shown}; did you mean {' or '.join(near)}?")
    raise CommandError(
        f"there is no policy {shown}; use {', '.join(PRESETS)}, or a policy file,"
        " whose name ends in .toml"
    )


def complete_preset(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Return the presets whose names begin with `incomplete`, for the completion of a shell."""
    return [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]


def complete_policy(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the presets whose names begin with `incomplete`, and let the shell complete files.

    The item for files is first: bash drops what stands before it.
    """
    files = CompletionItem(incomplete, type="file")
    return [files, *complete_preset(context, parameter, incomplete)]

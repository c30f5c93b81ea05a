"""The command `ratelimit-mail`: its entry point, with a hint if its dependencies are missing."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; the entry point of `ratelimit-mail`."""
    try:
        from ratelimit_mail.cli.command import command
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        print(
            "ratelimit-mail: the command needs click and rich: pip install 'ratelimit-mail[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    command(prog_name="ratelimit-mail")

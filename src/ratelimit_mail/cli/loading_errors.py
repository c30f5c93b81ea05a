"""Errors while the modules of the command are loaded: a missing dependency, and Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["loading_errors"]


@contextmanager
def loading_errors() -> Iterator[None]:
    """End the program with a hint if click or rich is missing, and without output at Ctrl-C."""
    try:
        yield
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

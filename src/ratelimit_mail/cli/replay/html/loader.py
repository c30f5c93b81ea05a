"""The way to the page with pictures: its libraries are loaded only where one is asked for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.replay.html.target import Target

if TYPE_CHECKING:
    from ratelimit_mail.cli.replay.demand import Demand
    from ratelimit_mail.cli.replay.outcome import Report
    from ratelimit_mail.cli.replay.timeline import Timeline
    from ratelimit_mail.policy import Policy

__all__ = ["Drawing"]

NEEDED = ("jinja2", "markupsafe", "matplotlib", "numpy")


class Drawing:
    """A page to be written to `path`.

    Raises CommandError before any work is done where its libraries are missing, or the file cannot
    be written.
    """

    def __init__(self, path: Path, source: Path) -> None:
        self._target = Target(path, source)
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
        try:
            from ratelimit_mail.cli.replay.html.page import render
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in NEEDED:
                raise
            raise CommandError(
                "--report needs jinja2 and matplotlib: pip install 'ratelimit-mail[report]'"
            ) from None
        self._render = render

    def write(self, report: Report, policy: Policy, timeline: Timeline, demand: Demand) -> None:
        """Write the page."""
        self._target.write(self._render(report, policy, timeline, demand))

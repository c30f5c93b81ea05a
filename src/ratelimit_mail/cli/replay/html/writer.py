"""HtmlReportWriter: writes the HTML page; its libraries are imported only if it is requested."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.replay.html.output_file import OutputFile

if TYPE_CHECKING:
    from ratelimit_mail.cli.replay.demand import Demand
    from ratelimit_mail.cli.replay.report import Report
    from ratelimit_mail.cli.replay.timeline import Timeline
    from ratelimit_mail.policy import Policy

__all__ = ["HtmlReportWriter"]

LIBRARIES = ("jinja2", "markupsafe", "matplotlib", "numpy")


class HtmlReportWriter:
    """Write an HTML page to `path`.

    Raises CommandError before the replay starts if the libraries are missing or the file cannot
    be written.
    """

    def __init__(self, path: Path, *sources: Path) -> None:
        self._file = OutputFile(path, *sources)
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns about its font cache
        try:
            from ratelimit_mail.cli.replay.html.page import render
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in LIBRARIES:
                raise
            raise CommandError(
                "--report needs jinja2 and matplotlib: pip install 'ratelimit-mail[report]'"
            ) from None
        self._render = render

    def write(self, report: Report, policy: Policy, timeline: Timeline, demand: Demand) -> None:
        """Write the page."""
        self._file.write(self._render(report, policy, timeline, demand))

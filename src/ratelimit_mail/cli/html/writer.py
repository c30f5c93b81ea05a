"""PageWriter: writes a report to a file; its library is imported only if a report is requested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.html.output_file import OutputFile

if TYPE_CHECKING:
    from ratelimit_mail.cli.html.page import Page

__all__ = ["PageWriter"]


class PageWriter:
    """Write an HTML page to `path`.

    sources: the input files, which must not be overwritten.

    Raises CommandError before the work starts if the library is missing or the file cannot be
    written.
    """

    def __init__(self, path: Path, *sources: Path) -> None:
        self._file = OutputFile(path, *sources)
        try:
            from ratelimit_mail.cli.html.page import render
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("jinja2", "markupsafe"):
                raise
            raise CommandError(
                "--report needs jinja2: pip install 'ratelimit-mail[report]'"
            ) from None
        self._render = render

    def write(self, page: Page) -> None:
        """Write the page."""
        self._file.write(self._render(page))

"""What the build makes: the man page in the wheel, and the README of the package's metadata.

Both come from what is in the repository: the help of the command, and README.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = r"(?!https?://|#)([^)\s]+?)"
IMAGE = re.compile(rf"^!\[[^\]]*\]\({RELATIVE}\)\n\n?", re.MULTILINE)
LINK = re.compile(rf"\[([^\]]*)\]\({RELATIVE}\)")
PAGE = re.compile(r"docs/([a-z0-9/-]+)\.md(#.*)?")

TARGET = "share/man/man1/ratelimit-mail.1"


class ManPageHook(BuildHookInterface[Any]):
    """Write the man page before a wheel is built, and remove it afterwards."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the page; an editable installation has none."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        page = Path(self._folder.name) / "ratelimit-mail.1"
        # Where the build has its requirements is in PYTHONPATH for some front ends.
        paths = [str(Path(self.root) / "src"), os.environ.get("PYTHONPATH")]
        done = subprocess.run(  # noqa: S603 - this interpreter, and the module above
            [sys.executable, "-m", "ratelimit_mail.cli.man_page", self.metadata.version],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            check=True,
            capture_output=True,
        )
        page.write_bytes(done.stdout)
        build_data["shared_data"][str(page)] = TARGET

    def finalize(
        self,
        version: str,
        build_data: dict[str, Any],  # noqa: ARG002 - hatchling passes it
        artifact_path: str,  # noqa: ARG002
    ) -> None:
        """Remove the page."""
        if version != "editable":
            self._folder.cleanup()


class ReadmeHook(MetadataHookInterface):
    """Make the text about the package from README.md."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`, which pyproject.toml says is dynamic."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        documentation = metadata.get("urls", {}).get("Documentation")
        text = portable_readme(text, documentation)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def portable_readme(text: str, documentation: str | None) -> str:
    """Return README.md for a place that does not have the other files of the repository.

    Links to pages become links to the documentation. Without an address of it, and where they
    lead to other files, their text stays alone. Pictures in the repository are left out.
    """

    def replaced(link: re.Match[str]) -> str:
        page = PAGE.fullmatch(link[2])
        if documentation is None or page is None:
            return link[1]
        return f"[{link[1]}]({documentation.rstrip('/')}/{page[1]}.html{page[2] or ''})"

    return LINK.sub(replaced, IMAGE.sub("", text))

"""Put the man page, made from the help of the command, into the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TARGET = "share/man/man1/ratelimit-mail.1"


class ManPageHook(BuildHookInterface[Any]):
    """Write the man page before a wheel is built, and remove it afterwards."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the page; an editable installation goes without."""
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

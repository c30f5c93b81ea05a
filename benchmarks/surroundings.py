"""What the figures were measured on: never a name or a path of the machine."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from contenders import PACKAGES

NAMES: Final = {"redis": "redis-py"}


def _processor() -> str:
    try:
        told = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        told = None
    return told[1] if told else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, str]:
    """The processor, the interpreter, the versions and the date."""
    found = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "load at the start": f"{os.getloadavg()[0]:.1f} processes",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    return found | {NAMES.get(name, name): _version(name) for name in ("redis", *PACKAGES)}

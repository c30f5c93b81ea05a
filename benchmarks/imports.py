"""How long importing a package takes beyond `import attrs`, each time in a new process.

This library loads each of its names when it is first asked for, so there are two figures for it:
`import ratelimit_mail` alone, and with the names that the e-mail check needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from contenders import LIMITS, OURS
from figures import Taken

WORK: Final = "import"
ALONE: Final = "import ratelimit_mail"
STATEMENTS: Final = {
    ALONE: ALONE,
    OURS: "from ratelimit_mail import Envelope, Limiter, Policy\n"
    "from ratelimit_mail import MessageRateLimit, RecipientLimit, RecipientRateLimit",
    LIMITS: "import limits.strategies, limits.storage",
    "pyrate-limiter": "import pyrate_limiter",
    "throttled-py": "import throttled",
    "token-throttle": "import token_throttle",
}
TIMED: Final = """
import attrs, time
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""


WITH_BYTECODE: Final = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""As an installed package has it; the first turn writes what is missing."""


def _seconds(statement: str) -> float | None:
    done = subprocess.run(
        [sys.executable, "-c", TIMED.format(statement=statement)],
        capture_output=True,
        text=True,
        check=False,
        env=WITH_BYTECODE,
    )
    return float(done.stdout) if done.returncode == 0 else None


def import_times(turns: int) -> Taken:
    """The seconds of each, in turn. The first turn warms up."""
    taken: dict[str, list[list[float]]] = {}
    for number in range(turns + 1):
        for name, statement in STATEMENTS.items():
            seconds = _seconds(statement)
            if number and seconds is not None:
                taken.setdefault(name, []).append([seconds])
    return {WORK: taken}

"""Tools for tests: a manual clock, and a conformance suite for backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratelimit_mail._util.lazy_names import lazy_names

if TYPE_CHECKING:
    from ratelimit_mail.testing.brute_force import BruteForceBackend
    from ratelimit_mail.testing.clock import ManualClock
    from ratelimit_mail.testing.conformance import AsyncBackendConformance, BackendConformance
    from ratelimit_mail.testing.generated_scripts import Script, generated_script, play

__all__ = [
    "AsyncBackendConformance",
    "BackendConformance",
    "BruteForceBackend",
    "ManualClock",
    "Script",
    "generated_script",
    "play",
]

# Each name is loaded when it is first asked for: planning needs the clock, and not the suite.
__getattr__ = lazy_names(
    __name__,
    {
        "AsyncBackendConformance": "conformance",
        "BackendConformance": "conformance",
        "BruteForceBackend": "brute_force",
        "ManualClock": "clock",
        "Script": "generated_scripts",
        "generated_script": "generated_scripts",
        "play": "generated_scripts",
    },
)

"""Tools for tests: a manual clock, and a conformance suite for backends."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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
_MODULE_OF = {
    "AsyncBackendConformance": "conformance",
    "BackendConformance": "conformance",
    "BruteForceBackend": "brute_force",
    "ManualClock": "clock",
    "Script": "generated_scripts",
    "generated_script": "generated_scripts",
    "play": "generated_scripts",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"ratelimit_mail.testing.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value

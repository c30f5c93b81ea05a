"""Tools for tests: a manual clock, and a conformance suite for backends."""

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

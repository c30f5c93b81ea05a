"""The policy that the command line names."""

from __future__ import annotations

import difflib

from ratelimit_mail.cli.escaping import safe
from ratelimit_mail.cli.failing import Complaint
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS

__all__ = ["find_policy"]


def find_policy(name: str) -> Policy:
    """The preset of this name; raises Complaint with the nearest ones where there is none."""
    if name in PRESETS:
        return PRESETS[name]()
    near = difflib.get_close_matches(name[:100].lower(), PRESETS, cutoff=0.4)
    if near:
        raise Complaint(f"there is no policy {safe(name)}; did you mean {' or '.join(near)}?")
    raise Complaint(f"there is no policy {safe(name)}; there are {', '.join(PRESETS)}")

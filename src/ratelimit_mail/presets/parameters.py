"""What the parameters of presets mean that several of them have, for their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

__all__ = ["explain_parameters"]

MEANINGS: Final = {
    "recipient_limit": "the most recipients of one message.",
    "external_recipient_limit": "the most external recipients of one message.",
    "smtp_recipient_limit": "the most recipients of one message that is submitted by SMTP.",
    "message_rate": 'the most messages, such as `"30/minute"`.',
    "recipient_rate": "the most recipients in any window.",
    "external_recipient_rate": "the most external recipients in any window.",
    "unique_recipient_rate": "the most different recipients in any window.",
    "unique_external_recipient_rate": "the most different external recipients in any window.",
    "burst_rate": "the most recipients in the shorter window.",
    "hourly_rate": "the most recipients in an hour.",
    "daily_rate": "the most recipients in a day.",
    "request_rate": "the most requests to the service; each message is one.",
    "receiving_rate": "the most messages that one mailbox may receive.",
    "share_of_one_sender": "the share of `receiving_rate` that one sender may use.",
    "student_rate": "the most external recipients of a student in any window.",
    "staff_rate": "the most external recipients of a member of staff in any window.",
    "server_rate": "the most external recipients of a server in any window.",
    "internal_domains": "the domains whose recipients are internal.",
}

_WORD: Final = re.compile(r"\w++")


def explain_parameters(presets: Iterable[Callable[..., Any]]) -> None:
    """Append to each docstring the parameters that it does not mention.

    Their defaults are the figures of the source.
    """
    for preset in presets:
        text = inspect.cleandoc(preset.__doc__ or "")
        mentioned = set(_WORD.findall(text))
        names = [name for name in inspect.signature(preset).parameters if name not in mentioned]
        lines = [f"{name}: {MEANINGS[name]}" for name in names if name in MEANINGS]
        if text and lines:
            preset.__doc__ = "\n".join([text, "", *lines])

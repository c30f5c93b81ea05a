"""The rules of a policy in words, as a table of a page."""

from __future__ import annotations

from itertools import islice
from typing import Final

from ratelimit_mail._util.text import escape
from ratelimit_mail.cli.describe import rules_of
from ratelimit_mail.cli.html.tables import Cell, Column, Row, Table
from ratelimit_mail.policy import Policy

__all__ = ["rules_table"]

MOST_RULES: Final = 60
LONGEST: Final = 400
"""Characters of one rule, which may name thousands of senders."""


def rules_table(name: str, title: str, policy: Policy) -> Table:
    """Return the table of the rules of `policy`. name: unique within the page."""
    rules = list(islice(rules_of(policy), MOST_RULES + 1))
    note = "and more rules; `ratelimit-mail presets` or check-policy shows all of them"
    return Table(
        name=name,
        title=title,
        columns=[Column("Applies to", is_number=False), Column("Rule", is_number=False)],
        rows=[Row(escape(subject), [Cell(_short(text))]) for subject, text in rules[:MOST_RULES]],
        note=note if len(rules) > MOST_RULES else "",
        wide=True,
    )


def _short(text: str) -> str:
    if len(text) <= LONGEST:
        return escape(text)
    return f"{escape(text[:LONGEST])}\N{HORIZONTAL ELLIPSIS} ({len(text):,} characters)"

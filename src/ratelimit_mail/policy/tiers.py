"""Tiers: classes of clients with limits of their own, and what is wrong with a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import name
from ratelimit_mail.conditions import Condition
from ratelimit_mail.envelope import Client
from ratelimit_mail.limits import Limit, limits_from
from ratelimit_mail.policy.reachability import first_unreachable

__all__ = ["Tier", "check_tiers"]

MOST_NAMED: Final = 6
"""How many tiers an error names."""


@attrs.frozen
class Tier:
    """A class of clients with limits of its own.

    name: its name in decisions and tables.
    when: the condition on the client; default: every client that is not in an earlier tier.
    limits: the limits of its clients, in addition to the policy's common limits.
    """

    name: str = attrs.field(validator=name)
    when: Condition | None = attrs.field(default=None, kw_only=True)
    limits: tuple[Limit, ...] = attrs.field(default=(), kw_only=True, converter=limits_from)

    @when.validator
    def _callable(self, _: object, value: object) -> None:
        if value is not None and not callable(value):
            raise TypeError(
                f"tier {self.name!r}: when: {show(value)} is not a condition"
                " such as has_tag('wireless')"
            )

    def holds(self, client: Client) -> bool:
        """Return whether `client` is in this tier, if it is not in an earlier one."""
        return self.when is None or self.when(client)


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raise ValueError for two tiers of one name, and for a tier that can never be reached."""
    names = [tier.name for tier in tiers]
    seen: set[str] = set()
    for each in names:
        if each in seen:
            raise ValueError(f"tiers: two of them are named {each!r}")
        seen.add(each)
    unreachable = first_unreachable([tier.when for tier in tiers])
    if unreachable is None:
        return
    tier, earlier = unreachable
    if not earlier:
        why = "no client meets its condition"
    elif len(earlier) == 1:
        why = f"{names[earlier[0]]!r} before it takes every such client"
    else:
        before = [repr(names[i]) for i in earlier[:MOST_NAMED]]
        if len(earlier) > MOST_NAMED:
            before.append(f"{len(earlier) - MOST_NAMED:,} more")
        why = f"{' and '.join(before)} before it take every such client"
    raise ValueError(f"tiers: {names[tier]!r} can never be reached, because {why}")

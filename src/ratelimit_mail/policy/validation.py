"""Check and convert the arguments of a policy; an error names the field that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail._util.validators import prefix_errors, whole_number
from ratelimit_mail.addresses import normal_pattern
from ratelimit_mail.limits import Limit
from ratelimit_mail.scopes import SCOPES

if TYPE_CHECKING:  # slow to import, and most policies have few of them
    from ratelimit_mail.overrides import Exemption, Grant, Override
    from ratelimit_mail.policy.tiers import Tier

__all__ = [
    "alias_count_or_none",
    "check_aliases",
    "check_names",
    "check_override_fields",
    "check_size",
    "directory_or_none",
    "domains",
    "exemptions",
    "grants",
    "override_requires",
    "overrides",
    "scope_or_none",
    "tiers",
]

T = TypeVar("T")

MOST_COMBINATIONS: Final = 1_000_000
"""Of tiers with the common limits, and of overrides with the limits that they change."""

MOST_NAMED: Final = 12
"""How many names of limits an error lists."""

OPTIONAL_FIELDS: Final = ("reason", "granted_by", "expected_recipients", "starts", "ends")
"""The fields of an override that a policy may require."""


def _tuple_of(value: Iterable[T], field: str) -> tuple[T, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{field}: a list is needed, not {show(value)}")
    return tuple(value)


def _check_kind(items: Iterable[object], kind: type, field: str) -> None:
    for each in items:
        if not isinstance(each, kind):
            article = "an" if kind.__name__[0] in "AEIOU" else "a"
            raise TypeError(f"{field}: {show(each)} is not {article} {kind.__name__}")


def tiers(value: Iterable[Tier]) -> tuple[Tier, ...]:
    """Return `value` as a tuple of tiers."""
    items = _tuple_of(value, "tiers")
    if items:
        from ratelimit_mail.policy.tiers import Tier

        _check_kind(items, Tier, "tiers")
    return items


def overrides(value: Iterable[Override]) -> tuple[Override, ...]:
    """Return `value` as a tuple of overrides."""
    items = _tuple_of(value, "overrides")
    if items:
        from ratelimit_mail.overrides import Override

        _check_kind(items, Override, "overrides")
    return items


def override_requires(value: Iterable[str]) -> tuple[str, ...]:
    """Return `value` as a tuple of the fields that each override must have."""
    fields = _tuple_of(value, "override_requires")
    _check_kind(fields, str, "override_requires")
    for field in fields:
        if field not in OPTIONAL_FIELDS:
            raise ValueError(
                f"override_requires: {show(field)} is not one of {', '.join(OPTIONAL_FIELDS)}"
            )
    return tuple(dict.fromkeys(fields))


def exemptions(value: Iterable[Exemption]) -> tuple[Exemption, ...]:
    """Return `value` as a tuple of exemptions."""
    items = _tuple_of(value, "exemptions")
    if items:
        from ratelimit_mail.overrides import Exemption

        _check_kind(items, Exemption, "exemptions")
    return items


def grants(value: Iterable[Grant] | None) -> tuple[Grant, ...] | None:
    """Return `value` as a tuple of grants; None if the policy does not require grants."""
    if value is None:
        return None
    items = _tuple_of(value, "grants")
    if items:
        from ratelimit_mail.overrides import Grant

        _check_kind(items, Grant, "grants")
    return items


def domains(value: Iterable[str]) -> tuple[str, ...]:
    """Return `value` as a tuple of domains in their normal form."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"internal_domains: a list of domains is needed, not {show(value)}")
    with prefix_errors("internal_domains"):
        return tuple(map(normal_pattern, value))


def scope_or_none(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Raise ValueError if the value is neither a word of a scope nor None."""
    if value is not None and value not in SCOPES:
        raise ValueError(f"{attribute.name}: {show(value)} is not one of {', '.join(SCOPES)}")


def directory_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raise TypeError if the value is neither None nor has a directory's methods."""
    for method in ("owner", "mailing_list"):
        if value is not None and not callable(getattr(value, method, None)):
            raise TypeError(
                f"{attribute.name}: {show(value)} is not a directory: it has no method {method};"
                " Directory.from_dict makes one"
            )


def alias_count_or_none(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    """Raise TypeError or ValueError if the value is neither a number of aliases nor None."""
    if value is not None and whole_number(attribute.name, value) < 0:
        raise ValueError(
            f"{attribute.name}: {show(value)} is not a number of aliases; 0 or more are needed"
        )


def check_size(
    limits: Sequence[Limit], tiers: Sequence[Tier], overrides: Iterable[Override]
) -> None:
    """Raise ValueError if preparing the limits of all tiers and overrides would take long."""
    if len(limits) * len(tiers) > MOST_COMBINATIONS:
        raise ValueError(
            f"tiers: {len(tiers):,} tiers with {len(limits):,} common limits each are too many;"
            f" the product is at most {MOST_COMBINATIONS:,}"
        )
    named = Counter(limit.name for tier in tiers for limit in tier.limits)
    named.update(limit.name for limit in limits)
    changes = sum(named[name] for override in overrides for name in override.limits)
    if changes > MOST_COMBINATIONS:
        raise ValueError(
            f"overrides: they change limits {changes:,} times, counting each limit of that name"
            f" in each tier; the most is {MOST_COMBINATIONS:,}"
        )


def check_names(
    limits: Sequence[Limit], overrides: Iterable[Override], exemptions: Iterable[Exemption]
) -> None:
    """Raise ValueError for an override or exemption of a limit that does not exist."""
    names = {limit.name for limit in limits if limit.name is not None}
    references: list[tuple[str, Iterable[str]]] = [
        *(("overrides", each.limits) for each in overrides),
        *(("exemptions", each.limits or ()) for each in exemptions),
    ]
    for field, references_of_one in references:
        for reference in references_of_one:
            if reference not in names:
                import difflib  # slow to import, and needed for an error alone

                near = difflib.get_close_matches(reference[:100], sorted(names), n=1, cutoff=0.5)
                available = ", ".join(map(repr, sorted(names)[:MOST_NAMED])) or "none with a name"
                if len(names) > MOST_NAMED:
                    available += f" and {len(names) - MOST_NAMED:,} more"
                hint = f"did you mean {near[0]!r}?" if near else f"there are {available}"
                raise ValueError(f"{field}: no limit is named {show(reference)}; {hint}")


def check_override_fields(
    overrides: Iterable[Override], required: Sequence[str], policy: str
) -> None:
    """Raise ValueError for an override without a field that the policy requires.

    A text without any letters is missing too.
    """
    for override in overrides:
        missing = [field for field in required if _is_missing(getattr(override, field))]
        if missing:
            names = " and ".join(map(show, list(override.limits)[:MOST_NAMED]))
            if len(override.limits) > MOST_NAMED:
                names += f" and {len(override.limits) - MOST_NAMED:,} more"
            raise ValueError(
                f"overrides: the override of {names} for {_target_of(override)} has no"
                f" {' and no '.join(missing)}; the policy {policy!r} requires"
                f" {' and '.join(required)}"
            )


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _target_of(override: Override) -> str:
    """Return in words which senders or clients `override` is for."""
    if not override.senders:
        return "clients that meet its condition"
    first, *others = override.senders
    return f"{show(first)} and {len(others)} more" if others else show(first)


def check_aliases(directory: object, most: int | None, policy: str) -> None:
    """Raise ValueError if an owner in a Directory has more aliases than `most`."""
    if directory is None:
        return
    from ratelimit_mail.directory import Directory, ListFile  # most policies have none

    if isinstance(directory, ListFile):
        directory = directory.base
    if most is None or not isinstance(directory, Directory):
        return
    owner, aliases = directory.most_aliases()
    if aliases > most:
        raise ValueError(
            f"directory: {show(owner)} has {aliases} aliases; the proxy address limit of"
            f" {policy!r} is {most}"
        )

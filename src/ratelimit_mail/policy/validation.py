"""What a policy is given, read and checked: what is wrong is named before anything is built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import normal_pattern
from ratelimit_mail.directory import Directory
from ratelimit_mail.limits import Limit
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.policy.tiers import Tier
from ratelimit_mail.scopes import SCOPES

__all__ = [
    "check_aliases",
    "check_names",
    "directory_or_none",
    "domains",
    "exemptions",
    "grants",
    "number_of_aliases",
    "overrides",
    "scope_or_none",
    "tiers",
]

T = TypeVar("T")


def _listed(kind: type[T], value: object, what: str) -> tuple[T, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{what}: a list is needed, not {show(value)}")
    found = tuple(value)
    for each in found:
        if not isinstance(each, kind):
            raise TypeError(f"{what}: {show(each)} is no {kind.__name__}")
    return found


def tiers(value: object) -> tuple[Tier, ...]:
    """`value` as tiers."""
    return _listed(Tier, value, "tiers")


def overrides(value: object) -> tuple[Override, ...]:
    """`value` as overrides."""
    return _listed(Override, value, "overrides")


def exemptions(value: object) -> tuple[Exemption, ...]:
    """`value` as exemptions."""
    return _listed(Exemption, value, "exemptions")


def grants(value: object) -> tuple[Grant, ...] | None:
    """`value` as grants; None where none are needed."""
    return None if value is None else _listed(Grant, value, "grants")


def domains(value: object) -> tuple[str, ...]:
    """`value` as domains in their one spelling."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"internal_domains: a list of domains is needed, not {show(value)}")
    try:
        return tuple(map(normal_pattern, value))
    except (TypeError, ValueError) as error:
        raise type(error)(f"internal_domains: {error}") from None


def scope_or_none(_: object, attribute: attrs.Attribute[str | None], value: object) -> None:
    """Raises ValueError for what is no word of a scope."""
    if value is not None and value not in SCOPES:
        raise ValueError(f"{attribute.name}: {show(value)} is none of {', '.join(SCOPES)}")


def directory_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Raises TypeError for what lacks a directory's methods."""
    for method in ("owner", "mailing_list"):
        if value is not None and not callable(getattr(value, method, None)):
            raise TypeError(
                f"{attribute.name}: {show(value)} is no directory: it has no method {method};"
                " Directory.from_dict makes one"
            )


def number_of_aliases(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    """Raises TypeError or ValueError for what is no number of aliases."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{attribute.name}: a whole number is needed, not {show(value)}")
    if value < 0:
        raise ValueError(
            f"{attribute.name}: {show(value)} is no number of aliases; 0 or more are needed"
        )


def check_names(
    limits: Sequence[Limit], overrides: Iterable[Override], exemptions: Iterable[Exemption]
) -> None:
    """Raises ValueError for an override or exemption of a limit that does not exist."""
    names = sorted({limit.name for limit in limits if limit.name is not None})
    given: list[tuple[str, Iterable[str]]] = [
        *(("overrides", each.limits) for each in overrides),
        *(("exemptions", each.limits or ()) for each in exemptions),
    ]
    for what, wanted in given:
        for each in wanted:
            if each not in names:
                import difflib  # slow to import, and needed for an error alone

                near = difflib.get_close_matches(each[:100], names, n=1, cutoff=0.5)
                there = ", ".join(map(repr, names)) or "none with a name"
                hint = f"did you mean {near[0]!r}?" if near else f"there are {there}"
                raise ValueError(f"{what}: no limit is named {show(each)}; {hint}")


def check_aliases(directory: object, most: int | None, policy: str) -> None:
    """Raises ValueError for an owner with more aliases than `most`, in a Directory."""
    if most is None or not isinstance(directory, Directory):
        return
    owner, aliases = directory.most_aliases()
    if aliases > most:
        raise ValueError(
            f"directory: {show(owner)} has {aliases} aliases; the proxy address limit of"
            f" {policy!r} is {most}"
        )

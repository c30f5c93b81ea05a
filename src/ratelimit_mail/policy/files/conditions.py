"""Conditions as tables: `{ any_of = [{ protocol = "webmail" }, { tag = "wireless" }] }`."""

from __future__ import annotations

from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.conditions import (
    AllOf,
    AnyOf,
    Condition,
    HasTag,
    InNetwork,
    Not,
    Protocol,
    all_of,
    any_of,
    has_tag,
    in_network,
    not_,
    protocol,
)
from ratelimit_mail.policy.files.errors import Misplaced, under

__all__ = ["condition_of", "table_of"]

WORDS: Final = ("network", "tag", "protocol", "any_of", "all_of", "not")

DEEPEST: Final = 32
"""So many conditions within each other; the reader of TOML recurses."""


def condition_of(value: object, depth: int = 1) -> Condition:
    """The condition that a table says. Raises Misplaced for what is none."""
    if not isinstance(value, dict) or len(value) != 1:
        raise Misplaced(
            "", f"a table of one key is needed, one of {', '.join(WORDS)}; not {show(value)}"
        )
    _bounded(depth)
    ((word, given),) = value.items()
    with under(word):
        try:
            match word:
                case "network":
                    return in_network(*([given] if isinstance(given, str) else _listed(given)))
                case "tag":
                    return has_tag(given)
                case "protocol":
                    return protocol(given)
                case "not":
                    return not_(condition_of(given, depth + 1))
                case "any_of":
                    return any_of(*_each(given, depth))
                case "all_of":
                    return all_of(*_each(given, depth))
        except Misplaced:
            raise
        except (TypeError, ValueError) as error:
            raise Misplaced("", str(error).partition(": ")[2]) from None
    raise Misplaced("", f"{show(word)} is none of {', '.join(WORDS)}")


def _each(given: object, depth: int) -> list[Condition]:
    conditions = []
    for i, each in enumerate(_listed(given)):
        with under(f"[{i}]"):
            conditions.append(condition_of(each, depth + 1))
    return conditions


def _listed(given: object) -> list[Any]:
    if not isinstance(given, list):
        raise Misplaced("", f"a list is needed, not {show(given)}")
    return given


def _bounded(depth: int) -> None:
    if depth > DEEPEST:
        raise Misplaced("", f"more than {DEEPEST} conditions within each other")


def table_of(condition: Condition) -> dict[str, Any]:
    """The table that says `condition`. Raises Misplaced where none can."""
    table = _table(condition, 1)
    if condition_of(table) != condition:
        raise Misplaced("", f"{show(condition)} cannot be written so that it is read the same")
    return table


def _table(condition: Condition, depth: int) -> dict[str, Any]:
    _bounded(depth)
    match condition:
        case InNetwork(networks):
            names = list(map(str, networks))
            return {"network": names[0] if len(names) == 1 else names}
        case HasTag(tag):
            return {"tag": tag}
        case Protocol(name):
            return {"protocol": name}
        case AnyOf(conditions):
            return {"any_of": [_table(each, depth + 1) for each in conditions]}
        case AllOf(conditions):
            return {"all_of": [_table(each, depth + 1) for each in conditions]}
        case Not(inner):
            return {"not": _table(inner, depth + 1)}
    raise Misplaced(
        "",
        f"{show(condition)} is a condition of your own, which no file can hold;"
        f" one can hold {', '.join(WORDS)}",
    )

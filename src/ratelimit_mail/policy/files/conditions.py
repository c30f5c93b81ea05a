"""Convert conditions to tables and back.

Such as `{ any_of = [{ protocol = "webmail" }, { tag = "wireless" }] }`.
"""

from __future__ import annotations

from typing import Any, Final

from ratelimit_mail._util.text import show
from ratelimit_mail.conditions import (
    DEEPEST,
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

KEYS: Final = ("network", "tag", "protocol", "any_of", "all_of", "not")


def condition_of(value: object, depth: int = 1) -> Condition:
    """Return the condition in a table. Raises Misplaced if `value` is not such a table."""
    if not isinstance(value, dict) or len(value) != 1:
        raise Misplaced(
            "", f"a table of one key is needed, one of {', '.join(KEYS)}; not {show(value)}"
        )
    _check_depth(depth)
    ((key, argument),) = value.items()
    with under(key):
        try:
            match key:
                case "network":
                    networks = [argument] if isinstance(argument, str) else _list_of(argument)
                    return in_network(*networks)
                case "tag":
                    return has_tag(argument)
                case "protocol":
                    return protocol(argument)
                case "not":
                    return not_(condition_of(argument, depth + 1))
                case "any_of":
                    return any_of(*_conditions(argument, depth))
                case "all_of":
                    return all_of(*_conditions(argument, depth))
        except Misplaced:
            raise
        except (TypeError, ValueError) as error:
            raise Misplaced("", str(error).partition(": ")[2]) from None
    raise Misplaced("", f"{show(key)} is not one of {', '.join(KEYS)}")


def _conditions(value: object, depth: int) -> list[Condition]:
    conditions = []
    for i, each in enumerate(_list_of(value)):
        with under(f"[{i}]"):
            conditions.append(condition_of(each, depth + 1))
    return conditions


def _list_of(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Misplaced("", f"a list is needed, not {show(value)}")
    return value


def _check_depth(depth: int) -> None:
    if depth > DEEPEST:
        raise Misplaced("", f"more than {DEEPEST} conditions within each other")


def table_of(condition: Condition) -> dict[str, Any]:
    """Return `condition` as a table. Raises Misplaced if a table cannot express it."""
    table = _table(condition, 1)
    if condition_of(table) != condition:
        raise Misplaced("", f"{show(condition)} cannot be written so that it is read the same")
    return table


def _table(condition: Condition, depth: int) -> dict[str, Any]:
    _check_depth(depth)
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
        f"{show(condition)} is a condition of your own, which a file cannot hold;"
        f" it can hold {', '.join(KEYS)}",
    )

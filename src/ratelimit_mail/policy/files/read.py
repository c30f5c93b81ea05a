"""Read a policy from the tables of its file. cattrs walks them; the classes check the values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn_from_attrs, override

from ratelimit_mail._util.text import show
from ratelimit_mail.directory import Directory, ListFile, MailingList
from ratelimit_mail.directory.aliases import invert_aliases
from ratelimit_mail.limits import ByteRateLimit, Limit
from ratelimit_mail.overrides import Exemption, Grant, Override
from ratelimit_mail.policy.files.conditions import condition_of
from ratelimit_mail.policy.files.errors import Misplaced
from ratelimit_mail.policy.files.schema import KINDS, DirectoryTable, fields_of
from ratelimit_mail.policy.tiers import Tier
from ratelimit_mail.rates import parse_byte_rate, parse_rate

__all__ = ["policy_of"]

P = TypeVar("P")

Hook = Callable[[Any, Any], Any]
"""Converts a value of a file, given the type that is needed, to one of the library."""


def policy_of(policy: type[P], table: dict[str, Any], folder: Path) -> P:
    """Return the policy in `table`.

    folder: the folder that the names of other files are relative to.

    Raises cattrs' ClassValidationError, which holds every error and its place, Misplaced,
    or what the classes raise.
    """
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)

    def list_of(kind: Any) -> Hook:
        def hook(value: object, _: object) -> Any:
            if not isinstance(value, list):
                raise Misplaced("", f"a list of tables is needed, not {show(value)}")
            return converter.structure(value, list[kind])

        return hook

    def directory(value: object, _: object) -> Directory | ListFile:
        return _directory(converter.structure(value, DirectoryTable), folder)

    def limit(value: object, _: object) -> Any:
        rest = dict(_table(value))
        if "kind" not in rest:
            raise Misplaced("kind", f"this key is needed; one of {', '.join(KINDS)}")
        kind = rest.pop("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise Misplaced("kind", f"{show(kind)} is not one of {', '.join(KINDS)}")
        return converter.structure(rest, KINDS[kind])

    converter.register_structure_hook_func(lambda wanted: wanted == Limit, limit)
    limits = list_of(Limit)
    for kind in KINDS.values():
        _register(converter, kind, rate=_byte_rate if kind is ByteRateLimit else _rate)
    _register(converter, Tier, when=_when, limits=limits)
    for concession in (Override, Exemption, Grant):
        _register(converter, concession, when=_when, starts=_moment, ends=_moment)
    _register(converter, MailingList)
    _register(converter, DirectoryTable, lists=list_of(MailingList))
    _register(
        converter,
        policy,
        limits=limits,
        tiers=list_of(Tier),
        overrides=list_of(Override),
        exemptions=list_of(Exemption),
        grants=list_of(Grant),
        directory=directory,
    )
    return converter.structure(table, policy)


def _register(converter: Converter, kind: type[Any], **hooks: Hook) -> None:
    """Make `converter` convert tables to `kind`; a field without a hook is passed unchanged."""
    fields = fields_of(kind)
    overrides: dict[str, Any] = {
        f.name: override(struct_hook=hooks.get(f.name, _unchanged)) for f in fields
    }
    build = make_dict_structure_fn_from_attrs(
        fields,
        kind,
        converter,
        _cattrs_use_linecache=False,
        **overrides,
    )
    converter.register_structure_hook_func(
        lambda wanted: wanted is kind, lambda value, wanted: build(_table(value), wanted)
    )


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Misplaced("", f"a table is needed, not {show(value)}")
    return value


def _unchanged(value: Any, _: object) -> Any:
    return value


def _rate(value: Any, _: object) -> Any:
    return parse_rate(value)


def _byte_rate(value: Any, _: object) -> Any:
    return parse_byte_rate(value)


def _when(value: object, _: object) -> Any:
    return condition_of(value)


def _moment(value: object, _: object) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        iso = value.isoformat()
        raise Misplaced("", f"{iso} has no time zone; write {iso}Z for UTC, or a date alone")
    return value


def _never_ends(path: Path) -> bool:
    """Return whether `path` is a pipe or a device, which reading could wait for."""
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _directory(table: DirectoryTable, folder: Path) -> Directory | ListFile:
    for key in ("aliases_csv", "lists_csv", "lists_file"):
        name = getattr(table, key)
        if name is not None and (not isinstance(name, str) or not name):
            raise Misplaced(key, f"the name of a file is needed, not {show(name)}")
        if name is not None and _never_ends(folder / name):
            raise Misplaced(key, f"{show(name)} is not a regular file")
    if table.aliases and table.aliases_csv:
        raise Misplaced("aliases_csv", "there are aliases in this file too; give one of the two")
    try:
        aliases = invert_aliases(table.aliases)
    except (TypeError, ValueError) as error:
        raise Misplaced("aliases", str(error).removeprefix("from_dict: ")) from None
    try:
        directory = _from_csv(table, aliases, folder)
        if table.lists_file is None:
            return directory
        return ListFile(folder / table.lists_file, directory=directory)
    except OSError as error:
        raise Misplaced("", f"{show(error.filename)} cannot be read: {error.strerror}") from None


def _from_csv(table: DirectoryTable, aliases: dict[str, str], folder: Path) -> Directory:
    if table.aliases_csv is None and table.lists_csv is None:
        return Directory(aliases, table.lists)
    directory = Directory.from_csv(
        None if table.aliases_csv is None else folder / table.aliases_csv,
        None if table.lists_csv is None else folder / table.lists_csv,
        lists=table.lists,
    )
    return Directory(aliases, directory.lists) if aliases else directory

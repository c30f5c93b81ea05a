"""ListFile: mailing lists in a file that records who subscribed and left, when and by request.

The rule: a list's members follow from its changes, in their order. Each change replaces the file as
a whole, under a lock, so no process loses the change of another, and a reader never sees a half.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from os import PathLike
from time import monotonic
from typing import Any, Final, Literal, TypeVar

import attrs

from ratelimit_mail._util.epoch import datetime_of, milliseconds_of
from ratelimit_mail._util.logger import log_warning
from ratelimit_mail._util.text import escape, show
from ratelimit_mail.addresses import folded, normal_address
from ratelimit_mail.directory.mailing_lists import MailingList
from ratelimit_mail.directory.memory import Directory
from ratelimit_mail.directory.pasted_text import PastedAddress

__all__ = ["ListFile", "Member", "MembershipChange"]

FORMAT: Final = "ratelimit-mail lists 1"

SETTINGS: Final = ("subscription", "posting", "posters", "moderators", "exempt")

LONGEST_NAME: Final = 200

T = TypeVar("T")

UNREADABLE: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What reading a file raises that was damaged or is not a list file."""


@attrs.frozen
class MembershipChange:
    """One entry of a list's history.

    at: when, in UTC. by: the address that asked for it, or the name of an administrator.
    name: the name that was pasted with the address; may be empty.
    """

    at: datetime
    action: Literal["subscribed", "left"]
    address: str
    by: str
    name: str = ""


@attrs.frozen
class Member:
    """A member of a list.

    since: when it subscribed, in UTC. by, name: see `MembershipChange`.
    """

    address: str
    since: datetime
    by: str
    name: str = ""


@attrs.frozen
class _Entry:
    """A list of the file: its settings, and the history that its members follow from."""

    settings: MailingList
    """Without members."""
    history: tuple[MembershipChange, ...] = ()

    def members(self) -> dict[str, Member]:
        """Return the members by their folded addresses, in the order in which they subscribed."""
        members: dict[str, Member] = {}
        for change in self.history:
            key = folded(change.address)
            if change.action == "left":
                members.pop(key, None)
            else:
                member = Member(change.address, change.at, change.by, change.name)
                members.setdefault(key, member)
        return members


Entries = Mapping[str, _Entry]
"""Each list of a file by its folded address."""


@attrs.frozen
class _Contents:
    signature: object
    """Different for each version of the file."""
    entries: Entries
    directory: Directory


class ListFile:
    """Mailing lists in a file, as a directory: a running limiter sees each change of the file.

    path: the file, in JSON.
    directory: the aliases, and the lists that do not change.
    administrator: the name that is recorded for changes without `by=`.
    create: whether a missing file is a file without lists. Otherwise it is an error, because a
        list that is not found has no moderator.
    check_every: after how many seconds a lookup checks again whether the file has changed. A
        change that is made through this object is seen at once.
    clock: returns integer milliseconds since the epoch; by default the wall clock.
    timer: returns seconds, for `check_every`.

    A file that cannot be read any more is logged, and the lists read last stay in force. Safe for
    threads and processes.

    Raises OSError if the file cannot be read, and ValueError that says what is wrong in it.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        directory: Directory | None = None,
        administrator: str = "administrator",
        create: bool = False,
        check_every: float = 1.0,
        clock: Callable[[], int] | None = None,
        timer: Callable[[], float] = monotonic,
    ) -> None:
        if directory is not None and not isinstance(directory, Directory):
            raise TypeError(f"directory: a Directory is needed, not {show(directory)}")
        self.path = os.fspath(path)
        self.base = Directory() if directory is None else directory
        self._administrator = _requester_name(administrator)
        self._create = create
        self._check_every = check_every
        self._clock = clock or _wall_clock
        self._timer = timer
        self._failed: object = None
        """The signature of the version of the file that could not be read."""
        self._contents = self._read()
        self._check_at = timer() + check_every

    def __repr__(self) -> str:
        return f"<ListFile: {self.path!r} lists={len(self._contents.entries):,}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ListFile):
            return NotImplemented
        return (os.path.abspath(self.path), self.base) == (os.path.abspath(other.path), other.base)

    def __hash__(self) -> int:
        return hash((os.path.abspath(self.path), self.base))

    def __reduce__(self) -> tuple[Any, ...]:
        return _list_file, (self.path, self.base, self._administrator, self._create)

    # What a policy calls.

    def owner(self, address: str) -> str:
        """Return the primary address of the alias `address`; `address` if it is not an alias."""
        return self.base.owner(address)

    def owner_as_written(self, address: str) -> str:
        """Return the same as `owner`, for an alias in this very spelling alone.

        address: as an envelope has it, with its capitals.
        """
        return self.base.owner_as_written(address)

    def mailing_list(self, address: str) -> MailingList | None:
        """Return the mailing list at `address`; None if there is none."""
        return self._current().directory.mailing_list(address)

    def mailing_list_as_written(self, address: str) -> MailingList | None:
        """Return the same as `mailing_list`, for a list in this very spelling alone.

        address: as an envelope has it, with its capitals.
        """
        return self._current().directory.mailing_list_as_written(address)

    def check_spellings(self) -> None:
        """See `Directory.check_spellings`."""
        self._contents.directory.check_spellings()

    # What is in the file.

    @property
    def directory(self) -> Directory:
        """The aliases and all lists, as they are now."""
        return self._current().directory

    @property
    def lists(self) -> tuple[MailingList, ...]:
        """The lists of the file, with their members."""
        contents = self._current()
        lists = {each.address: each for each in contents.directory.lists}
        return tuple(lists[entry.settings.address] for entry in contents.entries.values())

    def settings(self, list_address: str) -> MailingList:
        """Return the settings of a list: the list without its members.

        list_address: of the list.
        """
        return self._entry(list_address).settings

    def members(self, list_address: str) -> tuple[Member, ...]:
        """Return the members of a list, in the order in which they subscribed.

        list_address: of the list.
        """
        return tuple(self._entry(list_address).members().values())

    def history(self, list_address: str) -> tuple[MembershipChange, ...]:
        """Return every change of a list's members, in order.

        list_address: of the list.
        """
        return self._entry(list_address).history

    def reload(self) -> None:
        """Read the file now. Raises OSError or ValueError; the lists read last stay in force."""
        self._contents = self._read()
        self._check_at = self._timer() + self._check_every

    # Changes: each reads the file, checks the change, and replaces the file, under a lock.

    def add_list(self, mailing_list: MailingList, *, by: str | None = None) -> None:
        """Add a list. Its members are subscribed by `by`, the administrator if left out.

        mailing_list: its address and its settings; its members subscribe.

        Raises ValueError if there is a list or an alias of this address.
        """
        if not isinstance(mailing_list, MailingList):
            raise TypeError(f"mailing_list: a MailingList is needed, not {show(mailing_list)}")

        def change(entries: dict[str, _Entry]) -> None:
            key = folded(mailing_list.address)
            if key in entries:
                raise ValueError(f"there is a list {show(entries[key].settings.address)} already")
            requester = self._administrator if by is None else _normal("by", by)
            entries[key] = _Entry(attrs.evolve(mailing_list, members=()))
            self._subscribe(entries, key, map(_pasted, mailing_list.members), requester)

        self._change(change)

    def change_list(self, list_address: str, **settings: Any) -> MailingList:
        """Set `subscription`, `posting`, `posters`, `moderators` or `exempt` of a list.

        list_address: of the list. settings: the new ones, by name.
        """
        for name in settings:
            if name not in SETTINGS:
                raise TypeError(f"{show(name)} is not one of {', '.join(SETTINGS)}")

        def change(entries: dict[str, _Entry]) -> None:
            key = _key_in(entries, list_address)
            entry = entries[key]
            entries[key] = attrs.evolve(entry, settings=attrs.evolve(entry.settings, **settings))

        self._change(change)
        changed = self._contents.directory.mailing_list(self._entry(list_address).settings.address)
        assert changed is not None  # noqa: S101 - it was written just now
        return changed

    def remove_list(self, list_address: str) -> None:
        """Remove a list and its history.

        list_address: of the list.
        """

        def change(entries: dict[str, _Entry]) -> None:
            del entries[_key_in(entries, list_address)]

        self._change(change)

    def subscribe(
        self,
        list_address: str,
        addresses: str | PastedAddress | Iterable[str | PastedAddress],
        *,
        by: str | None = None,
    ) -> tuple[MembershipChange, ...]:
        """Subscribe all of `addresses` or none; return the changes, without earlier members.

        list_address: of the list.
        addresses: one address or several, or what `parse_addresses` read in a text.
        by: the address that asks for it; left out: the administrator of the list. A moderator
            may subscribe any address; other people may subscribe only themselves, and only if
            subscription is open.

        Raises ValueError if `by` may not do so, or the list would contain itself.
        """
        pasted = _each(addresses)

        def change(entries: dict[str, _Entry]) -> tuple[MembershipChange, ...]:
            key = _key_in(entries, list_address)
            for each in pasted:
                entries[key].settings.check_subscribing(each.address, by)
            requester = self._administrator if by is None else _normal("by", by)
            return self._subscribe(entries, key, pasted, requester)

        return self._change(change)

    def unsubscribe(
        self, list_address: str, addresses: str | Iterable[str], *, by: str | None = None
    ) -> tuple[MembershipChange, ...]:
        """Let all of `addresses` leave, or none; return the changes.

        list_address: of the list.
        by: the address that asks for it; left out: the administrator of the list. A moderator
            may unsubscribe any address; other people may always unsubscribe themselves.

        Raises ValueError if `by` may not do so, or if an address is not a member: the person may
        be a member under another address, and would go on receiving mail.
        """
        leaving = [each.address for each in _each(addresses)]

        def change(entries: dict[str, _Entry]) -> tuple[MembershipChange, ...]:
            key = _key_in(entries, list_address)
            entry = entries[key]
            members = entry.members()
            requester = self._administrator if by is None else _normal("by", by)
            at = self._now(entry)
            changes = []
            for address in leaving:
                entry.settings.check_unsubscribing(address, by)
                member = members.pop(folded(address), None)
                if member is None:
                    shown = show(entry.settings.address)
                    raise ValueError(f"{show(address)} is not a member of {shown}")
                changes.append(MembershipChange(at, "left", member.address, requester, member.name))
            entries[key] = attrs.evolve(entry, history=(*entry.history, *changes))
            return tuple(changes)

        return self._change(change)

    def set_members(
        self,
        list_address: str,
        addresses: Iterable[str | PastedAddress],
        *,
        by: str | None = None,
    ) -> tuple[MembershipChange, ...]:
        """Make `addresses` the members: subscribe those that are new, and let all others leave.

        list_address: of the list. by: the address that asks for it, as in `subscribe`.

        Returns the changes. Raises ValueError as `subscribe` and `unsubscribe` do; then nothing
        changes.
        """
        pasted = _each(addresses)

        def change(entries: dict[str, _Entry]) -> tuple[MembershipChange, ...]:
            key = _key_in(entries, list_address)
            entry = entries[key]
            requester = self._administrator if by is None else _normal("by", by)
            for each in pasted:
                entry.settings.check_subscribing(each.address, by)
            stay = {folded(each.address) for each in pasted}
            at = self._now(entry)
            changes = []
            for member_key, member in entry.members().items():
                if member_key not in stay:
                    entry.settings.check_unsubscribing(member.address, by)
                    changes.append(
                        MembershipChange(at, "left", member.address, requester, member.name)
                    )
            entries[key] = attrs.evolve(entry, history=(*entry.history, *changes))
            return (*changes, *self._subscribe(entries, key, pasted, requester))

        return self._change(change)

    def _subscribe(
        self,
        entries: dict[str, _Entry],
        key: str,
        pasted: Iterable[PastedAddress],
        requester: str,
    ) -> tuple[MembershipChange, ...]:
        entry = entries[key]
        members: set[str] = set(entry.members())
        at = self._now(entry)
        changes = []
        for each in pasted:
            if (member := folded(each.address)) not in members:
                members.add(member)
                changes.append(
                    MembershipChange(at, "subscribed", each.address, requester, each.name)
                )
        entries[key] = attrs.evolve(entry, history=(*entry.history, *changes))
        return tuple(changes)

    def _change(self, change: Callable[[dict[str, _Entry]], T]) -> T:
        """Apply `change` to the lists of the file, and write the file unless nothing changed."""
        # Imported here, because a limiter only reads.
        from ratelimit_mail._util.safe_file import exclusive, replace_file

        with exclusive(self.path) as target:
            before = self._read().entries
            entries = dict(before)
            result = change(entries)
            if entries != before:
                directory = _directory_of(self.base, entries)  # raises if the lists do not fit
                replace_file(target, _text_of(entries).encode())
                self._contents = _Contents(_signature(target), entries, directory)
                self._check_at = self._timer() + self._check_every
        return result

    def _entry(self, list_address: str) -> _Entry:
        entries = self._current().entries
        return entries[_key_in(entries, list_address)]

    def _now(self, entry: _Entry) -> datetime:
        """Return the present, not before the last change of a list."""
        now = datetime_of(self._clock())
        return max(now, entry.history[-1].at) if entry.history else now

    def _current(self) -> _Contents:
        """Return the contents of the file, which is read again if it has changed."""
        if self._timer() < self._check_at:
            return self._contents
        self._check_at = self._timer() + self._check_every
        signature: object = None
        try:
            signature = _signature(self.path)
            if signature in (self._contents.signature, self._failed):
                return self._contents
            self._contents = self._read()
            self._failed = None
        except (OSError, ValueError) as error:
            if self._contents.signature is None and signature is None:
                return self._contents  # not created yet
            if self._failed != (signature or "missing"):
                log_warning("the mailing lists read last stay in force: %s", error)
            self._failed = signature or "missing"
        return self._contents

    def _read(self) -> _Contents:
        try:
            # Before the contents: a change in between is then seen at the next check.
            signature: object = _signature(self.path)
            with open(self.path, "rb") as file:
                contents = file.read()
        except FileNotFoundError:
            if not self._create:
                raise
            return _Contents(None, {}, self.base)
        name = show(os.path.basename(self.path))
        try:
            entries = _entries_of(contents)
            return _Contents(signature, entries, _directory_of(self.base, entries))
        except UNREADABLE as error:
            raise ValueError(f"{name}: {_reason(error)}") from None


def _list_file(path: str, base: Directory, administrator: str, create: bool) -> ListFile:
    return ListFile(path, directory=base, administrator=administrator, create=create)


def _wall_clock() -> int:
    import time

    return time.time_ns() // 1_000_000


def _signature(path: str | PathLike[str]) -> tuple[int, ...]:
    state = os.stat(path)
    return state.st_mtime_ns, state.st_size, state.st_ino


def _requester_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"administrator: a name is a string, not {show(name)}")
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
        raise ValueError(
            f"administrator: {show(name)} is not a name of 1 to {LONGEST_NAME} characters"
        )
    return name


def _normal(field: str, address: str) -> str:
    try:
        return normal_address(address)[0]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{field}: {error}") from None


def _pasted(address: str | PastedAddress) -> PastedAddress:
    if isinstance(address, PastedAddress):
        return address
    return PastedAddress(0, _normal("address", address))


def _each(addresses: str | PastedAddress | Iterable[str | PastedAddress]) -> list[PastedAddress]:
    if isinstance(addresses, str | PastedAddress):
        addresses = (addresses,)
    if not isinstance(addresses, Iterable):
        raise TypeError(f"addresses: one or several are needed, not {show(addresses)}")
    return list(map(_pasted, addresses))


def _key_in(entries: Entries, list_address: str) -> str:
    key = folded(_normal("list", list_address))
    if key not in entries:
        present = ", ".join(show(each.settings.address) for each in list(entries.values())[:10])
        raise ValueError(f"there is no list {show(list_address)}; there are {present or 'none'}")
    return key


def _directory_of(base: Directory, entries: Entries) -> Directory:
    lists = (
        attrs.evolve(entry.settings, members=[each.address for each in entry.members().values()])
        for entry in entries.values()
    )
    directory = Directory(base.aliases, (*base.lists, *lists))
    directory.check_spellings()
    return directory


# The text of the file: one line for each change, so that a person can compare two versions.


def _text_of(entries: Entries) -> str:
    lists = []
    for entry in entries.values():
        settings = {name: getattr(entry.settings, name) for name in SETTINGS}
        head = json.dumps({"list": entry.settings.address, **settings}, ensure_ascii=False)
        changes = [json.dumps(_line_of(each), ensure_ascii=False) for each in entry.history]
        history = ",".join(f"\n  {each}" for each in changes)
        lists.append(f'\n {head[:-1]}, "history": [{history}]}}')
    return f'{{"format": {json.dumps(FORMAT)}, "lists": [{",".join(lists)}\n]}}\n'


def _line_of(change: MembershipChange) -> dict[str, Any]:
    at = change.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"at": at, "action": change.action, "address": change.address, "by": change.by}
    return {**line, "name": change.name} if change.name else line


def _entries_of(contents: bytes) -> dict[str, _Entry]:
    """Return the lists of a file. Raises one of UNREADABLE if it is not one."""
    document = json.loads(contents.decode("utf-8-sig"))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f'not a file of mailing lists, which has "format": "{FORMAT}"')
    entries: dict[str, _Entry] = {}
    for table in document["lists"]:
        address = table["list"]
        try:
            settings = MailingList(address, **{name: table[name] for name in SETTINGS})
            history = tuple(map(_change_of, table["history"]))
        except UNREADABLE as error:
            raise ValueError(f"the list {show(address)}: {_reason(error)}") from None
        key = folded(settings.address)
        if key in entries:
            raise ValueError(f"there are two lists of the address {show(address)}")
        entries[key] = _Entry(settings, history)
    return entries


def _change_of(line: Mapping[str, Any]) -> MembershipChange:
    action, by, name = line["action"], line["by"], line.get("name", "")
    if action not in ("subscribed", "left"):
        raise ValueError(f"action: {show(action)} is neither subscribed nor left")
    if not isinstance(by, str) or not isinstance(name, str):
        raise TypeError("by and name: texts are needed")
    at = datetime.fromisoformat(line["at"])
    if at.tzinfo is None:
        raise ValueError(f"at: {show(line['at'])} has no time zone")
    utc = datetime_of(milliseconds_of(at))
    return MembershipChange(utc, action, _normal("address", line["address"]), by, name)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the key {error} is missing"
    return escape(str(error)) or type(error).__name__

"""Mailing: a letter and the people that it goes to: checked, previewed, and put into an outbox."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from ratelimit_mail._util.text import show
from ratelimit_mail.addresses import folded, normal_address
from ratelimit_mail.envelope import Client, Envelope
from ratelimit_mail.mailing.attachments import LARGEST, AttachmentFolder
from ratelimit_mail.mailing.letter import Letter
from ratelimit_mail.mailing.people import People, Row
from ratelimit_mail.mailing.templates import MissingValue

__all__ = ["LetterOutbox", "Mailing", "MergedLetter", "Problem"]

_PLAIN_DOMAIN: Final = re.compile("[A-Za-z0-9.-]+")


class LetterOutbox(Protocol):
    """What a mailing needs of an outbox; `ratelimit_mail.outbox.Outbox` has it."""

    def put(
        self,
        message: EmailMessage,
        *,
        client: Client | None = None,
        key: str | None = None,
        priority: int = 0,
        not_before: datetime | None = None,
        expires: datetime | None = None,
    ) -> Any:
        """Put a message; the same key is the same message.

        client, priority, not_before, expires: as those of `Outbox.put`.
        """
        ...


@attrs.frozen
class Problem:
    """What is wrong with a row, or with the letter: then `row` is None.

    text: in words.
    """

    row: Row | None
    text: str

    def __str__(self) -> str:
        return self.text if self.row is None else f"{self.row}: {self.text}"


@attrs.frozen
class MergedLetter:
    """The message of one row.

    key: the same for the same row, each time; None for a test.
    recipients: the addresses of the row's `To`, also for a test.
    """

    row: Row
    key: str | None
    recipients: tuple[str, ...]
    message: EmailMessage = attrs.field(repr=False)


class Mailing:
    """A letter, and the people in a CSV file that it goes to.

    key: the column whose value identifies a row. By default the row's address does. Together with
        the letter's name it makes the key of a message, so that nobody gets two.
    attachments: the folders that attachments may be in; by default the folder of the CSV file.
    first, limit: the number of the first row, and how many rows from it on; by default all.
    test_to: the address that gets every letter instead of the people.
    allow_duplicates: whether an address may be in several rows; it needs `key`.
    """

    def __init__(
        self,
        letter: Letter,
        people: People,
        *,
        key: str | None = None,
        attachments: AttachmentFolder | None = None,
        first: int = 1,
        limit: int | None = None,
        test_to: str | None = None,
        allow_duplicates: bool = False,
    ) -> None:
        if key is not None and key not in people.columns:
            raise ValueError(f"key: there is no column {show(key)}; {_columns(people)}")
        if allow_duplicates and key is None:
            raise ValueError(
                "allow_duplicates: a key is needed, because the default is the address"
            )
        if first < 1 or (limit is not None and limit < 0):
            raise ValueError("first is 1 or more, and limit 0 or more")
        self.key_prefix = f"mailing:{_digest(letter.name)}:"
        """What the keys of all messages of this mailing begin with."""
        self.letter = letter
        self.people = people
        self.rows: Sequence[Row] = people.rows[
            first - 1 : None if limit is None else first - 1 + limit
        ]
        self._key = key
        self._attachments = attachments or AttachmentFolder(people.folder, largest=LARGEST)
        self._test_to = None if test_to is None else normal_address(test_to)[0]
        self._allow_duplicates = allow_duplicates

    def merged(self, row: Row) -> MergedLetter:
        """Return the message of a row. Raises ValueError."""
        addresses = self.letter.addresses(row.values)
        recipients = tuple(each.addr_spec for each in addresses["To"])
        key = self._key_of(row, recipients)
        message_id = None
        if self._test_to is None:
            message_id = f"<{key.replace(':', '.')}@{_domain_of(addresses['From'])}>"
        message = self.letter.message(
            row.values,
            self._attachments,
            test_to=self._test_to,
            message_id=message_id,
            addresses=addresses,
        )
        return MergedLetter(row, key if self._test_to is None else None, recipients, message)

    def _key_of(self, row: Row, recipients: Sequence[str]) -> str:
        if self._key is None:
            return self.key_prefix + _digest("\n".join(sorted(map(folded, recipients))))
        value = row.values[self._key]
        if not value:
            raise ValueError(f"the key {show(self._key)} is empty")
        return self.key_prefix + _digest(value)

    def letters(self) -> Iterator[MergedLetter]:
        """Yield the message of each row. Raises ValueError that names the row."""
        for row in self.rows:
            try:
                yield self.merged(row)
            except ValueError as error:
                raise ValueError(str(Problem(row, str(error)))) from None

    def check(self, on_letter: Callable[[MergedLetter], object] | None = None) -> list[Problem]:
        """Return everything that is wrong, after making every message once.

        These are missing columns, addresses that are not addresses, addresses and keys that are in
        two rows, missing or too large attachments, and what else a message cannot be made of.

        on_letter: is called with each message that can be sent.
        """
        problems = [
            Problem(None, f"the letter uses {show(name)}; {_columns(self.people)}")
            for name in self.letter.missing_columns(self.people.columns)
        ]
        is_missing = bool(problems)
        needed: set[str] = set()
        if not self.rows:
            problems.append(Problem(None, "there is no row to send a letter to"))
        by_address: dict[str, Row] = {}
        by_key: dict[str, Row] = {}
        for row in self.rows:
            try:
                letter = self.merged(row)
                texts = list(self._duplicates(row, letter, by_address, by_key))
            except MissingValue as error:
                if not is_missing:
                    problems.append(Problem(row, str(error)))
                needed.add(str(error))
                continue
            except ValueError as error:
                problems.append(Problem(row, str(error)))
                continue
            problems += (Problem(row, text) for text in texts)
            if on_letter is not None and not texts:
                on_letter(letter)
        if is_missing and not needed:
            # A template can do without a column: `{{ title | default("") }}`.
            problems = [each for each in problems if not each.text.startswith("the letter uses ")]
        return problems

    def _duplicates(
        self,
        row: Row,
        letter: MergedLetter,
        by_address: dict[str, Row],
        by_key: dict[str, Row],
    ) -> Iterator[str]:
        """Yield what is wrong with a row because of earlier ones."""
        repeated = False
        for address in letter.recipients:
            first = by_address.setdefault(folded(address), row)
            if first is not row and not self._allow_duplicates:
                repeated = True
                yield f"{show(address)} is in {first} already"
        if letter.key is not None and not repeated:
            first = by_key.setdefault(letter.key, row)
            if first is not row:
                yield f"its key is that of {first}"

    def preview(self, number: int, folder: str | PathLike[str]) -> list[Path]:
        """Write the first messages as .eml files, and return their paths.

        number: how many messages. folder: where the files are written.

        Earlier previews of the same rows are replaced. Raises ValueError that names a row without a
        message, and OSError if a file cannot be written.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths: list[Path] = []
        for letter in islice(self.letters(), number):
            path = Path(folder, f"{letter.row.number:06}.eml")
            with path.open("wb") as file:
                file.write(letter.message.as_bytes())
            paths.append(path)
        return paths

    def put(
        self,
        outbox: LetterOutbox,
        *,
        client: Client | None = None,
        priority: int = 0,
        not_before: datetime | None = None,
        expires: datetime | None = None,
    ) -> list[Any]:
        """Put each message into an outbox, and return what its `put` returned, in order.

        client, priority, not_before, expires: as those of `Outbox.put`, for every message.

        A message whose key the outbox has is not put again, so a mailing that was interrupted can
        be run again from the start. Check the mailing first: a row without a message ends it with a
        ValueError that names the row, after the rows before it were put.
        """
        return list(
            self.put_each(
                outbox, client=client, priority=priority, not_before=not_before, expires=expires
            )
        )

    def put_each(
        self,
        outbox: LetterOutbox,
        *,
        client: Client | None = None,
        priority: int = 0,
        not_before: datetime | None = None,
        expires: datetime | None = None,
        skip: Callable[[MergedLetter], bool] | None = None,
    ) -> Iterator[Any]:
        """Do the same one message at a time, as the result is iterated over.

        outbox, client, priority, not_before, expires: as in `put`.
        skip: returns whether a message is left out.
        """
        for letter in self.letters():
            if skip is None or not skip(letter):
                yield outbox.put(
                    letter.message,
                    client=client,
                    key=letter.key,
                    priority=priority,
                    not_before=not_before,
                    expires=expires,
                )

    def envelopes(self, client: Client | None = None) -> Iterable[Envelope]:
        """Yield the envelope of each message, for a plan.

        client: who submits the messages.
        """
        return (Envelope.from_message(each.message, client=client) for each in self.letters())


def _domain_of(addresses: Sequence[Address]) -> str:
    domain = addresses[0].domain if addresses else ""
    return domain if _PLAIN_DOMAIN.fullmatch(domain) else "localhost.invalid"


def _digest(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def _columns(people: People) -> str:
    shown = ", ".join(map(show, people.columns[:12]))
    more = len(people.columns) - 12
    return f"the columns are {shown}{f' and {more} more' if more > 0 else ''}"

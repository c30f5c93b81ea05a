"""AddressMap: a mapping by address that finds an address however it is spelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from ratelimit_mail.addresses import folded

__all__ = ["AddressMap"]

V = TypeVar("V")


class AddressMap(Mapping[str, V]):
    """Values by address: the one of the very spelling, or else of one that differs in case alone.

    as_written: the values by normal addresses. Of several that differ in case alone, the first is
        the one for any other spelling.
    """

    def __init__(self, as_written: Mapping[str, V]) -> None:
        self.as_written = as_written
        self._spellings: dict[str, str] = {}
        """The first spelling of each address that is not folded, by the folded one."""
        for address in as_written:
            key = folded(address)
            if key != address:
                self._spellings.setdefault(key, address)

    def spelling(self, address: str) -> str:
        """Return the address as this mapping spells it; unchanged if it does not have it."""
        if address in self.as_written:
            return address
        key = folded(address)
        return key if key in self.as_written else self._spellings.get(key, address)

    def __getitem__(self, address: str) -> V:
        return self.as_written[self.spelling(address)]

    def __contains__(self, address: object) -> bool:
        return isinstance(address, str) and self.spelling(address) in self.as_written

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_written)

    def __len__(self) -> int:
        return len(self.as_written)

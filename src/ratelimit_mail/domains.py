"""Which domains are a policy's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from ratelimit_mail.addresses import normal_domain, show

__all__ = ["DomainSet", "normal_pattern"]


def normal_pattern(value: object) -> str:
    """A domain, or with a leading dot all its subdomains, in its one spelling."""
    if not isinstance(value, str):
        raise TypeError(f"a domain is a string such as 'uwo.ca' or '.uwo.ca', not {show(value)}")
    dot = value[:1] if value.startswith(".") else ""
    return dot + normal_domain(value[len(dot) :])


class DomainSet:
    """The domains that some patterns name: `"uwo.ca"` itself, `".uwo.ca"` what is below it."""

    holds: Callable[[str], bool]
    """Whether a domain is in the set; answers are cached, for a bounded number of domains."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._exact = frozenset(p for p in self.patterns if not p.startswith("."))
        self._above = frozenset(p[1:] for p in self.patterns if p.startswith("."))
        self.holds = lru_cache(maxsize=4096)(self._holds)

    def __reduce__(self) -> tuple[type[DomainSet], tuple[tuple[str, ...]]]:
        return DomainSet, (self.patterns,)

    def _holds(self, domain: str) -> bool:
        if domain in self._exact:
            return True
        while self._above:
            _, dot, domain = domain.partition(".")
            if domain in self._above:
                return True
            if not dot:
                break
        return False

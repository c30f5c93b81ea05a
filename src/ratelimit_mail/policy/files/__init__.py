"""Policy files: read a policy from TOML, and write it as TOML.

The functions take the class of the policy as an argument, because that class imports this package.
The modules that need the extra [files] are imported only when a file is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeVar

from ratelimit_mail._util.text import show

__all__ = ["dump", "load", "loads"]

P = TypeVar("P")


def load(policy: type[P], path: str | PathLike[str]) -> P:
    """Return the policy in a file. Raises PolicyFileError that names file, table and key."""
    with _extra_files():
        from ratelimit_mail.policy.files.errors import as_file_error
        from ratelimit_mail.policy.files.read import policy_of
        from ratelimit_mail.policy.files.toml_text import table_of, text_of
    name = fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"the name of a policy file is a string or a Path, not {show(name)}")
    with as_file_error(name):
        return policy_of(policy, _limits(table_of(text_of(path))), Path(path).parent)


def loads(policy: type[P], text: str) -> P:
    """Return the policy in `text`. Raises PolicyFileError that names table and key."""
    with _extra_files():
        from ratelimit_mail.policy.files.errors import as_file_error
        from ratelimit_mail.policy.files.read import policy_of
        from ratelimit_mail.policy.files.toml_text import table_of
    with as_file_error(None):
        return policy_of(policy, _limits(table_of(text)), Path())


def dump(policy: Any) -> str:
    """Return `policy` as the text of a file.

    Raises PolicyFileError that names what cannot be written.
    """
    with _extra_files():
        from ratelimit_mail.policy.files.errors import as_file_error
        from ratelimit_mail.policy.files.layout import document
        from ratelimit_mail.policy.files.toml_text import check_size
        from ratelimit_mail.policy.files.write import table_of
    with as_file_error(None):
        return check_size(document(table_of(policy)))


def _limits(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table without what `ratelimit_mail.monitoring` reads in the same file."""
    return {key: value for key, value in table.items() if key not in ("alerts", "metrics")}


@contextmanager
def _extra_files() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("cattrs", "tomli_w"):
            raise
        raise ModuleNotFoundError(
            f"policy files need {missing}: pip install 'ratelimit-mail[files]'", name=missing
        ) from None

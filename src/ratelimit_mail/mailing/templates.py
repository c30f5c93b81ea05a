"""Fill in templates: in a sandbox, without files, with an error for what is missing.

The values of a CSV file are data: they are never read as templates. jinja2 is imported when the
first template is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["LONGEST_RESULT", "MissingValue", "Template", "context_of", "extra_merge"]

LONGEST_RESULT: Final = 10 << 20
"""In characters, of one filled-in template."""

_NOT_IN_NAMES: Final = re.compile(r"\W+")
_MARKDOWN: Final = re.compile(r"[\\`*_{}\[\]()#+.!|~-]")

Kind = Literal["text", "html", "markdown"]
"""How values are escaped: not at all, for HTML, or for Markdown and HTML."""

_environments: dict[Kind, Any] = {}


class MissingValue(ValueError):
    """A template uses a name for which there is no value."""


class Template:
    """A template in the language of Jinja2.

    where: what it is, for errors. kind: how values are escaped; `{{ value | safe }}` is not.

    Raises ValueError if it is not a template.
    """

    def __init__(self, source: str, where: str, kind: Kind = "text") -> None:
        with extra_merge():
            from jinja2 import TemplateError, meta
        self._where = where
        environment = _environment(kind)
        try:
            tree = environment.parse(source)
            self.names = frozenset(meta.find_undeclared_variables(tree)) - set(environment.globals)
            """The names that need a value."""
            self._template = environment.from_string(source)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            place = "" if line is None else f"line {line}: "
            raise ValueError(f"{where}: {place}{error}") from None
        except RecursionError:
            raise ValueError(f"{where}: nested too deeply") from None

    def fill(self, context: Mapping[str, object]) -> str:
        """Return the text with the values of `context`.

        Raises MissingValue, or ValueError for another error of the template.
        """
        from jinja2 import TemplateError, UndefinedError

        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(context):
                length += len(piece)
                if length > LONGEST_RESULT:
                    raise ValueError(f"longer than {LONGEST_RESULT:,} characters")
                pieces.append(piece)
        except UndefinedError as error:
            raise MissingValue(f"{self._where}: {error}") from None
        except TemplateError as error:
            raise ValueError(f"{self._where}: {error}") from None
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self._where}: {error or type(error).__name__}") from None
        return "".join(pieces)


def context_of(values: Mapping[str, str]) -> dict[str, object]:
    """Return what a template may use: each column, and `row` with all of them.

    A column whose name is not a word is available with `_` for each run of other characters:
    `First name` is `First_name`, and `row["First name"]`.
    """
    context: dict[str, object] = {"row": dict(values)}
    for column, value in values.items():
        context.setdefault(_NOT_IN_NAMES.sub("_", column), value)
    context.update(values)
    return context


@contextmanager
def extra_merge() -> Iterator[None]:
    """Add to the error of a missing module how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("jinja2", "markdown", "markupsafe"):
            raise
        raise ModuleNotFoundError(
            f"a mailing needs {missing}: pip install 'ratelimit-mail[merge]'", name=missing
        ) from None


def _environment(kind: Kind) -> SandboxedEnvironment:
    if kind not in _environments:
        _environments[kind] = _new_environment(kind)
    environment: SandboxedEnvironment = _environments[kind]
    return environment


def _new_environment(kind: Kind) -> SandboxedEnvironment:
    from jinja2 import StrictUndefined, Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    class Environment(ImmutableSandboxedEnvironment):
        """A sandbox whose operators cannot make a text or a number of any size."""

        intercepted_binops = frozenset(("*", "**", "%"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if operator == "**" or (operator == "*" and not numbers):
                raise ValueError(f"the operator {operator} is for numbers alone in a letter")
            if operator == "%" and not numbers:
                raise ValueError("the operator % is for numbers alone in a letter")
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            # `format` with a width could make a text of any size.
            if attr in ("format", "format_map", "ljust", "rjust", "center", "zfill", "expandtabs"):
                return False
            return super().is_safe_attribute(obj, attr, value)

    def escaped_for_markdown(value: Any) -> Any:
        if isinstance(value, Markup | Undefined):
            return value
        return _MARKDOWN.sub(r"\\\g<0>", str(value))

    environment = Environment(
        undefined=StrictUndefined,
        autoescape=kind != "text",
        keep_trailing_newline=True,
        finalize=escaped_for_markdown if kind == "markdown" else None,
    )
    for name in ("center", "format", "indent", "random", "pprint", "filesizeformat"):
        environment.filters.pop(name, None)
    for name in ("lipsum",):
        environment.globals.pop(name, None)
    return environment

"""What the commands of an operator have in common: options, subjects, and opening the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from typing import Any, Final, NamedTuple, TypeVar

import click

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.find_policy import complete_policy, find_policy
from ratelimit_mail.cli.operate.alerts import started_alerts
from ratelimit_mail.cli.operate.audit import check_line, login_name
from ratelimit_mail.cli.operate.live_store import ControlSocket, LiveStore, PolicyStore, Subject
from ratelimit_mail.cli.options import JSON
from ratelimit_mail.cli.store import opened_store
from ratelimit_mail.envelope import Client
from ratelimit_mail.scopes import SCOPES, normal_scope
from ratelimit_mail.server.shadow_policy import in_shadow

__all__ = [
    "SCOPE",
    "SCOPE_OF_POLICY",
    "SUBJECT",
    "Change",
    "StoreLocation",
    "change_options",
    "client_options",
    "count_option",
    "opened_live_store",
    "scope_of",
    "scope_or_default",
    "scopes_in_words",
    "store_options",
    "subject_of",
    "tier_in_words",
]

F = TypeVar("F", bound=Callable[..., Any])

CONTROL: Final = "control:"

MOST_COMPLETIONS: Final = 100
"""How many of the heaviest subjects a shell completes."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@:/=+_-]*+")
"""What a shell takes as it is: senders choose their addresses, and a shell would run `$(...)`."""


def complete_subject(
    context: click.Context,
    parameter: click.Parameter,  # noqa: ARG001 - click passes it
    incomplete: str,
) -> list[str]:
    """Return subjects that begin with `incomplete`: blocked ones for `unblock`, else the heaviest.

    They are those of the store that the options before it name; none if that cannot be asked.
    """
    options: dict[str, Any] = {name: context.params.get(name) for name in StoreLocation._fields}
    position = len(context.params.get("values") or ())
    subjects: list[Any] = []
    with suppress(CommandError):
        with opened_live_store(StoreLocation(**options)) as store:
            scope_words = context.params.get("scope_words")
            scope = scope_or_default(scope_words, store, None)
            # Without --scope, these are understood.
            scopes = [("sender",), ("submitter",)] if scope_words is None else [scope]
            if context.info_name == "unblock":
                rows = [row for row in store.blocks() if tuple(row["scope"]) in scopes]
            else:
                rows = store.top(scope, MOST_COMPLETIONS, None) if scope in scopes else []
        subjects = [row["subject"] for row in rows]
    values = ([each] if isinstance(each, str) else each or [] for each in subjects)
    words = (each[position] for each in values if position < len(each))
    fitting = (word for word in words if word.startswith(incomplete) and _PLAIN.fullmatch(word))
    return list(dict.fromkeys(fitting))


SUBJECT = click.argument("values", metavar="SUBJECT...", nargs=-1, shell_complete=complete_subject)
_SCOPE_HELP: Final = (
    f"What the limits count per: {', '.join(SCOPES)}; or several, such as sender+recipient_domain."
)
SCOPE = click.option(
    "--scope",
    "scope_words",
    metavar="WORDS",
    show_default="sender; submitter for user:NAME and the like",
    help=_SCOPE_HELP,
)
SCOPE_OF_POLICY = click.option(
    "--scope",
    "scope_words",
    metavar="WORDS",
    show_default="sender, or what the policy counts per instead",
    help=_SCOPE_HELP,
)
BY = click.option(
    "--by",
    default=login_name,
    show_default="your login name",
    metavar="NAME",
    help="Who makes the change, for the log.",
)

_SEPARATOR: Final = re.compile(r"[+,]")

_SUBMITTER: Final = re.compile(r"(?:user|sender|client|recipient):")
"""How a submitter begins, and no address does: the colon would be in quotes."""


class StoreLocation(NamedTuple):
    """Where the live counts are: the values of `store_options`."""

    url: str | None
    policy_name: str | None
    control: str | None
    node: str | None
    is_shadow: bool


def count_option(most: int) -> Callable[[F], F]:
    """Return the option for how many subjects are shown."""
    return click.option(
        "-n",
        "count",
        type=click.IntRange(1, most),
        default=10,
        show_default=True,
        help="At most so many subjects.",
    )


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the live counts are, as the argument `location`."""

    @wraps(command)
    def with_location(**values: Any) -> Any:
        location = StoreLocation(*(values.pop(name) for name in StoreLocation._fields))
        return command(location=location, **values)

    options = (
        click.option(
            "--store",
            "url",
            metavar="URL",
            envvar="RATELIMIT_MAIL_STORE",
            help="Where messages are counted, or control:PATH; default: the environment variable"
            " RATELIMIT_MAIL_STORE.",
        ),
        click.option(
            "--policy",
            "policy_name",
            metavar="NAME",
            shell_complete=complete_policy,
            help="The preset or policy file by which the store counts; needed with --store.",
        ),
        click.option(
            "--control",
            metavar="PATH",
            help="The control socket of a running server, which holds the counts.",
        ),
        click.option(
            "--node",
            metavar="NAME",
            help="The mail server whose counts these are, if the policy has per_node.",
        ),
        click.option(
            "--shadow",
            "is_shadow",
            is_flag=True,
            help="Use the counts of a server that runs with --shadow.",
        ),
    )
    decorated: Callable[..., Any] = with_location
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


class Change(NamedTuple):
    """What an operator changes: the subject, and who changes it and why."""

    subject: Subject
    by: str
    reason: str


def change_options(reason_help: str = "Why, for the log.") -> Callable[[F], F]:
    """Add SUBJECT and the options of each change, as the arguments `change` and `location`."""

    def decorate(command: F) -> F:
        @wraps(command)
        def with_change(
            *, values: tuple[str, ...], scope_words: str | None, by: str, reason: str, **rest: Any
        ) -> Any:
            subject = subject_of(values, scope_words)
            reason, by = check_line("--reason", reason), check_line("--by", by)
            return command(change=Change(subject, by, reason), **rest)

        reason_option = click.option("--reason", metavar="TEXT", required=True, help=reason_help)
        decorated: Any = with_change
        for option in (JSON, store_options, BY, reason_option, SCOPE, SUBJECT):
            decorated = option(decorated)
        changing: F = decorated
        return changing

    return decorate


def client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the client, whose tier has the limits, as the argument `client`."""

    @wraps(command)
    def with_client(
        *,
        address: str | None,
        user: str | None,
        protocol: str | None,
        tags: tuple[str, ...],
        **values: Any,
    ) -> Any:
        return command(client=_client_of(address, user, protocol, tags), **values)

    decorated: Callable[..., Any] = with_client
    for option in (
        click.option("--tag", "tags", multiple=True, metavar="WORD", help="A tag of the client."),
        click.option(
            "--protocol",
            metavar="WORD",
            help="The protocol of the client, such as smtp or webmail.",
        ),
        click.option("--user", metavar="LOGIN", help="The login of the client."),
        click.option(
            "--address", metavar="IP", help="The address of the client whose tier has the limits."
        ),
    ):
        decorated = option(decorated)
    return decorated


def _client_of(
    address: str | None, user: str | None, protocol: str | None, tags: tuple[str, ...]
) -> Client | None:
    """Return the client that the options describe; None if they describe none."""
    if not (address or user or protocol or tags):
        return None
    with reported_errors():
        return Client(address=address, user=user, protocol=protocol, tags=tags)


def scope_of(words: str) -> tuple[str, ...]:
    """Return the scope of `--scope`, in the order of its words."""
    scope = tuple(_SEPARATOR.split(words))
    try:
        normal_scope(scope)
    except ValueError as error:
        raise CommandError(escape(f"--{error}")) from None
    return scope


def scope_or_default(words: str | None, store: LiveStore, client: Client | None) -> tuple[str, ...]:
    """Return the scope of `--scope`; without it, one that the limits of the client's tier have."""
    if words is not None:
        return scope_of(words)
    scopes = [tuple(each) for each in store.tier(client)["scopes"]]
    return scopes[0] if scopes and ("sender",) not in scopes else ("sender",)


def scopes_in_words(tier: Mapping[str, Any]) -> str:
    """Return what the limits of a tier are counted per."""
    return ", ".join("+".join(each) for each in tier["scopes"])


def tier_in_words(tier: Mapping[str, Any]) -> str:
    """Return the name of a tier, to be shown."""
    return "no tier" if tier["tier"] is None else f"the tier {escape(tier['tier'])}"


def subject_of(values: tuple[str, ...], words: str | None) -> Subject:
    """Return the subject that the arguments name.

    words: the value of `--scope`; None if it is left out.
    """
    if words is None:
        is_submitter = len(values) == 1 and _SUBMITTER.match(values[0]) is not None
        words = "submitter" if is_submitter else "sender"
    scope = scope_of(words)
    if scope == ("global",):
        if values:
            raise CommandError("the scope global is one count for all: leave SUBJECT out")
        return Subject(None, scope)
    if len(values) != len(scope):
        raise CommandError(
            f"SUBJECT: {len(scope)} needed for the scope {' and '.join(scope)}, not {len(values)};"
            f" write {' '.join(word.upper() for word in scope)}"
        )
    return Subject(values[0] if len(scope) == 1 else values, scope)


@contextmanager
def opened_live_store(
    location: StoreLocation,
    *,
    alerts_file: str | None = None,
    alerts: bool = False,
    must_exist: bool = True,
) -> Iterator[LiveStore]:
    """Yield what the options name, and turn its errors into one line on stderr.

    alerts: whether blocks and their ends in a store are reported by the table `[alerts]` of
        `alerts_file`, or else of the policy file.
    must_exist: whether a SQLite file that is not there is an error, and not an empty store.
    """
    url, policy_name, control, node, is_shadow = location
    if control is None and url is not None and url.startswith(CONTROL):
        control = url.removeprefix(CONTROL)
    if control is not None:
        if policy_name is not None or node is not None or is_shadow:
            raise CommandError(
                "a running server has its policy: leave --policy, --node and --shadow out"
            )
        if not control:
            raise CommandError("--store control:PATH: the path of the control socket is missing")
        with _control_errors(control), reported_errors():
            yield ControlSocket(control)
        return
    if url is None:
        raise CommandError(
            "where are the counts? Name --store URL (or set RATELIMIT_MAIL_STORE) with --policy"
            " NAME, or --control PATH of a running server"
        )
    if url in ("memory:", "memory://"):
        raise CommandError(
            "--store: memory: is the memory of this command, which is empty; ask the server that"
            " counts with --control PATH"
        )
    if policy_name is None:
        raise CommandError(
            "--policy NAME is needed: the preset or policy file by which the store counts;"
            " `ratelimit-mail presets` lists the presets"
        )
    policy = find_policy(policy_name)
    if node is not None and not policy.per_node:
        raise CommandError(f"--node: the policy {policy.name} counts all servers together")
    if is_shadow:
        policy = in_shadow(policy)
    with (
        opened_store(url, must_exist=must_exist) as backend,
        reported_errors(),
        ExitStack() as stack,
    ):
        assert backend is not None  # noqa: S101 - there is a URL
        on_event = None
        if alerts:
            started = started_alerts(policy_name, alerts_file, policy.name, backend)
            on_event = stack.enter_context(started)
        yield PolicyStore(policy, backend, node, on_event=on_event)


@contextmanager
def _control_errors(path: str) -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        if isinstance(error.__context__, OSError):
            raise CommandError(
                f"--control: {show(path)}: {error.__context__.strerror or 'no answer'}; is the"
                " server running, with this --control, and may you use its socket?"
            ) from None
        raise

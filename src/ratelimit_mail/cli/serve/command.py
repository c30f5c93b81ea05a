"""The command `serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import click

from ratelimit_mail._util.text import escape, show
from ratelimit_mail.backends import AsyncBackend, MemoryBackend, async_from_url, from_url
from ratelimit_mail.cli.errors import CommandError, reported_errors
from ratelimit_mail.cli.find_policy import POLICY_NAME, complete_policy, find_policy
from ratelimit_mail.cli.monitoring import (
    monitoring_errors,
    monitoring_options,
    monitoring_settings,
)
from ratelimit_mail.cli.options import STORE, seconds
from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.monitoring import MonitoringSettings
from ratelimit_mail.policy import Policy
from ratelimit_mail.presets import PRESETS
from ratelimit_mail.server.daemon import (
    Daemon,
    Settings,
    names_of,
    raise_file_limit,
    service_name,
)
from ratelimit_mail.server.held_mail import HeldMail
from ratelimit_mail.server.listener import Address, parse_address
from ratelimit_mail.server.stages import Stages, limitations, main_cf

__all__ = ["serve_command"]

SPARE_FILES: Final = 64

EXAMPLE: Final = "inet:127.0.0.1:10040"

_MODE: Final = re.compile("0?[0-7]{3}")


def _addresses(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    values: tuple[str, ...],
) -> list[Address]:
    try:
        return [parse_address(each) for each in values]
    except ValueError as error:
        raise click.BadParameter(escape(str(error))) from None


def _stages(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    value: str,
) -> Stages:
    try:
        return Stages.parse(value)
    except ValueError as error:
        raise click.BadParameter(escape(str(error))) from None


def _mode(
    context: click.Context,  # noqa: ARG001 - click passes it
    parameter: click.Parameter,  # noqa: ARG001
    value: str,
) -> int:
    if not _MODE.fullmatch(value):
        raise click.BadParameter(f"{escape(value[:20])} is not a mode such as 660")
    return int(value, 8)


def _tag_lines(values: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return the target and the tags of each --tag; raise ValueError that names a wrong one."""
    lines = []
    for value in values:
        target, equals, words = value.rpartition("=")  # a login may have an equals sign
        if not equals:
            raise ValueError(f"--tag: {show(value)} is not TARGET=TAG")
        lines.append((target.strip(), words.replace(",", " ").split()))
    try:
        ClientTags(lines)
    except ValueError as error:
        raise ValueError(f"--tag: {error}") from None
    return lines


@click.command("serve")
@click.argument("policy_name", type=POLICY_NAME, metavar="POLICY", shell_complete=complete_policy)
@click.option(
    "--listen",
    "addresses",
    metavar="ADDRESS",
    multiple=True,
    callback=_addresses,
    help="Where to listen: inet:HOST:PORT or unix:PATH; repeatable. Default: the sockets of"
    " systemd.",
)
@STORE
@click.option(
    "--stages",
    default="rcpt,end-of-message",
    show_default=True,
    callback=_stages,
    help="When Postfix asks; some of rcpt, data and end-of-message.",
)
@click.option(
    "--excess",
    type=click.Choice(["defer", "reject", "hold"]),
    help="What happens to a message over a rate.  [default: what its limit says]",
)
@click.option(
    "--held",
    "held_file",
    type=click.Path(path_type=Path),
    help="The file with the list of held messages, for --excess hold.",
)
@click.option(
    "--hold-for",
    callback=seconds,
    default="1d",
    show_default=True,
    metavar="TIME",
    help="The longest wait of a held message; one that would wait longer is refused.",
)
@click.option(
    "--shadow", "is_shadow", is_flag=True, help="Refuse nothing, and log what would be refused."
)
@click.option(
    "--on-backend-error",
    type=click.Choice(["deny", "allow", "memory"]),
    default="deny",
    show_default=True,
    help="While the store is away: defer mail, accept it, or count in memory.",
)
@click.option("--node", metavar="NAME", help="The name of this server, for policies per node.")
@click.option(
    "--direction",
    type=click.Choice(["outbound", "inbound"]),
    default="outbound",
    show_default=True,
    help="Mail that your users submit, or mail that arrives for them.",
)
@click.option(
    "--tags",
    "tags_file",
    type=click.Path(path_type=Path),
    help="A file with the tags of networks and logins.",
)
@click.option(
    "--tag",
    "tags",
    metavar="TARGET=TAG",
    multiple=True,
    help="One line of --tags, such as 129.100.0.0/16=campus or @students.uwo.ca=student;"
    " repeatable.",
)
@click.option(
    "--control",
    type=click.Path(path_type=Path),
    help="The path of a socket for `ratelimit-mail usage`, `block` and the like.",
)
@click.option(
    "--socket-mode",
    default="660",
    show_default=True,
    callback=_mode,
    help="The permissions of a Unix socket of --listen.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 1_000_000),
    default=4000,
    show_default=True,
    help="The most connections of Postfix at the same time.",
)
@monitoring_options
@click.option("--print-main-cf", is_flag=True, help="Print the lines for main.cf, and end.")
@click.option("--check", "only_checks", is_flag=True, help="Check policy and tags, and end.")
@click.option(
    "--verbose", "-v", is_flag=True, help="Log each message that is refused, held or released."
)
def serve_command(
    policy_name: str,
    addresses: list[Address],
    url: str | None,
    stages: Stages,
    excess: Literal["defer", "reject", "hold"] | None,
    held_file: Path | None,
    hold_for: float,
    is_shadow: bool,
    on_backend_error: Literal["deny", "allow", "memory"],
    node: str | None,
    direction: Literal["outbound", "inbound"],
    tags_file: Path | None,
    tags: tuple[str, ...],
    control: Path | None,
    socket_mode: int,
    max_connections: int,
    alerts_file: str | None,
    metrics_address: str | None,
    print_main_cf: bool,
    only_checks: bool,
    verbose: bool,
) -> None:
    """Run a policy server for Postfix, which decides on each message by the limits of POLICY.

    POLICY is a preset or a policy file. The server speaks Postfix's policy delegation protocol;
    --print-main-cf prints the lines for main.cf. Without --store, messages are counted in memory,
    and a restart loses the counts.

    The server reads POLICY, --tags and --alerts again at SIGHUP and when one of them has changed.
    Counts and connections stay, and if a file is wrong, the old settings stay in force. At
    SIGTERM, the server answers what was asked, and ends.

    The exit code is 0 after a signal, and 2 if an option, a file or an address cannot be used.
    """

    def load_policy() -> Policy:
        try:
            return find_policy(policy_name)
        except CommandError as error:
            raise ValueError(error.message) from None

    def load_tags() -> ClientTags:
        lines = _tag_lines(tags)
        return ClientTags(lines) if tags_file is None else ClientTags.load(tags_file, lines)

    def load_monitoring() -> MonitoringSettings:
        try:
            return monitoring_settings(policy_name, alerts_file, metrics_address)
        except CommandError as error:
            raise ValueError(error.message) from None

    with reported_errors():
        policy = load_policy()
        load_tags()
        stages.check(policy)
    monitoring_settings(policy_name, alerts_file, metrics_address)
    if node is not None and not policy.per_node:
        raise CommandError(
            f"--node: the policy {escape(policy.name)} counts all servers together; with"
            " per_node = true each counts on its own"
        )
    if print_main_cf:
        name = service_name(addresses[0]) if addresses else EXAMPLE
        click.echo(main_cf(stages, name, direction=direction))
        return
    for text in limitations(stages, policy, holds=excess == "hold"):
        if only_checks:
            click.echo(f"note: {text}")
    if only_checks:
        click.echo(f"The policy {escape(policy.name)} and the tags are in order.")
        return
    if excess == "hold" and held_file is None:
        raise CommandError("--excess hold needs --held FILE, the list of held messages")
    if held_file is not None and excess != "hold":
        raise CommandError("--held is for --excess hold")
    if excess == "hold" and control is None:
        raise CommandError(
            "--excess hold needs --control PATH: `ratelimit-mail postfix-release` asks there"
        )
    available = raise_file_limit(max_connections + SPARE_FILES)
    if available < max_connections + SPARE_FILES:
        max_connections = max(1, available - SPARE_FILES)
    is_file = policy_name not in PRESETS
    files = [Path(policy_name)] if is_file else []
    files += [Path(each) for each in (tags_file, alerts_file) if each is not None]
    with reported_errors(), _logged_on_stderr(verbose=verbose):
        try:
            held = None if held_file is None else HeldMail(held_file)
        except sqlite3.Error as error:
            raise CommandError(escape(f"--held {held_file}: {error}")) from None
        try:
            asyncio.run(
                _serve(
                    url or "memory:",
                    addresses,
                    max_connections,
                    load_policy=load_policy,
                    load_tags=load_tags,
                    load_monitoring=load_monitoring,
                    files=files,
                    on_backend_error=MemoryBackend()
                    if on_backend_error == "memory"
                    else on_backend_error,
                    node=node,
                    socket_mode=socket_mode,
                    control=control,
                    stages=stages,
                    direction=direction,
                    excess=excess,
                    held=held,
                    hold_for=hold_for,
                    is_shadow=is_shadow,
                )
            )
        finally:
            if held is not None:
                held.close()


async def _serve(
    url: str, addresses: list[Address], most_connections: int, **settings: Any
) -> None:
    try:
        backend: AsyncBackend | MemoryBackend = async_from_url(url)
        # Alerts are claimed on a thread of their own, so they need a sync backend.
        store = backend if isinstance(backend, MemoryBackend) else from_url(url)
    except (ValueError, ModuleNotFoundError) as error:
        raise CommandError(f"--store: {escape(str(error))}") from None
    with monitoring_errors():
        daemon = Daemon(
            Settings(
                backend=backend,
                is_shared=not isinstance(backend, MemoryBackend),
                alert_store=store,
                addresses=addresses,
                most_connections=most_connections,
                **settings,
            )
        )

    def ready(listening: list[Address]) -> None:
        mode = " in shadow" if daemon.service.is_shadow else ""
        click.echo(
            f"Serving {escape(daemon.limiter.policy.name)}{mode} on {names_of(listening)},"
            f" asked at {daemon.service.stages}",
            err=True,
        )

    try:
        await daemon.run(ready)
    finally:
        aclose = getattr(backend, "aclose", None)
        if aclose is not None:
            await aclose()
        close = getattr(store, "close", None)
        if close is not None:
            close()


class _Handler(logging.StreamHandler[Any]):
    """Prints each record in one line, with a level that the journal understands."""

    LEVELS: Final = {logging.WARNING: "<4>", logging.ERROR: "<3>"}

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._is_journal = "JOURNAL_STREAM" in os.environ

    def format(self, record: logging.LogRecord) -> str:
        text = escape(record.getMessage())
        if self._is_journal:
            return f"{self.LEVELS.get(record.levelno, '<6>')}{text}"
        return f"{record.levelname.lower()}: {text}"


@contextmanager
def _logged_on_stderr(*, verbose: bool) -> Iterator[None]:
    """Print what the library logs."""
    logger = logging.getLogger("ratelimit_mail")
    handler = _Handler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    if not verbose:
        handler.addFilter(_is_about_the_server)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _is_about_the_server(record: logging.LogRecord) -> bool:
    """Return whether a record is about the server, and not about one message."""
    return not str(record.msg).startswith(("%s %s to %s", "held %s"))

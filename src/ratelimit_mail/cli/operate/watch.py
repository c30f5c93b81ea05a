"""The command `watch`: a live screen of the heaviest subjects and the blocks."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ratelimit_mail._util.text import duration, escape
from ratelimit_mail.cli.operate.live_store import LiveStore
from ratelimit_mail.cli.operate.options import (
    SCOPE_OF_POLICY,
    StoreLocation,
    client_options,
    count_option,
    opened_live_store,
    scope_or_default,
    store_options,
    tier_in_words,
)
from ratelimit_mail.cli.operate.output import blocks_table, top_table
from ratelimit_mail.cli.options import JSON, seconds
from ratelimit_mail.envelope import Client

__all__ = ["frame", "watch_command"]

SHARE: Final = 4
"""It waits at least so many times as long as it took to look."""

MOST_BLOCKS: Final = 10


def frame(
    store: LiveStore, scope: tuple[str, ...], count: int, client: Client | None
) -> RenderableType:
    """Return what the screen shows now."""
    subjects, blocks, status = store.top(scope, count, client), store.blocks(), store.status()
    words, tier = " and ".join(scope), store.tier(client)
    whose = f", by the limits of {tier_in_words(tier)}" if tier["has_tiers"] else ""
    pieces: list[RenderableType] = [
        Text(escape(" · ".join(_status_words(status))), style="bold"),
        Text(f"\nHeaviest per {words}{whose}"),
        top_table(subjects, fold=True) if subjects else Text("nothing is counted now"),
        Text("\nBlocks" if len(blocks) <= MOST_BLOCKS else f"\nBlocks: the last of {len(blocks)}"),
        blocks_table(blocks[-MOST_BLOCKS:], fold=True) if blocks else Text("nothing is blocked"),
    ]
    return Group(*pieces)


def _status_words(status: dict[str, Any]) -> list[str]:
    words = [f"{time.strftime('%H:%M:%S')}", f"policy {status.get('policy', '?')}"]
    if status.get("shadow"):
        words.append("only reporting")
    if isinstance(uptime := status.get("uptime"), int | float):
        words.append(f"up {duration(uptime)}")
    counts = [(name, status.get(name)) for name in ("connections", "held")]
    requests = status.get("requests")  # a server counts them by what became of them
    counts += requests.items() if isinstance(requests, dict) else [("requests", requests)]
    return words + [f"{number:,} {name}" for name, number in counts if isinstance(number, int)]


@click.command("watch")
@SCOPE_OF_POLICY
@count_option(most=1000)
@click.option(
    "--every",
    callback=seconds,
    default="2s",
    show_default=True,
    metavar="TIME",
    help="How often to look.",
)
@click.option("--once", is_flag=True, help="Print the screen once, and end.")
@JSON
@store_options
@client_options
def watch_command(
    scope_words: str | None,
    count: int,
    every: float,
    once: bool,
    wants_json: bool,
    location: StoreLocation,
    client: Client | None,
) -> None:
    """Show the heaviest subjects and the blocks on a live screen, until Ctrl-C.

    If the store has very many subjects, the screen is updated less often than --every says.

    --json prints an object in a line of its own for each update.
    """
    console = Console()
    with opened_live_store(location) as store:
        scope = scope_or_default(scope_words, store, client)
        if once and not wants_json:
            console.print(frame(store, scope, count, client), crop=False)
            return
        live = Live(console=console, screen=console.is_terminal, auto_refresh=False)
        try:
            with nullcontext() if wants_json else live:
                while True:
                    begin = time.monotonic()
                    if wants_json:
                        click.echo(json.dumps(_as_json(store, scope, count, client)))
                        if once:
                            return
                    else:
                        live.update(frame(store, scope, count, client), refresh=True)
                    time.sleep(max(every, SHARE * (time.monotonic() - begin)))
        except KeyboardInterrupt:
            return


def _as_json(
    store: LiveStore, scope: tuple[str, ...], count: int, client: Client | None
) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(),
        "status": store.status(),
        "top": store.top(scope, count, client),
        "blocks": store.blocks(),
    }

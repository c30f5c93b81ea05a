"""S15, Western's impact: the share of clients that a policy affects, from a replay of traffic.

The traffic is made up: two days of 2,000 wired clients, three of which run mass mailings.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ratelimit_mail.cli.command import command

CLIENTS = 2_000
MAILERS = ["alumni@uwo.ca", "library@uwo.ca", "tickets@uwo.ca"]
START = 1_772_442_000  # seconds
DAY = 24 * 60 * 60
FEW = 0.002
"""What Western estimates: less than 0.2 %."""

Row = tuple[int, str, int]
"""When, who, and how many outsiders."""


def office_mail(rng: random.Random) -> Iterator[Row]:
    """Yield a few messages a day from each client, most to a handful of outsiders."""
    for number in range(CLIENTS - len(MAILERS)):
        for day in range(2):
            for _ in range(rng.randint(0, 4)):
                at = START + day * DAY + rng.randrange(10 * 60 * 60)
                yield at, f"user{number}@uwo.ca", min(100, int(rng.lognormvariate(1, 1)) + 1)


def mass_mailings() -> Iterator[Row]:
    """Yield three programs' messages to one outsider each: 600, 900 and 1,200 in an hour."""
    for number, mailer in enumerate(MAILERS, 2):
        for i in range(300 * number):
            yield START + 60 * 60 + i * 3, mailer, 1


TRAFFIC = sorted([*office_mail(random.Random(4)), *mass_mailings()])


def report_of(folder: Path, *options: str) -> dict[str, Any]:
    """Return the report of `replay` on the traffic, with as much internal mail added."""
    file = folder / "traffic.csv"
    rows = ["time,sender,recipients,client,protocol"]
    for time, sender, outsiders in TRAFFIC:
        rows.append(f"{time},{sender},{outsiders},129.100.6.7,smtp")
        rows.append(f"{time},{sender},staff@uwo.ca bob@uwo.ca,129.100.6.7,smtp")
    file.write_text("\n".join(rows) + "\n")
    arguments = ["replay", str(file), "--policy", "western-convergence", "--json", *options]
    result = CliRunner().invoke(command, arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def peaks() -> dict[str, int]:
    """Return the most outsiders that each client wrote to in any 24 hours, by plain lists."""
    messages = defaultdict[str, list[tuple[int, int]]](list)
    for time, sender, outsiders in TRAFFIC:
        messages[sender].append((time, outsiders))
    return {
        sender: max(sum(count for other, count in sent if at - DAY < other <= at) for at, _ in sent)
        for sender, sent in messages.items()
    }


def test_less_than_0_2_percent_of_tier_1_clients_are_affected(tmp_path: Path) -> None:
    report = report_of(tmp_path)
    seen, affected = report["senders"]["seen"], report["senders"]["affected"]
    assert {each["tier"]: each["total"] for each in report["tiers"]} == {
        "tier 1": 2 * len(TRAFFIC),
        "tier 2": 0,
    }
    assert seen == len(peaks())
    assert affected == sum(peak > 500 for peak in peaks().values()) == len(MAILERS)
    assert affected / seen < FEW
    assert report["senders"]["share"] == pytest.approx(affected / seen)


def test_the_affected_clients_run_software_that_sends_mass_mailings_to_outsiders(
    tmp_path: Path,
) -> None:
    report = report_of(tmp_path)
    assert {each["sender"] for each in report["most_affected"]} == set(MAILERS)
    assert report["messages"]["rejected"]["messages"] == 100 + 400 + 700


def test_the_lowest_limit_that_affects_so_few_clients_is_suggested(tmp_path: Path) -> None:
    by_peak = sorted(peaks().values(), reverse=True)
    quota = int(len(by_peak) * FEW)
    suggested = report_of(tmp_path, "--suggest")["suggested"]["limits"]
    [suggestion] = [each for each in suggested if each["number"] is not None]
    assert suggestion["tier"] == "tier 1"
    assert suggestion["number"] == by_peak[quota] < 500
    assert suggestion["affected"] <= quota < suggestion["one_less"]["affected"]

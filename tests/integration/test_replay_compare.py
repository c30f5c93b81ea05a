"""`replay --compare`: policies side by side on the same mail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ratelimit_mail.cli.command import command

LEEDS, CONVERGENCE, WESTERN = "leeds-office365", "western-convergence", "western-office365"
T0 = 1_700_000_000


def run(file: Path, policy: str, *options: str) -> Result:
    arguments = ["replay", str(file), "--policy", policy, *options]
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, arguments)


def replay(file: Path, policy: str, *options: str) -> dict[str, Any]:
    result = run(file, policy, "--json", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert isinstance(report, dict)
    return report


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"{T0 + i},ann@x.org,1" for i in range(40)]
    rows += [f"{T0 + 100 + i},bob@x.org,60" for i in range(3)]
    rows += [f"{T0 + 200},cat@x.org,600", f"{T0 + 300},dan@x.org,2"]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["time,sender,recipients", *rows]) + "\n")
    return path


def test_each_policy_gets_what_it_gets_by_itself(file: Path) -> None:
    report = replay(file, LEEDS, "--compare", CONVERGENCE, "--compare", WESTERN)
    found = {each["policy"]: each for each in report["compared"]}
    assert list(found) == [LEEDS, CONVERGENCE, WESTERN]
    for policy, each in found.items():
        alone = replay(file, policy)
        assert each["messages"] == alone["messages"]
        assert each["senders"] == alone["senders"]
    assert len({each["senders"]["touched"] for each in found.values()}) == 2


def test_the_rest_of_the_json_is_that_of_the_policy_alone(file: Path) -> None:
    report = replay(file, LEEDS, "--compare", CONVERGENCE)
    del report["compared"]
    assert report == replay(file, LEEDS)


def test_the_table_and_the_page_say_what_the_json_says(file: Path) -> None:
    page = file.parent / "report.html"
    options = ["--compare", CONVERGENCE, "--compare", WESTERN]
    report = replay(file, LEEDS, *options, "--report", str(page))
    text = run(file, LEEDS, *options).stdout
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    html = page.read_text(encoding="utf-8")
    assert "Policies side by side" in html
    for each in report["compared"]:
        messages, senders = each["messages"], each["senders"]
        counts = [str(messages[kind]["messages"]) for kind in ("accepted", "deferred", "rejected")]
        share = f"{senders['share'] * 100:.2f}"
        row = [each["policy"], *counts, str(senders["touched"])]
        assert [*row, share, "%"] in lines
        cells = "".join(f"<td>{cell}</td>" for cell in [*row[1:], f"{share} %"])
        assert f"<span>{each['policy']}</span></th>{cells}" in html


def test_a_policy_named_twice_is_replayed_and_shown_once(file: Path) -> None:
    options = ["--compare", CONVERGENCE] * 2 + ["--compare", LEEDS]
    report = replay(file, LEEDS, *options)
    assert [each["policy"] for each in report["compared"]] == [LEEDS, CONVERGENCE]


def test_an_unknown_policy_is_named_with_its_neighbours(file: Path) -> None:
    result = run(file, LEEDS, "--compare", "western-convergense")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "western-convergense; did you mean western-convergence" in result.stderr

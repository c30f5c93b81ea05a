"""`replay --compare`: policies side by side on the same mail."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlm_testkit.command_line import error_line, replay_json, run_replay, write_lines
from rlm_testkit.html_page import HtmlPage

LEEDS, CONVERGENCE, WESTERN = "leeds-office365", "western-convergence", "western-office365"
T0 = 1_700_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"{T0 + i},ann@x.org,1" for i in range(40)]
    rows += [f"{T0 + 100 + i},bob@x.org,60" for i in range(3)]
    rows += [f"{T0 + 200},cat@x.org,600", f"{T0 + 300},dan@x.org,2"]
    return write_lines(tmp_path / "log.csv", "time,sender,recipients", *rows)


def test_each_policy_has_the_same_results_as_by_itself(file: Path) -> None:
    report = replay_json(file, LEEDS, "--compare", CONVERGENCE, "--compare", WESTERN)
    compared = {each["policy"]: each for each in report["compared"]}
    assert list(compared) == [LEEDS, CONVERGENCE, WESTERN]
    for policy, each in compared.items():
        alone = replay_json(file, policy)
        assert each["messages"] == alone["messages"]
        assert each["senders"] == alone["senders"]
    assert len({each["senders"]["affected"] for each in compared.values()}) == 2


def test_the_rest_of_the_json_is_the_same_as_without_compare(file: Path) -> None:
    report = replay_json(file, LEEDS, "--compare", CONVERGENCE)
    del report["compared"]
    assert report == replay_json(file, LEEDS)


def test_the_table_and_the_page_show_the_numbers_of_the_json(file: Path) -> None:
    page = file.parent / "report.html"
    options = ["--compare", CONVERGENCE, "--compare", WESTERN]
    report = replay_json(file, LEEDS, *options, "--report", str(page))
    text = run_replay(file, LEEDS, *options).stdout
    assert max(map(len, text.splitlines()[1:])) <= 80
    lines = [line.split() for line in text.splitlines()]
    rows = HtmlPage(page.read_text(encoding="utf-8")).rows
    for each in report["compared"]:
        messages, senders = each["messages"], each["senders"]
        counts = [str(messages[kind]["messages"]) for kind in ("accepted", "deferred", "rejected")]
        share = f"{senders['share'] * 100:.2f}"
        row = [each["policy"], *counts, str(senders["affected"])]
        assert [*row, share, "%"] in lines
        shown = [each["policy"], str(senders["affected"]), f"{share} %"]
        assert shown in [cells[:3] for cells in rows]


def test_a_policy_named_twice_is_shown_once(file: Path) -> None:
    options = ["--compare", CONVERGENCE] * 2 + ["--compare", LEEDS]
    report = replay_json(file, LEEDS, *options)
    assert [each["policy"] for each in report["compared"]] == [LEEDS, CONVERGENCE]


def test_an_unknown_policy_is_an_error_with_similar_names(file: Path) -> None:
    line = error_line(run_replay(file, LEEDS, "--compare", "western-convergense"))
    assert "western-convergense; did you mean western-convergence" in line

"""The tools of the benchmarks: floors that decide rightly, medians, targets, the page."""

import importlib
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KEPT = (
    *("better", "contender", "contenders", "figures", "floors", "imports", "ours", "page"),
    *("pictures", "side_by_side", "surroundings", "tables", "targets", "turned_clock", "work"),
)


class Tools:
    """The modules in benchmarks/, by their names."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(name)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tools]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in KEPT:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield Tools()
    for name in KEPT:
        sys.modules.pop(name, None)


def measured(tools: Tools, **seconds: list[float]) -> Any:
    """Figures of the check in memory: for each contender, its turns."""
    taken = {name.replace("_", " "): [[each] for each in turns] for name, turns in seconds.items()}
    return tools.figures.Figures(groups={"memory, accepted": {"accepted": taken}})


WHO = "memory, accepted"


@pytest.mark.parametrize("name", ["by hand", "ratelimit-mail", "ratelimit-mail, from strings"])
def test_a_minute_holds_thirty(tools: Tools, name: str) -> None:
    check = tools.contenders.ENTRIES[name].make().check
    answers = [bool(check(letter)) for letter in tools.work.letters(31)]
    assert answers == [True] * 30 + [False]


@pytest.mark.parametrize("name", ["by hand", "ratelimit-mail"])
def test_a_full_day_denies_and_leaves_the_minute_as_it_was(tools: Tools, name: str) -> None:
    made = tools.contenders.ENTRIES[name].make()
    letters = tools.work.letters(30)
    made.spend_day(letters[0].sender, 9_998)
    assert not any(made.check(letter) for letter in letters)
    assert all(made.charge_minute(letter) for letter in letters)
    assert not made.charge_minute(letters[0])


def test_the_day_has_room_to_its_last_recipient(tools: Tools) -> None:
    made = tools.contenders.ENTRIES["ratelimit-mail"].make()
    letter, other = tools.work.letters(2)
    made.spend_day(letter.sender, 9_997)
    assert made.check(letter)
    assert not made.check(other)


def test_every_contender_names_a_function_that_is_there(tools: Tools) -> None:
    for entry in tools.contenders.ENTRIES.values():
        text = (BENCHMARKS / f"{entry.module}.py").read_text()
        assert f"def {entry.function}(" in text


def test_a_ratio_is_the_median_of_the_turns_ratios(tools: Tools) -> None:
    figures = measured(tools, by_hand=[1.0, 2.0, 10.0], limits=[2.0, 6.0, 10.0])
    assert figures.ratio(WHO, ("accepted", "limits"), ("accepted", "by hand")) == 2.0


def test_whoever_took_fewer_turns_is_compared_in_those(tools: Tools) -> None:
    figures = measured(tools, by_hand=[1.0, 1.0, 100.0], limits=[4.0, 4.0])
    assert figures.ratio(WHO, ("accepted", "limits"), ("accepted", "by hand")) == 4.0


def test_what_nobody_measured_has_no_figure(tools: Tools) -> None:
    figures = measured(tools, by_hand=[1.0])
    assert figures.median(WHO, ("accepted", "limits")) is None
    assert figures.ratio(WHO, ("accepted", "by hand"), ("accepted", "limits")) is None


def test_figures_are_read_as_they_were_written(tools: Tools, tmp_path: Path) -> None:
    figures = measured(tools, by_hand=[1.0, 2.0])
    figures.machine["date"] = "2026-01-02"
    figures.save(tmp_path / "figures.json")
    assert tools.figures.Figures.load(tmp_path / "figures.json") == figures
    assert json.loads((tmp_path / "figures.json").read_text())["machine"]["date"] == "2026-01-02"


@pytest.mark.parametrize(("ours", "word"), [(2.0, "met"), (2.5, "met"), (3.0, "missed")])
def test_a_target_is_met_up_to_its_bound(tools: Tools, ours: float, word: str) -> None:
    figures = measured(tools, by_hand=[1e-6], **{"ratelimit-mail": [ours * 1e-6]})
    row = next(
        line for line in tools.tables.targets(figures).splitlines() if "loop by hand" in line
    )
    assert row.split("|")[4].strip() == word


def test_a_target_without_a_figure_is_not_met(tools: Tools) -> None:
    told = tools.tables.targets(tools.figures.Figures())
    assert told.count("not measured") == len(tools.targets.TARGETS)


def test_the_fastest_peer_is_sought_among_best_idioms_alone(tools: Tools) -> None:
    seconds = {"limits, fixed window": [1.0], "throttled-py": [2.0], "limits": [3.0]}
    figures = measured(tools, **seconds)
    assert tools.targets.fastest_peer(figures, WHO, "accepted") == "throttled-py"


def test_the_page_names_every_peer_that_is_better_and_no_other(tools: Tools) -> None:
    seconds = {"limits": [1.0], "ratelimit-mail": [2.0], "throttled-py": [3.0], "by hand": [0.1]}
    told = tools.better.lines(measured(tools, **seconds))
    assert told == "- memory, accepted: limits 0.50"


def test_the_page_says_so_where_no_peer_is_better(tools: Tools) -> None:
    assert tools.better.lines(measured(tools, limits=[2.0], **{"ratelimit-mail": [1.0]})) == (
        "- nowhere"
    )


def test_the_page_tells_who_could_not(tools: Tools) -> None:
    figures = tools.figures.Figures(troubles={WHO: {"limits": "OSError: no | room\nat all"}})
    text = tools.page.text(figures)
    assert "- limits could not: `OSError: no | room` (memory, accepted)" in text


def test_a_wrong_refusal_stands_beside_the_time(tools: Tools) -> None:
    taken = {"pyrate-limiter": [[1e-6, 0.25]], "by hand": [[1e-6, 0.0]]}
    figures = tools.figures.Figures(groups={"memory, 8 threads": {"8 threads": taken}})
    told = tools.tables.times(figures, [("memory, 8 threads", "8 threads")], "by hand")
    assert "| pyrate-limiter | 1.00 (1.00), 25% refused wrongly |" in told
    assert "| by hand | 1.00 |" in told


def test_a_picture_is_the_same_for_the_same_figures(tools: Tools, tmp_path: Path) -> None:
    panel = tools.pictures.Panel("title", [("by hand", 1.0), ("limits", 8.0)])
    for name in ("one", "two"):
        tools.pictures.draw([panel], tmp_path / f"{name}.svg")
    one, two = (tmp_path / "one.svg").read_text(), (tmp_path / "two.svg").read_text()
    assert one == two
    assert one.startswith("<?xml")


def test_the_machine_is_described_without_its_name(tools: Tools) -> None:
    told = tools.surroundings.describe()
    assert {"date", "processor", "Python", "limits"} <= set(told)
    assert not platform.node() or platform.node() not in " ".join(told.values())


def test_a_worker_in_trouble_is_told_of_and_the_others_go_on(tools: Tools) -> None:
    taken, troubles = tools.side_by_side.side_by_side(
        [("accepted", "by hand"), ("no such work", "an empty call")], turns=2
    )
    assert len(taken["accepted"]["by hand"]) == 2
    assert "no such work" in troubles["an empty call"]


def test_whoever_refuses_wrongly_is_not_called_better(tools: Tools) -> None:
    taken = {"pyrate-limiter": [[1e-6, 0.25]], "ratelimit-mail": [[2e-6, 0.0]]}
    figures = tools.figures.Figures(groups={"memory, 8 threads": {"8 threads": taken}})
    assert tools.better.lines(figures) == "- nowhere"

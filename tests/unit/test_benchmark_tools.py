"""The tools of the benchmarks: floors that decide rightly, medians, targets, the page."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks import (
    changes,
    charts,
    contenders,
    email_check,
    hundred_million,
    neighbours,
    page,
    workloads,
)
from benchmarks.results import Results, number

from ratelimit_mail import Envelope

BENCHMARKS = Path(page.__file__).parent
ACCEPTED = "memory, accepted"


def entry(
    group: str,
    name: str,
    seconds: Sequence[float],
    beside: dict[str, list[float]] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """A benchmark as pytest-benchmark writes it, with a message a round."""
    return {
        "group": group,
        "extra_info": {"contender": name, "messages": 1, "beside": beside or {}, **extra},
        "stats": {"data": list(seconds), "median": sorted(seconds)[len(seconds) // 2]},
    }


def results(*entries: dict[str, Any], **report: Any) -> Results:
    machine = {
        "cpu": {"brand_raw": "a processor", "count": 2},
        "node": "the-machines-own-name",
        "system": "Linux",
        "machine": "x86_64",
        "python_implementation": "CPython",
        "python_implementation_version": "3.13.0",
    }
    surroundings = {"load": 0.5, "versions": {"redis": "6.0"}, "failures": {}}
    return Results(
        {
            "benchmarks": list(entries),
            "machine_info": machine,
            "datetime": "2026-01-02T03:04:05",
            **surroundings,
            **report,
        }
    )


def against_by_hand(ours: float) -> Results:
    """The e-mail check in memory, `ours` times as long as the loop by hand."""
    return results(
        entry(ACCEPTED, "by hand", [1.0]),
        entry(ACCEPTED, "ratelimit-mail", [ours], {"by hand": [1.0]}),
    )


@pytest.mark.parametrize("name", ["by hand", "ratelimit-mail", "ratelimit-mail, from strings"])
def test_a_minute_holds_thirty(name: str) -> None:
    check = contenders.make(name).check
    answers = [bool(check(message)) for message in email_check.new_senders(1, 31)]
    assert answers == [True] * 30 + [False]


@pytest.mark.parametrize("name", ["by hand", "ratelimit-mail"])
def test_a_full_day_denies_and_leaves_the_minute_as_it_was(name: str) -> None:
    contender = contenders.make(name)
    messages = email_check.new_senders(1, 30)
    contender.charge_day(messages[0].sender, 10_000)
    assert not any(contender.check(message) for message in messages)
    assert all(contender.charge_minute(message) for message in messages)
    assert not contender.charge_minute(messages[0])


@pytest.mark.parametrize("name", ["by hand", "ratelimit-mail"])
def test_a_day_with_room_for_a_single_message_accepts_one(name: str) -> None:
    contender = contenders.make(name)
    messages = email_check.new_senders(1, 2)
    contender.charge_day(messages[0].sender, 9_995)
    assert [bool(contender.check(message)) for message in messages] == [True, False]


@pytest.mark.parametrize("name", ["by hand", "ratelimit-mail"])
@pytest.mark.parametrize("work", [work for work in workloads.WORKLOADS if work != "8 threads"])
def test_exact_contenders_answer_each_workload_as_it_expects(name: str, work: str) -> None:
    workload = workloads.WORKLOADS[work](contenders.make(name))
    answers = workload.send(workload.prepare())
    assert [bool(answer) for answer in answers] == [workload.expected] * len(answers)


def test_every_contender_names_a_function_of_a_module() -> None:
    for factory, _ in contenders.FACTORIES.values():
        module, function = factory.split(":")
        assert f"def {function}(" in (BENCHMARKS / f"{module}.py").read_text()


def test_a_check_asks_no_further_limit_after_a_refusal() -> None:
    asked = []

    def limit(answer: bool) -> Any:
        def ask(sender: str) -> bool:
            asked.append((sender, answer))
            return answer

        return ask

    check = contenders.in_sequence(limit(True), limit(False), limit(True))
    assert check(Envelope("ann@uwo.ca", ["bob@example.com"])) is False
    assert asked == [("ann@uwo.ca", True), ("ann@uwo.ca", False)]


def test_a_round_is_timed_after_a_round_that_warms_up() -> None:
    sent: list[list[Envelope]] = []

    def send(envelopes: list[Envelope]) -> list[object]:
        sent.append(envelopes)
        return []

    envelopes = neighbours.prepared(workloads.Workload(email_check.new_senders, send))
    assert len(sent) == 1
    assert envelopes[0].sender != sent[0][0].sender


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    beside = {"by hand": [1.0, 2.0, 10.0]}
    measured = results(entry(ACCEPTED, "limits", [2.0, 6.0, 10.0], beside))
    assert measured.ratio(ACCEPTED, "limits", "by hand") == 2.0


def test_a_median_is_that_of_a_message() -> None:
    measured = results(entry(ACCEPTED, "limits", [30.0, 60.0, 90.0], messages=30))
    assert measured.median(ACCEPTED, "limits") == 2.0
    assert measured.median(ACCEPTED, "limits", 1e3) == 2_000.0


def test_what_was_not_measured_has_no_figure() -> None:
    measured = results(entry(ACCEPTED, "by hand", [1.0]))
    assert measured.median(ACCEPTED, "limits") is None
    assert measured.ratio(ACCEPTED, "by hand", "limits") is None
    assert number(None) == ""


@pytest.mark.parametrize(
    ("figure", "text"), [(0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (99.99, "100.0")]
)
def test_a_figure_has_three_digits(figure: float, text: str) -> None:
    assert number(figure) == text


@pytest.mark.parametrize(("ours", "word"), [(2.0, "met"), (2.5, "met"), (3.0, "missed")])
def test_a_target_is_met_up_to_its_bound(ours: float, word: str) -> None:
    lines = page.render(against_by_hand(ours)).splitlines()
    row = next(line for line in lines if "against the loop by hand" in line)
    assert row.split("|")[4].strip() == word


@pytest.mark.parametrize(("peer", "word"), [(3.0, "missed"), (4.0, "met"), (5.0, "met")])
def test_a_target_of_at_least_is_met_from_its_bound_on(peer: float, word: str) -> None:
    measured = results(entry(ACCEPTED, "limits", [peer], {"ratelimit-mail": [1.0]}))
    row = next(line for line in page.render(measured).splitlines() if "how many times" in line)
    assert row.split("|")[4].strip() == word
    assert "`limits` is the fastest" in row


def test_a_target_without_a_figure_is_not_met() -> None:
    text = page.render(results())
    targets = text.partition("## The targets")[2].partition("\n## ")[0]
    table = targets.partition("| --- |")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert [row for row in rows if "| not measured |" not in row] == []


def test_the_fastest_peer_is_sought_among_best_idioms_alone() -> None:
    names = {"limits, fixed window": 1.0, "throttled-py": 2.0, "limits": 3.0}
    measured = results(
        *(entry(ACCEPTED, name, [time], {"ratelimit-mail": [1.0]}) for name, time in names.items())
    )
    assert measured.fastest_peer(ACCEPTED) == "throttled-py"


def better(*entries: dict[str, Any]) -> str:
    """What the page says of where a peer is better."""
    text = page.render(results(*entries))
    return text.partition("## Where a peer is better")[2].partition("## Repeat it")[0]


def test_the_page_names_every_peer_that_is_better_and_no_other() -> None:
    times = {"by hand": 0.1, "limits": 1.0, "ratelimit-mail": 2.0, "throttled-py": 3.0}
    lines = better(*(entry(ACCEPTED, name, [time]) for name, time in times.items()))
    assert [line for line in lines.splitlines() if line.startswith("- ")] == [
        "- memory, accepted: limits 0.50"
    ]


def test_where_two_alternated_the_page_uses_their_ratio() -> None:
    ours = entry(ACCEPTED, "ratelimit-mail", [2.0])
    assert "limits 0.25" in better(
        ours, entry(ACCEPTED, "limits", [1.0], {"ratelimit-mail": [4.0]})
    )


def test_the_page_says_so_where_no_peer_is_better() -> None:
    times = {"limits": 2.0, "ratelimit-mail": 1.0}
    assert "- nowhere" in better(*(entry(ACCEPTED, name, [time]) for name, time in times.items()))


def test_a_peer_with_wrong_answers_is_not_called_better() -> None:
    ours = entry("memory, 8 threads", "ratelimit-mail", [2.0])
    wrong = entry("memory, 8 threads", "pyrate-limiter", [1.0], wrong=0.25)
    assert "- nowhere" in better(ours, wrong)


def test_wrong_answers_stand_beside_the_time() -> None:
    group = "memory, 8 threads"
    text = page.render(
        results(
            entry(group, "pyrate-limiter", [1e-6], {"by hand": [1e-6]}, wrong=0.25),
            entry(group, "by hand", [1e-6], wrong=0.0),
        )
    )
    assert "| pyrate-limiter |  |  | 1.00 (1.00), 25% wrong answers |  |" in text
    assert "| by hand |  |  | 1.00 |  |" in text


def test_the_page_says_what_was_not_measured_and_why() -> None:
    failures = {"test_check[a]": "OSError('no room')", "test_check[b]": "OSError('no room')"}
    text = page.render(results(failures=failures))
    assert "- `OSError('no room')`: test_check[a]; test_check[b]" in text
    assert "could not be measured" not in page.render(results())


def test_the_page_describes_the_machine_without_its_name() -> None:
    text = page.render(results())
    assert "| processor | a processor, 2 cores |" in text
    assert "| date | 2026-01-02 |" in text
    assert "the-machines-own-name" not in text


def test_a_table_of_the_page_has_as_many_cells_in_each_row() -> None:
    lines = [line for line in page.render(against_by_hand(2.0)).splitlines() if line[:1] == "|"]
    head = next(i for i, line in enumerate(lines) if line.startswith("| µs a message | accepted"))
    assert len({line.count("|") for line in lines[head : head + 4]}) == 1
    assert lines[head + 3].startswith("| **ratelimit-mail** |")


def test_a_picture_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        charts.draw(against_by_hand(2.0), tmp_path / folder)
    one, two = ((tmp_path / folder / "overview.svg").read_text() for folder in ("one", "two"))
    assert one == two
    assert one.startswith("<svg")
    assert "prefers-color-scheme: dark" in one
    assert not (tmp_path / "one" / "latency.svg").exists()


def test_what_became_slower_is_named_whatever_the_speed_of_the_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, ours: float, sending: float, floor: float) -> str:
        beside = {"by hand": [floor]}
        entries = [
            entry(ACCEPTED, "ratelimit-mail", [ours * floor], beside),
            entry("memory, sending", "ratelimit-mail", [sending * floor], beside),
            entry(ACCEPTED, "limits", [ours * floor * 9], beside),
        ]
        path = tmp_path / name
        path.write_text(json.dumps(results(*entries).report))
        return str(path)

    old, same = run("old", 2.0, 3.0, floor=1.0), run("same", 2.1, 2.9, floor=7.0)
    slower = run("slower", 2.0, 3.6, floor=0.5)
    monkeypatch.setattr(sys, "argv", ["changes", old, same])
    assert changes.main() == 0
    assert capsys.readouterr().out == "0 of 2 ratios are over 10% larger than before.\n"
    monkeypatch.setattr(sys, "argv", ["changes", old, slower])
    assert changes.main() == 1
    first, _ = capsys.readouterr().out.splitlines()
    assert first == "memory, sending, ratelimit-mail: 3.00 to 3.60 times by hand (\u00d71.20)"


def test_a_run_that_shares_no_figure_with_the_earlier_one_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "empty"
    path.write_text(json.dumps(results().report))
    monkeypatch.setattr(sys, "argv", ["changes", str(path), str(path)])
    assert changes.main() == 1


def test_shards_share_what_all_senders_take() -> None:
    figures = hundred_million.Figures({1: 500.0, 10: 600.0, 100: 1_500.0}, 20e-6)
    traffic = hundred_million.Traffic(senders=1_000_000, messages_a_day=5.0, busy_hour=0.1)
    one, eight = hundred_million.loads(figures, traffic, [1, 8], sample=20_000)
    assert 500e6 <= one.memory <= 700e6
    assert one.memory / 8 <= eight.memory <= one.memory / 6
    # 1,000,000 times five a day, a tenth of them in an hour of 3,600 seconds, 20 microseconds each.
    assert 0.8 <= one.core / (1e6 * 5 * 0.1 / 3600 * 20e-6) <= 1.2


@pytest.mark.parametrize(
    ("memory", "core", "problem"),
    [(9.0, 0.4, ""), (11.0, 0.4, "memory"), (9.0, 0.6, "the core"), (11.0, 2.0, "the core")],
)
def test_what_fails_first_is_what_is_furthest_above_its_bound(
    memory: float, core: float, problem: str
) -> None:
    node = hundred_million.Node(memory=10.0, load=0.5, price=0.0)
    assert hundred_million.Load(1, memory, core).problem(node) == problem


def test_bytes_between_two_measured_senders_are_interpolated() -> None:
    figures = hundred_million.Figures({1: 500.0, 10: 590.0, 100: 1_490.0}, 1.0)
    sizes = [figures.bytes_of(each) for each in (0.1, 1, 4, 10, 55, 100, 1_000)]
    assert sizes == [500.0, 500.0, 530.0, 590.0, 1_040.0, 1_490.0, 10_490.0]

"""Pages of reports: their colors, axes, calendars and escaping."""

from __future__ import annotations

from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rlm_testkit.html_page import HtmlPage, assert_accessible, assert_self_contained

pytest.importorskip("jinja2")

from ratelimit_mail.cli.html import palette
from ratelimit_mail.cli.html.axes import scale_for, short_number, time_ticks
from ratelimit_mail.cli.html.calendar_chart import MOST_MONTHS, calendar_chart
from ratelimit_mail.cli.html.column_chart import Series, column_chart
from ratelimit_mail.cli.html.heat_map import heat_map, level_of, thresholds_of
from ratelimit_mail.cli.html.page import Block, KeyFigure, Page, Section, render
from ratelimit_mail.cli.html.tables import Bar, Cell, Column, Row, Table, full_length

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(1)>{{ 7 * 7 }}"

SCHEMES = {"light": palette.LIGHT, "dark": palette.DARK}


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2.2, from 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_a_contrast_of_at_least_4_5_to_everything_that_it_is_on(scheme: str) -> None:
    colors = SCHEMES[scheme]
    for text, backgrounds in palette.TEXT_ON.items():
        for background in backgrounds:
            assert contrast(colors[text], colors[background]) >= 4.5, (text, background)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bars_and_lines_have_a_contrast_of_at_least_3_to_the_paper(scheme: str) -> None:
    colors = SCHEMES[scheme]
    for mark in palette.MARKS:
        assert contrast(colors[mark], colors["paper"]) >= 3, mark


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_steps_of_a_heat_map_go_one_way(scheme: str) -> None:
    steps = [luminance(SCHEMES[scheme][f"heat-{i}"]) for i in range(palette.LEVELS + 1)]
    assert steps in (sorted(steps), sorted(steps, reverse=True))


def test_both_schemes_have_the_same_colors() -> None:
    assert palette.LIGHT.keys() == palette.DARK.keys()


def test_hostile_text_is_text_in_every_block() -> None:
    edges = [0, 3_600_000, 7_200_000]
    blocks: list[Block] = [
        Table(
            name="t",
            title=HOSTILE,
            words=HOSTILE,
            columns=[Column(HOSTILE), Column(HOSTILE)],
            rows=[Row(HOSTILE, [Cell(HOSTILE, 1)], Bar([("mail", 50)], HOSTILE, 10))],
            rest=Row(HOSTILE, [Cell(HOSTILE)]),
            note=HOSTILE,
            legend=[(HOSTILE, "mail")],
        ),
        column_chart(
            "c",
            HOSTILE,
            HOSTILE,
            label=HOSTILE,
            period=HOSTILE,
            edges=edges,
            names=[HOSTILE, HOSTILE],
            series=[Series(HOSTILE, [1, 2], "mail"), Series(HOSTILE, [0, 2], "deferred")],
            limit=3,
        ),
        heat_map("h", HOSTILE, HOSTILE, [1] * 168, HOSTILE),
        calendar_chart("d", HOSTILE, HOSTILE, {date(2026, 3, 2): 7}, HOSTILE),
    ]
    text = render(
        Page(
            title=HOSTILE,
            subtitle=HOSTILE,
            summary=[HOSTILE],
            key_figures=[KeyFigure(HOSTILE, HOSTILE, HOSTILE)],
            sections=[Section(HOSTILE, [HOSTILE], blocks)],
        )
    )
    page = HtmlPage(text)
    assert_self_contained(page)
    assert_accessible(page)
    assert page.words.count(HOSTILE) > 15
    assert page.titles.count(HOSTILE) >= 3
    assert text.count("<script") == 1


@given(st.floats(0.5, 1e12), st.booleans())
def test_an_axis_has_few_ticks_that_are_within_it(highest: float, log: bool) -> None:
    scale = scale_for(highest, log=log)
    places = [tick.place for tick in scale.ticks]
    assert places == sorted(set(places))
    assert places[0] >= 0
    assert places[-1] <= 100.001
    assert len(places) <= 7
    assert 0 <= scale.place(highest) <= 100.001
    assert len({tick.label for tick in scale.ticks}) == len(places)


@given(
    st.integers(0, 253_402_300_799_000 - 60_000),
    st.integers(60_000, 8_000 * 366 * 86_400_000),
    st.sampled_from(["UTC", "America/Toronto", "Asia/Kolkata"]),
)
@example(253_402_281_000_000, 60_000, "Asia/Kolkata")  # there, the year 10000
def test_the_axis_of_time_has_few_ticks(start: int, span: int, zone: str) -> None:
    end = min(start + span, 253_402_300_799_000)
    ticks = time_ticks(start, end, ZoneInfo(zone))
    assert len(ticks) <= 13
    assert all(0 <= tick.place <= 100 for tick in ticks)
    assert [tick.place for tick in ticks] == sorted(tick.place for tick in ticks)


def test_ticks_of_time_are_round() -> None:
    day = 86_400_000
    assert [tick.label for tick in time_ticks(0, day)] == [
        "1 Jan", "06:00", "12:00", "18:00", "2 Jan",
    ]  # fmt: skip
    assert [tick.label for tick in time_ticks(0, 20 * 365 * day)][:3] == ["1970", "1975", "1980"]
    months = [tick.label for tick in time_ticks(300 * day, 480 * day)]
    assert months == ["Nov 1970", "Dec", "1971", "Feb", "Mar", "Apr"]
    assert next(tick.label for tick in time_ticks(day, 40 * day)) == "5 Jan"  # a Monday


def test_numbers_of_axes_are_short() -> None:
    assert [short_number(x) for x in (0, 9_000, 25_000, 3e6, 2e9)] == [
        "0", "9,000", "25k", "3M", "2G",
    ]  # fmt: skip


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
def test_more_is_never_a_lower_step_of_a_heat_map(numbers: list[int]) -> None:
    thresholds = thresholds_of(numbers)
    levels = [level_of(number, thresholds) for number in sorted(numbers)]
    assert levels == sorted(levels)
    assert all(0 <= level <= palette.LEVELS for level in levels)
    if any(numbers):
        assert levels[-1] == palette.LEVELS


@given(st.lists(st.floats(0, 1)))
def test_no_bar_is_longer_than_a_whole_one(shares: list[float]) -> None:
    full = full_length(shares)
    assert 0 < full <= 1
    assert all(share <= full for share in shares)


def test_a_calendar_has_whole_weeks_of_at_most_a_year() -> None:
    first = date(2026, 2, 27)
    calendar = calendar_chart("d", "", "", {first: 5, first + timedelta(days=3): 9}, "messages")
    assert [month.name for month in calendar.months] == ["February 2026", "March 2026"]
    february, march = calendar.months
    assert all(len(week) == 7 for week in february.weeks)
    days = [day for week in march.weeks for day in week if day is not None]
    assert len(days) == 31
    assert (days[1].text, days[1].title) == ("9", "Monday 2 March: 9 messages")
    assert days[0].text == ""
    long = calendar_chart("d", "", "", {first: 5, first + timedelta(days=3000): 9}, "messages")
    assert len(long.months) == MOST_MONTHS
    assert long.note == "and 88 more months, until 16 May 2034"

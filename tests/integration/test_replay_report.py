"""`replay --report`: the content of the page, and that it needs nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rlm_testkit.command_line import error_line, run_replay, write_lines

from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.replay.html.output_file import OutputFile

LEEDS = "leeds-office365"
T0 = 1_700_000_000
YEAR = 365 * 86_400
HOSTILE = '"<script>alert(1)</script>&amp;$x^2$"@example.com'


class Page(HTMLParser):
    """A report as parsed by a browser."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.chart_texts: list[str] = []
        """Text within charts."""
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        elif self._open and self._open[-1] == "title":
            self.titles.append(data)
        elif self._open and self._open[-1] == "text":
            self.chart_texts.append(data)
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.tags if attribute in attrs]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def charts(self) -> int:
        return sum(1 for tag, _ in self.tags if tag == "svg")


Rendered = tuple[Page, str, dict[str, Any]]
"""A page, its source, and the JSON of the same run."""


def write(path: Path, *rows: tuple[float, str, int]) -> Path:
    lines = [
        f'{time},"{sender.replace(chr(34), chr(34) * 2)}",{count}' for time, sender, count in rows
    ]
    return write_lines(path, "time,sender,recipients", *lines)


def run(file: Path, *options: str, policy: str = LEEDS) -> Result:
    return run_replay(file, policy, *options)


def render(file: Path, *options: str, policy: str = LEEDS) -> Rendered:
    """Return the page, its source, and the JSON of the same run."""
    html = file.parent / "report.html"
    result = run(file, "--report", str(html), "--json", *options, policy=policy)
    assert result.exit_code == 0, result.output
    text = html.read_text(encoding="utf-8")
    return Page(text), text, json.loads(result.stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_mail(tmp_path / "log.csv")


def write_mail(path: Path) -> Path:
    """Write mail of three senders: within the limits, over the rate, and over the size."""
    rows = [(T0 + 86_400 * day, "quiet@x.org", 2) for day in range(4)]
    rows += [(T0 + 90_000 + i, "busy@x.org", 1) for i in range(45)]
    rows += [(T0 + 180_000, "wide@x.org", 101)]
    return write(path, *rows)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def usual(shared_folder: Path) -> Rendered:
    """Return what `render` does for the mail of `file`, once for all tests that only read it."""
    return render(write_mail(shared_folder / "usual.csv"))


@pytest.fixture(scope="module")
def compared(shared_folder: Path) -> Rendered:
    """Return the same with numbers that are suggested, and with another policy."""
    file = write_mail(shared_folder / "compared.csv")
    return render(file, "--compare", "western-convergence", "--suggest")


def assert_self_contained(page: Page, text: str) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "embed", "base"}
    assert not page.values("src")
    assert not [each for _, attrs in page.tags for each in attrs if each.startswith("on")]
    assert all(each.startswith("#") for each in page.values("href"))
    assert all(each.startswith("#") for each in re.findall(r"url\(\s*['\"]?([^)]*)", text))
    assert "@import" not in text
    assert "://" not in text


def test_the_page_needs_no_network_no_scripts_and_no_other_file(
    compared: Rendered,
) -> None:
    page, text, _ = compared
    assert page.charts > 6
    assert_self_contained(page, text)


def test_every_reference_of_a_chart_has_one_target_in_the_page(
    compared: Rendered,
) -> None:
    page, text, _ = compared
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > page.charts
    references = {each[1:] for each in page.values("href")} | set(
        re.findall(r"url\(#([^)]*)\)", text)
    )
    references |= set(page.values("aria-labelledby"))
    assert references
    assert references <= set(ids)


def test_every_chart_is_a_scalable_image_with_a_title(
    usual: Rendered,
) -> None:
    page, _, _ = usual
    charts = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert all(attrs["role"] == "img" for attrs in charts)
    assert all("viewbox" in attrs and "width" not in attrs for attrs in charts)
    titles = {attrs["id"] for tag, attrs in page.tags if tag == "title" and "id" in attrs}
    assert {attrs["aria-labelledby"] for attrs in charts} == titles
    assert len(page.titles) == len(charts) + 1
    assert all(len(title) > 10 for title in page.titles)


def test_the_tables_of_the_page_show_the_numbers_of_the_json(
    usual: Rendered,
) -> None:
    page, _, report = usual
    messages, senders = report["messages"], report["senders"]
    for kind in ("accepted", "deferred", "rejected"):
        count, share = messages[kind]["messages"], messages[kind]["share"]
        assert [kind, f"{count:,}", f"{share * 100:.2f} %"] in page.rows
    assert ["seen", str(senders["seen"]), ""] in page.rows
    affected = [str(senders["touched"]), f"{senders['share'] * 100:.2f} %"]
    assert ["affected: deferred or rejected", *affected] in page.rows
    for each in report["limits"]:
        assert [each["limit"], str(each["deferred"]), str(each["rejected"])] in page.rows
    for each in report["most_touched"]:
        assert [str(value) for value in each.values()] in page.rows


def test_the_charts_are_described_in_words(usual: Rendered) -> None:
    words = usual[0].words
    assert "Peak hour: 45 messages at 2023-11-15 23:00 UTC" in words
    assert "Busiest sender: busy@x.org, 45 messages at 2023-11-15 23:00 UTC." in words
    assert "15 deferred (30.00 %) and 1 rejected (2.00 %) of 50 messages." in words
    assert "Largest message: 101 recipients, 101 % of the limit." in words
    assert "Most in any minute of one sender: 45 messages, 150 % of the limit." in words
    assert "Most in any day of one sender: 101 recipients, 1.01 % of the limit." in words
    assert "2 of 3 senders (66.67 %) had a message deferred or rejected." in words
    assert "one bar per hour" in words
    assert "0.2 % of the senders" in words


def test_touch_sets_the_mark(file: Path) -> None:
    assert "12.5 % of the senders" in render(file, "--touch", "12.5")[0].words


def test_the_same_mail_gives_the_same_page_byte_for_byte(file: Path) -> None:
    first = render(file, "--compare", "western-office365")[1]
    arguments = ["-m", "ratelimit_mail.cli", "replay", str(file), "--policy", LEEDS]
    arguments += ["--compare", "western-office365", "--report", str(file.parent / "again.html")]
    again = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "pdf"},
        capture_output=True,
        check=True,
    )
    assert again.stderr == b""
    assert (file.parent / "again.html").read_text(encoding="utf-8") == first


def test_hostile_senders_are_escaped_everywhere(tmp_path: Path) -> None:
    file = write(tmp_path / "<b>log.csv", *[(T0, HOSTILE, 1)] * 31)
    page, text, _ = render(file, "--suggest")
    assert_self_contained(page, text)
    assert "<script" not in text
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert HOSTILE in page.chart_texts
    assert [HOSTILE, "31", "30", "1", "0"] in page.rows
    assert f"Busiest sender: {HOSTILE}, 31 messages" in page.words


def test_missing_glyphs_and_very_long_senders_do_no_harm(tmp_path: Path) -> None:
    strange = "\U0001f9a4\u0915\u06f1\u4e2d@example.com"
    long = "a" * 200 + "@example.com"
    file = write(tmp_path / "log.csv", *[(T0, strange, 1)] * 33, *[(T0, long, 1)] * 32)
    page, _, _ = render(file)
    assert strange in page.chart_texts
    assert [long, "32", "30", "2", "0"] in page.rows
    assert any(each.startswith("aaaa") and "\u2026" in each for each in page.chart_texts)


def test_without_refusals_there_are_words_instead_of_charts(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *[(T0 + 3600 * i, "ann@x.org", 1) for i in range(5)])
    page, _, _ = render(file, "--compare", "western-office365")
    assert "Nothing was refused: every message was accepted at once." in page.words
    assert "0 of 1 sender (0.00 %) had a message deferred or rejected." in page.words
    assert "No policy refused any message." in page.words
    assert "Most affected" not in page.words
    # Messages per hour, three limits, senders affected by policy.
    assert page.charts == 5


def test_a_limit_without_messages_has_no_chart(tmp_path: Path) -> None:
    page, _, _ = render(
        write(tmp_path / "log.csv", (T0, "ann@x.org", 1)), policy="western-convergence"
    )
    assert (
        "tier 1: 500 external recipients per day per submitter No message is subject to this limit."
        in page.words
    )


def test_a_report_of_one_message_is_complete(tmp_path: Path) -> None:
    page, text, _ = render(write(tmp_path / "log.csv", (T0, "ann@x.org", 1)), "--suggest")
    assert_self_contained(page, text)
    assert "Peak minute: 1 message at 2023-11-14 22:13 UTC" in page.words
    assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize(
    ("span", "unit"),
    [
        (600, "minute"),
        (86_400, "hour"),
        (60 * 86_400, "day"),
        (3 * YEAR, "week"),
        (23 * YEAR, "month"),
        (90 * YEAR, "year"),
        (7_900 * YEAR, "year"),
    ],
)
def test_the_length_of_a_bar_depends_on_the_span_and_is_stated(
    tmp_path: Path, span: int, unit: str
) -> None:
    rows = [(T0 + span * i // 40, "ann@x.org", 1) for i in range(41)]
    file = write(tmp_path / "log.csv", *rows)
    page, text, _ = render(file, policy="western-convergence")
    assert f"one bar per {unit}" in page.words
    assert len(text) < 400_000


def test_times_up_to_the_year_9999_are_drawn(tmp_path: Path) -> None:
    rows = [(253_402_300_799, "ann@x.org", 1), (0, "ann@x.org", 1)]
    page, _, _ = render(write(tmp_path / "log.csv", *rows))
    assert "1970-01-01 to 9999-12-31 UTC, one bar per year" in page.words


def test_a_few_outliers_are_counted_but_left_out_of_the_charts(tmp_path: Path) -> None:
    rows = [(T0 + 60 * i, "ann@x.org", 1) for i in range(2_000)] + [(1, "old@x.org", 1)]
    page, _, report = render(write(tmp_path / "log.csv", *rows, (T0 * 2, "new@x.org", 101)))
    assert report["rows"]["messages"] == 2_002
    assert "1 before 2023-11-14 and 1 from 2023-11-16 on." in page.words
    assert "one bar per hour" in page.words
    assert "1 rejected (0.05 %) of 2,002 messages. All of them are outside" in page.words


def test_without_its_dependencies_the_report_says_what_to_install(file: Path) -> None:
    for missing in ("jinja2", "matplotlib"):
        start = (
            f"import sys; sys.modules[{missing!r}] = None;"
            "from ratelimit_mail.cli import main; main()"
        )
        arguments = [sys.executable, "-c", start, "replay", str(file), "--policy", LEEDS]
        html = file.parent / "none.html"
        done = subprocess.run(
            [*arguments, "--report", str(html)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert "pip install 'ratelimit-mail[report]'" in line
        assert not html.exists()
        without = subprocess.run([*arguments, "--suggest"], capture_output=True, check=True)
        assert b"Numbers that affect" in without.stdout


def test_a_report_that_cannot_be_written_is_an_error_before_the_replay(file: Path) -> None:
    directory = file.parent
    (directory / "pipe").unlink(missing_ok=True)
    os.mkfifo(directory / "pipe")
    before = file.read_bytes()
    for name, reason in (
        ("nowhere/report.html", "does not exist"),
        (".", "is a directory"),
        ("pipe", "is not a regular file"),
        ("log.csv", "is the input file"),
        ("x" * 300, "File name too long"),
    ):
        line = error_line(run(file, "--report", str(directory / name)))
        assert line.startswith("--report ")
        assert reason in line
    assert file.read_bytes() == before


def test_a_directory_deleted_before_writing_is_an_error(file: Path) -> None:
    directory = file.parent / "gone"
    directory.mkdir()
    output = OutputFile(directory / "report.html", file)
    directory.rmdir()
    with pytest.raises(CommandError, match=r"--report .*report\.html: No such file"):
        output.write("a report")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_directory_without_permission_is_an_error(file: Path) -> None:
    closed = file.parent / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot write to the directory" in error_line(
        run(file, "--report", str(closed / "r.html"))
    )


def test_a_report_replaces_an_older_one_and_leaves_no_other_file(file: Path) -> None:
    directory = file.parent
    (directory / "real.html").write_text("the last one")
    (directory / "link.html").symlink_to(directory / "real.html")
    assert run(file, "--report", str(directory / "link.html")).exit_code == 0
    assert (directory / "link.html").is_symlink()
    assert (directory / "real.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in directory.iterdir()) == [
        "link.html",
        "log.csv",
        "real.html",
    ]


def test_report_does_not_change_the_tables(file: Path) -> None:
    html = file.parent / "report.html"
    assert run(file, "--report", str(html)).output == run(file).output

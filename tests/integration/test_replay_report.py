"""The page of `replay --report`: what is in it, and that it needs nothing else."""

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
from click.testing import CliRunner, Result

from ratelimit_mail.cli.command import command
from ratelimit_mail.cli.errors import CommandError
from ratelimit_mail.cli.replay.html.target import Target

LEEDS = "leeds-office365"
T0 = 1_700_000_000
YEAR = 365 * 86_400
HOSTILE = '"<script>alert(1)</script>&amp;$x^2$"@example.com'


class Page(HTMLParser):
    """A report as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.rows: list[list[str]] = []
        self.titles: list[str] = []
        self.drawn: list[str] = []
        """Letters within pictures."""
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
            self.drawn.append(data)
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.tags if attribute in attrs]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def pictures(self) -> int:
        return sum(1 for tag, _ in self.tags if tag == "svg")


def write(path: Path, *rows: tuple[float, str, int]) -> Path:
    lines = [
        f'{time},"{sender.replace(chr(34), chr(34) * 2)}",{count}' for time, sender, count in rows
    ]
    path.write_text("\n".join(["time,sender,recipients", *lines]) + "\n", encoding="utf-8")
    return path


def run(file: Path, *options: str, policy: str = LEEDS) -> Result:
    return CliRunner().invoke(command, ["replay", str(file), "--policy", policy, *options])


def render(file: Path, *options: str, policy: str = LEEDS) -> tuple[Page, str, dict[str, Any]]:
    """The page, its text, and the JSON of the same run."""
    html = file.parent / "report.html"
    result = run(file, "--report", str(html), "--json", *options, policy=policy)
    assert result.exit_code == 0, result.output
    text = html.read_text(encoding="utf-8")
    return Page(text), text, json.loads(result.stdout)


def complaint(result: Result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Four days: a quiet sender, one above the rate, one above the recipients of a message."""
    rows = [(T0 + 86_400 * day, "quiet@x.org", 2) for day in range(4)]
    rows += [(T0 + 90_000 + i, "busy@x.org", 1) for i in range(45)]
    rows += [(T0 + 180_000, "wide@x.org", 101)]
    return write(tmp_path / "log.csv", *rows)


def assert_self_contained(page: Page, text: str) -> None:
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "image", "iframe", "object", "embed", "base"}
    assert not page.values("src")
    assert not [each for _, attrs in page.tags for each in attrs if each.startswith("on")]
    assert all(each.startswith("#") for each in page.values("href"))
    assert all(each.startswith("#") for each in re.findall(r"url\(\s*['\"]?([^)]*)", text))
    assert "@import" not in text
    assert "://" not in text


def test_the_page_needs_no_network_no_script_and_no_other_file(file: Path) -> None:
    page, text, _ = render(file, "--compare", "western-convergence", "--suggest")
    assert page.pictures > 6
    assert_self_contained(page, text)


def test_what_pictures_refer_to_is_in_the_page_once(file: Path) -> None:
    page, text, _ = render(file, "--compare", "western-convergence")
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > page.pictures
    used = {each[1:] for each in page.values("href")} | set(re.findall(r"url\(#([^)]*)\)", text))
    used |= set(page.values("aria-labelledby"))
    assert used
    assert used <= set(ids)


def test_every_picture_is_an_image_with_a_title_and_scales(file: Path) -> None:
    page, _, _ = render(file)
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert all(attrs["role"] == "img" for attrs in pictures)
    assert all("viewbox" in attrs and "width" not in attrs for attrs in pictures)
    titles = {attrs["id"] for tag, attrs in page.tags if tag == "title" and "id" in attrs}
    assert {attrs["aria-labelledby"] for attrs in pictures} == titles
    assert len(page.titles) == len(pictures) + 1
    assert all(len(title) > 10 for title in page.titles)


def test_the_tables_of_the_page_say_what_the_json_says(file: Path) -> None:
    page, _, report = render(file)
    messages, senders = report["messages"], report["senders"]
    for kind in ("accepted", "deferred", "rejected"):
        count, share = messages[kind]["messages"], messages[kind]["share"]
        assert [kind, f"{count:,}", f"{share * 100:.2f} %"] in page.rows
    assert ["seen", str(senders["seen"]), ""] in page.rows
    touched = [str(senders["touched"]), f"{senders['share'] * 100:.2f} %"]
    assert ["touched: deferred or rejected", *touched] in page.rows
    for each in report["limits"]:
        assert [each["limit"], str(each["deferred"]), str(each["rejected"])] in page.rows
    for each in report["most_touched"]:
        assert [str(value) for value in each.values()] in page.rows


def test_the_pictures_say_in_words_what_happened(file: Path) -> None:
    words = render(file)[0].words
    assert "Peak hour: 45 messages at 2023-11-15 23:00 UTC" in words
    assert "Busiest sender: busy@x.org, 45 messages at 2023-11-15 23:00 UTC." in words
    assert "15 deferred (30.00 %) and 1 rejected (2.00 %) of 50 messages." in words
    assert "Largest message: 101 recipients, 101 % of the limit." in words
    assert "Most in any minute of one sender: 45 messages, 150 % of the limit." in words
    assert "Most in any day of one sender: 101 recipients, 1.01 % of the limit." in words
    assert "2 of 3 senders (66.67 %) had a message deferred or rejected." in words
    assert "one bar per hour" in words
    assert "0.2 % of the senders" in words


def test_the_mark_is_where_touch_says(file: Path) -> None:
    assert "12.5 % of the senders" in render(file, "--touch", "12.5")[0].words


def test_the_same_mail_gives_the_same_bytes(file: Path) -> None:
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


def test_hostile_senders_are_text_everywhere(tmp_path: Path) -> None:
    file = write(tmp_path / "<b>log.csv", *[(T0, HOSTILE, 1)] * 31)
    page, text, _ = render(file, "--suggest")
    assert_self_contained(page, text)
    assert "<script" not in text
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert HOSTILE in page.drawn
    assert [HOSTILE, "31", "30", "1", "0"] in page.rows
    assert f"Busiest sender: {HOSTILE}, 31 messages" in page.words


def test_letters_that_no_font_has_and_very_long_senders_do_no_harm(tmp_path: Path) -> None:
    strange = "\U0001f9a4\u0915\u06f1\u4e2d@example.com"
    long = "a" * 200 + "@example.com"
    file = write(tmp_path / "log.csv", *[(T0, strange, 1)] * 33, *[(T0, long, 1)] * 32)
    page, _, _ = render(file)
    assert strange in page.drawn
    assert [long, "32", "30", "2", "0"] in page.rows
    assert any(each.startswith("aaaa") and "\u2026" in each for each in page.drawn)


def test_nothing_refused_is_said_in_words_not_drawn(tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", *[(T0 + 3600 * i, "ann@x.org", 1) for i in range(5)])
    page, _, _ = render(file, "--compare", "western-office365")
    assert "Nothing was refused: every message could go at once." in page.words
    assert "0 of 1 sender (0.00 %) had a message deferred or rejected." in page.words
    assert "No policy refused anything." in page.words
    assert "Most touched" not in page.words
    # Mail per hour, three limits, senders touched by policy.
    assert page.pictures == 5


def test_a_limit_that_no_message_met_has_no_picture(tmp_path: Path) -> None:
    page, _, _ = render(
        write(tmp_path / "log.csv", (T0, "ann@x.org", 1)), policy="western-convergence"
    )
    assert "tier 1: 500 external recipients per day per sender No message met" in page.words


def test_one_message_is_enough(tmp_path: Path) -> None:
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
def test_the_bars_suit_the_span_and_say_what_they_are(tmp_path: Path, span: int, unit: str) -> None:
    rows = [(T0 + span * i // 40, "ann@x.org", 1) for i in range(41)]
    page, text, _ = render(write(tmp_path / "log.csv", *rows))
    assert f"one bar per {unit}" in page.words
    assert len(text) < 400_000


def test_the_end_of_time_can_be_drawn(tmp_path: Path) -> None:
    rows = [(253_402_300_799, "ann@x.org", 1), (0, "ann@x.org", 1)]
    page, _, _ = render(write(tmp_path / "log.csv", *rows))
    assert "1970-01-01 to 9999-12-31 UTC, one bar per year" in page.words


def test_a_few_wrong_clocks_do_not_squash_the_pictures_but_count(tmp_path: Path) -> None:
    rows = [(T0 + 60 * i, "ann@x.org", 1) for i in range(2_000)] + [(1, "old@x.org", 1)]
    page, _, report = render(write(tmp_path / "log.csv", *rows, (T0 * 2, "new@x.org", 101)))
    assert report["rows"]["messages"] == 2_002
    assert "1 before 2023-11-14 and 1 from 2023-11-16 on." in page.words
    assert "one bar per hour" in page.words
    assert "1 rejected (0.05 %) of 2,002 messages. All of them lie outside" in page.words


def test_without_its_libraries_the_report_says_what_to_install(file: Path) -> None:
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
        assert b"Numbers that touch" in without.stdout


def test_a_file_that_cannot_be_written_is_told_before_the_work(file: Path) -> None:
    folder = file.parent
    (folder / "pipe").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe")
    before = file.read_bytes()
    for name, why in (
        ("nowhere/report.html", "there is no folder"),
        (".", "is a folder"),
        ("pipe", "is no regular file"),
        ("log.csv", "is the mail itself"),
        ("x" * 300, "File name too long"),
    ):
        line = complaint(run(file, "--report", str(folder / name)))
        assert line.startswith("Error: --report ")
        assert why in line
    assert file.read_bytes() == before


def test_a_folder_that_goes_away_meanwhile_is_told(file: Path) -> None:
    folder = file.parent / "gone"
    folder.mkdir()
    target = Target(folder / "report.html", file)
    folder.rmdir()
    with pytest.raises(CommandError, match=r"--report .*report\.html: No such file"):
        target.write("a report")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission_is_told(file: Path) -> None:
    closed = file.parent / "closed"
    closed.mkdir(mode=0o500)
    assert "nothing can be written" in complaint(run(file, "--report", str(closed / "r.html")))


def test_a_report_replaces_the_last_one_in_one_step_and_leaves_nothing_else(file: Path) -> None:
    folder = file.parent
    (folder / "real.html").write_text("the last one")
    (folder / "link.html").symlink_to(folder / "real.html")
    assert run(file, "--report", str(folder / "link.html")).exit_code == 0
    assert (folder / "link.html").is_symlink()
    assert (folder / "real.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in folder.iterdir()) == ["link.html", "log.csv", "real.html"]


def test_a_report_beside_tables_leaves_the_tables_as_they_are(file: Path) -> None:
    html = file.parent / "report.html"
    assert run(file, "--report", str(html)).output == run(file).output

"""Letter: messages from rows; what a value cannot do; what a template cannot do."""

from __future__ import annotations

import os
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Envelope
from ratelimit_mail.mailing import AttachmentFolder, Letter

HEAD = "TO: {{ name }} <{{ email }}>\nSUBJECT: Hello {{ name }}\nFROM: Ed <ed@uwo.ca>\n"
ROW = {"email": "ann@example.com", "name": "Ann", "file": ""}


def message_of(
    source: str, row: dict[str, str] | None = None, folder: Path | None = None, **options: Any
) -> EmailMessage:
    attachments = None if folder is None else AttachmentFolder(folder)
    return Letter(source, **options).message({**ROW, **(row or {})}, attachments)


def bodies(message: EmailMessage) -> dict[str, str]:
    entities: list[Any] = [part for part in message.walk() if not part.is_multipart()]
    return {part.get_content_type(): part.get_content() for part in entities}


def test_a_letter_is_a_message_with_the_values_of_the_row() -> None:
    message = message_of(
        HEAD + "Reply-To: Help <help@uwo.ca>\nX-Team: a\n  b\n\nDear {{ name }}.\n"
    )
    assert str(message["To"]) == "Ann <ann@example.com>"
    assert str(message["Subject"]) == "Hello Ann"
    assert str(message["Reply-To"]) == "Help <help@uwo.ca>"
    assert str(message["X-Team"]) == "a b"
    assert message.get_content() == "Dear Ann.\n"
    assert Envelope.from_message(message).recipients == ("ann@example.com",)


def test_loops_conditions_and_filters_of_the_template_language_work() -> None:
    text = "{% for x in file.split(',') %}{{ x|upper }};{% endfor %}{% if not email %}no{% endif %}"
    assert message_of(f"{HEAD}\n{text}", {"file": "a,b"}).get_content() == "A;B;\n"


def test_a_column_whose_name_is_not_a_word_is_available() -> None:
    row = {"First name": "Ann", "e-mail": "ann@example.com"}
    source = "TO: {{ e_mail }}\nFROM: ed@uwo.ca\n\n{{ First_name }} {{ row['First name'] }}"
    assert Letter(source).message(row).get_content() == "Ann Ann\n"


@pytest.mark.parametrize(
    ("to", "row", "recipients"),
    [
        ("{{ email }}", {"email": "a@x.ca, Bob <b@x.ca>; c@x.ca"}, ["a@x.ca", "b@x.ca", "c@x.ca"]),
        ("{{ email }}, boss@x.ca", {}, ["ann@example.com", "boss@x.ca"]),
        ('"{{ name }}, Dr" <{{ email }}>', {"name": 'A "B" C'}, ["ann@example.com"]),
        ("{{ email }}, {{ name }} <{{ file }}>", {"file": ""}, ["ann@example.com"]),
        ("{% if name %}{{ email }}{% endif %}", {}, ["ann@example.com"]),
        ("{{ email }}", {"email": "ann@bücher.de"}, ["ann@xn--bcher-kva.de"]),
    ],
)
def test_recipients_of_a_letter(to: str, row: dict[str, str], recipients: list[str]) -> None:
    message = message_of(f"TO: {to}\nFROM: ed@uwo.ca\n\nHi", row)
    assert list(Envelope.from_message(message).recipients) == recipients


def test_copies_and_blind_copies_are_recipients_too() -> None:
    message = message_of(HEAD + "CC: cy@x.ca\nBCC: {{ file }}\n\nHi", {"file": "dee@x.ca"})
    assert set(Envelope.from_message(message).recipients) == {
        "ann@example.com",
        "cy@x.ca",
        "dee@x.ca",
    }


# What a value cannot do.


NAMES = st.text(st.characters() | st.sampled_from('",;<>@\\()=?_\r\n:'), max_size=40)


@given(NAMES)
def test_a_name_never_adds_a_recipient_or_a_header(name: str) -> None:
    source = HEAD + "X-Name: {{ name }}\n\nHi"
    try:
        message = message_of(source, {"name": name})
    except ValueError:
        return
    sent = message.as_bytes().partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0] for line in sent.split(b"\r\n") if line[:1] not in b" \t"]
    assert set(names) <= {
        b"To", b"Subject", b"From", b"X-Name", b"Content-Type", b"MIME-Version",
        b"Content-Transfer-Encoding",
    }  # fmt: skip
    assert len(names) == len(set(names))
    assert Envelope.from_message(message).recipients == ("ann@example.com",)


@pytest.mark.parametrize(
    ("row", "header"),
    [
        ({"name": "Ann\nBcc: eve@x.ca"}, "To"),
        ({"name": "Ann\r\n\r\nbody"}, "To"),
        ({"email": "ann@x.ca\nBcc: eve@x.ca"}, "To"),
        ({"email": "ann@x.ca> <eve@x.ca"}, "To"),
        ({"email": "ann@x.ca, eve@x.ca"}, "To"),
        ({"email": "ann"}, "To"),
        ({"email": ""}, "To"),
        ({"file": "x\x0b"}, "Subject"),
    ],
)
def test_a_value_that_does_not_fit_into_a_header_is_an_error_that_names_it(
    row: dict[str, str], header: str
) -> None:
    with pytest.raises(ValueError, match=f"^{header}: "):
        message_of(HEAD.replace("Hello", "{{ file }}") + "\nHi", row)


def test_a_value_is_never_read_as_a_template() -> None:
    row = {"name": "{{ email }}{% include 'x' %}"}
    assert message_of(f"{HEAD}\n{{{{ name }}}}", row).get_content() == f"{row['name']}\n"


def test_values_are_escaped_in_the_html_part_alone() -> None:
    message = message_of(
        f"{HEAD}\nDear {{{{ name }}}}",
        {"name": "<script>&"},
        html="<p>{{ name }} {{ '<b>' | safe }}</p>",
    )
    assert bodies(message) == {
        "text/plain": "Dear <script>&\n",
        "text/html": "<p>&lt;script&gt;&amp; <b></p>\n",
    }
    message = message_of(f"{HEAD}CONTENT-TYPE: text/html\n\n<p>{{{{ name }}}}", {"name": "<b>"})
    assert bodies(message) == {"text/html": "<p>&lt;b&gt;\n"}


def test_markdown_makes_an_html_part_in_which_values_are_text() -> None:
    source = f"{HEAD}CONTENT-TYPE: text/markdown\n\n**Dear** {{{{ name }}}}\nsee\n"
    text_of = bodies(message_of(source, {"name": "*x* [y](http://z) <b> `c` it's"}))
    assert text_of["text/plain"] == "**Dear** *x* [y](http://z) <b> `c` it's\nsee\n"
    assert "<strong>Dear</strong> *x* [y](http://z) &lt;b&gt; `c` it" in text_of["text/html"]
    assert "<br />" in text_of["text/html"]


def test_a_letter_may_have_its_parts_as_mime() -> None:
    source = (
        f'{HEAD}CONTENT-TYPE: multipart/alternative; boundary="b"\n\n--b\n'
        "Content-Type: text/plain\n\nDear {{ name }}\n--b\nContent-Type: text/html\n\n"
        "<p>{{ name }}</p>\n--b--\n"
    )
    text_of = bodies(message_of(source, {"name": "A&B"}))
    assert text_of["text/plain"].strip() == "Dear A&B"
    assert text_of["text/html"].strip() == "<p>A&amp;B</p>"


# What a template cannot do.


@pytest.mark.parametrize(
    "text",
    [
        "{% include '/etc/passwd' %}",
        "{% extends 'x' %}",
        "{% import 'x' as y %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ row.__init__.__globals__ }}",
        "{{ name.format.__self__ }}",
        "{{ row.update({'a': 1}) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 10 ** 1000000000 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'|center(1000000000) }}",
        "{% for i in range(100000000) %}x{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}xxxxxxx{% endfor %}{% endfor %}",
        "{{ 1 // 0 }}",
        "{{ nmae }}",
        "{{ name",
    ],
)
def test_a_template_that_reaches_outside_or_has_no_bound_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^text: |is not a filter|No filter"):
        message_of(f"{HEAD}\n{text}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "no header FROM"),
        ("TO: a@x.ca\n\nHi", "no header FROM"),
        ("FROM: a@x.ca\n\nHi", "no header TO"),
        ("Hi Ann\n\nHow are you", "line 1: 'Hi Ann' is not a header"),
        (f"{HEAD}TO: b@x.ca\n\nHi", "line 4: there are two headers To"),
        (f"{HEAD}Message-ID: <x@y>\n\nHi", "the header Message-Id is set for each message"),
        (f"{HEAD}CONTENT-TYPE: text/rtf\n\nHi", "'text/rtf' is not one of"),
        (f"{HEAD}CONTENT-TYPE: multipart/alternative\n\nHi", "needs a part text/plain"),
    ],
)
def test_what_is_not_a_letter_is_an_error(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Letter(source)
    assert message in str(caught.value)


def test_a_sender_is_one_address() -> None:
    with pytest.raises(ValueError, match="From: 2 addresses"):
        message_of("FROM: a@x.ca, b@x.ca\nTO: c@x.ca\n\nHi")


def test_missing_columns_are_named() -> None:
    letter = Letter(f"{HEAD}\n{{{{ titel }}}} {{{{ name }}}}", attach=["file"])
    assert letter.missing_columns(["email", "name"]) == ["file", "titel"]
    assert letter.missing_columns(["email", "name", "titel", "file"]) == []


# Attachments.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mailing"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(b"%PDF")
    (folder / "b c.txt").write_bytes(b"text")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return folder


def attached(message: EmailMessage) -> list[tuple[str | None, str, bytes]]:
    files: list[Any] = list(message.iter_attachments())
    return [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in files
    ]


def test_files_are_attached_by_header_and_by_column(folder: Path) -> None:
    message = message_of(
        f"{HEAD}ATTACHMENT: a.pdf\nATTACHMENT: {{{{ name }}}}\n\nHi",
        {"name": "", "file": "b c.txt; a.pdf"},
        folder,
        attach=["file"],
    )
    assert attached(message) == [
        ("a.pdf", "application/pdf", b"%PDF"),
        ("b c.txt", "text/plain", b"text"),
    ]


@pytest.mark.parametrize("name", ["../secret.txt", "{folder}/../secret.txt", "link.txt", "sub/x"])
def test_a_file_outside_the_folder_is_not_attached(folder: Path, name: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "sub").symlink_to(folder.parent)
    (folder.parent / "x").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"attachment: .* is outside the folder"):
        message_of(f"{HEAD}ATTACHMENT: {name.format(folder=folder)}\n\nHi", folder=folder)


def test_a_further_folder_can_be_permitted(folder: Path) -> None:
    attachments = AttachmentFolder(folder, [folder.parent])
    message = Letter(f"{HEAD}ATTACHMENT: secret.txt\n\nHi").message(ROW, attachments)
    assert attached(message)[0][2] == b"secret"


@pytest.mark.parametrize("name", ["no.txt", "a.pdf\\x00", ".", "pipe", "x" * 5000])
def test_what_is_not_a_readable_file_is_an_error(folder: Path, name: str) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match="attachment: "):
        message_of(f"{HEAD}ATTACHMENT: {{{{ file }}}}\n\nHi", {"file": name}, folder)


def test_attachments_that_are_too_large_together_are_an_error(folder: Path) -> None:
    letter = Letter(f"{HEAD}ATTACHMENT: a.pdf; b c.txt\n\nHi")
    assert attached(letter.message(ROW, AttachmentFolder(folder, largest=8)))
    with pytest.raises(ValueError, match=r"with 'b c.txt', .* are larger"):
        letter.message(ROW, AttachmentFolder(folder, largest=7))


def test_without_a_folder_nothing_is_attached() -> None:
    with pytest.raises(ValueError, match=r"there is no file .a\.pdf."):
        message_of(f"{HEAD}ATTACHMENT: a.pdf\n\nHi")


def test_an_attached_image_that_the_html_shows_is_inline(folder: Path) -> None:
    (folder / "cat.png").write_bytes(b"PNG")
    source = f"{HEAD}CONTENT-TYPE: text/markdown\nATTACHMENT: cat.png\nATTACHMENT: a.pdf\n\n"
    message = message_of(source + "![cat](cat.png) ![dog](dog.png)", folder=folder)
    images = [part for part in message.walk() if part.get_content_type() == "image/png"]
    [image] = images
    assert image["Content-Disposition"] == 'inline; filename="cat.png"'
    page = bodies(message)["text/html"]
    assert f'src="cid:{image["Content-ID"][1:-1]}"' in page
    assert 'src="dog.png"' in page
    assert [name for name, _, _ in attached(message)] == ["a.pdf"]


def test_a_letter_is_loaded_from_files(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_bytes(f"\ufeff{HEAD}\nDear {{{{ name }}}}".encode())
    (tmp_path / "page.html").write_text("<p>{{ name }}")
    letter = Letter.load(tmp_path / "letter.txt", html=tmp_path / "page.html")
    assert letter.name == "letter.txt"
    assert set(bodies(letter.message(ROW))) == {"text/plain", "text/html"}
    (tmp_path / "letter.txt").write_bytes(b"TO: a@x.ca\n\xff")
    with pytest.raises(ValueError, match=r"'letter.txt': line 2: not UTF-8"):
        Letter.load(tmp_path / "letter.txt")


@pytest.mark.parametrize("module", ["jinja2", "markdown"])
def test_without_the_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ratelimit-mail\[merge\]'"):
        Letter(f"{HEAD}CONTENT-TYPE: text/markdown\n\nHi")

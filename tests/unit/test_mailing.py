"""A mailing: rows of a CSV file, the check beforehand, keys, previews and an outbox."""

from __future__ import annotations

import csv
import io
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail import Limiter, presets
from ratelimit_mail.mailing import AttachmentFolder, Letter, Mailing, People, read_people
from ratelimit_mail.outbox import Outbox

LETTER = Letter("TO: {{ email }}\nSUBJECT: Hi\nFROM: ed@leeds.ac.uk\n\nDear {{ name }}\n")
PEOPLE = "email,name\nann@example.com,Ann\nbob@example.com,Bob\ncy@example.com,Cy\n"


def mailing_of(text: str = PEOPLE, letter: Letter = LETTER, **options: Any) -> Mailing:
    return Mailing(letter, People.parse(text), **options)


def problems(*arguments: Any, **options: Any) -> list[str]:
    return [str(each) for each in mailing_of(*arguments, **options).check()]


# The CSV file.


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8).map(
    str.strip
)


@given(
    st.lists(CELLS.filter(bool), min_size=1, max_size=4, unique=True),
    st.data(),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_row_of_a_csv_file_is_read_as_it_was_written(
    columns: list[str], data: st.DataObject, delimiter: str, end: str
) -> None:
    rows = data.draw(
        st.lists(st.lists(CELLS, min_size=len(columns), max_size=len(columns)), max_size=5)
    )
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([columns, *rows])
    people = People.parse(buffer.getvalue(), delimiter=delimiter)
    assert list(people.columns) == columns
    assert [list(row.values.values()) for row in people.rows] == [row for row in rows if any(row)]
    assert [row.number for row in people.rows] == list(range(1, len(people.rows) + 1))


@given(st.text(max_size=60) | st.text('ab,;"\n\r\0', max_size=30))
def test_any_text_is_read_or_is_a_value_error(text: str) -> None:
    try:
        people = People.parse(text)
    except ValueError:
        return
    assert all(set(row.values) == set(people.columns) for row in people.rows)


@pytest.mark.parametrize(
    "text", ["email;first name\na@x.ca;A, B\n", "\ufeffemail\tfirst name\na@x.ca\tA, B\n"]
)
def test_the_delimiter_is_the_one_that_the_first_row_has(text: str) -> None:
    people = People.parse(text)
    assert dict(people.rows[0].values) == {"email": "a@x.ca", "first name": "A, B"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n ,\n", "is empty"),
        ("a,b\n1\n", "line 2: 1 cells where the header has 2"),
        ("a,b\n\n1,2,3\n", "line 3: 3 cells where the header has 2"),
        ("a,a\n", "line 1: there are two columns 'a'"),
        ("a,\n", "line 1: a column has no name"),
        ('a\n"b\n', "line 2: not CSV"),
        ("a\n\0\n", "a NUL byte"),
    ],
)
def test_what_is_not_such_a_csv_file_is_an_error_that_names_the_line(
    text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        People.parse(text)
    assert message in str(caught.value)


def test_a_file_is_read_with_its_folder_and_errors_name_it(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE)
    people = read_people(file)
    assert (len(people.rows), people.folder) == (3, tmp_path)
    assert str(people.rows[1]) == "row 2 (line 3)"
    file.write_bytes(b"email\n\xff\n")
    with pytest.raises(ValueError, match=r"'people.csv': line 2: not UTF-8"):
        read_people(file)


# The check.


def test_a_mailing_without_problems_has_none_and_reports_each_letter() -> None:
    letters: list[Any] = []
    assert mailing_of().check(letters.append) == []
    assert [letter.row.number for letter in letters] == [1, 2, 3]


def test_every_wrong_row_is_named() -> None:
    text = "email,name\nann,Ann\nbob@example.com,Bob\nBOB@example.com,Bobby\n,\ncy@x.ca,C\n,Dee\n"
    assert problems(text) == [
        "row 1 (line 2): To: 'ann' is not an address such as 'bob@example.com'",
        "row 3 (line 4): 'BOB@example.com' is in row 2 (line 3) already",
        "row 5 (line 7): To: no recipient",
    ]


def test_a_missing_column_is_reported_once() -> None:
    letter = Letter("TO: {{ email }}\nFROM: ed@x.ca\n\n{{ nmae }} {{ titel }}")
    assert problems(PEOPLE, letter) == [
        "the letter uses 'nmae'; the columns are 'email', 'name'",
        "the letter uses 'titel'; the columns are 'email', 'name'",
    ]


def test_a_template_can_do_without_a_column() -> None:
    letter = Letter("TO: {{ email }}\nFROM: ed@x.ca\n\n{{ title | default('') }}")
    assert problems(PEOPLE, letter) == []


def test_a_missing_attachment_is_reported_for_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    letter = Letter("TO: {{ email }}\nFROM: ed@x.ca\nATTACHMENT: {{ file }}\n\nHi")
    text = "email,file\nann@x.ca,a.txt\nbob@x.ca,b.txt\n"
    assert problems(text, letter, attachments=AttachmentFolder(tmp_path)) == [
        "row 2 (line 3): attachment: there is no file 'b.txt'"
    ]


def test_a_mailing_to_nobody_is_a_problem() -> None:
    assert problems("email,name\n") == ["there is no row to send a letter to"]
    assert problems(PEOPLE, first=4) == ["there is no row to send a letter to"]


def test_rows_of_one_key_or_without_a_key_are_problems() -> None:
    text = "email,name,id\na@x.ca,A,1\nb@x.ca,B,1\nc@x.ca,C,\na@x.ca,A,2\n"
    assert problems(text, key="id", allow_duplicates=True) == [
        "row 2 (line 3): its key is that of row 1 (line 2)",
        "row 3 (line 4): the key 'id' is empty",
    ]
    with pytest.raises(ValueError, match="there is no column 'nr'; the columns are"):
        mailing_of(key="nr")
    with pytest.raises(ValueError, match="allow_duplicates: a key is needed"):
        mailing_of(allow_duplicates=True)


# Keys.


def keys(*arguments: Any, **options: Any) -> list[str | None]:
    return [each.key for each in mailing_of(*arguments, **options).letters()]


def test_the_key_of_a_row_is_that_of_its_address_and_the_letter() -> None:
    swapped = "name,email\nRobert,BOB@example.com\nAnn,ann@example.com\nCy,cy@example.com\n"
    ann, bob, cy = keys()
    assert keys(swapped) == [bob, ann, cy]
    other = Letter("TO: {{ email }}\nFROM: ed@x.ca\n\nHi", name="another")
    assert not {ann, bob, cy} & set(keys(PEOPLE, other))


def test_the_key_of_a_row_may_be_a_column() -> None:
    assert keys(key="name") == keys(PEOPLE.replace("example.com", "x.ca"), key="name")
    assert keys(key="name") != keys(PEOPLE.replace("Ann", "Anna"), key="name")


def test_a_message_has_the_same_message_id_each_time() -> None:
    first, again = ([each.message["Message-ID"] for each in mailing_of().letters()] for _ in "12")
    assert first == again
    assert len(set(first)) == 3


# What is done with it.


def test_rows_can_be_left_out_at_the_start_and_limited() -> None:
    assert [row.number for row in mailing_of(first=2).rows] == [2, 3]
    assert [row.number for row in mailing_of(first=2, limit=1).rows] == [2]
    assert not mailing_of(limit=0).rows


def test_previews_are_messages_as_they_are_sent(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "preview"
    paths = mailing_of().preview(2, folder)
    assert [path.name for path in paths] == ["000001.eml", "000002.eml"]
    message: Any = message_from_bytes(paths[1].read_bytes(), policy=default)
    assert (message["To"], message.get_content()) == ("bob@example.com", "Dear Bob\r\n")
    assert mailing_of().preview(1, folder) == paths[:1]


def test_a_test_goes_to_one_address_alone_and_has_no_key() -> None:
    letter = Letter(
        "TO: {{ email }}\nCC: boss@x.ca\nBCC: log@x.ca\nFROM: ed@x.ca\n\nDear {{ name }}"
    )
    [first, *_] = mailing_of(PEOPLE, letter, test_to="me@x.ca").letters()
    assert first.key is None
    assert first.message["To"] == "me@x.ca"
    assert first.message["X-Test-Of"] == "ann@example.com"
    assert "boss@x.ca" not in first.message.as_string()
    assert "log@x.ca" not in first.message.as_string()
    with pytest.raises(ValueError, match="no '@'"):
        mailing_of(test_to="me")


@pytest.fixture
def outbox(tmp_path: Path) -> Any:
    with Outbox(tmp_path / "outbox.db", Limiter(presets.leeds_office365())) as outbox:
        yield outbox


def test_a_mailing_that_runs_twice_is_in_the_outbox_once(outbox: Outbox) -> None:
    assert len(mailing_of().put(outbox)) == 3
    more = PEOPLE + "dee@example.com,Dee\n"
    mailing_of(more).put(outbox)
    assert [each.recipients[0].address for each in outbox.list()] == [
        "ann@example.com",
        "bob@example.com",
        "cy@example.com",
        "dee@example.com",
    ]


def test_a_mailing_that_was_interrupted_goes_on(outbox: Outbox) -> None:
    for _, _ in zip(range(2), mailing_of().put_each(outbox), strict=False):
        pass
    mailing_of().put(outbox)
    assert len(outbox.list()) == 3


def test_a_row_without_a_message_ends_the_mailing_and_is_named(outbox: Outbox) -> None:
    mailing = mailing_of(PEOPLE.replace("bob@example.com", "bob"))
    with pytest.raises(ValueError, match=r"^row 2 \(line 3\): To: "):
        mailing.put(outbox)
    assert len(outbox.list()) == 1

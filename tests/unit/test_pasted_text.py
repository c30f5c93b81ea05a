"""parse_addresses: the addresses of a text that a person pasted."""

from __future__ import annotations

import pytest

from ratelimit_mail.directory import parse_addresses
from ratelimit_mail.directory.pasted_text import LONGEST_TEXT


def read(text: str) -> list[tuple[str, str]]:
    pasted = parse_addresses(text)
    assert pasted.unreadable == ()
    return [(each.name, each.address) for each in pasted.addresses]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann@uwo.ca\nbob@uwo.ca", [("", "ann@uwo.ca"), ("", "bob@uwo.ca")]),
        ("ann@uwo.ca, bob@uwo.ca; cy@uwo.ca", [("", f"{x}@uwo.ca") for x in ("ann", "bob", "cy")]),
        ("ann@uwo.ca bob@uwo.ca\tcy@uwo.ca", [("", f"{x}@uwo.ca") for x in ("ann", "bob", "cy")]),
        ("Ann Smith <ann@UWO.ca>", [("Ann Smith", "ann@uwo.ca")]),
        ('"Smith, Ann" <ann@uwo.ca>', [("Smith, Ann", "ann@uwo.ca")]),
        ("Smith, Ann <ann@uwo.ca>; Ng, Bo <bo@uwo.ca>", [
            ("Smith, Ann", "ann@uwo.ca"), ("Ng, Bo", "bo@uwo.ca")]),
        (r'"Ann \"A\" Smith" <ann@uwo.ca>', [('Ann "A" Smith', "ann@uwo.ca")]),
        ("<mailto:ann@uwo.ca>", [("", "ann@uwo.ca")]),
        ("Ann <ann@uwo.ca> Bob <bob@uwo.ca>", [("Ann", "ann@uwo.ca"), ("Bob", "bob@uwo.ca")]),
        ("# the board\r\nann@uwo.ca\r\n\r\n,;, \n", [("", "ann@uwo.ca")]),
        ("\ufeffann@uwo.ca\u200b\u00a0", [("", "ann@uwo.ca")]),
        ("ann@bücher.de", [("", "ann@xn--bcher-kva.de")]),
        ('"ann b"@uwo.ca', [("", '"ann b"@uwo.ca')]),
        ("", []),
    ],
)  # fmt: skip
def test_addresses_are_read_in_every_form_that_people_paste(
    text: str, expected: list[tuple[str, str]]
) -> None:
    assert read(text) == expected


def test_an_address_is_read_once_and_its_repetitions_are_reported() -> None:
    pasted = parse_addresses("Ann <ann@uwo.ca>\nANN@uwo.ca, ann@UWO.ca")
    assert [each.address for each in pasted.addresses] == ["ann@uwo.ca"]
    assert [(each.line, each.address) for each in pasted.repeated] == [
        (2, "ANN@uwo.ca"),
        (2, "ann@uwo.ca"),
    ]


@pytest.mark.parametrize(
    ("text", "unreadable"),
    [
        ("ann@uwo.ca\nbob", [(2, "bob")]),
        ("foo, bar, Ann <ann@uwo.ca>", [(1, "foo")]),
        ("Ann <ann>", [(1, "Ann <ann>")]),
        ("Smith, <ann@uwo.ca>", [(1, "Smith")]),
        ("ann@uwo.ca (work)", [(1, "ann@uwo.ca (work)")]),
        ("Ann <ann@uwo.ca> home", [(1, "home")]),
        ("a@b@uwo.ca", [(1, "a@b@uwo.ca")]),
        ('"Ann <ann@uwo.ca>', [(1, '"Ann <ann@uwo.ca>')]),
        ("Ann <ann@uwo.ca", [(1, "Ann <ann@uwo.ca")]),
    ],
)
def test_what_is_not_an_address_is_reported_with_its_line(
    text: str, unreadable: list[tuple[int, str]]
) -> None:
    pasted = parse_addresses(text)
    assert [(each.line, each.text) for each in pasted.unreadable] == unreadable
    assert all(str(each).startswith(f"line {each.line}: ") for each in pasted.unreadable)


def test_a_name_is_one_line_without_control_characters() -> None:
    [(name, _)] = read("Ann\t \x1b[31m  Smith <ann@uwo.ca>")
    assert name == r"Ann \x1b[31m Smith"


def test_a_text_that_is_too_long_is_an_error() -> None:
    with pytest.raises(ValueError, match="are too many"):
        parse_addresses("x" * (LONGEST_TEXT + 1))
    with pytest.raises(TypeError, match="a string is needed"):
        parse_addresses(b"ann@uwo.ca")  # type: ignore[arg-type]

"""parse_addresses reads back any addresses however they are written, and never fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.addresses import folded, normal_address
from ratelimit_mail.directory import parse_addresses

LOCAL_PARTS = st.from_regex(r"[a-z0-9][a-z0-9.+_-]{0,12}", fullmatch=True)
ADDRESSES = st.builds("{}@{}".format, LOCAL_PARTS, st.sampled_from(["uwo.ca", "x.example"]))
WORDS = st.from_regex(r"[A-Z][a-z]{0,8}( [A-Z][a-z]{0,8})?", fullmatch=True)
QUOTED_NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str, str]:
    """Return a text for an address, the name in it and the address."""
    address = draw(ADDRESSES)
    form = draw(st.sampled_from(["bare", "brackets", "name", "surname", "quoted"]))
    if form == "bare":
        return address, "", address
    if form == "brackets":
        return f"<{address}>", "", address
    if form == "name":
        name = draw(WORDS)
        return f"{name} <{address}>", name, address
    if form == "surname":
        name = f"{draw(WORDS)}, {draw(WORDS)}"
        return f"{name} <{address}>", name, address
    name = draw(QUOTED_NAMES)
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{address}>', name, address


@given(st.lists(st.tuples(written(), st.sampled_from(["\n", ";", " ; ", "\r\n", "\n\n", ", "]))))
def test_every_address_is_read_with_its_name_in_order(
    pieces: list[tuple[tuple[str, str, str], str]],
) -> None:
    text = "".join(piece + separator for (piece, _, _), separator in pieces)
    pasted = parse_addresses(text)
    assert pasted.unreadable == ()
    expected: dict[str, str] = {}
    for (_, name, address), _ in pieces:
        expected.setdefault(address, name)
    assert {each.address: each.name for each in pasted.addresses} == expected
    assert [each.address for each in pasted.addresses] == list(expected)
    assert len(pasted.addresses) + len(pasted.repeated) == len(pieces)


TEXTS = st.text(st.sampled_from('ab@.,;<>"\\ \n\t#:()') | st.characters(), max_size=60)


@given(TEXTS)
def test_any_text_is_read_without_an_error_and_each_address_is_normal(text: str) -> None:
    pasted = parse_addresses(text)
    for each in (*pasted.addresses, *pasted.repeated):
        assert normal_address(each.address)[0] == each.address
        assert each.name.isprintable()
    keys = [folded(each.address) for each in pasted.addresses]
    assert len(keys) == len(set(keys))


@given(TEXTS)
def test_no_word_with_an_at_sign_is_dropped_silently(text: str) -> None:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    if any("@" in line.replace("\u200b", "") for line in lines):
        pasted = parse_addresses("\n".join(lines))
        assert pasted.addresses or pasted.unreadable

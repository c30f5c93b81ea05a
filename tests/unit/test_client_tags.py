"""ClientTags: a table of networks and logins to tags, from a file."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.client_tags import ClientTags
from ratelimit_mail.envelope import NOBODY, Client

TABLE = """\
# the campus
129.100.0.0/16    campus
129.100.64.0/18   wireless; Reznet   # dormitories

2001:db8:5::/48,campus,lab
::ffff:10.0.0.0/104 vpn
192.0.2.7 printer
192.0.2.7 old
"""


@pytest.mark.parametrize(
    ("address", "tags"),
    [
        ("129.100.1.1", {"campus"}),
        ("129.100.64.1", {"campus", "wireless", "Reznet"}),
        ("129.100.127.255", {"campus", "wireless", "Reznet"}),
        ("129.100.128.0", {"campus"}),
        ("129.101.0.0", set()),
        ("2001:db8:5:1::1", {"campus", "lab"}),
        ("2001:db8:6::1", set()),
        ("10.255.0.1", {"vpn"}),
        ("::ffff:10.0.0.1", {"vpn"}),
        ("192.0.2.7", {"printer", "old"}),
        ("192.0.2.8", set()),
    ],
)
def test_a_client_has_the_tags_of_every_network_that_contains_it(
    address: str, tags: set[str]
) -> None:
    table = ClientTags.loads(TABLE)
    assert table.tagged(Client(address=address, tags=["own"])).tags == tags | {"own"}


def test_a_client_without_an_address_or_a_network_stays_as_it_is() -> None:
    table = ClientTags.loads(TABLE)
    assert table.tagged(NOBODY) is NOBODY
    client = Client(address="192.0.2.9", user="ann")
    assert table.tagged(client) is client
    assert len(table) == 5


NETWORKS = st.builds(
    lambda number, prefix: ipaddress.ip_network((number, prefix), strict=False),
    st.integers(0x0A000000, 0x0A00FFFF),
    st.integers(8, 32),
)


@given(st.lists(st.tuples(NETWORKS, st.sampled_from("abc")), max_size=8), st.integers(0, 0xFFFF))
def test_the_table_agrees_with_a_search_through_all_networks(
    networks: list[tuple[ipaddress.IPv4Network, str]], host: int
) -> None:
    ip = ipaddress.ip_address(0x0A000000 + host)
    table = ClientTags((network, [tag]) for network, tag in networks)
    assert table.tags_of(ip) == {tag for network, tag in networks if ip in network}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("campus 10.0.0.0/8", "line 1: '10.0.0.0/8' is not a tag"),
        ("campus 10.0.0.1", "line 1: '10.0.0.1' is not a tag"),
        ("129.100 campus", "line 1: target: '129.100' is not a network"),
        ("x" * 321 + " campus", "line 1: .* is not a network, a login"),
        ("10.0.0.0/8 two/words", "line 1: 'two/words' is not a tag"),
        ("\n10.0.0.1/8 x", "line 2: target: '10.0.0.1/8' is not a network .* host bits"),
        ("10.0.0.0/8", "line 1: '10.0.0.0/8' has no tag"),
        ("10.0.0.0/8 # x", "line 1: '10.0.0.0/8' has no tag"),
        ("10.0.0.0/8 " + "x" * 101, "line 1: .* is not a tag"),
        ("10.0.0.0/8 a\x07b", "line 1: .* is not a tag"),
    ],
)
def test_a_wrong_line_is_an_error_with_its_number(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ClientTags.loads(text)


def test_a_table_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "networks.txt"
    file.write_bytes(b"\xef\xbb\xbf10.0.0.0/8 campus\r\n")
    assert ClientTags.load(file).tags_of(ipaddress.ip_address("10.1.1.1")) == {"campus"}
    file.write_bytes(b"10.0.0.0/8\n")
    with pytest.raises(ValueError, match=r"networks\.txt: line 1: "):
        ClientTags.load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        ClientTags.load(file)
    with pytest.raises(OSError, match="No such file"):
        ClientTags.load(tmp_path / "none")


def test_a_login_has_its_own_tags_and_those_of_its_realm() -> None:
    table = ClientTags.loads("ann@uwo.ca staff\n@uwo.ca member\n@ local\nservice=1 app")
    assert table.tags_of(None, "Ann@UWO.ca") == {"staff", "member"}
    assert table.tags_of(None, "kim@uwo.ca") == {"member"}
    assert table.tags_of(None, "kim@example.org") == set()
    assert table.tags_of(None, "service=1") == {"local", "app"}
    assert table.tagged(Client(user="kim@uwo.ca")).tags == {"member"}
    assert len(table) == 4


def test_more_lines_join_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tags"
    file.write_text("10.0.0.0/8 campus\n")
    table = ClientTags.load(file, [("10.1.0.0/16", ["wireless"])])
    assert table.tags_of(ipaddress.ip_address("10.1.0.1")) == {"campus", "wireless"}


@pytest.mark.parametrize("line", [("10.0.0.0/8", ["two words"]), ("", ["x"]), ("ann", [])])
def test_a_wrong_pair_is_an_error(line: tuple[str, list[str]]) -> None:
    with pytest.raises(ValueError, match=r"is not a|has no tag"):
        ClientTags([line])

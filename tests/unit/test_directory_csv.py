"""A directory in CSV files: what their rows mean, and the errors, with file and line."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_mail.directory import Directory, MailingList

ANN = "ann@uwo.ca"
BOB = "bob@uwo.ca"
ALIASES = {"a.smith@uwo.ca": ANN, "b.jones@uwo.ca": BOB}

ALIAS_FILE = "alias,owner\na.smith@uwo.ca,ann@uwo.ca\nb.jones@uwo.ca,bob@uwo.ca\n"

LIST_FILE = """\
list,subscription,posting,exempt,posters,moderators,members
news@uwo.ca,open,named,yes,ann@uwo.ca .uwo.ca,,"bob@uwo.ca; eve@x.org"
talk@uwo.ca,,moderated,no,,ann@uwo.ca,news@uwo.ca
all@uwo.ca
"""


@pytest.fixture
def aliases(tmp_path: Path) -> Path:
    return tmp_path / "aliases.csv"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return tmp_path / "lists.csv"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        ALIAS_FILE,
        ALIAS_FILE.replace("\n", "\r\n"),
        "\ufeff" + ALIAS_FILE,
        '\ufeff"alias","owner"\n' + ALIAS_FILE.partition("\n")[2],
        ALIAS_FILE.rstrip(),
        ALIAS_FILE.replace("alias,owner", " Proxy Address , PRIMARY "),
        ALIAS_FILE.replace("alias,owner", "proxy_address,Owner"),
        ALIAS_FILE.replace("@uwo.ca,", "@UWO.ca , "),
        ALIAS_FILE.replace("\n", "\n\n , \n"),
        ALIAS_FILE + "a.smith@UWO.CA,ann@uwo.ca\n",
        'owner,name,alias\nann@uwo.ca,"Ann\nSmith, ""A""",a.smith@uwo.ca\n'
        "bob@uwo.ca,Jörg,b.jones@uwo.ca\n",
    ],
)
def test_a_file_of_aliases_is_read_in_any_spelling_of_csv(aliases: Path, text: str) -> None:
    assert Directory.from_csv(write(aliases, text)) == Directory(ALIASES)


def test_a_path_may_be_a_string_and_lists_may_be_passed_too(aliases: Path) -> None:
    lists = [MailingList("all@uwo.ca", members=["a.smith@uwo.ca"])]
    directory = Directory.from_csv(str(write(aliases, ALIAS_FILE)), lists=iter(lists))
    assert directory == Directory(ALIASES, lists)


def test_a_file_of_lists_is_read(aliases: Path, lists: Path) -> None:
    directory = Directory.from_csv(write(aliases, ALIAS_FILE), write(lists, LIST_FILE))
    assert directory.aliases == ALIASES
    assert directory.lists == (
        MailingList(
            "news@uwo.ca",
            members=[BOB, "eve@x.org"],
            subscription="open",
            posting="named",
            posters=[ANN, ".uwo.ca"],
            exempt=True,
        ),
        MailingList("talk@uwo.ca", members=["news@uwo.ca"], posting="moderated", moderators=[ANN]),
        MailingList("all@uwo.ca"),
    )


def test_a_file_of_lists_can_be_read_without_aliases(lists: Path) -> None:
    directory = Directory.from_csv(lists_path=write(lists, LIST_FILE))
    assert directory == Directory.from_csv(None, lists)
    assert len(directory.lists) == 3


def test_further_rows_add_members_to_a_list(lists: Path) -> None:
    text = (
        "MEMBERS,list,posting,posters\n"
        'ann@uwo.ca,all@uwo.ca,named,uwo.ca\n"bob@uwo.ca\nann@uwo.ca, eve@x.org",all@UWO.ca\n'
        ",other@uwo.ca\nzoe@x.org,all@uwo.ca,,x.org\n"
    )
    directory = Directory.from_csv(None, write(lists, text))
    assert directory.lists == (
        MailingList(
            "all@uwo.ca",
            members=[ANN, BOB, "eve@x.org", "zoe@x.org"],
            posting="named",
            posters=["uwo.ca", "x.org"],
        ),
        MailingList("other@uwo.ca"),
    )


@pytest.mark.parametrize(
    ("cell", "exempt"), [("Yes", True), ("TRUE", True), ("1", True), ("no", False), ("", False)]
)
def test_a_list_is_exempt_if_the_file_says_so(lists: Path, cell: str, exempt: bool) -> None:
    directory = Directory.from_csv(None, write(lists, f"list,exempt\na@x.org,{cell}\n"))
    assert directory.lists == (MailingList("a@x.org", exempt=exempt),)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"'aliases.csv' is empty"),
        ("\n\n", r"'aliases.csv' is empty"),
        ("name,owner\n", r"line 1: no column alias or proxy_address; the header has 'name', "),
        ("alias,o\n", r"line 1: no column owner or primary; the header has 'alias', 'o'"),
        ("\nalias;owner\n", r"line 2: no column alias or .* the header has 'alias;owner'"),
        ("c,alias," + "c," * 20, r"the header has 'c', 'alias', 'c'.* and 11 more$"),
        ("alias,Proxy Address,owner\n",
         r"line 1: two columns for the alias: 'alias' and 'Proxy Address'"),
        ("alias,owner,primary\n", r"line 1: two columns for the owner: 'owner' and 'primary'"),
        ("alias,owner\na@x.org,b@x.org\na@x.org,c@x.org\n",
         r"'aliases.csv', line 3: alias: 'a@x.org' has two owners, 'b@x.org' and 'c@x.org'"),
        ("alias,owner\n\na@x.org,b@x.org\nb@x.org,c@x.org\n",
         r"'aliases.csv', line 3: 'a@x.org' is an alias of 'b@x.org', which is itself an alias"),
        ("alias,owner\na@x.org,a@X.org\n", r"line 2: alias: 'a@x.org' is named as an alias of its"),
        ("alias,owner\nz@x.org,b@x.org\nall@x.org,b@x.org\n",
         r"line 3: 'all@x.org' is a mailing list and an alias"),
        ("alias,owner\na@x.org,all@x.org\n", r"line 2: .* of 'all@x.org', which is a mailing list"),
        ("alias,owner\na@x.org\n", r"line 2: owner: an address is empty"),
        ("alias,owner\n,a@x.org\n", r"line 2: alias: an address is empty"),
        ("alias,owner\na@x.org,b\n", r"line 2: owner: the address 'b' has no '@'"),
        ("alias,owner\na@x.org,b@x.org,c\n", r"line 2: 3 columns where the header has 2"),
        ('x,alias,owner\n"1\n2",a@x.org,b@x.org\n,"a"@x.org,b\n', r"line 4: not CSV: "),
        ('alias,owner\na@x.org,"b@x.org\n\n\n', r"line 2: not CSV: unexpected end of data"),
        (b"alias,owner\na@x.org,b@x.org\nj\xf6rg@x.org,b@x.org\n", r"line 3: not UTF-8"),
        ("alias,owner\n" + "a" * (1 << 20) + "a", r"line 2: longer than 1,048,576 bytes"),
        ("alias,owner\n\x1b[31m@x.org,b@x.org\n", r"line 2: alias: the address '\\x1b\[31m@x.org'"),
    ],
)  # fmt: skip
def test_an_error_in_a_file_of_aliases_names_file_and_line(
    aliases: Path, text: str | bytes, match: str
) -> None:
    with pytest.raises(ValueError, match=match) as error:
        Directory.from_csv(write(aliases, text), lists=[MailingList("all@x.org")])
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


HEADER = "list,members,posting,subscription,exempt,posters,moderators\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name\n", r"'lists.csv', line 1: no column list; the header has 'name'"),
        (HEADER + ",ann@x.org\n", r"line 2: address: an address is empty"),
        (HEADER + "a\n", r"'lists.csv', line 2: address: the address 'a' has no '@'"),
        (HEADER + "a@x.org,b@x.org c\n", r"line 2: members: the address 'c' has no '@'"),
        (HEADER + "a@x.org\na@x.org,c\n", r"line 3: members: the address 'c' has no '@'"),
        (HEADER + "a@x.org,,public\n", r"line 2: posting: 'public' is not one of open, moderated"),
        (HEADER + "a@x.org,,,maybe\n", r"line 2: subscription: 'maybe' is not one of closed, open"),
        (HEADER + "a@x.org,,,,perhaps\n", r"line 2: exempt: 'perhaps' is neither yes nor no"),
        (HEADER + "a@x.org,,,,,x org.\n", r"line 2: posters: 'org.' is not a domain"),
        (HEADER + "a@x.org,,,,,,x.org\n", r"line 2: moderators: the address 'x.org' has no '@'"),
        (HEADER + "a@x.org,,open\nb@x.org\nA@x.org\na@X.org,,open\n",
         r"line 5: the list 'a@x.org' is in line 2 already; a row that adds to it leaves"),
        (HEADER + "b@x.org\nall@x.org,c@x.org\n", r"line 3: there are two lists .* 'all@x.org'"),
        (HEADER + "a@x.org,A@x.org a@X.org\n", r"line 2: members: the list 'a@x.org' contains its"),
        (HEADER + "c@x.org,d@x.org\n\nd@x.org,e@x.org\ne@x.org,d@x.org\n",
         r"line 4: 'd@x.org' contains itself: 'd@x.org' > 'e@x.org' > 'd@x.org'"),
        (HEADER + "b@x.org,all@x.org\n",
         r"line 2: 'all@x.org' contains itself: 'all@x.org' > 'b@x.org' > 'all@x.org'"),
    ],
)  # fmt: skip
def test_an_error_in_a_file_of_lists_names_file_and_line(
    lists: Path, text: str, match: str
) -> None:
    beside = MailingList("all@x.org", members=["b@x.org"])
    with pytest.raises(ValueError, match=match):
        Directory.from_csv(None, write(lists, text), lists=[beside])


def test_a_cycle_of_lists_outside_the_file_does_not_name_the_file(lists: Path) -> None:
    circle = [
        MailingList("b@x.org", members=["c@x.org"]),
        MailingList("c@x.org", members=["b@x.org"]),
    ]
    with pytest.raises(ValueError, match=r"^lists: 'b@x.org' contains itself"):
        Directory.from_csv(None, write(lists, "list\na@x.org\n"), lists=circle)


def test_an_alias_that_is_also_a_list_is_an_error(aliases: Path, lists: Path) -> None:
    write(lists, "list\na.smith@uwo.ca\n")
    with pytest.raises(ValueError, match=r"'aliases.csv', line 2: 'a.smith@uwo.ca' is a mailing"):
        Directory.from_csv(write(aliases, ALIAS_FILE), lists)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a file of aliases or one of lists is needed"):
        Directory.from_csv()
    with pytest.raises(FileNotFoundError):
        Directory.from_csv(tmp_path / "missing.csv")


def test_a_hundred_thousand_rows_are_read(aliases: Path, lists: Path) -> None:
    rows = (f"alias{i}@x.org,owner{i // 4}@x.org\n" for i in range(100_000))
    members = (f"all@x.org,alias{i}@x.org\n" for i in range(100_000))
    write(aliases, "alias,owner\n" + "".join(rows))
    write(lists, "list,members\n" + "".join(members))
    directory = Directory.from_csv(aliases, lists)
    assert len(directory.aliases) == 100_000
    assert directory.owner("alias99999@x.org") == "owner24999@x.org"
    assert len(directory.members_of("all@x.org")) == 25_000


LOCAL = st.text(st.characters(categories=["L", "N"], include_characters="'+.=_"), min_size=1)


@given(
    st.dictionaries(LOCAL, st.sampled_from([ANN, BOB])),
    st.permutations(["alias", "owner", "x,\ny"]),
)
def test_written_rows_are_read_back(
    tmp_path_factory: Any, owners: dict[str, str], columns: list[str]
) -> None:
    path: Path = tmp_path_factory.mktemp("csv") / "aliases.csv"
    written = {f"{local}@example.com": owner for local, owner in owners.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for alias, owner in written.items():
            table.writerow({"alias": alias, "owner": owner, "x,\ny": 'a "b"\n'})
    assert Directory.from_csv(path) == Directory(written)


def test_a_csv_file_has_a_bounded_size(monkeypatch: pytest.MonkeyPatch, aliases: Path) -> None:
    path = write(aliases, "alias,owner\na@x.org,b@x.org\nc@x.org,b@x.org\n")
    monkeypatch.setattr("ratelimit_mail.directory.csv_table.LARGEST", path.stat().st_size)
    assert len(Directory.from_csv(path).aliases) == 2
    monkeypatch.setattr("ratelimit_mail.directory.csv_table.LARGEST", path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"line 3: the file is longer than .* bytes"):
        Directory.from_csv(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="it needs pipes of Unix")
def test_a_pipe_is_not_read_as_a_csv_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "aliases.csv")
    with pytest.raises(ValueError, match=r"'aliases.csv' is a pipe or a device, not a file"):
        Directory.from_csv(tmp_path / "aliases.csv")

"""ListFile: subscribing and leaving with their time, and the file as a directory."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ratelimit_mail import Action, Envelope, Limiter, MessageRateLimit, Policy
from ratelimit_mail.directory import Directory, ListFile, MailingList, parse_addresses
from ratelimit_mail.testing import ManualClock

NEWS, ED, ANN, BOB = "news@uwo.ca", "ed@uwo.ca", "ann@uwo.ca", "bob@uwo.ca"


class Seconds:
    """A timer that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000)


@pytest.fixture
def timer() -> Seconds:
    return Seconds()


@pytest.fixture
def lists(tmp_path: Path, clock: ManualClock, timer: Seconds) -> ListFile:
    lists = ListFile(tmp_path / "lists.json", create=True, clock=clock, timer=timer)
    lists.add_list(MailingList(NEWS, moderators=[ED], posting="moderated"))
    return lists


def again(lists: ListFile) -> ListFile:
    return ListFile(lists.path)


def test_subscribing_and_leaving_are_recorded_with_their_time_and_the_requester(
    lists: ListFile, clock: ManualClock
) -> None:
    lists.subscribe(NEWS, parse_addresses("Ann Smith <ann@uwo.ca>").addresses, by=ED)
    clock.advance(60)
    lists.subscribe(NEWS, BOB)
    clock.advance(60)
    lists.unsubscribe(NEWS, "ANN@uwo.ca", by=ANN)
    assert [
        (change.at, change.action, change.address, change.by, change.name)
        for change in again(lists).history(NEWS)
    ] == [
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), "subscribed", ANN, ED, "Ann Smith"),
        (datetime(2023, 11, 14, 22, 14, 20, tzinfo=UTC), "subscribed", BOB, "administrator", ""),
        (datetime(2023, 11, 14, 22, 15, 20, tzinfo=UTC), "left", ANN, ANN, "Ann Smith"),
    ]
    [member] = again(lists).members(NEWS)
    assert (member.address, member.by) == (BOB, "administrator")
    assert member.since == datetime(2023, 11, 14, 22, 14, 20, tzinfo=UTC)


def test_a_member_is_subscribed_once_however_spelled(lists: ListFile) -> None:
    assert len(lists.subscribe(NEWS, [ANN, "Ann@UWO.ca"])) == 1
    assert lists.subscribe("NEWS@uwo.ca", "ANN@uwo.ca") == ()
    assert [each.address for each in lists.members(NEWS)] == [ANN]


def test_who_left_can_subscribe_again(lists: ListFile, clock: ManualClock) -> None:
    lists.subscribe(NEWS, ANN)
    lists.unsubscribe(NEWS, ANN)
    clock.advance(1)
    lists.subscribe(NEWS, ANN)
    [member] = lists.members(NEWS)
    assert member.since == datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC)
    assert [each.action for each in lists.history(NEWS)] == ["subscribed", "left", "subscribed"]


def test_time_in_the_history_does_not_go_back(lists: ListFile, clock: ManualClock) -> None:
    lists.subscribe(NEWS, ANN)
    clock.advance(-3600)
    lists.subscribe(NEWS, BOB)
    first, second = lists.history(NEWS)
    assert first.at == second.at


@pytest.mark.parametrize(
    ("requester", "message"),
    [
        (BOB, "subscription to 'news@uwo.ca' is closed"),
        ("not an address", "by: "),
    ],
)
def test_only_those_who_may_subscribe_others_do(
    lists: ListFile, requester: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        lists.subscribe(NEWS, ANN, by=requester)
    assert again(lists).members(NEWS) == ()


def test_only_a_moderator_lets_another_person_leave(lists: ListFile) -> None:
    lists.subscribe(NEWS, [ANN, BOB])
    with pytest.raises(ValueError, match="is not a moderator"):
        lists.unsubscribe(NEWS, ANN, by=BOB)
    lists.unsubscribe(NEWS, ANN, by=ED)
    assert [each.address for each in lists.members(NEWS)] == [BOB]


@pytest.mark.parametrize("wrong", [["c@uwo.ca", "no address"], ["c@uwo.ca", NEWS]])
def test_a_change_that_is_not_possible_for_one_address_changes_nothing(
    lists: ListFile, wrong: list[str]
) -> None:
    lists.subscribe(NEWS, ANN)
    before = Path(lists.path).read_bytes()
    with pytest.raises(ValueError, match=r"is not|no '@'|contains itself"):
        lists.subscribe(NEWS, wrong)
    with pytest.raises(ValueError, match=r"'bob@uwo\.ca' is not a member of 'news@uwo\.ca'"):
        lists.unsubscribe(NEWS, [ANN, BOB])
    assert Path(lists.path).read_bytes() == before
    assert [each.address for each in lists.members(NEWS)] == [ANN]


def test_members_can_be_replaced_by_those_who_may_subscribe_others(lists: ListFile) -> None:
    lists.subscribe(NEWS, [ANN, BOB])
    changes = lists.set_members(NEWS, ["BOB@uwo.ca", "cy@uwo.ca"], by=ED)
    assert [(each.action, each.address, each.by) for each in changes] == [
        ("left", ANN, ED),
        ("subscribed", "cy@uwo.ca", ED),
    ]
    lists.change_list(NEWS, subscription="open")
    for wrong in ([ANN], [ANN, "cy@uwo.ca", BOB], ["no address"]):
        with pytest.raises(ValueError, match=r"is not|no '@'"):
            lists.set_members(NEWS, wrong, by=ANN)
    assert [each.address for each in again(lists).members(NEWS)] == [BOB, "cy@uwo.ca"]


def test_lists_that_would_contain_one_another_are_refused(lists: ListFile) -> None:
    lists.add_list(MailingList("all@uwo.ca", members=[NEWS]))
    with pytest.raises(ValueError, match="contains itself"):
        lists.subscribe(NEWS, "all@uwo.ca")
    assert again(lists).members(NEWS) == ()


def test_an_unknown_list_is_an_error_that_names_the_lists(lists: ListFile) -> None:
    with pytest.raises(ValueError, match=r"no list 'old@uwo\.ca'; there are"):
        lists.members("old@uwo.ca")


def test_settings_of_a_list_change_and_its_members_stay(lists: ListFile) -> None:
    lists.subscribe(NEWS, ANN)
    changed = lists.change_list(NEWS, posting="named", posters=["it.uwo.ca"])
    assert (changed.posting, changed.posters, changed.members) == ("named", ("it.uwo.ca",), (ANN,))
    assert again(lists).lists == (changed,)
    with pytest.raises(TypeError, match="'members' is not one of"):
        lists.change_list(NEWS, members=[])
    lists.remove_list(NEWS)
    assert again(lists).lists == ()


def test_a_running_limiter_sees_a_change_by_another_process(
    lists: ListFile, timer: Seconds
) -> None:
    directory = ListFile(lists.path, timer=timer)
    limiter = Limiter(
        Policy(name="test", limits=[MessageRateLimit("100/day")], directory=directory)
    )
    assert limiter.check(Envelope(BOB, [NEWS])).action is Action.HOLD
    lists.change_list(NEWS, posters=[BOB])
    assert limiter.check(Envelope(BOB, [NEWS])).action is Action.HOLD  # checked a moment ago
    timer.now += 1
    assert limiter.check(Envelope(BOB, [NEWS])).action is Action.ACCEPT


def test_reload_does_not_wait_for_the_next_check(lists: ListFile, timer: Seconds) -> None:
    directory = ListFile(lists.path, timer=timer)
    lists.subscribe(NEWS, ANN)
    assert directory.members(NEWS) == ()
    directory.reload()
    assert [each.address for each in directory.members(NEWS)] == [ANN]


@pytest.mark.parametrize("damage", ["broken", "missing"])
def test_a_file_that_cannot_be_read_any_more_is_logged_once_and_its_lists_stay(
    lists: ListFile, timer: Seconds, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    directory = ListFile(lists.path, timer=timer)
    text = Path(lists.path).read_text()
    if damage == "broken":
        Path(lists.path).write_text("{")
    else:
        Path(lists.path).unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            timer.now += 1
            assert directory.mailing_list(NEWS) is not None
    [record] = caplog.records
    assert "the mailing lists read last stay in force" in record.getMessage()
    with pytest.raises((ValueError, OSError)):
        directory.reload()
    Path(lists.path).write_text(text.replace('"moderated"', '"named"'))
    timer.now += 1
    mailing_list = directory.mailing_list(NEWS)
    assert mailing_list is not None
    assert mailing_list.posting == "named"


def test_a_missing_file_is_an_error_unless_it_may_be_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ListFile(tmp_path / "lists.json")
    lists = ListFile(tmp_path / "lists.json", create=True)
    assert lists.lists == ()
    assert not Path(lists.path).exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'lists.json': "),
        ("[]", "not a file of mailing lists"),
        ('{"format": "ratelimit-mail lists 2"}', "not a file of mailing lists"),
        ('{"format": "ratelimit-mail lists 1"}', "the key 'lists' is missing"),
        ("[" * 100_000, "'lists.json': "),
        ("\xff", "'lists.json': "),
    ],
)
def test_a_file_that_is_not_a_list_file_is_an_error_that_names_it(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "lists.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"lists\.json") as caught:
        ListFile(file)
    assert message in str(caught.value)


def test_a_wrong_entry_is_an_error_that_names_the_list(lists: ListFile) -> None:
    lists.subscribe(NEWS, ANN)
    text = Path(lists.path).read_text()
    for old, new, message in [
        ('"subscribed"', '"joined"', "'joined' is neither subscribed nor left"),
        ('"at": "2023', '"at": "x2023', "Invalid isoformat"),
        ('Z"', '"', "has no time zone"),
        ('"moderated"', '"mod"', "posting: 'mod' is not one of"),
    ]:
        Path(lists.path).write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=message) as caught:
            again(lists)
        assert "the list 'news@uwo.ca'" in str(caught.value)


def test_aliases_and_fixed_lists_are_those_of_the_directory(tmp_path: Path) -> None:
    base = Directory({"a.smith@uwo.ca": ANN}, [MailingList("fixed@uwo.ca")])
    lists = ListFile(tmp_path / "lists.json", directory=base, create=True)
    lists.add_list(MailingList(NEWS, members=["fixed@uwo.ca"]))
    assert lists.owner("a.smith@uwo.ca") == ANN
    assert lists.mailing_list("fixed@uwo.ca") is not None
    assert [each.address for each in lists.lists] == [NEWS]
    with pytest.raises(ValueError, match="mailing list and an alias"):
        lists.add_list(MailingList("a.smith@uwo.ca"))
    with pytest.raises(ValueError, match="there is a list"):
        lists.add_list(MailingList("News@uwo.ca"))


def test_the_new_file_has_the_permissions_of_the_old_one(lists: ListFile) -> None:
    os.chmod(lists.path, 0o640)
    lists.subscribe(NEWS, ANN)
    assert os.stat(lists.path).st_mode & 0o777 == 0o640
    lock = Path(lists.path).with_name(".lists.json.lock")
    assert lock.stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_one(lists: ListFile, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(lists.path)
    ListFile(link).subscribe(NEWS, ANN)
    assert link.is_symlink()
    assert [each.address for each in again(lists).members(NEWS)] == [ANN]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    lists: ListFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path(lists.path).read_bytes()
    names = sorted(os.listdir(tmp_path))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        lists.subscribe(NEWS, ANN)
    assert Path(lists.path).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == names
    assert lists.members(NEWS) == ()


def test_threads_lose_no_change(lists: ListFile) -> None:
    def subscribe(number: int) -> None:
        own = ListFile(lists.path)
        for i in range(5):
            own.subscribe(NEWS, f"user{number}-{i}@uwo.ca")

    threads = [threading.Thread(target=subscribe, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(again(lists).members(NEWS)) == 20


def test_processes_lose_no_change(lists: ListFile) -> None:
    code = (
        "import sys; from ratelimit_mail.directory import ListFile\n"
        "for i in range(5):\n"
        "    ListFile(sys.argv[1]).subscribe('news@uwo.ca', f'{sys.argv[2]}-{i}@uwo.ca')"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, lists.path, f"user{number}"])
        for number in range(3)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(again(lists).members(NEWS)) == 15


def test_the_file_is_json_with_one_line_for_each_change(lists: ListFile) -> None:
    lists.subscribe(NEWS, [ANN, BOB])
    text = Path(lists.path).read_text(encoding="utf-8")
    assert json.loads(text)["lists"][0]["history"][1]["address"] == BOB
    assert sum('"action": "subscribed"' in line for line in text.splitlines()) == 2


def test_a_policy_file_names_the_file_relative_to_its_folder(
    lists: ListFile, tmp_path: Path
) -> None:
    file = tmp_path / "campus.toml"
    file.write_text('name = "campus"\n[directory]\nlists_file = "lists.json"\n')
    policy = Policy.load(file)
    assert isinstance(policy.directory, ListFile)
    assert policy.directory.mailing_list(NEWS) is not None
    assert Policy.loads(policy.dump()) == policy


def test_a_list_file_can_be_pickled(lists: ListFile) -> None:
    copy = pickle.loads(pickle.dumps(lists))
    assert copy == lists
    assert hash(copy) == hash(lists)
    assert copy.lists == lists.lists


def test_the_proxy_address_limit_holds_for_the_aliases_beside_a_file(tmp_path: Path) -> None:
    base = Directory({"a.smith@uwo.ca": ANN, "a.s@uwo.ca": ANN})
    lists = ListFile(tmp_path / "lists.json", directory=base, create=True)
    with pytest.raises(ValueError, match="has 2 aliases"):
        Policy(name="test", directory=lists, proxy_address_limit=1)

"""A policy is published once, loads as it was or not at all, and is promoted by one who knew whom it replaces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies import LedgerUnavailable, PolicyFileDamaged, PolicyState, PromotionLost, RecordRefused, UnknownVersion
from policies.ledger import Ledger
from policies.policy_files import path_of
from policies.policy_versions import PolicyVersions

FIRST, SECOND, THIRD = b'{"weights": [1.0]}', b'{"weights": [2.0]}', b'{"weights": [3.0]}'


@pytest.fixture
def versions(ledger: Ledger) -> PolicyVersions:
    return ledger.policy_versions


def publish(versions: PolicyVersions, content: bytes, **given: object) -> str:
    return versions.publish(content, **given).version_id  # type: ignore[arg-type]  # whatever a test is about


def test_a_version_is_named_after_its_bytes_and_gives_them_back(versions: PolicyVersions) -> None:
    parent = publish(versions, FIRST)

    version = versions.publish(SECOND, parent=parent, trained_to_seq=7, metrics={"brier": 0.125})

    assert version.version_id == hashlib.sha256(SECOND).hexdigest()
    assert versions.load(version.version_id) == SECOND
    assert versions.version(version.version_id) == version
    assert (version.parent, version.trained_to_seq, version.metrics) == (parent, 7, {"brier": 0.125})
    assert (version.state, version.size_bytes) == (PolicyState.CANDIDATE, len(SECOND))
    assert [one.version_id for one in versions.all()] == [parent, version.version_id]


def test_the_same_bytes_are_one_version_and_the_first_record_stands(versions: PolicyVersions) -> None:
    first = versions.publish(FIRST, metrics={"brier": 0.5})

    assert versions.publish(FIRST, metrics={"brier": 0.1}) == first
    assert len(versions.all()) == 1


def test_its_states_are_kept_and_the_last_one_is_shown(versions: PolicyVersions) -> None:
    version_id = publish(versions, FIRST)

    assert versions.set_state(version_id, PolicyState.SHADOW, "gate passed").state == PolicyState.SHADOW
    assert versions.set_state(version_id, PolicyState.REJECTED, "worse in shadow").state == PolicyState.REJECTED
    assert versions.version(version_id).state == PolicyState.REJECTED


def test_what_is_not_there_is_named(versions: PolicyVersions) -> None:
    with pytest.raises(UnknownVersion, match="no-such"):
        versions.load("no-such")
    with pytest.raises(UnknownVersion, match="no-such"):
        versions.publish(FIRST, parent="no-such")
    with pytest.raises(UnknownVersion, match="no-such"):
        versions.promote("no-such", expected_epoch=0, reason="")
    with pytest.raises(UnknownVersion, match=r"'champion'.*promote"):
        versions.roll_back(expected_epoch=0, reason="")
    assert versions.all() == ()
    with pytest.raises(RecordRefused, match="metrics"):
        versions.publish(FIRST, metrics={"brier": float("nan")})


# Promotion


def test_nothing_is_champion_until_something_is_promoted(versions: PolicyVersions) -> None:
    assert (versions.alias("champion").version_id, versions.alias("champion").epoch) == (None, 0)


def test_a_promotion_is_one_epoch_and_keeps_the_one_before(versions: PolicyVersions) -> None:
    first, second = publish(versions, FIRST), publish(versions, SECOND)

    assert versions.promote(first, expected_epoch=0, reason="first").epoch == 1
    assert versions.promote(second, expected_epoch=1, reason="better").epoch == 2

    assert versions.alias("champion").version_id == second
    assert versions.alias("previous").version_id == first
    assert versions.version(first).state == PolicyState.RETIRED
    assert versions.version(second).state == PolicyState.CHAMPION


def test_who_looked_before_another_promoted_has_lost_and_changes_nothing(versions: PolicyVersions) -> None:
    first, second, third = (publish(versions, content) for content in (FIRST, SECOND, THIRD))
    versions.promote(first, expected_epoch=0, reason="first")
    versions.promote(second, expected_epoch=1, reason="better")

    with pytest.raises(PromotionLost) as lost:
        versions.promote(third, expected_epoch=1, reason="better than the first")

    assert (lost.value.expected_epoch, lost.value.epoch) == (1, 2)
    assert versions.alias("champion").version_id == second
    assert versions.alias("previous").version_id == first
    assert versions.version(third).state == PolicyState.CANDIDATE


def test_an_epoch_from_the_future_is_no_better(versions: PolicyVersions) -> None:
    first = publish(versions, FIRST)

    with pytest.raises(PromotionLost):
        versions.promote(first, expected_epoch=5, reason="")


def test_a_promoted_challenger_is_no_longer_challenger(versions: PolicyVersions) -> None:
    first = publish(versions, FIRST)
    versions.point("challenger", first, expected_epoch=0, reason="gate passed")

    versions.promote(first, expected_epoch=0, reason="canary went well")

    assert versions.alias("challenger").version_id is None
    assert versions.alias("challenger").epoch == 2


def test_rolling_back_changes_champion_and_previous_round(versions: PolicyVersions) -> None:
    first, second = publish(versions, FIRST), publish(versions, SECOND)
    versions.promote(first, expected_epoch=0, reason="first")
    versions.promote(second, expected_epoch=1, reason="better")

    versions.roll_back(expected_epoch=2, reason="worse on new tasks")

    assert versions.alias("champion").version_id == first
    assert versions.alias("previous").version_id == second


def test_rolling_back_the_first_champion_leaves_none(versions: PolicyVersions) -> None:
    first = publish(versions, FIRST)
    versions.promote(first, expected_epoch=0, reason="first")

    with pytest.raises(PromotionLost):
        versions.roll_back(expected_epoch=0, reason="late")
    assert versions.roll_back(expected_epoch=1, reason="worse than nobody").version_id is None

    assert versions.moves("champion")[-1].reason == "rolled back: worse than nobody"
    assert versions.alias("champion").epoch == 2
    assert versions.version(first).state == PolicyState.RETIRED
    with pytest.raises(UnknownVersion):
        versions.roll_back(expected_epoch=2, reason="again")
    versions.promote(first, expected_epoch=2, reason="after all")
    assert versions.alias("previous").version_id is None


def test_there_are_three_aliases(versions: PolicyVersions) -> None:
    with pytest.raises(RecordRefused, match="champion, challenger, previous"):
        versions.point("best", publish(versions, FIRST), expected_epoch=0, reason="")


# Files


def damaged(path: Path) -> Iterator[None]:
    """Damage a file in one way after the other."""
    whole = path.read_bytes()
    for content in (whole[:-1], whole + b" ", b"", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(content)
        yield
    path.unlink()
    yield


def test_a_damaged_or_missing_file_is_refused_and_not_promoted(versions: PolicyVersions) -> None:
    version_id = publish(versions, FIRST)

    for _ in damaged(path_of(versions.folder, version_id)):
        with pytest.raises(PolicyFileDamaged, match="Keep the last good one"):
            versions.load(version_id)
        with pytest.raises(PolicyFileDamaged):
            versions.promote(version_id, expected_epoch=0, reason="")
    assert versions.alias("champion").epoch == 0

    publish(versions, FIRST)  # training the same again puts the file back
    assert versions.load(version_id) == FIRST


def test_a_sweep_removes_what_a_crash_left_and_nothing_else(versions: PolicyVersions) -> None:
    version_id = publish(versions, FIRST)
    unfinished = versions.folder / f"{version_id}.0a1b2c3d.tmp"
    orphan = path_of(versions.folder, hashlib.sha256(SECOND).hexdigest())
    notes = versions.folder / "notes.txt"
    for path in (unfinished, orphan, notes):
        path.write_bytes(SECOND)

    assert sorted(versions.sweep()) == sorted([unfinished, orphan])

    assert sorted(versions.folder.iterdir()) == sorted([notes, path_of(versions.folder, version_id)])
    assert versions.sweep() == ()
    assert versions.load(version_id) == FIRST


def test_a_file_that_cannot_be_written_leaves_no_row(versions: PolicyVersions) -> None:
    versions.folder.parent.mkdir(exist_ok=True)
    versions.folder.write_text("a file where the folder should be")

    with pytest.raises(LedgerUnavailable):
        versions.publish(FIRST)
    assert versions.all() == ()


def test_a_server_needs_to_be_told_where_the_files_are(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger, pytest.raises(RecordRefused, match="files="):
        ledger.policy_versions.publish(FIRST)


def test_a_sweep_leaves_the_policies_of_the_ledger_next_to_it(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "a.sqlite") as a, Ledger.open(tmp_path / "b.sqlite") as b, Ledger.open(tmp_path) as c:
        version_id = b.policy_versions.publish(b"{}").version_id

        assert a.policy_versions.sweep() == c.policy_versions.sweep() == ()
        assert b.policy_versions.load(version_id) == b"{}"


def test_what_a_version_and_an_alias_went_through_is_kept_with_the_reasons(versions: PolicyVersions) -> None:
    version_id = publish(versions, FIRST)
    versions.set_state(version_id, PolicyState.SHADOW, "gate passed")
    versions.point("challenger", version_id, expected_epoch=0, reason="fitted")
    versions.point("challenger", None, expected_epoch=1, reason="rejected")

    assert [(change.state, change.reason) for change in versions.history(version_id)] == [
        (PolicyState.CANDIDATE, "published"),
        (PolicyState.SHADOW, "gate passed"),
    ]
    assert [(move.version_id, move.epoch, move.reason) for move in versions.moves("challenger")] == [
        (version_id, 1, "fitted"),
        (None, 2, "rejected"),
    ]
    assert versions.history("no-such") == ()

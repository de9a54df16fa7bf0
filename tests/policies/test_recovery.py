"""Damage is seen, set aside and never guessed at; what is whole is saved, and what is lost is said."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from policies import LedgerCorrupt, LedgerLocked, LedgerTooNew, LedgerUnavailable, OutcomeRow
from policies.checking import CheckFinding, check
from policies.ledger import Ledger
from policies.recovery import Recovery, recover
from tests.policies.fakes import decision_row

N = 60
SCHEMA_1 = Path(__file__).parent / "data" / "ledger_schema_1.sqlite"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of 60 decisions, each with a large trace and an outcome, and a champion."""
    folder = tmp_path_factory.mktemp("made")
    with Ledger.open(folder) as ledger:
        for i in range(N):
            ledger.record(decision_row(f"trace-{i}"), json.dumps({"steps": ["probe"] * 300}))
            ledger.add_outcome(OutcomeRow(f"trace-{i}", "user", "correct", 1.0))
        version = ledger.policy_versions.publish(b"{}")
        ledger.policy_versions.promote(version.version_id, expected_epoch=0, reason="first")
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def ledger_file(home: Path) -> Path:
    return home / "ledger.sqlite"


def mark(home: Path) -> Path:
    return home / "ledger.sqlite.quarantined"


def overwrite_page_with(home: Path, marker: bytes) -> None:
    """Overwrite with zeros the first page, after the first few, that holds `marker`."""
    content = bytearray(ledger_file(home).read_bytes())
    page = next(i for i in range(len(content) // 4096) if i > 20 and marker in content[i * 4096 : (i + 1) * 4096])
    content[page * 4096 : (page + 1) * 4096] = bytes(4096)
    ledger_file(home).write_bytes(content)


def change_value(home: Path, old: bytes, new: bytes) -> None:
    """Change a row's content where SQLite itself sees nothing wrong with it."""
    content = ledger_file(home).read_bytes()
    assert old in content
    ledger_file(home).write_bytes(content.replace(old, new, 1))


def by_check(findings: tuple[CheckFinding, ...]) -> dict[str, CheckFinding]:
    return {finding.check: finding for finding in findings}


def saved(recovery: Recovery, table: str) -> tuple[int, int, int, int | None]:
    (found,) = (one for one in recovery.tables if one.table == table)
    return found.saved, found.damaged, found.refused, found.missing


def test_of_a_whole_ledger_every_check_is_ok(url: str, tmp_path: Path) -> None:
    files = tmp_path / "policies"
    with Ledger.open(url, files=files) as ledger:
        ledger.record(decision_row(), "{}")
        version = ledger.policy_versions.publish(b"{}")
        ledger.policy_versions.promote(version.version_id, expected_epoch=0, reason="first")

    found = check(url, files=files)

    assert [(one.check, one.found) for one in found if not one.ok] == []
    assert list(by_check(found)) == [
        "quarantine", "schema", "pages", "references", "rows", "append-only", "epochs", "policies",
    ]  # fmt: skip


def test_a_damaged_page_is_seen_at_the_next_opening_and_nobody_opens_the_file_again(home: Path) -> None:
    overwrite_page_with(home, b"trace-3")
    damaged = ledger_file(home).read_bytes()

    for _ in range(2):
        with pytest.raises(LedgerCorrupt, match="ttt-router ledger recover"):
            Ledger.open(home)

    assert ledger_file(home).read_bytes() == damaged
    assert mark(home).exists()
    assert not by_check(check(home))["pages"].ok


def test_a_ledger_that_is_open_stops_when_another_finds_the_damage(home: Path) -> None:
    with Ledger.open(home) as ledger:
        mark(home).write_text("found by another process")

        with pytest.raises(LedgerCorrupt, match="found by another process"):
            ledger.record(decision_row("trace-99"), "{}")
        with pytest.raises(LedgerCorrupt):
            ledger.latest(1)


def test_a_row_that_is_not_as_it_was_written_is_not_handed_out(home: Path) -> None:
    change_value(home, b"1d_fill_0", b"1d_flip_0")

    with Ledger.open(home) as ledger, pytest.raises(LedgerCorrupt, match="not as it was written"):
        ledger.latest(N)

    assert mark(home).exists()
    assert by_check(check(home))["rows"].found == "not as they were written: 1 of decisions"


@pytest.mark.parametrize(("old", "new"), [(b"1d_fill_0", b"1d_flip_0"), (b'"probe"', b'"prob\xff"')])
def test_damage_that_a_check_finds_sets_the_file_aside(home: Path, old: bytes, new: bytes) -> None:
    change_value(home, old, new)

    assert not by_check(check(home))["rows"].ok

    assert mark(home).exists()
    with pytest.raises(LedgerCorrupt):
        Ledger.open(home)


def test_a_text_that_is_no_longer_utf_8_is_damage_to_whoever_reads_it(home: Path) -> None:
    change_value(home, b'"probe"', b'"prob\xff"')

    with Ledger.open(home) as ledger, pytest.raises(LedgerCorrupt) as caught:
        [ledger.trace(f"trace-{i}") for i in range(N)]

    assert mark(home).exists()
    assert "steps" not in str(caught.value) + mark(home).read_text()


@pytest.mark.parametrize(("old", "new"), [(b'"loss": 0.5', b'"loss": 0.1'), (b"candidate", b"champion!")])
def test_a_policy_version_that_is_not_as_it_was_written_is_not_handed_out(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    with Ledger.open(tmp_path) as ledger:
        version_id = ledger.policy_versions.publish(b"{}", metrics={"loss": 0.5}).version_id
    change_value(tmp_path, old, new)

    with Ledger.open(tmp_path) as ledger, pytest.raises(LedgerCorrupt):
        ledger.policy_versions.all()
    mark(tmp_path).unlink()
    with Ledger.open(tmp_path) as ledger, pytest.raises(LedgerCorrupt):
        ledger.policy_versions.version(version_id)


def test_no_decision_is_read_that_is_not_as_it_was_written(home: Path) -> None:
    change_value(home, b"1d_fill_0", b"1d_flip_0")

    with Ledger.open(home) as ledger, pytest.raises(LedgerCorrupt):
        ledger.decisions_after(0)


def test_a_ledger_that_is_held_by_another_program_is_not_taken_for_a_damaged_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policies.checking.BUSY_TIMEOUT_S", 0.1)
    before = sorted(home.iterdir())
    with closing(sqlite3.connect(ledger_file(home), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")

        with pytest.raises(LedgerLocked):
            recover(home)

    assert not mark(home).exists()
    assert sorted(home.iterdir()) == before


@pytest.mark.parametrize("first", [b"{", b"\xff"])
def test_of_a_row_without_a_digest_at_least_what_cannot_be_read_is_left_behind(tmp_path: Path, first: bytes) -> None:
    shutil.copy(SCHEMA_1, ledger_file(tmp_path))
    change_value(tmp_path, b"[[", first + b"[")

    recovery = recover(tmp_path)

    assert saved(recovery, "decisions") == (2, 1, 0, 0)
    with Ledger.open(tmp_path) as ledger:
        assert len(ledger.latest(9)) == 2


def test_damage_that_sqlite_can_only_name_in_bytes_that_are_no_text_has_a_type_too(home: Path) -> None:
    change_value(home, b"AUTOINCREMENT", b"AUTOINCR\xeexENT")

    with pytest.raises(LedgerCorrupt):
        Ledger.open(home)
    assert not by_check(check(home))["pages"].ok
    with pytest.raises(LedgerUnavailable, match="nothing can be saved"):
        recover(home)


def test_what_is_whole_is_saved_and_what_is_lost_is_said(home: Path) -> None:
    overwrite_page_with(home, b'"probe"')
    change_value(home, b"1d_fill_0", b"1d_flip_0")

    recovery = recover(home)

    assert saved(recovery, "decisions") == (N - 1, 1, 0, 0)
    n_traces, damaged, refused, missing = saved(recovery, "traces")
    assert missing is not None
    assert missing > 0
    assert n_traces + damaged + refused + missing == N
    assert saved(recovery, "outcomes") == (N - 1, 0, 1, 0)
    assert recovery.rest_kept_as is not None
    rest = [json.loads(line) for line in recovery.rest_kept_as.read_text().splitlines()]
    assert {(row["table"], row["why"]) for row in rest} >= {
        ("decisions", "damaged"),
        ("outcomes", "refers to what is lost"),
    }


def test_afterwards_the_ledger_works_and_the_damaged_file_is_kept(home: Path) -> None:
    overwrite_page_with(home, b'"probe"')
    damaged = ledger_file(home).read_bytes()

    recovery = recover(home)

    assert recovery.damaged_kept_as is not None
    assert recovery.damaged_kept_as.read_bytes() == damaged
    assert not mark(home).exists()
    assert all(finding.ok for finding in check(home))
    with Ledger.open(home) as ledger:
        assert [seq for seq, _ in ledger.decisions_after(0)] == list(range(1, N + 1))
        champion = ledger.policy_versions.alias("champion").version_id
        assert champion is not None
        assert ledger.policy_versions.load(champion) == b"{}"
        ledger.record(decision_row("trace-99"), "{}")
        assert ledger.last_seq() == N + 1


def test_it_may_be_saved_elsewhere(home: Path, tmp_path: Path) -> None:
    overwrite_page_with(home, b'"probe"')
    damaged = ledger_file(home).read_bytes()

    recovery = recover(home, to=tmp_path / "elsewhere.sqlite")

    assert recovery.saved_in == tmp_path / "elsewhere.sqlite"
    assert ledger_file(home).read_bytes() == damaged
    with Ledger.open(tmp_path / "elsewhere.sqlite") as ledger:
        assert len(ledger.latest(99)) == N


def test_what_is_there_already_is_not_written_over(home: Path, tmp_path: Path) -> None:
    change_value(home, b"1d_fill_0", b"1d_flip_0")
    (tmp_path / "notes").write_text("precious")

    for there in (tmp_path / "notes", ledger_file(home)):
        before = there.read_bytes()
        with pytest.raises(LedgerUnavailable, match="there already"):
            recover(home, to=there)
        assert there.read_bytes() == before


def test_where_it_cannot_be_saved_the_error_has_a_type(home: Path, tmp_path: Path) -> None:
    change_value(home, b"1d_fill_0", b"1d_flip_0")

    with pytest.raises(LedgerUnavailable):
        recover(home, to=tmp_path / "no such folder" / "saved.sqlite")


def test_numbers_of_lost_rows_are_not_given_again(home: Path) -> None:
    with closing(sqlite3.connect(ledger_file(home))) as connection:
        connection.execute("DROP TRIGGER decisions_no_update")
        connection.execute(f"UPDATE decisions SET reason = 'changed' WHERE seq = {N}")
        connection.commit()
    assert saved(recover(home), "decisions") == (N - 1, 1, 0, 0)

    with Ledger.open(home) as ledger:
        ledger.record(decision_row("new"), "{}")

        assert [row.decision_id for _, row in ledger.decisions_after(N)] == ["new"]


def test_a_ledger_of_a_later_release_is_left_alone(home: Path) -> None:
    with closing(sqlite3.connect(ledger_file(home))) as connection:
        connection.execute("UPDATE meta SET value = '4'")
        connection.commit()
    before = ledger_file(home).read_bytes()

    with pytest.raises(LedgerTooNew):
        recover(home)

    assert ledger_file(home).read_bytes() == before
    assert not mark(home).exists()


def test_another_programs_database_is_not_set_aside(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()

    with pytest.raises(LedgerUnavailable, match="nothing can be saved"):
        recover(tmp_path / "theirs.db")

    assert [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


def test_a_damaged_head_does_not_hide_the_rest(home: Path) -> None:
    content = bytearray(ledger_file(home).read_bytes())
    content[:8] = b"damaged!"
    ledger_file(home).write_bytes(content)
    with pytest.raises(LedgerUnavailable, match="not a database"):
        Ledger.open(home)

    recovery = recover(home)

    assert saved(recovery, "decisions") == (N, 0, 0, 0)


def test_a_whole_file_is_left_as_it_is_and_opens_again(home: Path) -> None:
    mark(home).write_text("by mistake")
    before = ledger_file(home).read_bytes()

    recovery = recover(home)

    assert (recovery.damaged_kept_as, recovery.tables) == (None, ())
    assert ledger_file(home).read_bytes() == before
    Ledger.open(home).close()


@pytest.mark.parametrize("content", [b"", b"holiday notes\n" * 1000])
def test_of_what_is_no_ledger_nothing_is_saved_and_nothing_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)

    with pytest.raises(LedgerUnavailable, match="nothing can be saved"):
        recover(path)
    assert path.read_bytes() == content
    with pytest.raises(LedgerUnavailable, match="no such file"):
        recover(tmp_path / "none.sqlite")
    with pytest.raises(LedgerUnavailable, match="no such file"):
        check(tmp_path / "none.sqlite")


def test_missing_triggers_and_damaged_policies_are_seen(home: Path) -> None:
    with closing(sqlite3.connect(ledger_file(home))) as connection:
        connection.execute("DROP TRIGGER outcomes_no_update")
        connection.commit()
    (policy,) = (home / "policies").iterdir()
    policy.write_bytes(b"other")

    found = by_check(check(home))

    assert found["append-only"].found == "triggers are missing: outcomes_no_update"
    assert "missing or damaged" in found["policies"].found
    assert [name for name, finding in found.items() if not finding.ok] == ["append-only", "policies"]

"""Connections are a process's own, and what goes wrong has a name and a remedy."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from policies import LedgerCorrupt, LedgerLocked, LedgerUnavailable, OutcomeRow
from policies.database import Place
from policies.ledger import Ledger
from tests.policies.fakes import decision_row
from tests.postgres_server import PostgresServer


def in_a_fork(url: str, ledger: Ledger) -> int:
    """Write with the parent's ledger in a child; return the child's exit status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ledger.record(decision_row("child"), "{}")
            code = 0 if len(ledger.latest(9)) == 2 else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_after_a_fork_has_connections_of_its_own(url: str) -> None:
    with Ledger.open(url) as ledger:
        ledger.record(decision_row("parent"), "{}")

        assert in_a_fork(url, ledger) == 0

        ledger.record(decision_row("parent again"), "{}")
        assert [row.decision_id for row in ledger.latest(9)] == ["parent again", "child", "parent"]


def test_a_child_does_not_wait_for_a_thread_that_stayed_behind(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.record(decision_row("parent"), "{}")
        with ledger.database._writers:  # as when a thread writes at the moment of the fork
            assert in_a_fork(str(tmp_path), ledger) == 0


def test_a_thread_that_does_not_get_its_turn_is_told_as_by_the_file_itself(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, busy_timeout_s=0.1) as ledger, ThreadPoolExecutor(1) as pool:
        with ledger.database.writing(), pytest.raises(LedgerLocked):
            pool.submit(ledger.record, decision_row(), "{}").result(10)
        ledger.record(decision_row(), "{}")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_server_may_be_named_in_the_usual_ways(postgres_url: str, scheme: str) -> None:
    with Ledger.open(postgres_url.replace("postgresql+psycopg", scheme)) as ledger:
        ledger.record(decision_row(), "{}")

        assert ledger.location.startswith("postgresql+psycopg://")
        assert ledger.durability is None


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in Place.of("postgresql://user:hunter2@host/name").shown


def test_a_server_that_is_down_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="server runs"):
        Ledger.open(f"postgresql://tests@/none?host={tmp_path}")


def test_a_server_that_was_restarted_costs_no_write(postgres: PostgresServer, postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger:
        ledger.record(decision_row("before"), "{}")
        postgres.stop()
        with pytest.raises(LedgerUnavailable):
            ledger.record(decision_row("meanwhile"), "{}")
        postgres.start()

        ledger.record(decision_row("after"), "{}")

        assert [row.decision_id for row in ledger.latest(9)] == ["after", "before"]


def test_on_a_server_too_a_held_lock_ends_in_an_error_not_in_a_wait(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with Ledger.open(postgres_url, busy_timeout_s=0.05) as ledger, engine.connect() as holder:
        holder.execute(text("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE"))

        with pytest.raises(LedgerLocked, match="Another program holds it"):
            ledger.record(decision_row(), "{}")
    engine.dispose()


def test_a_server_that_acknowledges_early_does_not_do_so_for_a_ledger(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
        connection.commit()
    engine.dispose()

    with Ledger.open(postgres_url) as ledger, ledger._database.writing() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"


def test_a_server_that_isolates_more_does_not_make_writers_blind_to_each_other(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        name = connection.scalar(text("SELECT current_database()"))
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"))
    engine.dispose()
    outcomes = [OutcomeRow("trace-1", "user", f"kind-{i}", 1.0) for i in range(20)]

    with Ledger.open(postgres_url) as ledger, ThreadPoolExecutor(3) as threads:
        ledger.record(decision_row(), "{}")
        said = list(threads.map(ledger.add_outcome, sorted(outcomes * 3, key=lambda one: one.kind)))

        assert len(said) == 60
        assert len(ledger.outcomes("trace-1")) == 20


def test_a_shared_database_keeps_what_other_programs_have_in_it(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
    Ledger.open(postgres_url).close()
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "theirs"
    engine.dispose()


def test_a_table_of_another_program_is_not_taken_for_ours(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE traces (id int)"))

    with pytest.raises(LedgerUnavailable, match=r"other tables \(traces\)"):
        Ledger.open(postgres_url)

    engine.dispose()


def test_options_in_the_url_are_kept(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA ours"))
    with Ledger.open(f"{postgres_url}&options=-csearch_path%3Dours") as ledger:
        ledger.record(decision_row(), "{}")

    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM ours.decisions")) == 1
    engine.dispose()


def test_not_to_wait_is_not_to_wait_for_ever(postgres_url: str) -> None:
    with (
        Ledger.open(postgres_url, busy_timeout_s=0.0) as ledger,
        Ledger.open(postgres_url) as other,
        other._database.writing(),
        pytest.raises(LedgerLocked),
    ):
        ledger.record(decision_row(), "{}")


def test_a_file_stays_the_same_when_the_working_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Ledger.open("ledger.sqlite") as ledger:
        monkeypatch.chdir(tmp_path / "elsewhere")
        ledger.policy_versions.publish(b"{}")
        ledger.record(decision_row(), "{}")

    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "policies").is_dir()


def test_a_row_changed_on_the_server_is_not_handed_out(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with Ledger.open(postgres_url) as ledger:
        ledger.record(decision_row(), "{}")
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE decisions DISABLE TRIGGER ALL"))
            connection.execute(text("UPDATE decisions SET arm = 'icl'"))

        with pytest.raises(LedgerCorrupt, match="not as it was written"):
            ledger.decision("trace-1")
    engine.dispose()


@pytest.mark.parametrize(("given", "keeps_ms"), [("", "10000"), ("&tcp_user_timeout=3000", "3000")])
def test_a_line_to_a_server_that_is_gone_without_a_word_breaks_in_seconds(
    postgres_url: str, given: str, keeps_ms: str
) -> None:
    with Ledger.open(f"{postgres_url}{given}") as ledger, ledger.database.reading() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        set_to = driver.info.get_parameters()

    names = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
    assert [set_to[name] for name in names] == ["1", "4", "2", "3"]
    assert set_to["tcp_user_timeout"] == keeps_ms

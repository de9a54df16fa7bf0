"""The password in a ledger's URL is in no error, not even in what caused it, and in no row."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest

from policies.checking import check
from policies.errors import LedgerUnavailable
from policies.ledger import Ledger
from policies.records import OutcomeRow
from policies.recovery import recover
from tests.policies.fakes import decision_row

SECRET = "enters@postgres/h5"
QUOTED = quote(SECRET, safe="")
URLS = [
    f"postgresql://me:{QUOTED}@127.0.0.1:1/name",
    f"postgresql://127.0.0.1:1/name?user=me&password={QUOTED}",
    f"postgresql://me:{QUOTED}@127.0.0.1:no-port/name",
    f"postgresql://me:{SECRET}@127.0.0.1:1/name",  # not quoted
    f"mysql://me:{QUOTED}@127.0.0.1:1/name",
    f"nosuchdb://me:{QUOTED}@127.0.0.1:1/name",
]


def tells(text: str) -> bool:
    return any(form in text for form in (SECRET, QUOTED, quote(SECRET), "postgres/h5", "enters@"))


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("call", [Ledger.open, check, recover])
def test_no_error_tells_the_password(url: str, call: object) -> None:
    assert tells(url)
    try:
        found = call(url)  # type: ignore[operator]
        said = repr(found)
    except LedgerUnavailable as error:
        said = "".join(traceback.format_exception(error))

    assert not tells(said)


@pytest.mark.parametrize("option", ["", f"?password={QUOTED}"])
def test_no_row_of_a_ledger_on_a_server_holds_the_password(postgres_url: str, tmp_path: Path, option: str) -> None:
    place, _, options = postgres_url.partition("?")
    url = f"{place.replace('tests@', f'tests:{QUOTED}@')}?{options}{option.replace('?', '&')}"
    assert tells(url)
    with Ledger.open(url, files=tmp_path) as ledger:
        ledger.record(decision_row("d"), "{}")
        ledger.add_outcome(OutcomeRow("d", "user", "exact", 1.0))
        rows = [json.dumps(row) for row in ledger.rows()]
        shown = f"{ledger.location}{ledger!r}{check(url, files=tmp_path)}"

    assert len(rows) > 3
    assert not tells("".join(rows))
    assert not tells(shown)

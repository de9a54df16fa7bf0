"""A newcomer's five minutes: the commands of the README, as they stand there, lead from a first answer to a policy that
has learned from it.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from policies.ledger import Ledger
from tests.router.ui.conftest import Visit
from tests.router.ui.first_steps import PICTURES, ROOT, SECTION, open_newest, walk

QUICK = {"TTT_ROUTER_TTT_STEPS": "2", "TTT_ROUTER_N_VIEWS": "2"}  # what is learned here is of no interest


def test_the_five_minutes_of_the_readme(tmp_path: Path, visit: Visit) -> None:
    page, looked = visit.page, 0

    def look(url: str) -> None:
        nonlocal looked
        looked += 1
        open_newest(page, url)
        expect(page.get_by_role("heading", level=1)).to_contain_text("my_task")
        if looked == 1:
            expect(page.get_by_text("Nobody has said yet whether the answer was right.")).to_be_visible()
            page.get_by_role("button", name="wrong").click()
            expect(page.get_by_text("It was wrong.")).to_be_visible()
        else:
            expect(page.get_by_text("decided by learned@")).to_be_visible()
            expect(page.get_by_role("img", name="Probability that each arm is right")).to_be_visible()
            expect(page.get_by_role("table", name="Nearest past tasks").get_by_role("row")).to_have_count(4)

    first, why, _, corrected, nine, trained, promoted, status, again, why_again, _ = walk(tmp_path, look, QUICK)

    assert "my_task" in first.out
    assert "decided by learned@1:model=prior-" in flat(why.out)
    assert "right, says user now" in corrected.out
    assert "1d_fill_0" in nine.out
    assert "fitted on 10 decisions with known outcomes" in trained.out
    version = trained.out.partition(":")[0]
    assert f"champion: {version}, epoch 1" in promoted.out
    assert f"{version[:12]} champion" in status.out
    assert "my_task" in again.out
    assert "decided by learned@" in flat(why_again.out)
    assert looked == 2
    assert visit.said == []
    with Ledger.open(tmp_path) as ledger:
        mine = ledger.effective_outcomes(ledger.latest(11)[-1].decision_id)[0]
    assert (mine.value, mine.reported.value) == (1.0, 0.0)


def test_the_pictures_of_the_five_minutes_are_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index(SECTION) :].partition("\n## ")[0]

    for picture in PICTURES:
        assert f"(docs/screenshots/{picture})" in section
        assert (ROOT / "docs" / "screenshots" / picture).stat().st_size > 10_000


def flat(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())

"""The pages in a real browser: whole without JavaScript, quiet, at home on any screen, and deaf to what tasks say."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from router.values_shown import printable
from tests.router.ui.conftest import Site, Visit, watched
from tests.router.ui.strangers import HOSTILE

PANELS = (
    "Verdict", "Why", "Task and answers", "Votes: query", "Path through the graph", "Timeline", "Probabilities",
    "What if the price were another", "Costs", "The other arm", "Features", "Adapter",
)  # fmt: skip
POLICY_PANELS = (
    "Asked for", "Aliases", "What was spent", "Versions", "Reliability", "Frontier", "At other prices", "Drift",
    "Promotions and refusals",
)  # fmt: skip
PAGES = ("/", "/?sort=regret", "/traces/wrong", "/traces/words", "/traces/old", "/traces/hostile", "/policies")


def text_of(page: Page) -> str:
    """All of the content's text, and what drawings are called."""
    named = page.locator("main svg[role=img]").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    return "\n".join([" ".join(page.locator("main").inner_text().split()), *named])


@contextmanager
def screen(browser: Browser, width: int = 1280, theme: str = "light", *, javascript: bool = True) -> Iterator[Visit]:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
        java_script_enabled=javascript,
    )
    try:
        yield watched(context)
    finally:
        context.close()


def test_every_panel_of_a_trace_is_found_by_role_and_label(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/wrong")

    for name in PANELS:
        expect(visit.page.get_by_role("region", name=name, exact=True)).to_be_visible()
    expect(visit.page.get_by_role("img", name="Graph of the solve; taken: admit, probe")).to_be_visible()
    expect(visit.page.get_by_role("img", name="answer, 5 by 6").first).to_be_visible()
    expect(visit.page.get_by_role("table", name="Arms").get_by_role("row")).to_have_count(4)
    expect(visit.page.get_by_role("button", name="Run icl_vote, about 1.5 s")).to_be_enabled()
    assert visit.page.get_by_text("wrong: 2 of 30 cells differ (ringed)").count() == 2


def test_every_panel_of_the_policies_is_found_by_role_and_label(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/policies")

    for name in POLICY_PANELS:
        expect(visit.page.get_by_role("region", name=name, exact=True)).to_be_visible()
    expect(visit.page.get_by_role("region", name="Asked for")).to_contain_text("ttt <= 30 % 28.3% over 60 tasks")
    expect(visit.page.get_by_text("refused: Brier 0.188 against 0.161")).to_be_visible()
    expect(visit.page.get_by_role("img", name="Reliability")).to_be_visible()


def test_pages_are_quiet_and_ask_nobody_else(site: Site, visit: Visit) -> None:
    for path in PAGES:
        visit.page.goto(f"{site.url}{path}")

    assert visit.said == []
    assert len(visit.asked) > len(PAGES)
    assert all(url.startswith((f"{site.url}/", "data:")) for url in visit.asked)


def test_without_javascript_a_page_says_all_it_says_with_it(site: Site, visit: Visit, browser: Browser) -> None:
    with screen(browser, javascript=False) as plain:
        for path in PAGES:
            visit.page.goto(f"{site.url}{path}")
            plain.page.goto(f"{site.url}{path}")

            assert text_of(plain.page) == text_of(visit.page)


def test_without_javascript_another_price_is_tried_by_a_form(site: Site, browser: Browser) -> None:
    with screen(browser, javascript=False) as plain:
        plain.page.goto(f"{site.url}/traces/trained")
        plain.page.get_by_label("Price, in quality per unit of cost").press("End")
        plain.page.get_by_role("form", name="Another price").get_by_role("button", name="Show").click()

        expect(plain.page.get_by_text("the best arm is icl")).to_be_visible()


def test_the_slider_is_moved_by_keys_and_changes_only_its_part(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")
    visit.page.get_by_label("Price, in quality per unit of cost").press("End")

    expect(visit.page.get_by_text("the best arm is icl")).to_be_visible()
    assert "/what-if?price=" in visit.asked[-1]
    assert visit.said == []


def test_the_first_key_leads_past_the_navigation(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")
    visit.page.keyboard.press("Tab")
    first = visit.page.evaluate("document.activeElement.textContent")
    visit.page.keyboard.press("Enter")

    assert first == "Skip to the content"
    assert visit.page.evaluate("document.activeElement.id") == "content"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(site: Site, browser: Browser, theme: str) -> None:
    with screen(browser, 360, theme) as phone:
        for path in (*PAGES, "/traces/large"):
            phone.page.goto(f"{site.url}{path}")

            assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_the_theme_is_the_systems_until_one_is_chosen(site: Site, browser: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with screen(browser, theme="dark") as dark, screen(browser, theme="light") as light:
        for each in (dark, light):
            each.page.goto(f"{site.url}/policies")
        by_system = [each.page.evaluate(ground) for each in (dark, light)]
        light.page.get_by_role("navigation", name="Theme").get_by_role("link", name="dark").click()

        assert by_system[0] != by_system[1]
        assert light.page.url == f"{site.url}/policies"
        assert light.page.evaluate(ground) == by_system[0]


def test_digits_stand_in_the_cells_where_they_are_asked_for(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")
    digit = visit.page.locator("svg.grid .digit").first
    before = digit.is_visible()
    visit.page.get_by_label("Digits in the cells").check()

    assert not before
    assert digit.is_visible()


def test_what_a_task_says_is_shown_and_never_done(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/hostile")
    visit.page.wait_for_load_state("networkidle")
    task = visit.page.get_by_role("region", name="Task and answers").inner_text()
    degraded = visit.page.get_by_role("region", name="Timeline").inner_text()

    for text in HOSTILE:
        assert " ".join(printable(text).split()) in " ".join(task.split())
        assert " ".join(printable(text).split()) in " ".join(degraded.split())
    assert visit.page.evaluate("window.pwned") is None
    assert visit.page.evaluate("document.scripts.length") == 1
    assert visit.said == []
    assert all(url.startswith((f"{site.url}/", "data:")) for url in visit.asked)


@pytest.mark.parametrize("path", ["/traces/wrong", "/traces/hostile", "/policies"])
def test_a_saved_page_shows_the_same_facts_from_its_file(
    site: Site, visit: Visit, browser: Browser, saved: Path, path: str
) -> None:
    visit.page.goto(f"{site.url}{path}")
    online = facts_of(visit.page)
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name="save").click()
    download.value.save_as(saved)
    with screen(browser) as offline:
        offline.page.goto(saved.as_uri())
        shown = facts_of(offline.page)

        assert offline.said == []
        assert [url for url in offline.asked if not url.startswith("file:")] == []
        assert offline.page.evaluate("getComputedStyle(document.querySelector('.panel')).borderRadius") == "10px"
    assert len(online) > 60
    assert [fact for fact in online if fact not in shown] == []


def facts_of(page: Page) -> list[str]:
    """Every cell, fact, sentence and drawing of a page, less what only works online."""
    places = "main :is(td, th, dt, dd, li, h1, h2, h3, h4, figcaption, .text, .panel > p:not(.note), .value .note)"
    texts = page.locator(places).evaluate_all("all => all.map(each => each.innerText)")
    drawn = page.locator("main svg[role=img]").evaluate_all("all => all.map(each => each.getAttribute('aria-label'))")
    return [" ".join(text.split()) for text in (*texts, *drawn) if text.strip()]


@pytest.mark.alone
def test_the_largest_task_is_there_within_a_second(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")  # what every page shares is in the cache
    took = []
    for _ in range(3):  # the quickest counts: other work may hold the machine
        started = time.perf_counter()
        visit.page.goto(f"{site.url}/traces/large")
        took.append(time.perf_counter() - started)

    assert visit.page.locator("svg.grid").count() == 2 * 10 + 3
    assert min(took) < 1.0


def test_the_list_is_filtered_and_sorted_by_its_form(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/")
    form = visit.page.get_by_role("form", name="Filter and sort")
    form.get_by_label("arm").select_option("icl")
    form.get_by_label("sort by").select_option("regret")
    form.get_by_role("button", name="Show").click()
    rows = visit.page.get_by_role("table", name="Traces").get_by_role("row").all_inner_texts()[1:]

    regrets = [float(visit.page.locator("td[data-name=regret]").nth(i).inner_text()) for i in range(len(rows))]
    assert regrets == sorted(regrets, reverse=True)
    assert {visit.page.locator("td[data-name=arm] .arm").nth(i).inner_text() for i in range(len(rows))} == {"icl"}


def test_the_other_arm_runs_when_its_button_is_pressed(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")
    visit.page.get_by_role("button", name="Run icl, about 0.2 s").click()

    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("gravity_down_07")
    assert visit.page.url == f"{site.url}/traces/explored"
    assert site.ran[-1] == ("gravity_down_07", "icl", 7)


def test_another_policy_decides_from_the_stored_state(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")
    links = visit.page.get_by_role("navigation", name="Decide with another policy").get_by_role("link")

    expect(links).to_have_count(2)
    links.first.click()
    expect(visit.page.locator("#fork")).to_contain_text("policy")  # these samples hold none: it is said why


def test_an_adapter_names_the_traces_it_was_used_in(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/traces/trained")
    adapter = visit.page.get_by_role("region", name="Adapter", exact=True)

    expect(adapter.get_by_text(re.compile(r"[23] of the latest traces of this task; in 0 of them"))).to_be_visible()
    link = adapter.get_by_role("link").first
    href = link.get_attribute("href") or ""
    assert href.startswith("/traces/")
    assert href != "/traces/trained"
    link.click()
    expect(visit.page).to_have_url(site.url + href)


def test_a_dearer_price_trains_less_of_the_same_decisions(site: Site, visit: Visit) -> None:
    visit.page.goto(f"{site.url}/policies")
    rows = visit.page.get_by_role("table", name="Prices").get_by_role("row").all_inner_texts()[1:]
    trained = [int(row.split("\t")[1].rstrip(" %")) for row in rows]

    assert trained == sorted(trained, reverse=True)
    assert trained[0] > trained[-1]

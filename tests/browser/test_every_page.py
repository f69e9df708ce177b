"""What holds on every page: it loads clean, is accessible, fits small screens, and shows names as text."""

import re

import httpx
import pytest
from playwright.sync_api import expect
from windows import HOSTILE_FILE, HOSTILE_NAME, Curated, Open, violations

PAGES = (
    *("data sets", "data set", "curation", "explore", "clusters", "bound", "sample", "pair", "decisions"),
    *("manifest", "trainings", "training", "experiment", "encoders", "jobs", "job", "settings"),
)
SHOWN_NAME = HOSTILE_NAME.replace("\u202e", "\\u202e")


@pytest.mark.parametrize("name", PAGES)
def test_loads_with_its_landmarks_and_is_accessible_in_both_themes(
    open_page: Open, curated: Curated, name: str
) -> None:
    page = open_page(curated.addresses[name], color_scheme="light")
    page.wait_for_load_state("load")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    for landmark in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    expect(page.get_by_role("navigation", name="Breadcrumbs")).to_be_visible()
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    # A theme changes colours and nothing else.
    assert violations(page, "cat.color") == []
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()


@pytest.mark.parametrize("name", PAGES)
def test_does_not_scroll_sideways_at_320_pixels(open_page: Open, curated: Curated, name: str) -> None:
    # In the other theme, so that every page is loaded in both.
    page = open_page(curated.addresses[name], viewport={"width": 320, "height": 640}, color_scheme="dark")
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("name", PAGES)
def test_is_sent_with_a_strict_policy(curated: Curated, name: str) -> None:
    headers = httpx.get(curated.server.url + curated.addresses[name]).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_hostile_names_are_shown_as_text(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/datasets/{curated.dataset}")
    expect(page.get_by_role("heading", level=1)).to_have_text(SHOWN_NAME)
    expect(page.locator("figcaption").first).to_have_text(HOSTILE_FILE)
    page.goto("/jobs")
    # Once the server drew it, and once the element.
    expect(page.locator("job-list").get_by_role("link").first).to_have_text(SHOWN_NAME)


def test_a_theme_is_chosen_and_kept(open_page: Open) -> None:
    page = open_page("/jobs", color_scheme="light")
    expect(page.locator("body")).to_have_css("background-color", "rgb(255, 255, 255)")
    page.get_by_role("button", name="Dark").click()
    expect(page).to_have_url(re.compile("/jobs$"))
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("body")).to_have_css("background-color", "rgb(20, 23, 28)")
    page.goto("/")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_an_unknown_page_is_told_in_words_and_to_programs_as_a_problem(curated: Curated) -> None:
    address = f"{curated.server.url}/datasets/nonesuch"
    shown = httpx.get(address, headers={"accept": "text/html"})
    assert shown.status_code == 404
    assert "There is no dataset nonesuch" in shown.text
    assert httpx.get(address).headers["content-type"] == "application/problem+json"


def test_a_name_of_200_letters_breaks_no_other_word(open_page: Open, curated: Curated) -> None:
    made = httpx.post(f"{curated.server.url}/api/v1/datasets", json={"name": "x" * 200}).json()["id"]
    page = open_page("/")
    lines = """cell => { const text = document.createRange(); text.selectNodeContents(cell);
        return new Set([...text.getClientRects()].map((line) => line.top)).size; }"""
    row = page.get_by_role("row", name=re.compile("^x{200}"))
    for cell in (page.get_by_role("columnheader", name="Samples"), row.get_by_text("empty", exact=True)):
        assert cell.evaluate(lines) == 1
    assert row.locator(".state").evaluate("state => state.offsetHeight") < 30
    httpx.delete(f"{curated.server.url}/api/v1/datasets/{made}").raise_for_status()


def test_on_paper_there_is_what_was_found_and_nothing_to_press(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/curations/{curated.curation}")
    page.emulate_media(media="print")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Histogram"))).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    assert page.locator("button:visible").count() == 0

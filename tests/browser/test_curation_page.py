"""The curation's page: pairs, thumbnails, decisions and manifests."""

import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import until
from playwright.sync_api import Page, expect
from windows import Curated, Open

import tamis


def shown_pairs(page: Page) -> list[float]:
    cells = page.locator("td.similarity").evaluate_all("cells => cells.map(cell => cell.dataset.similarity)")
    return [float(cell) for cell in cells]


def listed_pairs(curated: Curated, sort: str) -> list[float]:
    return [pair["similarity"] for pair in curated.server.client.pairs(curated.curation, sort=sort)]


def follow(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_load_state("load")


def test_shows_the_figures_of_the_result(page: Page, curated: Curated) -> None:
    result = curated.server.client.curation(curated.curation)["result"]
    figures = page.locator("dl.figures")
    expect(figures).to_contain_text("Classes (r + 1)")
    expect(figures).to_contain_text(f"{result['thresholds']['sim_high']:.3f}")
    expect(figures).to_contain_text(f"of {result['total_pairs']:,}")
    for name in ("alpha", "beta", "gamma"):
        expect(figures).to_contain_text(f"{result['graph'][name]['value']:.3f}")
    expect(page.get_by_role("img", name=re.compile("^Histogram of 19,900 similarities"))).to_be_visible()


def test_shows_what_was_asked_for_where_it_is_not_the_default_and_the_duplicates(page: Page, curated: Curated) -> None:
    result = curated.server.client.curation(curated.curation)["result"]
    duplicates = f"duplicates {result['equal_files']} by file, {result['near_duplicates']} by similarity"
    expect(page.locator("dl.facts > div")).to_have_text(
        ["encoder embeddings", "classes 10", "neighbours 8", "score blend", duplicates]
    )
    expect(page.get_by_text("Difficulty is how far an image is from others")).to_be_visible()


def test_says_how_many_duplicates_there_are(page: Page, curated: Curated) -> None:
    result = curated.server.client.curation(curated.curation)["result"]
    expect(page.get_by_label("Duplicates").locator("option")).to_have_text(
        ["keep all", f"drop equal files: {result['equal_files']}", f"and near ones: {result['near_duplicates']}"]
    )


@pytest.mark.parametrize(
    ("sort", "link"),
    [
        ("-difficulty", "Most difficult first"),
        ("-similarity", "Most similar first"),
        ("similarity", "Least similar first"),
    ],
)
def test_pairs_are_sorted_and_paged_to_the_end_and_back(page: Page, curated: Curated, sort: str, link: str) -> None:
    expected = listed_pairs(curated, sort)
    follow(page, link)
    seen = shown_pairs(page)
    first, pages = seen, 1
    while page.get_by_role("link", name="Next", exact=True).count() and pages < 4:
        follow(page, "Next")
        seen = seen + shown_pairs(page)
        pages += 1
    assert pages > 2
    assert seen == expected[: len(seen)]
    for _ in range(pages - 1):
        follow(page, "Previous")
    assert shown_pairs(page) == first


@pytest.mark.parametrize("name", ["curation", "data set"])
def test_thumbnails_load(open_page: Open, curated: Curated, name: str) -> None:
    page = open_page(curated.addresses[name])
    images = page.locator("main img")
    assert images.count() >= 24
    for place in range(0, images.count(), 5):
        images.nth(place).scroll_into_view_if_needed()
        until(
            lambda place=place: images.nth(place).evaluate("image => image.complete && image.naturalWidth"),
            10,
            "a thumbnail",
        )


def test_without_scripts_the_table_and_its_pages_are_there(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/curations/{curated.curation}", java_script_enabled=False)
    assert page.locator("table.pairs tbody tr").count() == 25
    follow(page, "Next")
    similarities = page.locator("td.similarity").all_inner_texts()
    assert similarities == [f"{value:.4f}" for value in listed_pairs(curated, "-difficulty")[25:50]]
    expect(page.get_by_text("tamis manifest")).to_be_visible()


def test_a_decision_survives_a_reload_and_is_undone(page: Page) -> None:
    buttons = page.locator("decision-buttons").first
    buttons.get_by_role("button", name="Drop").click()
    expect(buttons.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    page.reload()
    expect(buttons.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    expect(buttons.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "false")
    buttons.get_by_role("button", name="Undo").click()
    expect(buttons.get_by_role("button", name="Undo")).to_have_count(0)
    expect(buttons.get_by_role("button", name="Keep")).to_be_focused()
    page.reload()
    expect(buttons.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "false")


def test_undoing_shows_the_decision_beneath(page: Page) -> None:
    buttons = page.locator("decision-buttons").nth(2)
    for name in ("Keep", "Drop"):
        buttons.get_by_role("button", name=name).click()
        expect(buttons.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    buttons.get_by_role("button", name="Undo").click()
    expect(buttons.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")
    buttons.get_by_role("button", name="Undo").click()
    expect(buttons.get_by_role("button", name="Undo")).to_have_count(0)


def test_a_sample_in_several_pairs_is_decided_in_all(page: Page) -> None:
    samples = page.locator("decision-buttons").evaluate_all("all => all.map(each => each.getAttribute('sample'))")
    sample = next(each for each in samples if samples.count(each) > 1)
    same = page.locator(f"decision-buttons[sample='{sample}']")
    same.first.get_by_role("button", name="Keep").click()
    expect(same.last.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")
    same.last.get_by_role("button", name="Undo").click()
    expect(same.first.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "false")


def test_keys_move_and_decide_while_the_list_has_the_focus(page: Page) -> None:
    buttons = page.locator("decision-buttons")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    buttons.first.get_by_role("button", name="Keep").focus()
    page.keyboard.press("j")
    expect(buttons.nth(2).get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("l")
    expect(buttons.nth(3).get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("x")
    expect(buttons.nth(3).get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("u")
    expect(buttons.nth(3).get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("k")
    page.keyboard.press("h")
    expect(buttons.first.get_by_role("button", name="Keep")).to_be_focused()


def test_a_manifest_is_made_and_downloaded(page: Page, curated: Curated, tmp_path: Path) -> None:
    before = {row["id"] for row in manifests(curated)}
    page.get_by_label("Strategy").select_option("combined")
    page.get_by_label("Duplicates").select_option("near")
    page.get_by_role("button", name="Make manifest").click()
    expect(page).to_have_url(re.compile("/manifests/mf_"))
    expect(page.get_by_role("heading", name="Files")).to_be_visible(timeout=30_000)
    [made] = [row for row in manifests(curated) if row["id"] not in before]
    assert {*made["files"]} == {"samples.parquet", "pairs.parquet", "features.npy", "manifest.json"}
    for name in made["files"]:
        with page.expect_download() as download:
            page.get_by_role("link", name=name, exact=True).click()
        download.value.save_as(tmp_path / name)
        told = httpx.get(f"{curated.server.url}{made['files'][name]}").headers["etag"]
        assert told == f'"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}"'
    # Reading compares the others with the hashes in manifest.json.
    description = tamis.read_manifest(tmp_path).description
    assert (description["strategy"], description["duplicates"]["dropped"]) == ("combined", "near")
    page.goto(f"/curations/{curated.curation}")
    expect(page.locator("ul.manifests li").first).to_contain_text("samples kept")


def manifests(curated: Curated) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(
        f"{curated.server.url}/api/v1/manifests", params={"curation": curated.curation}
    ).json()["items"]
    return rows

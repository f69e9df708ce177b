"""Pages follow jobs without being loaded again."""

from pathlib import Path

import httpx
from harness import Restarting, until
from playwright.sync_api import Browser, expect
from samples import digit_files, write_tar
from windows import Curated, Open


def test_a_job_started_while_the_page_is_open_appears_and_its_bar_moves(open_page: Open, curated: Curated) -> None:
    page = open_page("/")
    page.evaluate("window.untouched = true")
    asked = curated.server.client.curate(curated.dataset, encoder="simclr", epochs=400)
    row = page.locator("job-list li", has_text="curation").first
    try:
        expect(row.get_by_text("running")).to_be_visible(timeout=20_000)
        seen: set[float] = set()

        def moves() -> bool:
            bar = row.get_by_role("progressbar")
            seen.add(bar.evaluate("bar => bar.max > 1 ? bar.value : -1"))
            return len(seen - {-1}) >= 3

        until(moves, 60, "three places of the bar")
        row.get_by_role("button", name="Cancel").click()
        row.get_by_role("button", name="No, go on").click()
        expect(row.get_by_text("running")).to_be_visible()
        row.get_by_role("button", name="Cancel").click()
        row.get_by_role("button", name="Yes, cancel it").click()
        expect(row.get_by_text("cancelled")).to_be_visible()
        row.get_by_role("button", name="Try again").click()
        expect(row.get_by_text("running")).to_be_visible(timeout=20_000)
    finally:
        httpx.post(f"{curated.server.url}/api/v1/jobs/{asked['id']}/cancel")
    expect(row.get_by_text("cancelled")).to_be_visible()
    assert page.evaluate("window.untouched")


def test_a_new_data_set_enters_the_table_by_itself(open_page: Open, curated: Curated, tmp_path: Path) -> None:
    page = open_page("/")
    page.evaluate("window.untouched = true")
    curated.server.client.upload(write_tar(tmp_path / "few.tar", digit_files(30)), "arrives later")
    row = page.get_by_role("row").filter(has_text="arrives later")
    expect(row.get_by_text("succeeded")).to_be_visible(timeout=30_000)
    expect(row).to_contain_text("30")
    assert page.evaluate("window.untouched")


def test_a_curation_is_started_from_its_data_set_and_shows_its_result(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/datasets/{curated.dataset}")
    page.get_by_label("Encoder", exact=True).select_option("embeddings")
    page.get_by_role("button", name="Start a curation").click()
    expect(page.get_by_role("heading", name="Difficult pairs")).to_be_visible(timeout=60_000)


def test_the_stream_is_closed_while_the_page_is_not_seen(open_page: Open) -> None:
    page = open_page("/")
    with page.expect_request("**/jobs/events") as first:
        page.reload()
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    with page.expect_event("requestfailed", lambda request: request.url == first.value.url):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("delete document.hidden")
    with page.expect_request("**/jobs/events"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_page_goes_on_by_itself_after_the_server_was_killed_and_came_back(browser: Browser, tmp_path: Path) -> None:
    restarting = Restarting(tmp_path / "data")
    # Not `open_page`, to which a server that is away is a complaint.
    context = browser.new_context(base_url=restarting.server.url)
    try:
        page = context.new_page()
        with page.expect_request("**/jobs/events"):
            page.goto("/")
        page.evaluate("window.untouched = true")
        restarting.kill()
        with page.expect_response("**/jobs/events", timeout=30_000):
            restarting.restart()
        restarting.server.client.upload(write_tar(tmp_path / "few.tar", digit_files(5)), "sent after the restart")
        expect(page.locator("job-list li", has_text="sent after the restart")).to_be_visible(timeout=20_000)
        assert page.evaluate("window.untouched")
    finally:
        context.close()
        restarting.close()

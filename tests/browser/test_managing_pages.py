"""A data set is renamed and deleted in its page, once it is said what goes with it."""

from pathlib import Path

from playwright.sync_api import expect
from samples import digit_files, write_tar
from windows import Curated, Open


def test_a_data_set_is_renamed_and_deleted(open_page: Open, curated: Curated, tmp_path: Path) -> None:
    made = curated.server.client.upload(write_tar(tmp_path / "few.tar", digit_files(30)), "old")["id"]
    curated.server.client.wait(f"/datasets/{made}", timeout=60)
    page = open_page(f"/datasets/{made}")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("quite new")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1, name="quite new")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1, name="Data sets")).to_be_visible()
    expect(page.get_by_text("quite new")).to_have_count(0)


def test_what_goes_with_a_data_set_is_said_first(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/datasets/{curated.dataset}", viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Delete").click()
    expect(dialog.get_by_role("status")).to_contain_text("curation")
    expect(dialog.get_by_role("button", name="Delete all of it")).to_be_visible()
    dialog.get_by_role("button", name="Leave it").click()
    expect(dialog).to_have_count(0)
    assert curated.server.client.dataset(curated.dataset)["state"] == "succeeded"

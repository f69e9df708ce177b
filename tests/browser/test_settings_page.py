"""Settings: keys made and revoked, who changed what; and the page of a job with its stages and log."""

import re

import httpx
from harness import Server
from playwright.sync_api import expect
from windows import Curated, Open


def test_a_key_is_made_shown_once_and_revoked(open_page: Open, server: Server) -> None:
    page = open_page("/settings")
    form = page.get_by_role("form", name="New key")
    form.get_by_label("Name").fill("laptop <b>")
    form.get_by_label("May").select_option("send images and start work")
    form.get_by_label("Days").fill("30")
    form.get_by_role("button", name="Make a key").click()
    expect(form.get_by_role("status")).to_have_text(re.compile(r"^tamis_\S{20,}$"))
    row = page.get_by_role("row", name=re.compile("^laptop <b>"))
    expect(row).to_contain_text("until")
    key = form.get_by_role("status").text_content() or ""
    assert key not in httpx.get(f"{server.url}/settings").text
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("revoked")
    audit = page.locator("section", has=page.get_by_role("heading", name="Who changed what"))
    expect(audit.get_by_role("row").nth(1)).to_contain_text("DELETE /api/v1/keys/")
    form.get_by_label("Name").fill("x")
    form.get_by_label("Days").evaluate("field => { field.type = 'text'; field.value = 'soon'; }")
    form.get_by_role("button", name="Make a key").click()
    expect(form.get_by_role("alert")).to_contain_text("days")


def test_a_job_shows_its_stages_and_its_log(open_page: Open, curated: Curated) -> None:
    page = open_page("/jobs")
    page.locator("job-list .job-name a[href^='/jobs/']").first.click()
    expect(page.locator("#log li").first).to_be_visible()
    page.goto(f"/jobs/{curated.curation}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Curation of")
    stages = page.locator("#stages tbody").get_by_role("rowheader")
    assert "comparing all pairs" in stages.all_text_contents()
    expect(page.locator("#log li").first).to_contain_text("difficult pairs listed")
    expect(page.locator("#log li").last).to_contain_text("running")

"""Trainings and experiments in the dashboard: started, watched, read and deleted."""

import re

import httpx
from playwright.sync_api import expect
from windows import Curated, Open


def test_an_experiment_is_started_on_its_curation_and_read(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/curations/{curated.curation}#experiments")
    form = page.get_by_role("form", name="New experiment")
    form.get_by_label("auto").uncheck()
    form.get_by_label("remove").check()
    for label, value in {"Seeds": "2", "Steps": "4", "Batch": "16"}.items():
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Start an experiment").click()
    expect(page).to_have_url(re.compile("/trainings/tr_"))
    # The page turns into the result by itself.
    expect(page.get_by_role("heading", name="Does it pay?")).to_be_visible(timeout=120_000)
    row = page.get_by_role("row", name=re.compile("^random control")).first
    expect(row).to_contain_text("baseline 0.2")
    expect(row.get_by_role("img")).to_have_accessible_name(re.compile(r"^2 seeds, mean [+-]\d"))
    runs = page.locator("section", has=page.get_by_role("heading", name="Runs that have ended"))
    expect(runs.get_by_role("row")).to_have_count(6)
    listed = page.get_by_role("navigation", name="Main").get_by_role("link", name="Trainings")
    address = page.url
    listed.click()
    expect(page.locator(f"a[href='/trainings/{address.rpartition('/')[2]}']")).to_be_visible()
    page.goto(address)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page).to_have_url(re.compile("/trainings$"))
    assert httpx.get(address.replace("/trainings", "/api/v1/trainings")).status_code == 404


def test_a_training_is_started_on_its_manifest(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/manifests/{curated.manifest}")
    expect(page.get_by_role("link", name="samples.parquet")).to_be_visible()
    form = page.get_by_role("form", name="New training")
    form.get_by_label("Images").select_option("all alike: the baseline")
    form.get_by_label("Steps").fill("4")
    form.get_by_label("Batch").fill("1")
    form.get_by_role("button", name="Start a training").click()
    expect(page).to_have_url(re.compile("/manifests/"))
    form.get_by_label("Batch").fill("16")
    form.get_by_role("button", name="Start a training").click()
    expect(page).to_have_url(re.compile("/trainings/tr_"))
    expect(page.get_by_role("definition").filter(has_text=re.compile("^baseline$"))).to_be_visible()
    expect(page.get_by_role("heading", name="Loss by step")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("img", name=re.compile("^Loss from"))).to_be_visible()


def test_the_loss_of_a_training_is_drawn_as_it_comes(open_page: Open, curated: Curated) -> None:
    body = {"manifest": curated.manifest, "steps": 1_000_000, "batch_size": 16}
    training = httpx.post(f"{curated.server.url}/api/v1/trainings", json=body).json()["id"]
    try:
        page = open_page(f"/trainings/{training}")
        page.evaluate("window.untouched = true")
        drawn = page.get_by_role("img", name=re.compile("^Loss from"))
        expect(drawn).to_be_visible(timeout=60_000)
        before = drawn.get_attribute("aria-label")
        expect(drawn).not_to_have_accessible_name(str(before), timeout=30_000)
        assert len(drawn.locator("path").get_attribute("d") or "") > len("M0.0 0.0")
        assert page.evaluate("window.untouched")
    finally:
        httpx.post(f"{curated.server.url}/api/v1/jobs/{training}/cancel")
    expect(page.locator("job-list").get_by_text("cancelled")).to_be_visible()
    expect(drawn).to_be_visible()

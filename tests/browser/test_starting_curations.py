"""Asking for a curation on a data set's page: which encoders are offered, what is sent, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
from harness import Server
from playwright.sync_api import Browser, Page, expect
from samples import digit_files, write_tar
from windows import Curated, Open, violations

from service.bodies import NewCuration
from tamis.encoders.encoder import build_encoder, encoder_bytes
from tamis.encoders.names import KINDS
from tamis.encoders.spec import EncoderSpec

# What the form calls the values that the data decide.
AUTOMATIC = {None: "", "auto": ""}


@pytest.fixture
def page(open_page: Open, curated: Curated) -> Page:
    """The page of a data set for which embeddings were sent."""
    return open_page(f"/datasets/{curated.dataset}")


@pytest.fixture(scope="module")
def bare(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set for which none were."""
    archive = write_tar(tmp_path_factory.mktemp("bare") / "few.tar", digit_files(30))
    return str(server.client.wait(f"/datasets/{server.client.upload(archive, 'bare')['id']}", timeout=60)["id"])


def choose(page: Page, kind: str) -> None:
    page.get_by_label("Encoder", exact=True).select_option(kind)


def choose_file(page: Page, file: Path) -> None:
    choose(page, "checkpoint")
    sent, checkpoint = page.get_by_label("Which encoder"), page.get_by_label("Checkpoint")
    expect(sent.or_(checkpoint).first).to_be_visible()
    if sent.count():
        sent.select_option("a file from this computer")
    checkpoint.set_input_files(file)


def request_of_start(page: Page) -> Any:
    """Starts the curation; returns what was asked for, once its page is there."""
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/curations")) as asked:
        page.get_by_role("button", name="Start a curation").click()
    page.wait_for_url("**/curations/*")
    return asked.value.post_data_json


def test_offers_every_kind_of_encoder_that_the_server_takes_for_the_data_set(
    page: Page, open_page: Open, bare: str
) -> None:
    def offered(page: Page) -> list[str]:
        options = page.get_by_label("Encoder", exact=True).locator("option")
        return list(options.evaluate_all("options => options.map(option => option.value)"))

    assert offered(page) == list(KINDS)
    assert offered(open_page(f"/datasets/{bare}")) == [kind for kind in KINDS if kind != "embeddings"]


def test_what_is_left_alone_is_not_sent(page: Page, curated: Curated) -> None:
    page.get_by_text("More settings").click()
    for field in page.locator("details [name]").all():
        default = NewCuration.model_fields[str(field.get_attribute("name"))].default
        expect(field).to_have_value(AUTOMATIC.get(default, str(default)))
    choose(page, "embeddings")
    assert request_of_start(page) == {"dataset": curated.dataset, "encoder": "embeddings"}


def test_settings_are_sent_and_shown_on_the_curations_page(page: Page, curated: Curated) -> None:
    choose(page, "embeddings")
    page.get_by_text("More settings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Views")).to_have_count(0)
    page.get_by_label("Classes (r + 1)").fill("10")
    page.get_by_label("Neighbours").fill("8")
    page.get_by_label("Score").select_option("band")
    asked = {"encoder": "embeddings", "classes": 10, "neighbours": 8, "score": "band"}
    assert request_of_start(page) == {"dataset": curated.dataset, **asked}
    for name, value in asked.items():
        expect(page.locator("dl.facts")).to_contain_text(f"{name} {value}")
    expect(page.get_by_text("Difficulty is the share of an image's pairs")).to_be_visible(timeout=60_000)


def test_an_encoder_is_sent_from_the_page_and_then_offered_by_name(
    page: Page, open_page: Open, curated: Curated, tmp_path: Path
) -> None:
    (tmp_path / "mine.pt").write_bytes(encoder_bytes(build_encoder(EncoderSpec("small", 16), 5)))
    choose_file(page, tmp_path / "mine.pt")
    asked = request_of_start(page)
    expect(page.locator("dl.facts")).to_contain_text(asked["encoder"][:23])
    again = open_page(f"/datasets/{curated.dataset}")
    choose(again, "checkpoint")
    expect(again.get_by_label("Which encoder").locator("option").first).to_contain_text("mine.pt, small")
    expect(again.get_by_label("Checkpoint")).to_have_count(0)
    assert request_of_start(again) == asked


def test_what_the_server_refuses_is_told_and_what_was_typed_stays(
    browser: Browser, curated: Curated, tmp_path: Path
) -> None:
    page = browser.new_page(base_url=curated.server.url)
    page.goto(f"/datasets/{curated.dataset}")
    choose(page, "torchvision")
    page.get_by_label("Network").fill("resnet99")
    page.get_by_text("More settings").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Start a curation").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no encoder torchvision:resnet99", timeout=30_000)
    expect(page.get_by_label("Network")).to_have_value("resnet99")
    expect(page.get_by_label("Seed")).to_have_value("7")
    (tmp_path / "text.pt").write_text("no encoder")
    choose_file(page, tmp_path / "text.pt")
    page.get_by_role("button", name="Start a curation").click()
    expect(page.get_by_role("alert")).to_contain_text("The file", timeout=30_000)
    expect(page.get_by_label("Checkpoint")).to_have_value(re.compile("text.pt$"))
    page.close()


def test_a_setting_out_of_range_is_shown_where_it_was_hidden(page: Page) -> None:
    settings = page.get_by_text("More settings")
    settings.click()
    page.get_by_label("Views").fill("11")
    settings.click()
    expect(page.get_by_label("Views")).to_be_hidden()
    page.get_by_role("button", name="Start a curation").click()
    expect(page.get_by_label("Views")).to_be_focused()


def test_what_is_typed_outlives_the_end_of_a_job(page: Page, curated: Curated) -> None:
    choose(page, "torchvision")
    page.get_by_label("Network").fill("resnet18")
    rows = page.locator("#asked tbody tr")
    before = rows.count()
    asked = curated.server.client.curate(curated.dataset, encoder="embeddings", classes=10)
    curated.server.client.wait(f"/curations/{asked['id']}", timeout=60)
    expect(rows).to_have_count(before + 1)
    expect(page.get_by_label("Network")).to_have_value("resnet18")
    expect(page.get_by_label("Network")).to_be_focused()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("kind", "field"), [("simclr", "Epochs"), ("torchvision", "Network"), ("checkpoint", "Checkpoint|Which encoder")]
)
def test_the_form_is_accessible_and_fits_small_screens(
    open_page: Open, bare: str, kind: str, field: str, theme: Any
) -> None:
    page = open_page(f"/datasets/{bare}", color_scheme=theme, viewport={"width": 320, "height": 640})
    choose(page, kind)
    page.get_by_text("More settings").click()
    expect(page.get_by_label(re.compile(field)).first).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_a_data_set_says_what_is_in_it(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/datasets/{curated.dataset}")
    figures = page.locator("#summary dl.figures > div")
    expect(figures.filter(has_text="Pixels").locator("dd")).to_have_text("8 \u00d7 8")
    expect(figures.filter(has_text="Equal files").locator("dd")).to_have_text("0 of 200")
    expect(figures.filter(has_text="Labels").locator("dd")).to_have_text("10")

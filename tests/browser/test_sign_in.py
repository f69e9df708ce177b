"""A server that is reachable from elsewhere asks for a key, in browsers too."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from harness import Server, serving
from playwright.sync_api import Browser, expect
from windows import Open, violations

from service.keys import create_key, revoke_key
from tamis.settings import Settings
from tamis.store.catalog import open_catalog


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("guarded") / "data", "--no-worker", "--host", "0.0.0.0") as running:
        yield running


def test_a_key_opens_the_pages_until_it_is_revoked(open_page: Open, guarded: Server) -> None:
    catalog = open_catalog(Settings(data=guarded.data))
    key_id, key = create_key(catalog, "browser")
    page = open_page("/jobs?from=link", guarded.url)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.url.endswith("/jobs?from=link")
    [cookie] = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("tamis_key", True, "Strict")
    page.get_by_role("link", name="Data sets").first.click()
    expect(page.get_by_text("tamis upload FOLDER --name NAME")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.context.cookies() == []
    revoke_key(catalog, key_id)
    answer = httpx.get(f"{guarded.url}/", cookies={"tamis_key": key})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/")
    catalog.close()


def test_who_signed_out_in_another_tab_is_told_and_nothing_is_done(browser: Browser, guarded: Server) -> None:
    catalog = open_catalog(Settings(data=guarded.data))
    _, key = create_key(catalog, "two tabs")
    catalog.close()
    # Not `open_page`, to which a refusal is a complaint.
    context = browser.new_context(base_url=guarded.url)
    try:
        page, other = context.new_page(), context.new_page()
        page.goto("/settings")
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        form = page.get_by_role("form", name="New key")
        form.get_by_label("Name").fill("too late")
        other.goto("/")
        other.get_by_role("button", name="Sign out").click()
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        form.get_by_role("button").click()
        expect(form.get_by_role("alert")).to_contain_text("This server needs an API key")
        expect(form.get_by_label("Name")).to_have_value("too late")
        page.reload()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        headers = {"authorization": f"Bearer {key}"}
        assert "too late" not in httpx.get(f"{guarded.url}/api/v1/keys", headers=headers).text
    finally:
        context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_signing_in_and_the_empty_start_are_accessible_on_small_screens(
    open_page: Open, guarded: Server, theme: Any
) -> None:
    catalog = open_catalog(Settings(data=guarded.data))
    _, key = create_key(catalog, "small")
    catalog.close()
    page = open_page("/", guarded.url, color_scheme=theme, viewport={"width": 320, "height": 640})
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("tamis upload FOLDER --name NAME")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_a_wrong_key_is_refused_and_no_page_tells_anything(guarded: Server) -> None:
    refused = httpx.post(f"{guarded.url}/login", data={"key": "tamis_wrong", "next": "/"})
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
    assert "not known here" in refused.text
    for path in ("/", "/jobs", "/datasets/nonesuch", "/curations/nonesuch"):
        assert httpx.get(guarded.url + path).status_code == 303
    assert httpx.get(f"{guarded.url}/api/v1/datasets").status_code == 401

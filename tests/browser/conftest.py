"""A real Chromium before a real server. Every page fails its test on anything a user's console would complain of."""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from harness import Server
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from samples import digit_embeddings, digit_files, write_tar
from windows import HOSTILE_FILE, HOSTILE_NAME, REPORT_VIOLATIONS, Curated, Open

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
COUNT = 200


@pytest.fixture(scope="session")
def curated(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Curated:
    folder = tmp_path_factory.mktemp("curated")
    (_, first), *others = digit_files(COUNT)
    # The hostile file takes the first digit's place, so that the embeddings stay in order.
    files = ((HOSTILE_FILE, first), *others, ("9/broken.png", b"no image"))
    uploaded = server.client.upload(write_tar(folder / "digits.tar", files), "digits")
    # The API takes no such name any more; a catalogue may have one from before.
    with closing(sqlite3.connect(server.data / "tamis.sqlite", timeout=10)) as connection, connection:
        connection.execute("UPDATE datasets SET name = ? WHERE id = ?", (HOSTILE_NAME, uploaded["id"]))
    dataset = server.client.wait(f"/datasets/{uploaded['id']}", timeout=60)
    assert (dataset["samples"], dataset["quarantined"]) == (COUNT, 1)
    np.save(folder / "embeddings.npy", digit_embeddings(COUNT))
    server.client.send_embeddings(dataset["id"], folder / "embeddings.npy")
    asked = server.client.curate(dataset["id"], encoder="embeddings", classes=10, neighbours=8)
    curation = server.client.wait(f"/curations/{asked['id']}", timeout=60)["id"]
    manifest = server.client.make_manifest(curation, "temperature")["id"]
    server.client.wait(f"/manifests/{manifest}", timeout=60)
    short = {"steps": 20, "batch_size": 16, "image_size": 16, "architecture": "small"}
    training = server.client.train(manifest, **short)["id"]
    experiment = server.client.experiment(curation, arms=["remove", "sas"], seeds=2, **short)["id"]
    for each in (training, experiment):
        server.client.wait(f"/trainings/{each}", timeout=180)
    trained = httpx.get(f"{server.url}/api/v1/trainings/{training}/encoder", timeout=30)
    (folder / "trained.pt").write_bytes(trained.content)
    server.client.send_encoder(folder / "trained.pt")
    return Curated(server, dataset["id"], curation, manifest, training, experiment)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Ends with its file: while Playwright runs, no other test could run an event loop of its own."""
    if not Path(CHROMIUM).exists() and shutil.which("chromium") is None and not os.environ.get("CI"):
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser, curated: Curated) -> Iterator[Open]:
    """Opens a path of the server in a window of its own; `options` are those of a browser context."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def opening(path: str, url: str = curated.server.url, **options: Any) -> Page:
        context = browser.new_context(base_url=url, **options)
        contexts.append(context)
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("request", lambda request: _check_host(request.url, url, complaints))
        context.on(
            "console",
            lambda message: complaints.append(message.text) if _complains(message) else None,
        )
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = context.new_page()
        page.goto(path)
        return page

    yield opening
    for context in contexts:
        context.close()
    assert complaints == []


def _complains(message: ConsoleMessage) -> bool:
    # A page asks by a DELETE what depends on a data set, and is told by a refusal.
    if "409 (Conflict)" in message.text and re.search(r"/api/v1/datasets/\w+$", message.location["url"]):
        return False
    # The form of keys is made to send what is wrong.
    if "422 (" in message.text and message.location["url"].endswith("/api/v1/keys"):
        return False
    # Of the software that stands in for a GPU here, when it is asked what it has drawn.
    return message.type in ("error", "warning") and "GPU stall due to ReadPixels" not in message.text


def _check_host(address: str, url: str, complaints: list[str]) -> None:
    if not address.startswith((f"{url}/", "data:", "blob:")):
        complaints.append(f"request to {address}")


@pytest.fixture
def page(open_page: Open, curated: Curated) -> Page:
    """The curation's page."""
    return open_page(f"/curations/{curated.curation}")

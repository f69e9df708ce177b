"""Uploads from the dashboard: with the server killed half-way, the page closed half-way, and what is refused."""

import base64
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from harness import Restarting, serving, until
from playwright.sync_api import Browser, Page, expect
from samples import digit_files, write_tar
from windows import REPORT_VIOLATIONS, Curated, Open, violations

from tamis.client.packing import pack
from tamis.settings import Settings
from tamis.store.catalog import open_catalog
from tamis.store.schema import Dataset

# Large enough to be caught on the way by a line of so many bytes a second.
SIZE, SLOW, FULL = 16 * 2**20, 2**20, -1
# What a console says of a server that is away; everything else is a complaint.
AWAY = re.compile("Failed to load resource|ERR_|EventSource")

Line = Callable[[int], None]


@pytest.fixture
def restarting(tmp_path: Path) -> Iterator[Restarting]:
    running = Restarting(tmp_path / "data")
    yield running
    running.close()


@pytest.fixture
def page(browser: Browser, restarting: Restarting) -> Iterator[Page]:
    """The first page of a server that may be killed."""
    context = browser.new_context(base_url=restarting.server.url)
    context.add_init_script(REPORT_VIOLATIONS)
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    page = context.new_page()
    page.goto("/")
    yield page
    context.close()
    assert [text for text in complaints if not AWAY.search(text)] == []


@pytest.fixture
def line(page: Page) -> Line:
    """Sets the line's bytes a second."""
    session = page.context.new_cdp_session(page)

    def at(rate: int) -> None:
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": rate}
        session.send("Network.emulateNetworkConditions", conditions)

    return at


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A tar of digits, filled up with a file that is no image."""
    noise = hashlib.shake_256(b"noise").digest(SIZE)
    return write_tar(tmp_path / "digits.tar", (*digit_files(20), ("noise.bin", noise)))


def choose(page: Page, archive: Path, name: str | None = None) -> None:
    page.get_by_label("Archive of images").set_input_files(archive)
    if name is not None:
        page.get_by_label("Name of the data set").fill(name)


def arrived(page: Page) -> float:
    return float(page.get_by_role("progressbar", name="Progress of the upload").evaluate("bar => bar.value"))


def stored(restarting: Restarting, name: str) -> bytes:
    catalog = open_catalog(Settings(data=restarting.server.data))
    with catalog.session() as session:
        [row] = session.query(Dataset).filter_by(name=name).all()
    catalog.close()
    assert row.state == "queued"
    return (restarting.server.data / "objects" / str(row.upload_key)).read_bytes()


def test_an_upload_goes_on_by_itself_after_the_server_was_killed_and_came_back(
    page: Page, line: Line, restarting: Restarting, archive: Path
) -> None:
    line(SLOW)
    choose(page, archive, "killed")
    page.get_by_role("button", name="Upload").click()
    until(lambda: arrived(page) > 0, 20, "the first bytes")
    expect(page.get_by_text(re.compile(r"MB of 16\.\d MB, .* a second, .* left"))).to_be_visible(timeout=20_000)
    restarting.kill()
    line(FULL)
    expect(page.get_by_text("The server does not answer")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("status")).to_have_text("The connection is cut. Trying again.")
    assert violations(page) == []
    restarting.restart()
    expect(page.get_by_role("status")).to_have_text(re.compile("connection is back|has arrived"), timeout=20_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("killed", timeout=30_000)
    assert stored(restarting, "killed") == archive.read_bytes()


def test_a_closed_page_is_gone_on_with_when_the_same_file_is_chosen(
    page: Page, line: Line, restarting: Restarting, archive: Path
) -> None:
    line(SLOW)
    choose(page, archive)
    # Suggested by the file's name.
    expect(page.get_by_label("Name of the data set")).to_have_value("digits")
    page.get_by_label("Name of the data set").press("Enter")
    until(lambda: arrived(page) > 0, 20, "the first bytes")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    line(FULL)
    listed = page.get_by_role("list", name="Unfinished uploads").get_by_role("listitem")
    expect(listed).to_contain_text("digits.tar for digits")
    assert violations(page) == []
    choose(page, archive)
    button = page.get_by_role("button", name=re.compile("Go on at .* MB"))
    expect(page.get_by_label("Name of the data set")).to_have_count(0)
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("digits", timeout=30_000)
    assert stored(restarting, "digits") == archive.read_bytes()
    assert len(restarting.server.client.datasets()) == 1


def test_a_stopped_upload_is_kept_and_discarded_at_will(
    page: Page, line: Line, restarting: Restarting, archive: Path
) -> None:
    line(SLOW)
    choose(page, archive, "stopped")
    page.get_by_role("button", name="Upload").click()
    until(lambda: arrived(page) > 0, 20, "the first bytes")
    page.get_by_role("button", name="Stop").click()
    line(FULL)
    expect(page.get_by_role("status")).to_have_text("Stopped. What has arrived is kept.")
    page.get_by_role("button", name="Discard the upload of digits.tar").click()
    expect(page.get_by_role("list", name="Unfinished uploads")).to_have_count(0)
    expect(page.get_by_label("Archive of images")).to_be_focused()
    assert httpx.get(f"{restarting.server.url}/api/v1/uploads").json()["items"] == []
    # The data set stays, and takes an archive on its own page.
    page.get_by_role("link", name="stopped").click()
    choose(page, archive)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#summary")).to_contain_text("queued", timeout=30_000)
    assert stored(restarting, "stopped") == archive.read_bytes()


def test_what_is_refused_is_told_with_what_to_do(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "large.tar").write_bytes(bytes(3000))
    with serving(tmp_path / "data", "--no-worker", env={"TAMIS_MAX_UPLOAD_BYTES": "2000"}) as server:
        page = browser.new_page(base_url=server.url)
        page.goto("/")
        for file, told in (("large.tar", "TAMIS_MAX_UPLOAD_BYTES"), ("text.zip", "zip, tar")):
            choose(page, tmp_path / file, file)
            page.get_by_role("button", name="Upload").click()
            expect(page.get_by_role("alert")).to_contain_text(told)
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        page.close()


def test_an_archive_of_images_becomes_samples(open_page: Open, curated: Curated, tmp_path: Path) -> None:
    page = open_page("/")
    choose(page, write_tar(tmp_path / "few.tar", digit_files(30)), "from the browser")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("from the browser")
    expect(page.locator("dl.figures")).to_contain_text("succeeded", timeout=30_000)
    expect(page.locator("dl.figures")).to_contain_text("30")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Digits by class, one of a name that no header of a tar has room for, hidden files, and captions beside them."""
    root = tmp_path / "my digits"
    for name, content in digit_files(12):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    long = root / "3" / f"{'sehr lang ' * 12}ü 漢字.png"
    long.write_bytes(digit_files(1)[0][1])
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x.png").write_bytes(b"x")
    (root / "3" / ".DS_Store").write_bytes(b"x")
    return root


def test_a_chosen_folder_is_packed_as_the_client_packs_it(page: Page, restarting: Restarting, folder: Path) -> None:
    page.get_by_label("or a folder").set_input_files(folder)
    expect(page.get_by_text("Chosen: my digits.tar")).to_be_visible()
    expect(page.get_by_label("Name of the data set")).to_have_value("my digits")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("my digits", timeout=30_000)
    assert members(stored(restarting, "my digits")) == members(b"".join(pack(folder).chunks()))


DROP = """([form, files]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const entry = (name, below) => below instanceof Map
    ? { name, isFile: false, createReader: () => { const rest = [...below].map(([each, more]) => entry(each, more));
        return { readEntries: (done) => done(rest.splice(0, 2)) }; } }
    : { name, isFile: true, file: (done) => done(new File([bytes(below)], name)) };
  const tree = new Map();
  for (const [path, content] of files) {
    const parts = path.split("/"); const name = parts.pop(); let at = tree;
    for (const part of parts) { if (!at.has(part)) at.set(part, new Map()); at = at.get(part); }
    at.set(name, content);
  }
  const event = new Event("drop", { bubbles: true, cancelable: true });
  event.dataTransfer = { items: [...tree].map(([name, below]) => ({ webkitGetAsEntry: () => entry(name, below) })) };
  form.dispatchEvent(event);
}"""


def drop(page: Page, files: list[tuple[str, bytes]]) -> None:
    told = [(name, base64.b64encode(content).decode()) for name, content in files]
    page.evaluate(DROP, [page.locator("upload-form form").element_handle(), told])


def test_a_dropped_folder_or_archive_is_sent(page: Page, restarting: Restarting, folder: Path, archive: Path) -> None:
    files = [
        (f"my digits/{path.relative_to(folder).as_posix()}", path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    ]
    drop(page, files)
    expect(page.get_by_text("Chosen: my digits.tar")).to_be_visible()
    page.get_by_label("Name of the data set").fill("dropped")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("dropped", timeout=30_000)
    assert members(stored(restarting, "dropped")) == members(b"".join(pack(folder).chunks()))
    page.goto("/")
    drop(page, [("digits.tar", archive.read_bytes()[:2048])])
    expect(page.get_by_text("Chosen: digits.tar, 2.05 kB.")).to_be_visible()
    drop(page, [("empty/.hidden", b"")])
    expect(page.get_by_role("alert")).to_contain_text("empty holds no files")


def members(archive: bytes) -> list[tuple[str, bytes, object]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = [(each.name, opened.extractfile(each)) for each in opened]
        marks = opened.pax_headers
        return [(name, content.read() if content else b"", marks.get("TAMIS.packed")) for name, content in found]

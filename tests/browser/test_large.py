"""A million samples and a million pairs on the explore page, beside a hundred thousand in the same run."""

import statistics
from collections.abc import Iterator

import pytest
from harness import Server, serving, until
from PIL import Image
from playwright.sync_api import Page, expect
from windows import Open

from benchmarks.made import make_curation

SMALL, LARGE = 100_000, 1_000_000
PIXEL = Image.new("L", (1, 1))._repr_png_()
# Chromium counts memory to a byte for pages that say what they measure; the page's own is all there is here.
HEAP = "performance.memory.usedJSHeapSize"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[int, str]]]:
    data = tmp_path_factory.mktemp("large") / "data"
    data.mkdir()
    made = {}
    for count in (SMALL, LARGE):
        made[count] = make_curation(data, count, count)[1]
    with serving(data, "--no-worker") as server:
        yield server, made


def opened(open_page: Open, server: Server, curation: str) -> Page:
    page = open_page("/", server.url, viewport={"width": 1280, "height": 900})
    # There are no images.
    page.route("**/thumbnail*", lambda route: route.fulfill(body=PIXEL, content_type="image/png"))
    page.goto(f"/curations/{curation}/explore")
    return page


def drawn(page: Page) -> float:
    """Seconds until the map is drawn and its pairs ringed, the numbers told and the first rows there."""
    expect(page.locator(".map-says b")).to_be_visible(timeout=60_000)
    expect(page.locator(".cut-figures b").first).to_be_visible(timeout=60_000)
    expect(page.locator(".pair-row b").first).to_be_visible(timeout=60_000)
    milliseconds: float = page.evaluate("performance.now()")
    return milliseconds / 1000


@pytest.mark.slow
def test_a_million_is_explored_as_a_hundred_thousand_is(open_page: Open, large: tuple[Server, dict[int, str]]) -> None:
    server, made = large
    taken: dict[int, list[float]] = {count: [] for count in made}
    for _ in range(3):
        for count, curation in made.items():
            page = opened(open_page, server, curation)
            taken[count].append(drawn(page))
            page.context.close()
    small, big = (min(taken[count]) for count in (SMALL, LARGE))
    print(f"\ndrawn: {small:.2f} s of {SMALL:,}, {big:.2f} s of {LARGE:,}; {taken}")
    page = opened(open_page, server, made[LARGE])
    drawn(page)
    lower = page.get_by_role("slider").first
    dragging = page.evaluate(
        """async () => {
          const chart = document.querySelector("cut-chart");
          const took = [];
          for (let place = 1; place < 60; place += 1) {
            const start = performance.now();
            chart.move(0, place);
            await chart.updateComplete;
            took.push(performance.now() - start);
          }
          chart.move(0, 0);
          return took;
        }"""
    )
    expect(lower).to_be_visible()
    rows = page.locator("pair-rows")
    # The list begins anew where the cut has come to rest.
    page.wait_for_timeout(1500)
    until(lambda: "1,000,000" in page.locator(".rows-says").inner_text(), 20, "the list")
    jumps = []
    for place in range(1, 12):
        row = place * 90_001
        jumps.append(
            rows.evaluate(
                """async (list, row) => {
                  const start = performance.now();
                  list.goto(row);
                  for (;;) {
                    await new Promise((resolve) => requestAnimationFrame(resolve));
                    const images = [...list.querySelectorAll(`[data-row="${row}"] b`)];
                    if (images.length) return performance.now() - start;
                  }
                }""",
                row,
            )
        )
    heap = page.evaluate(HEAP)
    print(f"heap: {heap / 2**20:.0f} MB")
    for name, took in (("drag", dragging), ("jump", jumps)):
        print(f"{name}: {statistics.median(took):.1f} ms, at most {max(took):.1f}")
    assert big < 3 * small
    assert statistics.median(dragging) < 50
    assert statistics.median(jumps) < 300
    assert heap < 150 * 2**20

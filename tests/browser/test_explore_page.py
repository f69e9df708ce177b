"""The explore page: its parts follow each other, and what it counts is what is there."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from harness import until
from playwright.sync_api import Locator, Page, expect
from windows import Curated, Open


@pytest.fixture
def explore(open_page: Open, curated: Curated) -> Page:
    page = open_page(f"/curations/{curated.curation}/explore", viewport={"width": 1280, "height": 900})
    expect(page.locator(".pair-row b").first).to_be_visible()
    expect(page.locator(".map-says b")).to_be_visible()
    return page


def pairs(curated: Curated, **filters: Any) -> list[dict[str, Any]]:
    return list(curated.server.client.pairs(curated.curation, **filters))


def total(page: Page) -> int:
    text = page.locator(".rows-says").inner_text()
    found = re.search(r"of ([\d,]+)\.", text)
    return int(found[1].replace(",", "")) if found else 0


def asked(page: Page) -> dict[str, str]:
    # The address follows a moment later.
    page.wait_for_timeout(400)
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def figures(page: Page) -> list[int]:
    texts = page.locator(".cut-figures b").all_inner_texts()
    return [int(text.replace(",", "")) for text in texts]


def press(end: Locator, key: str, times: int) -> None:
    for _ in range(times):
        end.press(key)


def test_dragged_and_stepped_ends_count_as_brute_force_does_without_a_request(explore: Page, curated: Curated) -> None:
    every = pairs(curated)
    counts = curated.server.client.curation(curated.curation)["result"]
    assert figures(explore) == [counts["total_pairs"], len(every), len({side(p, s) for p in every for s in "ab"})]
    lower, upper = explore.get_by_role("slider").all()
    press(lower, "PageUp", 12)
    box = upper.bounding_box()
    assert box
    asking: list[str] = []
    explore.on("request", lambda request: asking.append(request.url))
    explore.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    explore.mouse.down()
    explore.mouse.move(box["x"] + box["width"] / 2 - 300, box["y"] + 60, steps=8)
    moved = figures(explore)
    explore.mouse.up()
    low, high = float(asked(explore)["sim_low"]), float(asked(explore)["sim_high"])
    inside = [pair for pair in every if low <= pair["similarity"] < high]
    assert 0 < len(inside) < len(every)
    assert moved[1:] == [len(inside), len({side(pair, which) for pair in inside for which in "ab"})]
    # The list and the map ask; the numbers do not wait for them.
    assert not [url for url in asking if "recut" in url]
    until(lambda: total(explore) == len(inside), 10, "the list to follow")
    expect(explore.locator(".map-says")).to_contain_text(f"samples are in the {len(inside):,} pairs")


def side(pair: dict[str, Any], which: str) -> int:
    index: int = pair[which]["index"]
    return index


def test_an_end_stops_before_the_other_and_says_where_it_is(explore: Page) -> None:
    lower, upper = explore.get_by_role("slider").all()
    lower.press("End")
    assert float(lower.get_attribute("aria-valuenow") or 2) < float(upper.get_attribute("aria-valuenow") or -2)
    lower.press("Home")
    assert "sim_low" not in asked(explore)
    expect(lower).to_have_attribute("aria-valuetext", re.compile(r"similarity .*, 100 % of all pairs above"))


def test_the_band_is_one_press_away(explore: Page, curated: Curated) -> None:
    explore.get_by_role("button", name="Cut to the band").click()
    cut = curated.server.client.curation(curated.curation)["result"]["thresholds"]
    inside = [pair for pair in pairs(curated) if pair["in_band"]]
    until(lambda: total(explore) == len(inside) or not inside, 10, "the list")
    assert float(asked(explore)["sim_low"]) == cut["sim_low"]
    assert figures(explore)[0] == curated.server.client.curation(curated.curation)["result"]["counted_pairs"]
    expect(explore.get_by_role("button", name=re.compile("^Take away: similarity"))).to_be_visible()


def test_a_cell_of_the_matrix_filters_and_a_second_press_takes_that_back(explore: Page, curated: Curated) -> None:
    matrix = explore.locator("cluster-matrix canvas")
    matrix.focus()
    for _ in range(2):
        matrix.press("ArrowRight")
    said = explore.locator(".matrix-says").inner_text()
    count = int(re.match(r"([\d,]+) pairs", said)[1].replace(",", ""))  # type: ignore[index]
    matrix.press("Enter")
    chosen = asked(explore)
    expected = pairs(curated, cluster_a=int(chosen["cluster_a"]), cluster_b=int(chosen["cluster_b"]))
    assert count == len(expected)
    until(lambda: total(explore) == count or count == 0, 10, "the list")
    matrix.press("Enter")
    until(lambda: total(explore) == len(pairs(curated)), 10, "all pairs")


def test_the_address_brings_the_view_back(open_page: Open, curated: Curated) -> None:
    page = open_page(f"/curations/{curated.curation}/explore?hardest=100&apart=true&sort=similarity")
    expected = sorted(
        pair["similarity"] for pair in pairs(curated)[:100] if pair["a"]["cluster"] != pair["b"]["cluster"]
    )
    until(lambda: total(page) == len(expected), 10, "the list")
    assert page.locator(".pair-row b").first.inner_text() == f"{expected[0]:.4f}"
    expect(page.locator("#filter-hardest")).to_have_value("100")
    expect(page.locator("#filter-apart")).to_have_value("true")
    expect(page.get_by_label("Order")).to_have_value("similarity")


def test_keys_move_through_the_list_to_its_end_and_decide(explore: Page, curated: Curated) -> None:
    every = pairs(curated)
    rows = explore.locator(".rows")
    rows.focus()
    rows.press("End")
    expect(explore.locator(".rows-says")).to_have_text(re.compile(f"Row {len(every):,} of {len(every):,}"))
    last = explore.locator(f"[data-row='{len(every) - 1}']")
    expect(last.locator("b")).to_have_text(f"{every[-1]['similarity']:.4f}")
    rows.press("k")
    rows.press("l")
    rows.press("x")
    pair = every[-2]
    pressed = explore.locator(f"[data-row='{len(every) - 2}'] .half").nth(1).get_by_role("button", name="Drop")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    [dropped, *_] = pairs(curated, sample=pair["b"]["index"], decision="drop")
    assert "drop" in {(dropped[which]["decision"] or {}).get("verdict") for which in "ab"}
    rows.press("u")
    expect(pressed).to_have_attribute("aria-pressed", "false")
    rows.press("Enter")
    explore.wait_for_url(f"**/pairs/{pair['a']['index']}-{pair['b']['index']}")


def test_a_bulk_drop_says_first_what_it_will_do_and_is_undone(explore: Page, curated: Curated) -> None:
    explore.locator("#filter-hardest").select_option("100")
    until(lambda: total(explore) == 100, 10, "the list")
    hardest = pairs(curated)[:100]
    more = {max(pair["a"], pair["b"], key=lambda each: each["difficulty"])["index"] for pair in hardest}
    explore.get_by_role("button", name="Drop…").click()
    dialog = explore.get_by_role("dialog")
    expect(dialog.locator("b").first).to_have_text(str(len(more)))
    dialog.get_by_label("Why").fill("they look alike")
    dialog.get_by_role("button", name=f"Drop {len(more)} samples").click()
    expect(explore.get_by_text(f"Dropped {len(more)} samples.")).to_be_visible()
    expect(explore.locator(".pair-row [aria-pressed='true']").first).to_be_visible()
    explore.goto(f"/curations/{curated.curation}/decisions")
    expect(explore.get_by_text("they look alike").first).to_be_visible()
    expect(explore.get_by_text(f"{len(more)} dropped by decision")).to_be_visible()
    explore.get_by_role("button", name=re.compile("^Undo all that was decided together")).first.click()
    expect(explore.get_by_text("0 dropped by decision")).to_be_visible()


def test_the_map_rings_zooms_and_chooses(explore: Page, curated: Curated) -> None:
    canvas = explore.locator("sample-map canvas")
    box = canvas.bounding_box()
    assert box
    # A box over everything chooses every pair.
    explore.keyboard.down("Shift")
    explore.mouse.move(box["x"] + 1, box["y"] + 1)
    explore.mouse.down()
    explore.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2, steps=4)
    explore.mouse.up()
    explore.keyboard.up("Shift")
    assert "box" in asked(explore)
    until(lambda: total(explore) == len(pairs(curated)), 10, "the list")
    explore.get_by_role("button", name="Take away: a box of the map").click()
    canvas.focus()
    canvas.press("+")
    canvas.press("ArrowLeft")
    canvas.press("0")
    point = explore.evaluate("document.querySelector('sample-map').points.shown(0)")
    sample = explore.evaluate("document.querySelector('sample-map').told.samples[0]")
    box = canvas.bounding_box()
    assert box
    explore.mouse.click(box["x"] + point[0], box["y"] + point[1])
    until(lambda: "sample" in asked(explore), 5, "a sample to be chosen")
    assert int(asked(explore)["sample"]) == sample
    until(lambda: total(explore) == len(pairs(curated, sample=sample)), 10, "its pairs")


def test_a_lost_context_of_the_map_comes_back(explore: Page) -> None:
    painted = """() => {
        const { gl } = document.querySelector("sample-map").points;
        document.querySelector("sample-map").points.paint(Infinity);
        const pixels = new Uint8Array(4 * gl.drawingBufferWidth * gl.drawingBufferHeight);
        gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
        return pixels.filter((value, place) => place % 4 === 3 && value > 0).length;
    }"""
    before = explore.evaluate(painted)
    assert before > 1000
    explore.evaluate(
        "document.querySelector('sample-map').losing ="
        " document.querySelector('sample-map').points.gl.getExtension('WEBGL_lose_context')"
    )
    explore.evaluate("document.querySelector('sample-map').losing.loseContext()")
    explore.wait_for_timeout(100)
    explore.evaluate("document.querySelector('sample-map').losing.restoreContext()")
    until(lambda: explore.evaluate(painted) > 0.9 * before, 5, "the points")


def test_without_webgl_the_rest_of_the_page_works(open_page: Open, curated: Curated) -> None:
    page = open_page("/")
    page.context.add_init_script(
        "const real = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...more) {"
        " return kind === 'webgl2' ? null : real.call(this, kind, ...more); };"
    )
    page.goto(f"/curations/{curated.curation}/explore")
    expect(page.get_by_role("alert")).to_contain_text("This browser has no WebGL2.")
    expect(page.locator(".pair-row b").first).to_be_visible()


def test_two_people_decide_on_one_sample_and_the_later_stands(open_page: Open, curated: Curated) -> None:
    first, second = (open_page(f"/curations/{curated.curation}/explore") for _ in range(2))
    one, other = (page.locator("[data-row='0'] decision-buttons").first for page in (first, second))
    one.get_by_role("button", name="Keep").click()
    expect(one.get_by_role("button", name="Keep")).to_have_attribute("aria-pressed", "true")
    other.get_by_role("button", name="Drop").click()
    expect(other.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    first.reload()
    expect(one.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
    for beneath in ("Keep", None):
        other.get_by_role("button", name="Undo").click()
        expect(other.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "false")
        if beneath:
            expect(other.get_by_role("button", name=beneath)).to_have_attribute("aria-pressed", "true")


def test_a_sample_and_a_pair_have_pages_that_lead_to_each_other(open_page: Open, curated: Curated) -> None:
    first, second = pairs(curated)[:2]
    page = open_page(f"/curations/{curated.curation}/pairs/{first['a']['index']}-{first['b']['index']}")
    expect(page.locator("main")).to_contain_text(f"Similarity {first['similarity']:.4f}")
    expect(page.locator("main")).to_contain_text("it is number 1 by difficulty")
    page.get_by_role("button", name="Difference").click()
    expect(page.locator("pair-viewer")).to_have_class(re.compile("difference"))
    pane = page.locator(".pane").first
    pane.focus()
    pane.press("+")
    assert "scale(1.5)" in (pane.locator("img").first.get_attribute("style") or "")
    page.get_by_role("link", name="Less difficult pair").click()
    page.wait_for_url(f"**/pairs/{second['a']['index']}-{second['b']['index']}")
    page.locator("pair-viewer .sample-name").first.click()
    page.wait_for_url(f"**/samples/{second['a']['index']}")
    expect(page.locator(".cards li")).to_have_count(min(24, len(pairs(curated, sample=second["a"]["index"]))))
    large = page.locator("img.large")
    until(lambda: large.evaluate("image => image.naturalWidth") == 8, 5, "the image itself")

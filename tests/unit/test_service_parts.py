"""The parts of the service that need no request: ranges, cursors, words for numbers, shapes, vendored files."""

import base64
import hashlib
import re
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from service.auth import is_loopback
from service.cursors import MAX_OFFSET, read_cursor, write_cursor
from service.dashboard import render
from service.dashboard.session import _local
from service.dashboard.static_files import FOLDER
from service.routes.manifests import _range
from tamis.errors import InputError
from tamis.report.histogram import HEIGHT, WIDTH, draw

SIZE = 100


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=0-4,9-12", None),
        ("bytes=9-4", None),
        ("lines=0-4", None),
        (f"bytes={'9' * 5000}-", None),
        ("bytes=0-", (0, 99)),
        ("bytes=4-9", (4, 9)),
        ("bytes=4-1000", (4, 99)),
        ("bytes=99-", (99, 99)),
        ("bytes=-4", (96, 99)),
        ("bytes=-1000", (0, 99)),
        (" bytes=1-2 ", (1, 2)),
    ],
)
def test_ranges_are_read_and_strange_ones_ignored(header: str | None, expected: tuple[int, int] | None) -> None:
    assert _range(header, SIZE) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=999999999999999999-"])
def test_ranges_outside_the_file_are_refused_with_its_size(header: str) -> None:
    with pytest.raises(HTTPException) as caught:
        _range(header, SIZE)
    assert caught.value.status_code == 416
    assert caught.value.headers == {"content-range": "bytes */100"}


@given(st.integers(0, MAX_OFFSET))
def test_cursors_come_back(offset: int) -> None:
    assert read_cursor(write_cursor(offset)) == offset


@given(st.text() | st.binary().map(lambda content: base64.urlsafe_b64encode(content).decode()))
def test_other_cursors_are_refused_or_read_as_offsets(cursor: str) -> None:
    with suppress(InputError):
        assert 0 <= read_cursor(cursor) <= MAX_OFFSET


@pytest.mark.parametrize("offset", [-1, MAX_OFFSET + 1, 10**400])
def test_cursors_out_of_bounds_are_refused(offset: int) -> None:
    with pytest.raises(InputError, match="cursor"):
        read_cursor(write_cursor(offset))


def test_loopback_is_told_from_what_others_can_reach() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "example.org", "localhost.example.org", ""))


@pytest.mark.parametrize(
    "address", ["//example.org", "https://example.org", "/\\example.org", "javascript:alert(1)", "", "/\t/example.org"]
)
def test_signing_in_leads_to_no_other_site(address: str) -> None:
    assert _local(address) == "/"


def test_signing_in_leads_back_to_the_page_wanted() -> None:
    assert _local("/curations/cu_1?sort=similarity") == "/curations/cu_1?sort=similarity"


def test_what_hides_in_a_name_is_written_out() -> None:
    assert render.plain("a\u202eb\x00c\u2066") == "a\\u202eb\\u0000c\\u2066"
    assert render.plain("Größe, 大小, حجم 👩‍💻") == "Größe, 大小, حجم 👩‍💻"


def test_numbers_have_their_denominators() -> None:
    assert render.part(285, 1000) == "285 of 1,000 (28.5 %)"
    assert render.part(0, 0) == "0 of 0"
    assert render.brief(f"checkpoint:{'ab' * 32}") == "checkpoint:abababababab…"
    assert (render.figure(None), render.figure(0.12345)) == ("not known", "0.123")
    assert (render.size(999), render.size(37_066), render.size(5e13)) == ("999 bytes", "37.1 kB", "50 TB")


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=700), st.floats(-1, 1), st.floats(0, 1))
def test_a_histogram_stays_in_its_picture(counts: list[int], low: float, width: float) -> None:
    edges = [-1 + 2 * place / len(counts) for place in range(len(counts) + 1)]
    chart = draw(edges, counts, low, low + width)
    columns = re.findall(r"M([\d.]+) \d+V([\d.]+)H([\d.]+)V\d+Z", chart.inside + chart.outside)
    assert bool(columns) is any(counts)
    for begin, top, end in columns:
        assert 0 <= float(begin) < float(end) <= WIDTH
        assert 0 <= float(top) <= HEIGHT
    assert 0 <= chart.band_x <= chart.band_x + chart.band_width <= WIDTH + 0.01


def test_columns_of_a_histogram_are_told_apart_by_the_band() -> None:
    chart = draw([0.0, 0.25, 0.5, 0.75, 1.0], [1, 2, 4, 2], sim_low=0.25, sim_high=0.75)
    assert (chart.inside.count("M"), chart.outside.count("M")) == (2, 2)
    assert f"V{HEIGHT / 2}" in chart.inside
    assert "V0.0H" in chart.inside
    assert (chart.band_x, chart.band_width) == (WIDTH / 4, WIDTH / 2)


def test_vendored_files_are_those_their_readme_names() -> None:
    vendor = FOLDER / "vendor"
    readme = (vendor / "README").read_text()
    named = dict(zip(re.findall(r"^(\S+\.js)$", readme, re.M), re.findall(r"sha256 +(\w{64})", readme), strict=True))
    assert named == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in vendor.glob("*.js")}
    assert all((vendor / f"{Path(name).stem}.LICENSE").is_file() for name in named)


def test_no_page_holds_a_script_or_style_that_its_policy_would_refuse() -> None:
    for template in (FOLDER.parent / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?://", text), template

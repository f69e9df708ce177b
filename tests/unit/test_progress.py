import pytest

from tamis import progress


def test_the_words_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 2.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    words = progress.Pace().words
    # It goes on from 1,000 of a run before.
    assert words(1000, 100_000) == ""
    assert words(1100, 100_000) == ""
    assert words(3000, 100_000) == "1,000 a second, 2 min left"
    assert words(11_000, 0) == "1,000 a second"
    assert words(1010, 2000) == "0.5 a second, 33 min left"
    assert words(2000, 2000) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5400, "2 h"), (86_400, "24 h")]
)
def test_spans_are_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert progress.span(seconds) == words

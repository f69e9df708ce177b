"""What a long command tells while it works: lines in a pipe, bars on a terminal, nothing where it is to be quiet."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from textwrap import dedent

import pytest

from tamis.commands import terminal
from tamis.commands.stage import Stage
from tamis.commands.tables import print_facts, print_table
from tamis.commands.terminal import following, steps
from tamis.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time on by so many seconds."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


def quicker(title: str, total: int) -> str:
    return f"--steps {total // 3}" if title == "train" else ""


def test_a_stage_tells_how_far_it_is_and_when_nothing_moves(clock: Callable[[float], None]) -> None:
    train = Stage("train", False, quicker)
    assert train.state() == "begun"
    clock(4)
    assert train.state() == "begun 4 s ago"
    train.move(1, 600)
    clock(10)
    train.move(31, 600)
    assert train.state() == "31 of 600, 3 a second, 3 min left"
    clock(12)
    assert train.state() == "31 of 600, nothing new for 12 s"
    train.move(600, 600)
    train.end()
    assert train.state() == "600 in 26 s"


def test_what_takes_long_is_told_once_with_what_would_be_quicker(clock: Callable[[float], None]) -> None:
    train = Stage("train", False, quicker)
    train.move(1, 600)
    clock(1)
    train.move(3, 600)
    # Too early to say.
    assert train.estimate() == ""
    clock(1)
    train.move(5, 600)
    assert train.estimate() == "train: about 5 min; quicker: --steps 200"
    clock(10)
    train.move(20, 600)
    assert train.estimate() == ""


def test_what_is_done_in_ten_seconds_needs_no_estimate(clock: Callable[[float], None]) -> None:
    embed = Stage("embed", False, quicker)
    embed.move(0, 100)
    clock(3)
    embed.move(50, 100)
    assert embed.estimate() == ""


def test_bytes_are_told_in_megabytes(clock: Callable[[float], None]) -> None:
    send = Stage("send", True, quicker)
    send.move(0, 30_000_000)
    clock(10)
    send.move(5_000_000, 30_000_000)
    assert send.state() == "5.0 of 30.0 MB, 0.5 MB a second, 50 s left"


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """What the watching thread has said since the last call, which is at most one line: it looks often."""
    monkeypatch.setattr(terminal, "LOOK_SECONDS", 0.005)

    def since() -> str:
        looked = time.perf_counter()
        said = ""
        while not said and time.perf_counter() < looked + 0.5:
            time.sleep(0.05)
            said = capsys.readouterr().err
        return said

    return since


def test_lines_come_before_anything_has_begun_and_while_nothing_moves(
    clock: Callable[[float], None], told: Callable[[], str]
) -> None:
    with steps("Doing this.") as step:
        assert told() == "Doing this.\n"
        clock(9)
        assert told() == ""
        clock(1)
        assert told() == "starting: 10 s\n"
        move = step("count")
        move(1, 50)
        clock(10)
        assert told() == "count: 1 of 50, nothing new for 10 s\n"
        move(50, 50)
    assert told() == "count: 50 in 10 s\n"


def test_later_lines_come_at_each_tenth_and_now_and_then(
    clock: Callable[[float], None], told: Callable[[], str]
) -> None:
    with steps("Doing this.") as step:
        move = step("count")
        clock(terminal.AT_FIRST_SECONDS)
        told()
        move(1, 100)
        clock(60)
        assert told() == ""
        move(10, 100)
        assert told().startswith("count: about ")
        clock(60)
        assert told().startswith("count: 10 of 100, ")
        move(19, 100)
        clock(60)
        assert told() == ""
        move(20, 100)
        assert told().startswith("count: 20 of 100, ")
        clock(terminal.LATER_SECONDS)
        assert told().startswith("count: 20 of 100, ")


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with steps("Doing this.", quiet=True) as step:
        step("count")(1, 2)
    assert capsys.readouterr().err == ""


def test_each_stage_of_a_job_elsewhere_is_a_stage_here() -> None:
    moved: list[tuple[str, int, int]] = []

    def step(title: str, in_bytes: bool = False) -> Progress:
        return lambda done, total: moved.append((title, done, total))

    follow = following(step, "curate")
    for stage_of_it, done in (("", 0), ("embed", 1), ("embed", 2)):
        follow({"progress": {"stage": stage_of_it, "done": done, "total": 2}})
    assert moved == [("curate", 0, 2), ("embed", 1, 2), ("embed", 2, 2)]


def test_columns_are_as_wide_as_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["ID", "IMAGES", "NAME"], [("ds_1", 1234, "Photos"), ("ds_22", 5, "x")])
    assert capsys.readouterr().out.splitlines() == ["ID     IMAGES  NAME", "ds_1    1,234  Photos", "ds_22       5  x"]
    print_table(["ID", "NAME"], [])
    assert capsys.readouterr().out == "ID  NAME\n"


def test_facts_are_told_by_their_names_and_empty_ones_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts({"id": "cu_1", "error": None, "result": {"classes": 0, "graph": {"n": 60}}, "files": {}})
    assert capsys.readouterr().out.splitlines() == ["id: cu_1", "result classes: 0", "result graph n: 60"]


PROGRAM = """
    import sys, time
    from tamis.commands.terminal import steps
    with steps("Doing this.") as step:
        move = step("count things")
        for done in range(5):
            move(done + 1, 5)
            time.sleep(0.1)
"""


def on_a_terminal(program: str, **variables: str) -> str:
    """What a program shows on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **variables}
    with subprocess.Popen([sys.executable, "-c", dedent(program)], stderr=theirs, env=environment) as running:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 30)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:
                break
    os.close(ours)
    assert running.returncode == 0, shown
    return shown.decode()


def test_a_terminal_shows_bars() -> None:
    shown = on_a_terminal(PROGRAM)
    assert shown.startswith("Doing this.")
    assert "━" in shown
    assert re.search(r"  count things +.* 5 in \d s", shown)


def test_more_stages_than_the_screen_has_lines_leave_the_latest_in_sight() -> None:
    program = """
        import time
        from tamis.commands.terminal import steps
        with steps("Doing this.") as step:
            for number in range(30):
                step(f"stage {number}")(1, 2)
            time.sleep(1)
    """
    shown = on_a_terminal(program, LINES="10")
    assert "stage 29" in shown
    assert "stage 22" in shown
    assert shown.rpartition("stage 29")[0].count("stage 2 ") == 0


@pytest.mark.parametrize(
    ("before", "variables"),
    [("", {"TERM": "dumb"}), ("import sys; sys.modules['rich'] = None", {})],
    ids=["dumb terminal", "no rich"],
)
def test_where_there_can_be_no_bars_there_are_lines(before: str, variables: dict[str, str]) -> None:
    assert on_a_terminal(f"    {before}\n{PROGRAM}", **variables).splitlines() == ["Doing this."]


def test_a_terminal_of_ascii_shows_bars_of_ascii() -> None:
    shown = on_a_terminal(PROGRAM, PYTHONIOENCODING="ascii")
    assert re.search(r"  count things +.* 5 in \d s", shown)
    assert shown.isascii()

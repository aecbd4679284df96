"""What is shown while a run works: on stderr, with the area, the speed and the time left."""

import json
import sys

import pytest

from cytolite import progress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told to."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_lines_now_and_then_with_speed_and_time_left(clock, capsys):
    with progress.lines("a.svs", every_s=30) as update:
        for done_mm2 in range(13):
            update(float(done_mm2), 100.0)
            clock(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "a.svs ...",
        "a.svs: 3.00 of 100.00 mm², 0.10 mm²/s, 0:16:10 left",
        "a.svs: 6.00 of 100.00 mm², 0.10 mm²/s, 0:15:40 left",
        "a.svs: 9.00 of 100.00 mm², 0.10 mm²/s, 0:15:10 left",
        "a.svs: 12.00 of 100.00 mm², 0.10 mm²/s, 0:14:40 left",
    ]


def test_what_is_counted_has_no_fractions_but_its_speed_has(clock, capsys):
    with progress.lines("consep", "images", every_s=0) as update:
        update(0, 1_027)
        clock(30)
        update(12, 1_027)
    assert capsys.readouterr().err.splitlines()[2:] == ["consep: 12 of 1,027 images, 0.4 images/s, 0:42:18 left"]


def test_no_time_left_before_it_means_something(clock, capsys):
    """Not in the first seconds, not of the first hundredth, not of what an earlier run had done."""
    with progress.lines("a", every_s=0) as update:
        update(50.0, 100.0)  # kept from before
        clock(9)
        update(55.0, 100.0)
        clock(2)
        update(50.4, 100.0)
        update(61.0, 100.0)
    lines = capsys.readouterr().err.splitlines()[1:]
    assert ["left" in line for line in lines] == [False, False, False, True]
    assert lines[-1] == "a: 61.00 of 100.00 mm², 1.00 mm²/s, 0:00:39 left"


def test_a_large_slide_has_a_time_left_after_a_minute(clock, capsys):
    with progress.lines("a", every_s=0) as update:
        update(0.0, 1000.0)
        clock(59)
        update(1.0, 1000.0)
        clock(1)
        update(1.0, 1000.0)
    assert ["left" in line for line in capsys.readouterr().err.splitlines()[1:]] == [False, False, True]


def test_nothing_done_yet_and_more_done_than_planned(clock, capsys):
    with progress.lines("a", every_s=0) as update:
        update(0.0, 0.0)
        update(0.0, 1.0)
        clock(10)
        update(2.0, 1.0)
    assert capsys.readouterr().err.splitlines()[1:] == [
        "a: 0.00 of 0.00 mm²",
        "a: 0.00 of 1.00 mm²",
        "a: 2.00 of 1.00 mm², 0.20 mm²/s, 0:00:00 left",
    ]


def test_silent_is_silent(capsys):
    with progress.silent("a") as update:
        update(1.0, 2.0)
    assert capsys.readouterr() == ("", "")


def test_bar_shows_the_state_on_stderr(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    with progress.bar("a.svs") as update:
        update(0.0, 4.0)
        clock(10)
        update(1.0, 4.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "a.svs" in err
    assert "1.00 of 4.00 mm², 0.10 mm²/s, 0:00:30 left" in err


@pytest.mark.parametrize(
    ("quiet", "terminal", "display"),
    [(True, True, progress.silent), (False, True, progress.bar), (False, False, progress.lines)],
)
def test_display_suits_where_stderr_goes(monkeypatch, quiet, terminal, display):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert progress.choose(quiet) is display


def test_what_is_not_an_area_is_counted_in_whole_units(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with progress.choose(quiet=False)("crops", unit="cells") as update:
        update(0, 6000)
        clock(30)
        update(1500, 6000)
    assert capsys.readouterr().err.splitlines() == [
        "crops ...",
        "crops: 1,500 of 6,000 cells, 50.0 cells/s, 0:01:30 left",
    ]


def test_objects_a_line_for_programs(clock, capsys):
    """The first says that nothing is known yet; the last is never left out; between them one each half second."""
    with progress.choose(quiet=True, style="json")("a.svs") as update:
        for done in range(10):
            update(done / 3, 3.0)
            clock(0.2)
        update(3.0, 3.0)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[0] == {"done_mm2": 0.0, "total_mm2": 0.0}
    assert [line["done_mm2"] for line in lines[1:]] == [0.0, 1.0, 2.0, 3.0, 3.0]
    assert all(line["total_mm2"] == 3.0 for line in lines[1:])


def test_a_batch_is_numbered_and_says_what_is_left_for_all(clock, capsys):
    batch = progress.Batch(progress.lines, 40)
    for place, left, seconds in ((1, 30, 60), (2, 29, 120), (5, 26, 0)):  # 3 and 4 are there already
        with batch.display(place, left)("a.svs"):
            clock(seconds)
    assert capsys.readouterr().err.splitlines() == [
        "1 of 40: a.svs ...",
        "2 of 40, 0:29:00 left for all: a.svs ...",  # 29 slides of 60 s
        "5 of 40, 0:39:00 left for all: a.svs ...",  # 26 slides of 90 s
    ]


def test_a_slide_that_fails_at_once_does_not_make_the_rest_look_short(clock, capsys):
    batch = progress.Batch(progress.lines, 3)
    with batch.display(1, 3)("a"):
        clock(100)
    with pytest.raises(OSError, match="no"), batch.display(2, 2)("b"):
        raise OSError("no")
    with batch.display(3, 1)("c"):
        pass
    assert capsys.readouterr().err.splitlines()[-1] == "3 of 3, 0:01:40 left for all: c ..."


def test_one_slide_alone_is_not_numbered(capsys):
    with progress.Batch(progress.lines, 1).display(1, 1)("a.svs"):
        pass
    assert capsys.readouterr().err == "a.svs ...\n"

"""What a run says while it works: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

Everything goes to stderr, so that stdout holds results alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

# Called with what is done and what there is to do, in mm2 of tissue or in what the display was told to count.
Update = Callable[[float, float], None]


class Display(Protocol):
    """Called with the title of some work, and what it is counted in; gives the `Update` to call meanwhile."""

    def __call__(self, title: str, unit: str = "mm2") -> AbstractContextManager[Update]: ...


LINE_EVERY_S = 30.0
JSON_EVERY_S = 0.5
# A speed is said after this time and this share of the work, or after a longer time.
PACE_AFTER_S, PACE_SHARE, PACE_SURE_S = 10.0, 0.01, 60.0
Style = Literal["auto", "json"]


@contextmanager
def silent(title: str, unit: str = "mm2") -> Iterator[Update]:
    """Show nothing.

    Parameters
    ----------
    title : str
        What is worked on.
    unit : str
        What progress is counted in.
    """
    yield lambda done, total: None


@contextmanager
def lines(title: str, unit: str = "mm2", every_s: float = LINE_EVERY_S) -> Iterator[Update]:
    """Print a line at the start, and one every `every_s` seconds: for logs, where a bar would be noise.

    Parameters
    ----------
    title : str
        What is worked on.
    unit : str
        What progress is counted in.
    every_s : float
        Seconds between lines.
    """
    last = time.monotonic()
    pace = _Pace(unit)
    print(f"{title} ...", file=sys.stderr, flush=True)

    def update(done: float, total: float) -> None:
        nonlocal last
        now = time.monotonic()
        state = pace.state(done, total, now)
        if now - last >= every_s:
            last = now
            print(f"{title}: {state}", file=sys.stderr, flush=True)

    yield update


@contextmanager
def json_lines(title: str, unit: str = "mm2", every_s: float = JSON_EVERY_S) -> Iterator[Update]:
    """Print an object a line, ``{"done_mm2": 1.5, "total_mm2": 6.0}``: for programs; the first and the last always.

    Parameters
    ----------
    title : str
        What is worked on.
    unit : str
        What progress is counted in.
    every_s : float
        Seconds between objects.
    """
    last = float("-inf")

    def update(done: float, total: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s or done >= total:
            last = now
            content = {f"done_{unit}": round(done, 6), f"total_{unit}": round(total, 6)}
            print(json.dumps(content), file=sys.stderr, flush=True)

    update(0.0, 0.0)  # 0 in all: nobody knows yet how much there is to do
    last = float("-inf")
    yield update


@contextmanager
def bar(title: str, unit: str = "mm2") -> Iterator[Update]:
    """Draw a bar with what is done, the speed and the time left.

    Parameters
    ----------
    title : str
        What is worked on.
    unit : str
        What progress is counted in.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    # A name such as "[red].svs" is no markup.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, state="reading")
        pace = _Pace(unit)

        def update(done: float, total: float) -> None:
            progress.update(task, completed=done, total=total, state=pace.state(done, total, time.monotonic()))

        yield update


def choose(quiet: bool, style: Style = "auto") -> Display:
    """Return the display that suits where stderr goes, or the one for programs.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    style : Style
        For a person, for a program, or by what stderr is.
    """
    if style == "json":
        return json_lines
    if quiet:
        return silent
    return bar if sys.stderr.isatty() else lines


class _Pace:
    """Speed and time left of some work, said when they mean something: not from the first piece, whose time is mostly
    that of the start, and not from what an earlier run left, which took no time at all.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.start: tuple[float, float] | None = None

    def state(self, done: float, total: float, now: float) -> str:
        # Areas have fractions, patches have not.
        digits = 2 if self.unit == "mm2" else 0
        unit = self.unit.replace("mm2", "mm²")
        text = f"{done:,.{digits}f} of {total:,.{digits}f} {unit}"
        if self.start is None and total > 0:
            self.start = done, now
        if self.start is None:
            return text
        new, seconds = done - self.start[0], now - self.start[1]
        share = PACE_SHARE if seconds < PACE_SURE_S else 0
        if new > 0 and new >= share * (total - self.start[0]) and seconds >= PACE_AFTER_S:
            speed = new / seconds
            text += f", {speed:,.{digits or 1}f} {unit}/s, {_clock((total - done) / speed)} left"
        return text


def _clock(seconds: float) -> str:
    whole = round(max(0.0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Batch:
    """Numbers the slides of a batch, "3 of 40", and says how long all that are left will take.

    The time is that of a mean slide among those done, so it is told from the second on.

    Parameters
    ----------
    display : Display
        Shows each of them.
    n : int
        Slides in all.
    """

    def __init__(self, display: Display, n: int) -> None:
        self._show, self._n = display, n
        self._seconds: list[float] = []

    def display(self, place: int, left: int) -> Display:
        """Return the display for one slide.

        Parameters
        ----------
        place : int
            Its place in the batch, from 1.
        left : int
            Slides that are to be worked on from here, it among them: without those that are there already.
        """

        @contextmanager
        def numbered(title: str, unit: str = "mm2") -> Iterator[Update]:
            head = f"{place} of {self._n}"
            if self._seconds:
                head += f", {_clock(left * sum(self._seconds) / len(self._seconds))} left for all"
            start = time.monotonic()
            with self._show(f"{head}: {title}" if self._n > 1 else title, unit) as update:
                yield update
            self._seconds.append(time.monotonic() - start)

        return numbered

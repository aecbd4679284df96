"""What a run says while it works: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

Everything goes to stderr, so that stdout holds results alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

# Called with the area done and the area to do, in mm2.
Update = Callable[[float, float], None]
# Called with a slide's title; gives the `Update` to call while that slide is worked on.
Display = Callable[[str], AbstractContextManager[Update]]

LINE_EVERY_S = 30.0
JSON_EVERY_S = 0.5
Style = Literal["auto", "json"]


@contextmanager
def silent(title: str) -> Iterator[Update]:
    """Show nothing."""
    yield lambda done_mm2, total_mm2: None


@contextmanager
def lines(title: str, every_s: float = LINE_EVERY_S) -> Iterator[Update]:
    """Print a line at the start, and one every `every_s` seconds: for logs, where a bar would be noise."""
    start = last = time.monotonic()
    print(f"{title} ...", file=sys.stderr, flush=True)

    def update(done_mm2: float, total_mm2: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            print(f"{title}: {_state(done_mm2, total_mm2, now - start)}", file=sys.stderr, flush=True)

    yield update


@contextmanager
def json_lines(title: str, every_s: float = JSON_EVERY_S) -> Iterator[Update]:
    """Print an object a line, ``{"done_mm2": 1.5, "total_mm2": 6.0}``: for programs; the first and the last always."""
    last = float("-inf")

    def update(done_mm2: float, total_mm2: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s or done_mm2 >= total_mm2:
            last = now
            content = {"done_mm2": round(done_mm2, 6), "total_mm2": round(total_mm2, 6)}
            print(json.dumps(content), file=sys.stderr, flush=True)

    update(0.0, 0.0)  # 0 in all: nobody knows yet how much there is to do
    last = float("-inf")
    yield update


@contextmanager
def bar(title: str) -> Iterator[Update]:
    """Draw a bar with the area done, the speed and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, state="reading")
        start = time.monotonic()

        def update(done_mm2: float, total_mm2: float) -> None:
            state = _state(done_mm2, total_mm2, time.monotonic() - start)
            progress.update(task, completed=done_mm2, total=total_mm2, state=state)

        yield update


def choose(quiet: bool, style: Style = "auto") -> Display:
    """Return the display that suits where stderr goes, or the one for programs."""
    if style == "json":
        return json_lines
    if quiet:
        return silent
    return bar if sys.stderr.isatty() else lines


def _state(done_mm2: float, total_mm2: float, seconds: float) -> str:
    text = f"{done_mm2:.2f} of {total_mm2:.2f} mm2"
    if done_mm2 > 0 and seconds > 0:
        speed = done_mm2 / seconds
        left_s = round(max(0.0, total_mm2 - done_mm2) / speed)
        text += f", {speed:.2f} mm2/s, {left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02} left"
    return text

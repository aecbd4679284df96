"""A run over many slides: what becomes of each, in ``cohort.json`` meanwhile, and the cohort's tables at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cytolite.drawing.cohort_page import write_page
from cytolite.files import NOTICE, write_text
from cytolite.interop.cohort import COHORT_FILE, Cohort, read_cohort, read_state, write_cohort
from cytolite.names import as_text, one_line
from cytolite.progress import Display, Update
from cytolite.segmentation.run import Outcome
from cytolite.segmentation.slide_list import Entry

# Seconds between two writings, and how many times longer than a writing takes.
_EVERY_S, _TIMES = 2.0, 20.0
LOG_FILE = "cohort.log"


class Ledger:
    """Keeps ``cohort.json``: slides of earlier runs stay, those of this run are replaced.

    Parameters
    ----------
    output : pathlib.Path
        Folder of the results.
    entries, folders : sequences
        The slides of this run and their folders.
    """

    def __init__(self, output: Path, entries: Sequence[Entry], folders: Sequence[Path]) -> None:
        self._output = output
        self._slides: dict[str, dict[str, Any]] = read_state(output)["slides"]
        for entry, folder in zip(entries, folders, strict=True):
            state = {"path": as_text(entry.path.resolve()), "status": "waiting", "columns": entry.columns}
            self._slides[as_text(folder.name)] = state
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._since, self._written, self._took = time.monotonic(), float("-inf"), 0.0
        self._more: dict[str, Any] = {}
        self.write(running=True)
        self._note(f"started with {len(entries):,} slides")

    def tell(self, **more: Any) -> None:
        """Keep something else of the run, such as the address of a dashboard."""
        self._more |= more
        for name, value in more.items():
            self._note(f"{name} {value}")

    def change(self, folder: Path, *, now: bool = False, **state: Any) -> None:
        """Change what is said of a slide; written when it is time, so that many small images are not written each time.

        Parameters
        ----------
        folder : pathlib.Path
            Of the slide's results.
        now : bool
            Whether it need not wait for more, as long as writing takes a small part of the time.
        **state
            What is said anew, such as `status` or `done_mm2`, as JSON can hold it; the rest stays.
        """
        self._slides[as_text(folder.name)] |= state
        if time.monotonic() - self._written > max(0.0 if now else _EVERY_S, _TIMES * self._took):
            self.write(running=True)

    def settle(self, outcome: Outcome) -> None:
        """Keep what became of a slide."""
        changes: dict[str, Any] = {
            "status": outcome.status,
            "message": as_text(outcome.message),
            "seconds": round(outcome.seconds, 1),
        }
        if outcome.status != "failed":
            changes |= {"cells": outcome.cells, "done_mm2": outcome.tissue_mm2, "total_mm2": outcome.tissue_mm2}
        self.change(outcome.folder, **changes)
        told = "; ".join(filter(None, (outcome.message, *outcome.warnings)))
        self._note(f"{outcome.folder.name} {outcome.status}" + (f": {told}" if told else ""))

    def watch(self, display: Display, folder: Path) -> Display:
        """Return a display that also keeps how far a slide is.

        Parameters
        ----------
        display : Display
            Shows progress.
        folder : pathlib.Path
            Of the slide's results.
        """

        @contextmanager
        def watched(title: str, unit: str = "mm2") -> Iterator[Update]:
            self.change(folder, now=True, status="running")
            with display(title, unit) as update:

                def both(done: float, total: float) -> None:
                    update(done, total)
                    self.change(folder, done_mm2=round(done, 4), total_mm2=round(total, 4))

                yield both

        return watched

    def end(self) -> None:
        """Say that the run has ended; raises `OutputError` if it cannot be written."""
        self.write(running=False)
        self._note("ended")

    def _note(self, text: str) -> None:
        """Add a line to the log, which all runs on this folder share; one that cannot be kept costs no slide."""
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {one_line(text)}\n"
        with suppress(OSError), (self._output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(line)

    def write(self, *, running: bool) -> None:
        """Write the file; raises `OutputError` if it cannot be written."""
        start = time.monotonic()
        content = {
            "notice": NOTICE, "running": running, "started": self._started,
            "updated": datetime.now(UTC).isoformat(timespec="seconds"), "elapsed_s": round(start - self._since, 1),
            **self._more, "slides": self._slides,
        }  # fmt: skip
        write_text(self._output / COHORT_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        self._written = time.monotonic()
        self._took = self._written - start


def collect(output: Path) -> Cohort:
    """Make the cohort's tables and its page from the results in a folder.

    Raises
    ------
    UsageError
        If there are none.
    OutputError
        If something cannot be written.
    """
    cohort = read_cohort(output)
    write_cohort(output, cohort)
    write_page(output, cohort)
    return cohort


def status(output: Path) -> str:
    """Return how far the run is that works, or worked last, on a folder of results; a sentence if there is none."""
    state = read_state(output)
    slides = state["slides"]
    if not slides:
        return f"{output} has no {COHORT_FILE}: no run over several slides was started there.\n"
    by_status: dict[str, list[str]] = {}
    for name, slide in slides.items():
        by_status.setdefault(slide.get("status", "waiting"), []).append(name)
    counts = ", ".join(f"{len(names):,} {word}" for word, names in sorted(by_status.items()))
    elapsed = float(state.get("elapsed_s", 0))
    ours = [slide for slide in slides.values() if slide.get("status") in {"done", "running"}]
    done_mm2 = sum(float(slide.get("done_mm2", 0)) for slide in ours)
    word = "running" if state.get("running") else "ended"
    lines = [
        f"{len(slides):,} slides: {counts}",
        f"{word}; started {state.get('started')}, last word {state.get('updated')}",
    ]
    if elapsed > 0 and done_mm2 > 0:
        lines.append(f"{done_mm2:,.2f} mm² in {elapsed:,.0f} s, {done_mm2 / elapsed:.3g} mm²/s")
        settled = len(by_status.get("done", ())) + len(by_status.get("failed", ()))
        waiting = len(by_status.get("waiting", ())) + len(by_status.get("running", ()))
        if state.get("running") and settled and waiting:
            lines.append(f"about {elapsed / settled * waiting / 60:,.0f} min left, at the pace of a mean slide")
    lines += [f"dashboard {state['dashboard']}"] if state.get("dashboard") else []
    for name in by_status.get("running", ()):
        lines.append(f"  {name}: {slides[name].get('done_mm2', 0):.2f} of {slides[name].get('total_mm2', 0):.2f} mm²")
    for name in by_status.get("failed", ()):
        lines.append(f"  {name}: failed: {slides[name].get('message', '')}")
    return "\n".join(lines) + "\n"

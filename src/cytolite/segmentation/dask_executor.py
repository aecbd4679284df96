"""Slides on a Dask cluster: of this machine, of a batch system, or one that runs already.

Where workers see the output each slide is a task that plans it, hands its tiles to all workers, and stitches and
writes; it steps aside while it waits. Where they do not, a thread of the client does that, and workers send it what
they find. All of it is the road of a run in one process, with the same part files, so that whatever dies costs what it
had in hand. Needs the extra `cluster`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from distributed import Client, KilledWorker, get_worker

from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, InputError, Stopped
from cytolite.inference.predictor import Model
from cytolite.progress import Display, Update
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.cohort import Ledger
from cytolite.segmentation.dask_checks import check_workers, probed
from cytolite.segmentation.dask_tiles import TOPIC, DistantWorkers, Workers
from cytolite.segmentation.expected import Expected
from cytolite.segmentation.run import Outcome, try_slide
from cytolite.segmentation.slide_list import Entry

_TELL_EVERY_S, _LOOK_EVERY_S = 1.0, 0.1
# How often a slide is given to another worker after the one that had it died.
_LIVES = 5
# At a time in this process: one is planned, one written, while workers have the tiles of others.
_SLIDES_HERE = 4
log = logging.getLogger("cytolite")


def do_slide(entry: Entry, folder: Path, expected: Expected, probe: Path, rank: int = 0) -> Outcome:
    """Segment one slide, on a worker, with the help of all.

    Parameters
    ----------
    entry : Entry
        The slide, at a path that this worker sees, and its settings.
    folder : pathlib.Path
        Of its results, on storage that all workers share.
    expected : Expected
        Version and bundle that this worker must have.
    probe : pathlib.Path
        Seen by who sees the output.
    rank : int
        Of the slide in the run.
    """
    wrong = ""
    host = socket.gethostname()
    if not probe.exists():
        wrong = f"{folder.parent} is not seen by the host {host}, which came later: run the same command again."
    elif not entry.path.exists():
        wrong = (
            f"{entry.path} is not there on the host {host}: check the name; all workers have to see a slide under the "
            "same one."
        )
    else:
        try:
            model = Model.of(expected.load(), entry.settings)
        except BundleError as error:
            wrong = str(error)
    if wrong:
        return Outcome(entry.path, folder, "failed", wrong)
    return try_slide(entry, folder, model, _display(folder, _tell), Workers(rank))


def _tell(told: dict[str, Any]) -> None:
    get_worker().log_event(TOPIC, told)


def _display(folder: Path, tell: Callable[[dict[str, Any]], None]) -> Display:
    """Return a display that tells the client how far a slide is."""

    @contextmanager
    def told(title: str, unit: str = "mm2") -> Iterator[Update]:
        last = float("-inf")

        def update(done: float, total: float) -> None:
            nonlocal last
            if time.monotonic() - last >= _TELL_EVERY_S:
                last = time.monotonic()
                tell({"slide": str(folder), "done_mm2": done, "total_mm2": total})

        yield update

    return told


def segment_on_cluster(
    client: Client,
    entries: Sequence[Entry],
    folders: Sequence[Path],
    models: Callable[[SegmentSettings], Model],
    *,
    ledger: Ledger,
    display: Display,
    report: Callable[[Outcome], None],
) -> list[Outcome]:
    """Segment slides on a cluster; when one fails the others go on.

    Parameters
    ----------
    client : Client
        From `connect`.
    entries, folders : sequences
        Slides, at paths that all workers see, and the folders of their results.
    models : callable
        Gives the model of some settings, for its name and hash: no network is loaded here.
    ledger : Ledger
        Keeps what becomes of each slide.
    display : Display
        Shows progress, counted in slides.
    report : callable
        Called with each outcome as soon as it is known.

    Raises
    ------
    InputError
        If workers have other versions or models, or the scheduler is gone.
    """
    bundles = [models(entry.settings).bundle for entry in entries]
    # What is best here decides for all: workers on other processors must not choose otherwise.
    entries = [replace(entry, settings=models(entry.settings).as_set(entry.settings)) for entry in entries]
    with probed(folders[0].parent) as probe:
        blind = check_workers(client, list({bundle.path: bundle for bundle in bundles}.values()), probe)
        expected = [Expected.of(bundle) for bundle in bundles]
        place: _Place = _Here(client, models) if blind else _There(client, expected, probe)
        if blind:
            log.warning("%s", _blind(folders[0].parent, blind))
        ledger.tell(dashboard=client.dashboard_link, parts=place.parts)
        for folder in folders:
            WorkFolder(folder).forget_attempts()
        run = _Run(client, entries, folders, place, ledger=ledger, report=report)
        try:
            client.subscribe_topic(TOPIC, run.hear)
            with display(f"{len(entries)} slides", "slides") as update:
                while run.step():
                    update(run.slides_done, len(entries))
                    time.sleep(_LOOK_EVERY_S)
                update(run.slides_done, len(entries))
        except (KeyboardInterrupt, Stopped) as stop:
            left = len(entries) - len(run.outcomes)
            stop.args = (
                f"Stopped with {left} slides to go; run the same command again to go on, what is done is kept.",
            )
            raise
        except (OSError, CancelledError):  # what Dask raises without its scheduler
            raise _gone(client) from None
        finally:
            with suppress(OSError):
                client.unsubscribe_topic(TOPIC)
            place.stop(list(run.running))
    return [run.outcomes[i] for i in range(len(entries))]


def _blind(output: Path, hosts: Sequence[str]) -> str:
    named = hosts[0] if len(hosts) == 1 else f"{hosts[0]} and {len(hosts) - 1} more hosts"
    return (
        f"{output} is not seen by {named}: what workers find comes back through the scheduler, and this process "
        "stitches and writes it."
    )


def _gone(client: Client) -> InputError:
    address = client.scheduler.address if client.scheduler else "of the cluster"
    return InputError(
        f"The scheduler {address} is gone: start it again, and run the same command again to go on; what is done is "
        "kept."
    )


class _Place(Protocol):
    """Where slides are planned, stitched and written.

    Attributes
    ----------
    parts : str
        How what workers find gets there.
    heard : deque of dict
        What was told of slides in work.
    """

    parts: str
    heard: deque[dict[str, Any]]

    def most(self, threads: int) -> int:
        """Return how many slides may be in work on a cluster of so many threads."""

    def submit(self, i: int, entry: Entry, folder: Path) -> Any:
        """Start a slide; returns its future."""

    def hear(self, told: dict[str, Any]) -> None:
        """Take what a worker tells, of this run or of another on the same cluster; called by another thread."""

    def stop(self, running: Sequence[Any]) -> None:
        """End what is in work, of which the futures are `running`."""


class _There:
    """Slides are tasks of the cluster, whose workers see the output."""

    parts = "written by the workers"

    def __init__(self, client: Client, expected: Sequence[Expected], probe: Path) -> None:
        self._client, self._expected, self._probe = client, expected, probe
        self.heard: deque[dict[str, Any]] = deque()

    def most(self, threads: int) -> int:
        return threads + 1

    def submit(self, i: int, entry: Entry, folder: Path) -> Any:
        task = (do_slide, entry, folder, self._expected[i], self._probe, i)
        return self._client.submit(*task, pure=False, priority=-i, key=f"slide-{uuid4().hex}")

    def hear(self, told: dict[str, Any]) -> None:
        if "done_mm2" in told:
            self.heard.append(told)

    def stop(self, running: Sequence[Any]) -> None:
        with suppress(OSError):
            self._client.cancel(list(running))


class _Here:
    """Slides are threads of this process, and their tiles tasks of workers that do not see the output."""

    parts = "sent through the scheduler"

    def __init__(self, client: Client, models: Callable[[SegmentSettings], Model]) -> None:
        self._models, self._workers = models, DistantWorkers(client)
        self._pool = ThreadPoolExecutor(_SLIDES_HERE, thread_name_prefix="slide")
        self._stopped = threading.Event()
        self.heard: deque[dict[str, Any]] = deque()

    def most(self, threads: int) -> int:
        return _SLIDES_HERE

    def submit(self, i: int, entry: Entry, folder: Path) -> Any:
        return self._pool.submit(self._do, entry, folder)

    def _do(self, entry: Entry, folder: Path) -> Outcome:
        return try_slide(entry, folder, self._models(entry.settings), _display(folder, self._tell), self._workers)

    def _tell(self, told: dict[str, Any]) -> None:
        if self._stopped.is_set():
            raise Stopped
        self.heard.append(told)

    def hear(self, told: dict[str, Any]) -> None:
        if "begun" in told:
            self._workers.hear(told)

    def stop(self, running: Sequence[Any]) -> None:
        self._stopped.set()
        self._workers.stop()
        self._pool.shutdown(cancel_futures=True)


class _Run:
    """Slides on a cluster: as many at a time as keep all workers busy, each again if its worker died."""

    def __init__(
        self,
        client: Client,
        entries: Sequence[Entry],
        folders: Sequence[Path],
        place: _Place,
        *,
        ledger: Ledger,
        report: Callable[[Outcome], None],
    ) -> None:
        self._client, self._entries, self._folders, self._place = client, entries, folders, place
        self._ledger, self._report = ledger, report
        self._waiting = deque(range(len(entries)))
        self._deaths = [0] * len(entries)
        self._shares: dict[int, float] = {}
        self.running: dict[Any, int] = {}
        self.outcomes: dict[int, Outcome] = {}

    @property
    def slides_done(self) -> float:
        """Of those in work the share that is done counts, too."""
        return len(self.outcomes) + sum(self._shares.values())

    def hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take what a worker tells; called by another thread."""
        self._place.hear(event[1])

    def step(self) -> bool:
        """Do what there is to do; return whether there is more to come. Raises `InputError` without a scheduler."""
        if self._client.status != "running":
            raise _gone(self._client)
        while self._waiting and len(self.running) < self._place.most(max(1, sum(self._client.nthreads().values()))):
            self._submit(self._waiting.popleft())
        for future in [future for future in self.running if future.done()]:
            i = self.running.pop(future)
            self._shares.pop(i, None)
            outcome = _outcome(future, self._entries[i].path, self._folders[i])
            self._deaths[i] += outcome is None
            if outcome is None and self._deaths[i] < _LIVES:
                self._waiting.appendleft(i)
            else:
                self._settle(i, outcome or self._given_up(i))
        in_work = {str(self._folders[i].resolve()): i for i in self.running.values()}
        while self._place.heard:
            told = self._place.heard.popleft()
            if (name := told.pop("slide")) in in_work:
                self._shares[in_work[name]] = told["done_mm2"] / max(1e-9, told["total_mm2"])
                self._ledger.change(self._folders[in_work[name]], **told)
        return bool(self.running or self._waiting)

    def _submit(self, i: int) -> None:
        entry = replace(self._entries[i], path=self._entries[i].path.resolve())
        future = self._place.submit(i, entry, self._folders[i].resolve())
        self.running[future] = i
        self._ledger.change(self._folders[i], status="running")

    def _settle(self, i: int, outcome: Outcome) -> None:
        self.outcomes[i] = outcome
        self._ledger.settle(outcome)
        self._report(outcome)

    def _given_up(self, i: int) -> Outcome:
        slide = self._entries[i].path
        message = (
            f"{slide}: the workers that had it died {_LIVES} times; look into their log, and run the command again."
        )
        return Outcome(slide, self._folders[i], "failed", message)


def _outcome(future: Any, slide: Path, folder: Path) -> Outcome | None:
    """Return what became of a slide; ``None`` if its worker died. Raises `CancelledError` without a scheduler."""
    try:
        found: Outcome = future.result(timeout=30)
    except (CancelledError, Stopped):
        raise CancelledError from None
    except (KilledWorker, OSError, TimeoutError) as error:
        log.info("%s: %s", slide, error)
        return None
    except Exception as error:  # of Dask, or a fault of ours: it must not cost the other slides
        log.exception("%s failed on a worker", slide)
        return Outcome(slide, folder, "failed", f"{slide}: unexpected {type(error).__name__} on a worker: {error}")
    return Outcome(
        slide, folder, found.status, found.message, found.warnings, found.cells, found.tissue_mm2, found.seconds
    )

"""Slides and tiles on the workers of a Dask cluster: of this machine, of a batch system, or one that runs already.

Each slide is a task that plans it, hands its tiles to all workers, and stitches and writes; it steps aside while it
waits. All of it is the road of a run in one process, with the same part files, so that whatever dies costs what it had
in hand. Needs the extra `cluster`.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker, as_completed, get_worker, worker_client
from filelock import FileLock, Timeout

from cytolite.config import SegmentSettings
from cytolite.errors import BundleError, CytoliteError, InputError, OutputError, SlideError, Stopped
from cytolite.inference.predictor import Model
from cytolite.progress import Display, Update
from cytolite.segmentation.checkpoint import WorkFolder
from cytolite.segmentation.cohort import Ledger
from cytolite.segmentation.executors import Job
from cytolite.segmentation.run import Outcome, try_slide
from cytolite.segmentation.slide_list import Entry
from cytolite.slides.tiles import Tile

if TYPE_CHECKING:
    from cytolite.bundle import Bundle

_TOPIC = "cytolite"
_WAIT_S, _JOBS_WAIT_S, _TELL_EVERY_S, _LOOK_EVERY_S = 30.0, 24 * 3600.0, 1.0, 0.1
# A task is a few runs of tiles, so that the scheduler has less to do; and never more of them wait than keep all busy.
_RUNS_A_TASK, _TASKS_A_THREAD = 4, 3
# How often a slide is given to another worker after the one that had it died.
_LIVES = 5
log = logging.getLogger("cytolite")


class Workers:
    """Does tiles on all workers of the cluster that this task runs on; see `Executor`."""

    here = False

    def run(self, job: Job, runs: Sequence[Sequence[Tile]], tiles_left: Callable[[int], None]) -> None:
        """Do the `runs`; see `Executor.run`.

        Parameters
        ----------
        job : callable
            Does one run of tiles; can be pickled, and says in `folder` where its part files are.
        runs : sequence of sequences of Tile
            Started in this order, a few to a task.
        tiles_left : callable
            Called in this thread, with the number of tiles not done yet, after each task.

        Raises
        ------
        SlideError
            If tiles killed workers again and again.
        """
        left = sum(len(run) for run in runs)
        with worker_client() as client:  # steps aside: another task may use this thread meanwhile
            threads = _Threads(client)
            size = max(1, min(_RUNS_A_TASK, len(runs) // (2 * threads.now())))
            tasks = iter([runs[i : i + size] for i in range(0, len(runs), size)])
            counts: dict[Any, int] = {}
            pending = as_completed()

            def submit() -> None:
                for task in islice(tasks, max(0, _TASKS_A_THREAD * threads.now() - len(counts))):
                    future = client.submit(do_runs, job, task, pure=False, key=f"tiles-{uuid4().hex}")
                    counts[future] = sum(len(run) for run in task)
                    pending.add(future)

            submit()
            try:
                for future in pending:
                    future.result()
                    left -= counts.pop(future)
                    tiles_left(left)
                    submit()
            except KilledWorker:
                raise SlideError(
                    "Workers died again and again at the same tiles: look into their log; memory that is too small is "
                    "the usual reason (--tile makes tiles smaller)."
                ) from None
            finally:
                client.cancel(list(counts))


class _Threads:
    """How many threads all workers have: some come and go, and the scheduler need not be asked for each task."""

    def __init__(self, client: Client) -> None:
        self._client, self._asked, self._n = client, float("-inf"), 1

    def now(self) -> int:
        if time.monotonic() - self._asked > _TELL_EVERY_S:
            self._n = max(1, sum(self._client.nthreads().values()))
            self._asked = time.monotonic()
        return self._n


def do_runs(job: Job, runs: Sequence[Sequence[Tile]]) -> None:
    """Do some runs of tiles, on a worker; errors name its host.

    Parameters
    ----------
    job : callable
        Does one run of tiles; says in `folder` where its part files are.
    runs : sequence of sequences of Tile
        Done one after the other.
    """
    work = WorkFolder(job.folder)  # type: ignore[attr-defined]
    for run in runs:
        try:
            with work.attempt(run[0]):
                job(run)
        except CytoliteError as error:
            raise type(error)(f"{str(error).rstrip('.')} (on the host {socket.gethostname()}).") from None


@dataclass(frozen=True)
class Expected:
    """What all workers must have: checked before any work, and again by those that come later."""

    version: str
    bundle: Path
    bundle_sha256: str


def do_slide(entry: Entry, folder: Path, expected: Expected) -> Outcome:
    """Segment one slide, on a worker, with the help of all.

    Parameters
    ----------
    entry : Entry
        The slide, at a path that this worker sees, and its settings.
    folder : pathlib.Path
        Of its results, on storage that all workers share.
    expected : Expected
        Version and bundle that this worker must have.
    """
    if not entry.path.exists():
        message = (
            f"{entry.path} is not there on the host {socket.gethostname()}: check the name; all workers have to see a "
            "slide under the same one."
        )
        return Outcome(entry.path, folder, "failed", message)
    try:
        bundle = _bundle(expected)
    except BundleError as error:
        return Outcome(entry.path, folder, "failed", str(error))
    model = Model.of(bundle, entry.settings)
    return try_slide(entry, folder, model, _tell(folder.name), Workers())


def _bundle(expected: Expected) -> Bundle:
    """Load the bundle on a worker.

    Raises
    ------
    BundleError
        If this process has something otherwise than the client.
    """
    from cytolite.bundle import load_bundle

    host = socket.gethostname()
    if (here := version("cytolite")) != expected.version:
        raise BundleError(
            f"A worker on {host} has cytolite {here}, this is {expected.version}: install the same on all hosts."
        )
    try:
        bundle = load_bundle(str(expected.bundle))
    except BundleError as error:
        raise BundleError(f"A worker on {host} cannot use the model: {error}") from None
    if bundle.sha256 != expected.bundle_sha256:
        raise BundleError(
            f"A worker on {host} has another network in {expected.bundle}: copy the same bundle to all hosts."
        )
    return bundle


def _look(expected: Sequence[Expected], seen: Path) -> str:
    """Return what is wrong with a worker; empty if nothing."""
    if not seen.exists():
        return (
            f"A worker on {socket.gethostname()} does not see {seen.parent}: name a folder on storage that all share."
        )
    try:
        for one in expected:
            _bundle(one)
    except BundleError as error:
        return str(error)
    return ""


def _tell(name: str) -> Display:
    """Return a display that tells the client how far a slide is."""

    @contextmanager
    def told(title: str, unit: str = "mm2") -> Iterator[Update]:
        last = float("-inf")

        def update(done: float, total: float) -> None:
            nonlocal last
            if time.monotonic() - last >= _TELL_EVERY_S:
                last = time.monotonic()
                get_worker().log_event(_TOPIC, {"slide": name, "done_mm2": done, "total_mm2": total})

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
        Slides, and the folders of their results: on storage that all workers see under these names.
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
        If workers have other versions, or do not see the output.
    """
    expected = [_expected(models(entry.settings)) for entry in entries]
    # What is best here decides for all: workers on other processors must not choose otherwise.
    entries = [replace(entry, settings=models(entry.settings).as_set(entry.settings)) for entry in entries]
    _check_workers(client, sorted(set(expected), key=repr), folders[0].parent)
    ledger.tell(dashboard=client.dashboard_link)
    for folder in folders:
        WorkFolder(folder).forget_attempts()
    run = _Run(client, entries, folders, expected, ledger=ledger, report=report)
    try:
        client.subscribe_topic(_TOPIC, run.hear)
        with display(f"{len(entries)} slides", "slides") as update:
            while run.step():
                update(run.slides_done, len(entries))
                time.sleep(_LOOK_EVERY_S)
            update(run.slides_done, len(entries))
    except (KeyboardInterrupt, Stopped) as stop:
        left = len(entries) - len(run.outcomes)
        stop.args = (f"Stopped with {left} slides to go; run the same command again to go on, what is done is kept.",)
        raise
    except (OSError, CancelledError):  # what Dask raises without its scheduler
        raise _gone(client) from None
    finally:
        with suppress(OSError):
            client.cancel(list(run.running))
            client.unsubscribe_topic(_TOPIC)
    return [run.outcomes[i] for i in range(len(entries))]


def _gone(client: Client) -> InputError:
    address = client.scheduler.address if client.scheduler else "of the cluster"
    return InputError(
        f"The scheduler {address} is gone: start it again, and run the same command again to go on; what is done is "
        "kept."
    )


class _Run:
    """Slides on a cluster: as many at a time as keep all workers busy, each again if its worker died."""

    def __init__(
        self,
        client: Client,
        entries: Sequence[Entry],
        folders: Sequence[Path],
        expected: Sequence[Expected],
        *,
        ledger: Ledger,
        report: Callable[[Outcome], None],
    ) -> None:
        self._client, self._entries, self._folders, self._expected = client, entries, folders, expected
        self._ledger, self._report = ledger, report
        self._waiting = deque(range(len(entries)))
        self._deaths = [0] * len(entries)
        self._heard: deque[dict[str, Any]] = deque()
        self._shares: dict[int, float] = {}
        self.running: dict[Future, int] = {}
        self.outcomes: dict[int, Outcome] = {}

    @property
    def slides_done(self) -> float:
        """Of those in work the share that is done counts, too."""
        return len(self.outcomes) + sum(self._shares.values())

    def hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Take what a worker tells; called by another thread."""
        self._heard.append(event[1])

    def step(self) -> bool:
        """Do what there is to do; return whether there is more to come. Raises `InputError` without a scheduler."""
        if self._client.status != "running":
            raise _gone(self._client)
        while self._waiting and len(self.running) <= max(1, sum(self._client.nthreads().values())):
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
        in_work = {self._folders[i].name: i for i in self.running.values()}
        while self._heard:
            told = self._heard.popleft()
            if (name := told.pop("slide")) in in_work:
                self._shares[in_work[name]] = told["done_mm2"] / max(1e-9, told["total_mm2"])
                self._ledger.change(self._folders[in_work[name]], **told)
        return bool(self.running or self._waiting)

    def _submit(self, i: int) -> None:
        entry = replace(self._entries[i], path=self._entries[i].path.resolve())
        task = (do_slide, entry, self._folders[i].resolve(), self._expected[i])
        future = self._client.submit(*task, pure=False, priority=-i, key=f"slide-{uuid4().hex}")
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
    except CancelledError:
        raise
    except (KilledWorker, OSError, TimeoutError) as error:
        log.info("%s: %s", slide, error)
        return None
    except Exception as error:  # of Dask, or a fault of ours: it must not cost the other slides
        log.exception("%s failed on a worker", slide)
        return Outcome(slide, folder, "failed", f"{slide}: unexpected {type(error).__name__} on a worker: {error}")
    return Outcome(
        slide, folder, found.status, found.message, found.warnings, found.cells, found.tissue_mm2, found.seconds
    )


def _expected(model: Model) -> Expected:
    return Expected(version("cytolite"), model.bundle.path.resolve(), model.bundle.sha256)


def _check_workers(client: Client, expected: Sequence[Expected], output: Path) -> None:
    """Wait for the first worker; raise `InputError` if none comes, or one has something otherwise than the client."""
    wait_s = _WAIT_S if client.cluster is None else _JOBS_WAIT_S
    try:
        client.wait_for_workers(1, timeout=wait_s)
    except TimeoutError:
        raise InputError(f"The cluster has no workers after {wait_s:.0f} s: start some.") from None
    seen = output / f".seen-{uuid4().hex}"
    seen.touch()
    try:
        found = client.run(_look, expected, seen.resolve())
    finally:
        seen.unlink(missing_ok=True)
    if complaints := sorted(set(filter(None, found.values()))):
        raise InputError(complaints[0])


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Keep a second client off the output of a run on a cluster.

    Raises
    ------
    OutputError
        If there is one.
    """
    lock = FileLock(output / ".cluster.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"Another run on a cluster is writing {output}; wait until it is done, or name another."
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

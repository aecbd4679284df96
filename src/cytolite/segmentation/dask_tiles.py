"""Tiles on the workers of a Dask cluster: they write part files where all see the output, or else send them back."""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Any
from uuid import uuid4
from weakref import WeakSet

from distributed import Client, Future, KilledWorker, as_completed, get_worker, worker_client
from distributed.protocol import pickle

from cytolite.errors import CytoliteError, SlideError, Stopped
from cytolite.segmentation.checkpoint import MOST_DEATHS, WorkFolder
from cytolite.segmentation.executors import Job, stopped
from cytolite.segmentation.tile_work import Parcel, TileWork
from cytolite.slides.tiles import Tile

# Of what workers say while they work.
TOPIC = "cytolite"
_ASK_EVERY_S = 1.0
# A task is a few runs of tiles, so that the scheduler has less to do, and one at the end, so that all workers end
# together. Never more tasks wait than keep all busy; they are handed out many at a time, which costs little more
# than one.
_RUNS_A_TASK, _TASKS_A_THREAD = 4, 3
# In priority, from one handing out to the next: Dask alone would mix them, and the small tasks of the end must be last.
_LATER = 1e-6
# How often runs are tried again whose workers died before they could say what they began.
_MOST_RETURNS = 10

Runs = Sequence[Sequence[Tile]]


class Workers:
    """Does tiles on all workers of the cluster that this task runs on; they write the part files. See `Executor`.

    Parameters
    ----------
    rank : int
        Of the slide in the run: tiles of earlier ones go first.
    """

    here = False

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank

    def run(self, job: Job, runs: Runs, tiles_left: Callable[[int], None]) -> None:
        """Do the `runs`; see `Executor.run`.

        Parameters
        ----------
        job : callable
            Does one run of tiles; can be pickled, and says in `folder` where its part files are.
        runs : sequence of sequences of Tile
            Started in this order, a few to a task.
        tiles_left : callable
            Called in this thread, with the number of tiles not done yet, after some tasks.

        Raises
        ------
        SlideError
            If tiles killed workers again and again.
        """
        left = sum(len(run) for run in runs)
        with self._client() as client:
            out = self._hand_out(client, job, runs)
            try:
                for done in out.batches():
                    for future, task in done:
                        try:
                            self._take(job, future)
                        except KilledWorker:
                            self._after_deaths(job, task)
                            out.again(task)
                        else:
                            left -= sum(len(run) for run in task)
                        finally:
                            future.release()  # or it would be done again if the worker that keeps its result dies
                    tiles_left(left)
            except CancelledError:
                self._cancelled(left)
            finally:
                out.cancel()
        if left:
            self._cancelled(left)

    @contextmanager
    def _client(self) -> Iterator[Client]:
        with worker_client() as client:  # steps aside: another task may use this thread meanwhile
            yield client

    def _hand_out(self, client: Client, job: Job, runs: Runs) -> _Out:
        return _Out(client, do_runs, job, runs, self._rank)

    def _take(self, job: Job, future: Future) -> None:
        """Raise what a task raised; of one that is done there is nothing to fetch."""
        if future.status != "finished":
            future.result()

    def _after_deaths(self, job: Job, task: Runs) -> None:
        """Say whether a task that workers died of may be tried again; here never, as `attempt` has counted."""
        raise SlideError(_DEATHS) from None

    def _cancelled(self, left: int) -> None:
        """Raise what it means that tasks were cancelled."""
        raise CancelledError


class DistantWorkers(Workers):
    """Does tiles on workers that do not see the output, for a thread of the client, which writes what they send back.

    As much is on its way as there are tasks, and one task's parts at a time are in the scheduler's and this process's
    memory for each slide in work.

    Parameters
    ----------
    client : Client
        Of the cluster.
    """

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._connected, self._ranks = client, count()
        self._begun: Counter[tuple[str, int]] = Counter()
        self._returned: Counter[tuple[str, int]] = Counter()
        self._out: WeakSet[_Out] = WeakSet()
        self._stopped = False

    def hear(self, told: dict[str, Any]) -> None:
        """Take what a worker says of a run that it begins; called by another thread."""
        self._begun[told["slide"], told["begun"]] += 1

    def stop(self) -> None:
        """End all that is in work: `run` raises `Stopped` in its threads."""
        self._stopped = True
        for out in list(self._out):
            out.cancel()

    @contextmanager
    def _client(self) -> Iterator[Client]:
        yield self._connected

    def _hand_out(self, client: Client, job: Job, runs: Runs) -> _Out:
        out = _Out(client, fetch_runs, job, runs, next(self._ranks))
        self._out.add(out)
        if self._stopped:
            out.cancel()
        return out

    def _take(self, job: Job, future: Future) -> None:
        work = WorkFolder(job.folder)  # type: ignore[attr-defined]
        try:
            parcels: list[Parcel] = future.result()
        except OSError:
            if self._connected.status == "running":
                raise
            raise CancelledError from None  # the scheduler is gone
        for parcel in parcels:
            work.add_damaged(parcel.damaged)
            for tile, content in parcel.parts.items():
                work.put(tile, content)

    def _after_deaths(self, job: Job, task: Runs) -> None:
        """A worker that dies takes along what waits for it: only a run that was begun each time is to blame."""
        runs = [(str(job.folder), run[0].index) for run in task]  # type: ignore[attr-defined]
        self._returned.update(runs)
        if any(self._begun[run] >= MOST_DEATHS or self._returned[run] >= _MOST_RETURNS for run in runs):
            raise SlideError(_DEATHS) from None

    def _cancelled(self, left: int) -> None:
        raise Stopped(stopped(left)) from None


_DEATHS = (
    "Workers died again and again at the same tiles: look into their log; memory that is too small is the usual reason "
    "(--tile makes tiles smaller)."
)


class _Out:
    """Tasks that are out: handed out as there is room, given back in groups as they are done."""

    def __init__(
        self, client: Client, function: Callable[[bytes, Runs], object], job: Job, runs: Runs, rank: int
    ) -> None:
        self._client, self._function, self._priority = client, function, -float(rank)
        self._job = pickle.dumps(job)  # once, and the scheduler need not look into it
        self._runs = deque(runs)
        self._again: list[Runs] = []
        self._tasks: dict[Future, Runs] = {}
        self._done = as_completed(loop=client.loop)
        self._threads, self._asked = 1, float("-inf")
        self._cancelled = False

    def batches(self) -> Iterator[list[tuple[Future, Runs]]]:
        """Hand out all runs; yields the tasks that are done, each with its runs."""
        self._submit()
        for batch in self._done.batches():
            yield [(future, self._tasks.pop(future)) for future in batch]
            self._submit()

    def again(self, task: Runs) -> None:
        """Do the runs of a task once more, each by itself."""
        self._again += [[run] for run in task]

    def cancel(self) -> None:
        """End all of it; called by any thread."""
        self._cancelled = True
        with suppress(OSError):  # without a scheduler there is nothing to end
            self._client.cancel(list(self._tasks))

    def _submit(self) -> None:
        threads = self._count()
        room = _TASKS_A_THREAD * threads - len(self._tasks)
        if self._cancelled or (self._tasks and room < threads and not self._again):
            return
        tasks, self._again = self._again, []
        while self._runs and len(tasks) < room:
            size = max(1, min(_RUNS_A_TASK, len(self._runs) // (2 * threads)))
            tasks.append([self._runs.popleft() for _ in range(min(size, len(self._runs)))])
        for i in range(0, len(tasks), threads):  # the first of them soon
            some = tasks[i : i + threads]
            keys = [f"tiles-{uuid4().hex}" for _ in some]
            futures = self._client.map(
                self._function, [self._job] * len(some), some, key=keys, pure=False, priority=self._priority
            )
            self._priority -= _LATER
            self._tasks |= dict(zip(futures, some, strict=True))
            self._done.update(futures)

    def _count(self) -> int:
        """How many threads all workers have: some come and go, and the scheduler need not be asked for each task."""
        if time.monotonic() - self._asked > _ASK_EVERY_S:
            self._threads = max(1, sum(self._client.nthreads().values()))
            self._asked = time.monotonic()
        return self._threads


def do_runs(job: bytes, runs: Runs) -> None:
    """Do some runs of tiles, on a worker; errors name its host.

    Parameters
    ----------
    job : bytes
        Pickled: does one run of tiles; says in `folder` where its part files are.
    runs : sequence of sequences of Tile
        Done one after the other.
    """
    do = _job(job)
    work = WorkFolder(do.folder)
    for run in runs:
        with _named(), work.attempt(run[0]):
            do(run)


def fetch_runs(job: bytes, runs: Runs) -> list[Parcel]:
    """Do some runs of tiles, on a worker that does not see where they are written; errors name its host.

    Parameters
    ----------
    job : bytes
        Pickled `TileWork`.
    runs : sequence of sequences of Tile
        Done one after the other.
    """
    do, parcels = _job(job), []
    for run in runs:
        get_worker().log_event(TOPIC, {"slide": str(do.folder), "begun": run[0].index})
        with _named():
            parcels.append(do.fetch(run))
    return parcels


@lru_cache(16)
def _job(pickled: bytes) -> TileWork:
    job: TileWork = pickle.loads(pickled)
    return job


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except CytoliteError as error:
        raise type(error)(f"{str(error).rstrip('.')} (on the host {socket.gethostname()}).") from None

"""The server's queue: one job at a time on a model that stays loaded."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolite.config import SegmentSettings
from cytolite.errors import CytoliteError, Stopped
from cytolite.files import whole_file
from cytolite.progress import Update
from cytolite.segmentation.results import prepare_output, result_folders
from cytolite.segmentation.run import Outcome, segment_again

if TYPE_CHECKING:
    from cytolite.inference.predictor import Model

State = Literal["queued", "running", "done", "failed", "cancelled"]
MAX_WAITING = 100
MAX_REMEMBERED = 1000
# Results that no folder was named for are kept so long: a client that asks again gets them at once.
KEEP_S = 7 * 24 * 3600.0


class QueueFullError(CytoliteError):
    """More jobs than a person can have meant."""


@dataclass(frozen=True)
class Work:
    """What a client asked for; two of the same are one job.

    Attributes
    ----------
    slide : pathlib.Path
        With links followed.
    mpp : float, optional
        Level-0 resolution, um/px.
    roi : str, optional
        GeoJSON.
    tissue : str
        As the option of the command.
    output : pathlib.Path, optional
        Folder for the results; the server's own if not given.
    """

    slide: Path
    mpp: float | None = None
    roi: str | None = None
    tissue: Literal["auto", "all"] = "auto"
    output: Path | None = None

    def key(self, model_sha256: str) -> str:
        """Return a name for this work, the same after a restart: where it left off it goes on."""
        parts = [str(self.slide), self.mpp, self.roi, self.tissue, str(self.output), model_sha256]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass
class Job:
    """One piece of work and how far it is; fields change under the queue's lock."""

    id: str
    key: str
    work: Work
    state: State = "queued"
    done_mm2: float = 0.0
    total_mm2: float = 0.0
    error: str | None = None
    outcome: Outcome | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in {"done", "failed", "cancelled"}

    @contextmanager
    def display(self, title: str, unit: str = "mm2") -> Iterator[Update]:
        """Take down the progress of a run, and stop it when that was asked for.

        Parameters
        ----------
        title : str
            Of the work.
        unit : str
            What progress is counted in.
        """

        def update(done_mm2: float, total_mm2: float) -> None:
            self.done_mm2, self.total_mm2 = done_mm2, total_mm2
            if self.stop.is_set():
                raise Stopped

        update(0.0, 0.0)
        yield update


class JobQueue:
    """Jobs in the order in which they came, worked on in one thread; a context manager.

    Parameters
    ----------
    model : Model
        Loaded once.
    settings : SegmentSettings
        For all jobs; resolution, regions and tissue are each job's own.
    folder : pathlib.Path
        For regions, and for results where a job names no folder.
    """

    def __init__(self, model: Model, settings: SegmentSettings, folder: Path) -> None:
        self.model, self.settings, self.folder = model, settings, folder
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)

    def __enter__(self) -> JobQueue:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _drop_old(self.folder)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs, once its tiles in work are done, and drop what waits; the tiles are kept."""
        with self._lock:
            for job in self._jobs.values():
                job.stop.set()
        self._waiting.put(None)
        self._thread.join()

    def submit(self, work: Work) -> Job:
        """Queue `work`, or return the job that is doing it already.

        Raises
        ------
        InputError
            If the regions cannot be read.
        QueueFullError
            If too many jobs wait.
        OutputError
            If the server's folder cannot be written.
        """
        key = work.key(self.model.bundle.sha256)
        with self._lock:
            for job in self._jobs.values():
                if job.key == key and not job.finished and not job.stop.is_set():
                    return job
            if sum(not job.finished for job in self._jobs.values()) >= MAX_WAITING:
                raise QueueFullError(f"{MAX_WAITING} jobs are waiting; ask again when some are done.")
            self._write_roi(key, work)
            job = Job(uuid.uuid4().hex, key, work)
            self._jobs[job.id] = job
            self._forget()
        self._waiting.put(job)
        return job

    def find(self, job_id: str) -> Job | None:
        """Return the job called so, ``None`` if there is none."""
        with self._lock:
            return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Ask a job to end; one that has not started is cancelled at once, one that has ended stays as it is."""
        with self._lock:
            job.stop.set()
            if job.state == "queued":
                job.state = "cancelled"

    def _write_roi(self, key: str, work: Work) -> None:
        """Put the regions into a file of the job's own, and see that they can be used."""
        if work.roi is None:
            return
        from cytolite.interop.roi import read_regions

        path = self._roi(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(work.roi.encode())
        try:
            read_regions(path)
        except CytoliteError as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise type(error)(str(error).replace(str(path), "roi")) from None

    def _roi(self, key: str) -> Path:
        return self.folder / key / "roi.geojson"

    def _forget(self) -> None:
        """Drop the oldest jobs that have ended, where there are too many to remember."""
        ended = [job.id for job in self._jobs.values() if job.finished]
        for job_id in ended[: max(0, len(self._jobs) - MAX_REMEMBERED)]:
            del self._jobs[job_id]

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            with self._lock:
                if job.finished or job.stop.is_set():
                    job.state = "cancelled"
                    continue
                job.state = "running"
            try:
                outcome, error = self._run(job), None
            except Stopped:
                outcome, error = None, None
            except (CytoliteError, OSError) as refused:
                outcome, error = None, str(refused)
            with self._lock:
                _settle(job, outcome, error)

    def _run(self, job: Job) -> Outcome:
        work = job.work
        output = work.output or self.folder / job.key
        prepare_output(output)
        os.utime(output)
        [target] = result_folders([work.slide], output)
        roi = None if work.roi is None else self._roi(job.key)
        settings = self.settings.model_copy(update={"mpp": work.mpp, "roi": roi, "tissue": work.tissue})
        return segment_again(work.slide, target, self.model, settings, job.display)


def _settle(job: Job, outcome: Outcome | None, error: str | None) -> None:
    failed = error or (outcome.message if outcome is not None and outcome.status == "failed" else None)
    if failed:
        job.state, job.error = "failed", failed
    elif outcome is None:
        job.state = "cancelled"
    else:
        job.state, job.outcome = "done", outcome
        job.done_mm2 = job.total_mm2 = outcome.tissue_mm2


def _drop_old(folder: Path) -> None:
    """Remove what jobs left here long ago."""
    for entry in folder.iterdir():
        if entry.is_dir() and time.time() - entry.stat().st_mtime > KEEP_S:
            shutil.rmtree(entry, ignore_errors=True)

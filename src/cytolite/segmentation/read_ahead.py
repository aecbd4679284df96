"""Reading one run of tiles ahead for each worker: a disk far away is waited for while the network works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cytolite.slides.tiles import Tile

Images = NDArray[np.uint8]


class ReadAhead:
    """Gives the images of runs of tiles, which threads of its own read before they are asked for; a context manager.

    Who asks for a run gets it, and begins the one that will be asked for when all others at work have begun one more.
    What goes wrong while one is read is raised to who asks for it.

    Parameters
    ----------
    read : callable
        Reads the images of a run.
    runs : sequence of sequences of Tile
        Asked for in about this order, each once.
    workers : int
        How many ask at a time: so many are read ahead.
    """

    def __init__(self, read: Callable[[Sequence[Tile]], Images], runs: Sequence[Sequence[Tile]], workers: int) -> None:
        self._read, self._runs, self._workers = read, runs, workers
        self._places = {run[0].index: place for place, run in enumerate(runs)}
        self._begun: dict[int, Future[Images]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, run: Sequence[Tile]) -> Images:
        """Return the images of a run; raises what reading it raised."""
        place = self._places[run[0].index]
        with self._lock:
            for number in (place, place + self._workers):
                if number < len(self._runs) and number not in self._begun:
                    self._begun[number] = self._pool.submit(self._read, self._runs[number])
            wanted = self._begun[place]
        images = wanted.result()
        with self._lock:
            self._begun[place] = Future()  # begun once, and its images are let go of
        return images

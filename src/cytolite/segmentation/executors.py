"""Where tiles are worked on: threads of this process, or what a cluster offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol

from cytolite.errors import Stopped
from cytolite.slides.tiles import Tile

# Does one run of tiles, from reading to their part files.
Job = Callable[[Sequence[Tile]], None]


class Executor(Protocol):
    """Does runs of tiles, in any order.

    Attributes
    ----------
    here : bool
        Whether jobs are done in this process, by what is open in it. Otherwise they are values that can be pickled.
    """

    here: bool

    def run(self, job: Job, runs: Sequence[Sequence[Tile]], tiles_left: Callable[[int], None]) -> None:
        """Do the `runs`, and stop all of them at the first error.

        Parameters
        ----------
        job : callable
            Does one run of tiles.
        runs : sequence of sequences of Tile
            Started in this order.
        tiles_left : callable
            Called in this thread, with the number of tiles not done yet, after each run.

        Raises
        ------
        KeyboardInterrupt, Stopped
            Once the tiles in work are done; its message says how many are not.
        """


class Threads:
    """Threads of this process.

    While one thread decodes another reads or waits for the network: everything heavy lets go of Python's lock, so
    stages overlap over the cores without queues between them.

    Parameters
    ----------
    workers : int
        How many.
    """

    here = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(
        self,
        job: Job,
        runs: Sequence[Sequence[Tile]],
        tiles_left: Callable[[int], None] = lambda left: None,
    ) -> None:
        """Do the `runs`; see `Executor.run`.

        Parameters
        ----------
        job : callable
            Does one run of tiles, in one of the threads.
        runs : sequence of sequences of Tile
            Started in this order.
        tiles_left : callable
            Called in this thread, with the number of tiles not done yet, after each run.
        """
        left = sum(len(run) for run in runs)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="tile") as pool:
            futures = {pool.submit(job, run): len(run) for run in runs}
            try:
                for future in as_completed(futures):
                    future.result()
                    left -= futures[future]
                    tiles_left(left)
            except (KeyboardInterrupt, Stopped) as stop:
                stop.args = (stopped(left),)
                raise
            finally:
                # Does nothing after the last; after an error, what has not started never does.
                pool.shutdown(wait=False, cancel_futures=True)


def stopped(left: int) -> str:
    """Return what a user is told whose run ends before it is done."""
    return f"Stopped with {left} tiles to go; run the same command again to go on, the others are kept."

"""Small images side by side: one has no work for two cores, but two have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cytolite.errors import CytoliteError
from cytolite.names import one_line
from cytolite.progress import Display, silent
from cytolite.segmentation.results import is_result
from cytolite.segmentation.run import Outcome, try_slide
from cytolite.segmentation.slide_list import Entry

if TYPE_CHECKING:
    from cytolite.inference.predictor import Model

# Of formats that are one file: a DICOM or MIRAX slide has small files, too.
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
_MOST_BYTES = 4 * 2**20
# Images that wait for a worker, for each worker: what is called off when the run is stopped.
_AHEAD = 4


class SideBySide:
    """Gives the outcomes of the slides of a run in their order, small images being worked on ahead; a context manager.

    The first that is worked on is done alone, so that what all need, network and compiled functions, is loaded once.
    A large slide is done alone, too: all cores work on its tiles. When the block ends early, what has begun is finished
    and the rest called off.

    Parameters
    ----------
    entries, folders : sequences
        The slides of the run and their folders.
    models : callable
        Gives the model that an entry's settings name.
    """

    def __init__(self, entries: Sequence[Entry], folders: Sequence[Path], models: Callable[..., Model]) -> None:
        self._entries, self._folders, self._models = entries, folders, models
        self.to_do = [
            entry.settings.overwrite or not is_result(folder) for entry, folder in zip(entries, folders, strict=True)
        ]
        self._ahead: dict[int, Future[Outcome]] = {}
        self._next, self._warm = 0, False
        self._workers = 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def outcome(self, place: int, display: Display) -> Outcome:
        """Return what becomes of the slide at `place`, from 0; called for all, in order.

        Parameters
        ----------
        place : int
            In the run.
        display : Display
            Shows its progress.
        """
        entry, folder = self._entries[place], self._folders[place]
        if self._warm:
            self._begin(place)
        if future := self._ahead.pop(place, None):
            with display(one_line(entry.path.name)) as update:
                outcome = future.result()
                update(outcome.tissue_mm2, outcome.tissue_mm2)
            return outcome
        outcome = try_slide(entry, folder, self._models(entry.settings), display)
        self._warm = self._warm or outcome.status == "done"
        return outcome

    def _begin(self, place: int) -> None:
        """Begin small images from `place` on, as far as the next large slide, or one whose result is there."""
        from cytolite.segmentation.executors import Threads
        from cytolite.segmentation.slide import workers_of

        self._next = max(self._next, place)
        while self._next < min(len(self._entries), place + _AHEAD * self._workers) and self._is_small(self._next):
            entry, folder = self._entries[self._next], self._folders[self._next]
            try:
                model = self._models(entry.settings)
            except CytoliteError:  # raised again when it is its turn
                return
            if self._pool is None:
                self._workers = workers_of(model.bundle, entry.settings)
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="image")
            self._ahead[self._next] = self._pool.submit(try_slide, entry, folder, model, silent, Threads(1))
            self._next += 1

    def _is_small(self, place: int) -> bool:
        path = self._entries[place].path
        try:
            size = path.stat().st_size
        except (OSError, ValueError):  # opening it says what is wrong
            return False
        return self.to_do[place] and path.suffix.lower() in _SUFFIXES and size <= _MOST_BYTES

"""What all files of cells that are written table by table have in common: they appear as a whole, or not at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cytolite.cells import CellTable
from cytolite.errors import OutputError
from cytolite.files import plain_refusal, whole_file


class CellsFile(ABC):
    """A file of cells that is being written; a context manager.

    The file gets its name when the block ends; if an exception ends it, there is no file.

    Parameters
    ----------
    path : str or pathlib.Path
        Final name.

    Attributes
    ----------
    path : pathlib.Path
        The same.
    n_cells : int
        Written so far.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.n_cells = Path(path), 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._file = stack.enter_context(whole_file(self.path))
            stack.push(self._end)
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with plain_refusal(self.path):
                    self._finish()
        finally:
            with suppress(OSError, OutputError):  # what failed before is the error to tell
                self._close()

    @abstractmethod
    def append(self, table: CellTable) -> None:
        """Add the rows of `table` to the file; ids count on."""

    @abstractmethod
    def _begin(self) -> None:
        """Write what stands before the first cell."""

    @abstractmethod
    def _finish(self) -> None:
        """Write what stands after the last cell."""

    def _close(self) -> None:  # noqa: B027 - most have nothing
        """Let go of what writes into the file; called at every end."""

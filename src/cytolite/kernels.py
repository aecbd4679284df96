"""The one way in which functions are compiled: kept for the next start where there is a place, and working without."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.runtime import rtsys

log = logging.getLogger("cytolite")
_told = False


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called, without Python's lock, and keep the machine code on disk.

    Where there is no place for it (a read-only installation and no home folder that can be written, a wrong
    NUMBA_CACHE_DIR, a full disk), the function works all the same and is compiled at each start; that is said once.
    """
    try:
        compiled = njit(cache=True, nogil=True)(function)
        compiled._cache = _Tolerant(compiled._cache)
    except (RuntimeError, OSError):  # numba's "no locator available", or the folder fails while it is tried
        _tell("no folder for it can be written")
        compiled = njit(nogil=True)(function)
    return compiled


class _Tolerant:
    """Numba's store of machine code, whose faults cost time instead of the run: the disk is full, a file is damaged."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        """Return what was kept, ``None`` where there is nothing that can be read; a damaged file is emptied."""
        try:
            return self._load(*arguments)
        except Exception:  # noqa: BLE001 - unpickling a damaged file raises whatever it likes
            with contextlib.suppress(OSError):
                self._cache.flush()
            return None

    def _load(self, signature: Any, context: Any) -> Any:
        """Load what was kept without what numba would load first: all that it needs to compile, a fifth of a start.

        Machine code needs the memory manager alone; what is compiled later makes the rest ready itself.
        """
        if not hasattr(self._cache, "_load_overload"):  # another numba than those known
            return self._cache.load_overload(signature, context)
        rtsys.initialize(context)
        with self._cache._guard_against_spurious_io_errors():
            return self._cache._load_overload(signature, context)
        return None  # the guard, of Windows, took the error

    def save_overload(self, *arguments: Any) -> None:
        """Keep what was compiled, if that is possible."""
        try:
            self._cache.save_overload(*arguments)
        except OSError as error:
            _tell(error.strerror or str(error))


def _tell(reason: str) -> None:
    global _told  # noqa: PLW0603 - once in a process
    if not _told:
        _told = True
        log.warning(
            "Compiled code cannot be kept (%s): cytolite works, but starts slower each time; "
            "set NUMBA_CACHE_DIR to a folder that can be written.",
            reason,
        )


def compile_one() -> str | None:
    """Compile and run a small function, and return the folder where machine code is kept; ``None`` if it is nowhere.

    Raises
    ------
    Exception
        Whatever the compiler raises where it does not work.
    """

    def total(numbers):  # type: ignore[no-untyped-def]
        out = 0
        for number in numbers:
            out += number
        return out

    # Not kept, so that it is compiled and not found.
    if njit(nogil=True)(total)((1, 2, 3)) != 6:
        raise RuntimeError("a compiled sum of 1, 2 and 3 is not 6")
    try:
        place: str | None = njit(cache=True)(total).stats.cache_path
    except (RuntimeError, OSError):
        return None
    return place

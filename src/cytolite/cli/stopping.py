"""Signals that ask a command to end: they end it as Ctrl-C does, so that what is done is kept."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cytolite.errors import Terminated

# `timeout` and some supervisors send the same signal twice at once: a second is one only after this time.
ONE_SIGNAL_S = 1.0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Terminated` in the block; one that was ignored before (nohup) still is."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's business
        yield
        return
    process, last = os.getpid(), float("-inf")

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if os.getpid() != process:  # forked: no command of its own, so nothing to say
            os._exit(128 + number)
        before, last = last, time.monotonic()
        if last - before > ONE_SIGNAL_S:
            raise Terminated(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    old = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number in numbers if old[number] == signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, old[number])

"""What can go wrong, said in a sentence that names what was given, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CytoliteError(Exception):
    """Anything cytolite reports to its user; the message is one sentence, without a traceback."""


class InputError(CytoliteError):
    """What was given cannot be used: a file, a setting, a name."""


class UsageError(InputError):
    """The command itself is wrong: what it names is not there, a setting is not allowed, options do not go together."""


class SlideError(InputError):
    """A slide or image that cannot be read, or that lacks what is needed to read it."""


class BundleError(InputError):
    """A model bundle that is missing, damaged or of a newer format."""


class UnknownModelError(BundleError, UsageError):
    """There is no model of the name that was given."""


class OutputError(CytoliteError):
    """A result that cannot be written: disk full, no permission, already there."""


class Stopped(BaseException):
    """Somebody asked a run to end, from another thread or over the network: an `Update` raises it, within the work.

    As an interrupt it is no error, so that nothing that catches errors catches it.
    """


class Terminated(KeyboardInterrupt):
    """The system asks the run to end: SIGTERM, or SIGHUP when a terminal closes. Ends it where Ctrl-C would.

    Attributes
    ----------
    signal_number : int
        Which one it was.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"``, or an empty string when nothing known is near what was given.

    Parameters
    ----------
    given : str
        A name that is not known.
    known : iterable of str
        The names that are.
    """
    near = difflib.get_close_matches(given, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def first_line(error: Exception) -> str:
    """Return the first line of what an error of another package says, without its full stop; else the error's name."""
    said = str(error).strip()
    return said.splitlines()[0].rstrip(".") if said else type(error).__name__


def how_to_install(extra: str = "", *, again: bool = False) -> str:
    """Return the words that say how to install cytolite, or an extra of it; from nowhere that a stranger can write to.

    Parameters
    ----------
    extra : str
        Its name; empty for cytolite alone.
    again : bool
        Say how to install it over what is there.

    >>> how_to_install("serve")
    "in your copy of cytolite's repository: pip install '.[serve]'; of a wheel: pip install 'FILE.whl[serve]'"
    """
    part = f"[{extra}]" if extra else ""
    command = "pip install --force-reinstall --no-deps" if again else "pip install"
    return f"in your copy of cytolite's repository: {command} '.{part}'; of a wheel: {command} 'FILE.whl{part}'"

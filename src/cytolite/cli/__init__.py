"""The command `cytolite`: each verb parses, calls one function of the pipeline and prints where the result is.

One module a group of verbs; importing it registers them. Nothing heavy is imported, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import NoReturn

from cyclopts import CycloptsError, UnknownCommandError
from pydantic import ValidationError

# Imported in the order in which help lists their verbs.
from cytolite.cli import (  # noqa: F401 - registers the verbs
    cohort,
    convert,
    data,
    doctor,
    embedded,
    evaluate,
    models,
    qupath,
    qupath_projects,
    relabel,
    segment,
    serve,
    spatial,
    teach,
    view,
)  # fmt: skip
from cytolite.cli.app import FAILED, INTERRUPTED, SIGNALLED, WRONG_USE, app, print_error
from cytolite.cli.silence import silence_others
from cytolite.cli.stopping import ended_by_signals
from cytolite.config import all_settings, explain
from cytolite.errors import CytoliteError, Terminated, UsageError, did_you_mean
from cytolite.renamed import arguments_of_today

__all__ = ["app", "main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated."""
    _print_all_letters()
    silence_others()
    try:
        with ended_by_signals():
            given = arguments_of_today(sys.argv[1:] if arguments is None else arguments)
            code = app(given, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        print_error(_usage(error))
        sys.exit(WRONG_USE)
    except CytoliteError as error:
        print_error(str(error))
        sys.exit(WRONG_USE if isinstance(error, UsageError) else FAILED)
    except KeyboardInterrupt as error:
        with suppress(OSError):  # the terminal may be what has gone
            print_error(str(error) or "Interrupted; run the same command again to go on.")
        sys.exit(SIGNALLED + error.signal_number if isinstance(error, Terminated) else INTERRUPTED)
    except BrokenPipeError:
        # Who reads, `head` for example, has seen enough; Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)


def _print_all_letters() -> None:
    """Where a terminal or a pipe takes ASCII alone, a name in other letters is printed as codes; it is no failure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _usage(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError):
        # Pydantic names what it validated, as "SegmentSettings" or "nullable[SegmentSettings]".
        title = error.__cause__.title
        return explain(error.__cause__, next(kind for kind in all_settings() if kind.__name__ in title))
    if isinstance(error, UnknownCommandError):
        return _unknown_verb(error)
    message = " ".join(str(error).split()).rstrip(".")
    return f"{message}; see cytolite --help."


def _unknown_verb(error: UnknownCommandError) -> str:
    """Name all verbs: the library names some."""
    given = error.unused_tokens[0] if error.unused_tokens else ""
    group = error.app[-1] if isinstance(error.app, tuple) else error.app or app
    known = [name for name in group if not name.startswith("-")]
    before = " ".join(error.command_chain or ())
    return (
        f"There is no verb {f'{before} {given}'.strip()!r}; known are {', '.join(known)}.{did_you_mean(given, known)}"
    )

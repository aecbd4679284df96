"""The application that verbs register with, and what they share: exit codes, options, errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter

import cytolite
from cytolite.errors import InputError, how_to_install

Result = TypeVar("Result")
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
SIGNALLED = 128  # and the signal's number, as shells say it: 143 for SIGTERM, 129 for SIGHUP
RESEARCH_USE = "For research use only; not for diagnosis."

app = App(
    name="cytolite",
    help=f"Find, outline and name every nucleus in H&E whole slide images. {RESEARCH_USE}",
    version=lambda: cytolite.__version__,
    default_parameter=Parameter(negative_iterable=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Config = Annotated[Path | None, Parameter(help="TOML file of settings; what is given on the command line wins.")]


def with_extra(work: Callable[[], Result], extra: str = "train") -> Result:
    """Do what needs an extra; where a package of it is missing, say how to get it.

    Parameters
    ----------
    work : callable
        Imports what the extra brings.
    extra : str
        Its name.
    """
    try:
        return work()
    except ModuleNotFoundError as error:
        raise InputError(
            f"This needs {error.name}, which is not installed; it comes with the extra {extra!r}, "
            f"{how_to_install(extra)}."
        ) from None


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", lines: bool = False, error: bool = False
) -> None:
    """Print a table as wide as the terminal.

    Parameters
    ----------
    header : sequence of str
        Headings of the columns.
    rows : iterable of sequences of str
        Plain texts: what looks like markup is printed as it is.
    title : str
        Above it.
    lines : bool
        Draw lines around it.
    error : bool
        Print to standard error.
    """
    from rich.box import HEAVY_HEAD
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    box = HEAVY_HEAD if lines else None
    columns = [Column(Text(heading)) for heading in header]
    table = Table(*columns, title=title or None, title_justify="left", box=box)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(stderr=error).print(table)


def print_error(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)

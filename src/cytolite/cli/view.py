"""`cytolite view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolite.cli.app import app, with_extra


@app.command(usage="Usage: cytolite view RESULT... [OPTIONS]")
def view(
    *results: Annotated[
        Path, Parameter(name="RESULT", help="A slide's result, or a folder that holds some, as `segment` wrote them.")
    ],
    allow: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Folder that slides may lie in, besides your home folder and those of the results; slides that moved "
            "are looked for there."
        ),
    ] = (),
    port: Annotated[int, Parameter(help="Port to listen at; 0 takes one that is free.")] = 0,
    browser: Annotated[bool, Parameter(help="Open the browser.")] = True,
) -> int:
    """Look at results in the browser: slides and their nuclei at any zoom, counts in regions that you draw.

    It listens on this machine only, and the link that it prints works once. Stop it with Ctrl-C. Needs the extra
    `viewer`.
    """

    def work() -> None:
        from cytolite.viewer.server import view as run

        run(results, allow=allow, port=port, browser=browser, say=lambda line: print(line, flush=True))

    with_extra(work, "viewer")
    return 0

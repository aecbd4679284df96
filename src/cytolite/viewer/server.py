"""The process around the viewer: which results, which port, the browser, and the end."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from cytolite.interop.result_folder import find_results
from cytolite.loopback.allowed import AllowedFolders
from cytolite.loopback.listening import ended_by_signals, listen
from cytolite.viewer.app import make_app
from cytolite.viewer.catalogue import Catalogue
from cytolite.viewer.door import Door

_HOST = "127.0.0.1"


def view(
    results: Sequence[Path],
    *,
    allow: Sequence[Path] = (),
    port: int = 0,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Show results in the browser until interrupted.

    Parameters
    ----------
    results : sequence of pathlib.Path
        Results of slides, and folders that hold them.
    allow : sequence of pathlib.Path
        Folders that slides may lie in, besides the user's own and those of the results; slides that moved are looked
        for there.
    port : int
        Where to listen on this machine; 0 is one that is free.
    browser : bool
        Whether to open it.
    say : callable
        Gets the lines for the user.

    Raises
    ------
    InputError
        If a folder or the port cannot be used.
    """
    folders = find_results(results)
    allowed = AllowedFolders.of([*allow, Path.home(), *dict.fromkeys(folder.parent for folder in folders)])
    catalogue = Catalogue(folders, allowed, allow)
    with listen(_HOST, port) as listener:
        door = Door(make_app(catalogue), listener.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(door, log_level="warning", timeout_graceful_shutdown=1, ws="none"))
        with ended_by_signals():
            say(f"{len(folders)} {'result' if len(folders) == 1 else 'results'} at {door.link}")
            say("The link works once, on this machine. Stop with Ctrl-C. For research use only; not for diagnosis.")
            if browser:  # it waits until the server answers: the socket listens already
                webbrowser.open(door.link)
            server.run(sockets=[listener])

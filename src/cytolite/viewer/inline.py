"""The viewer in a notebook: a server of its own, in a thread, and a frame that shows its page."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from pathlib import Path

from cytolite.errors import InputError, how_to_install
from cytolite.interop.result import Result
from cytolite.interop.result_folder import find_results
from cytolite.loopback.allowed import AllowedFolders
from cytolite.loopback.listening import listen

_HOST = "127.0.0.1"


class Shown:
    """Results that are shown until `close`, or until Python ends; a notebook shows it as a frame.

    Made by `view`.

    Attributes
    ----------
    link : str
        Opens the same page in a browser on this machine. Whoever has it sees the slides: do not pass it on.
    """

    def __init__(self, folders: Sequence[Path], allow: Sequence[Path], port: int, height_px: int) -> None:
        try:
            import uvicorn

            from cytolite.viewer.app import make_app
            from cytolite.viewer.catalogue import Catalogue
            from cytolite.viewer.door import Door
        except ModuleNotFoundError as error:
            raise InputError(
                f"This needs {error.name}, which is not installed; it comes with the extra 'viewer', "
                f"{how_to_install('viewer')}."
            ) from None
        allowed = AllowedFolders.of([*allow, Path.home(), *dict.fromkeys(folder.parent for folder in folders)])
        app = make_app(Catalogue(folders, allowed, allow))
        self._height_px, self._listener = height_px, listen(_HOST, port)
        door = Door(app, self._listener.getsockname()[1], framed=True)
        self.link = door.link if len(folders) > 1 else f"{door.link}#/0"
        self._server = uvicorn.Server(uvicorn.Config(door, log_level="warning", timeout_graceful_shutdown=1, ws="none"))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to show them."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def __repr__(self) -> str:
        return f"{self.link}\nFor research use only; not for diagnosis."

    def _repr_html_(self) -> str:
        link = html.escape(self.link)
        style = f"width: 100%; height: {self._height_px}px; border: 1px solid #8a90a0"
        return f'<iframe src="{link}" title="cytolite: nuclei on the slide" style="{style}"></iframe>'


def view(*results: Result | str | Path, allow: Sequence[str | Path] = (), port: int = 0, height_px: int = 700) -> Shown:
    """Show results in the browser: in a notebook as a frame in its place, elsewhere by the link.

    The server is of this process, answers to this machine alone, and ends with it; `Shown.close` ends it before.

    Parameters
    ----------
    *results : Result, str or pathlib.Path
        Results of slides, and folders that hold them.
    allow : sequence of str or pathlib.Path
        Folders that slides may lie in, besides the user's own and those of the results; slides that moved are looked
        for there.
    port : int
        Where to listen on this machine; 0 is one that is free. With a kernel on another machine: a fixed one, which is
        forwarded.
    height_px : int
        Of the frame.

    Raises
    ------
    InputError
        If there is no result, a folder or the port cannot be used, or the extra ``viewer`` is missing.

    Examples
    --------
    >>> cytolite.view("results")  # doctest: +SKIP
    """
    folders = find_results([Path(r.folder) if isinstance(r, Result) else Path(r) for r in results])
    return Shown(folders, [Path(folder) for folder in allow], port, height_px)

"""The results that are shown, and what is told of each: browsers ask by number, never by path."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from cytolite.celltypes import DEFAULT, TypeSet
from cytolite.errors import CytoliteError, InputError, SlideError
from cytolite.interop.result import Result
from cytolite.interop.result_folder import CELLS_FILE, TISSUE_FILE
from cytolite.interop.roi import Region, read_regions
from cytolite.loopback.allowed import AllowedFolders
from cytolite.names import as_text
from cytolite.provenance import fingerprint
from cytolite.slides.reader import Slide
from cytolite.viewer.cell_index import CellIndex
from cytolite.viewer.corrections import Corrections
from cytolite.viewer.slide_tiles import SlideTiles

Held = TypeVar("Held")
# Results whose cells or slide are held at a time: one is looked at, the others were a moment ago.
_MOST_OPEN = 3
_THUMBNAIL_PX = 480
# Okabe and Ito's colours, which people with any colour vision tell apart, in the order of the default types.
_SAFE_COLOURS = (
    (213, 94, 0), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (0, 114, 178), (240, 228, 66),
)  # fmt: skip


def safe_colours(types: TypeSet) -> list[tuple[int, int, int]]:
    """Return colours that people with any colour vision tell apart; types beyond the seventh keep their own.

    A default type has the same colour in every set.
    """
    usual = {kind.name: colour for kind, colour in zip(DEFAULT, _SAFE_COLOURS, strict=True)}
    spare = iter([usual[kind.name] for kind in DEFAULT if kind.name not in types.names])
    return [usual.get(kind.name) or next(spare, kind.colour) for kind in types]


class Catalogue:
    """The results of one start of the viewer.

    Parameters
    ----------
    folders : iterable of pathlib.Path
        Results, as of `cytolite.interop.result_folder.find_results`.
    allowed : AllowedFolders
        Where slides may lie: ``run.json`` names them, and it may come from anybody.
    moved_to : iterable of pathlib.Path
        Folders in which a slide that is not where it was is looked for by its name.
    """

    def __init__(self, folders: Iterable[Path], allowed: AllowedFolders, moved_to: Iterable[Path] = ()) -> None:
        moved_to = tuple(moved_to)
        self.entries = [Entry(Result(folder), allowed, moved_to) for folder in folders]
        self._cells: Recent[CellIndex] = Recent()
        self._slides: Recent[SlideTiles] = Recent()
        self._corrections: Recent[Corrections] = Recent()
        self._allowed, self._moved_to = allowed, moved_to

    def cells(self, number: int) -> CellIndex:
        """Return the cells of a result; raises what reading them raises."""
        return self._cells.get(number, lambda: CellIndex(self.entries[number].result.folder / CELLS_FILE))

    def corrections(self, number: int) -> Corrections:
        """Return the labels of a result; raises what reading its cells raises."""
        cells, result = self.cells(number), self.entries[number].result
        return self._corrections.get(number, lambda: Corrections.beside(result.folder, cells, result.mpp))

    def add(self, folder: Path) -> int:
        """Show a result more; return its number, a new one: browsers may hold what the old one was."""
        self.entries.append(Entry(Result(folder), self._allowed, self._moved_to))
        return len(self.entries) - 1

    def slide(self, number: int) -> SlideTiles:
        """Return the slide of a result; raises `SlideError` or `NotAllowedError` where it cannot be shown."""
        return self._slides.get(number, lambda: SlideTiles(self.entries[number].open_slide()))


class Recent(Generic[Held]):
    """What was used last, made once when it is asked for; what falls out ends with its last user."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int, make: Callable[[], Held]) -> Held:
        """Return what there is of `number`, or make it; others wait meanwhile, for it may be what they want.

        Parameters
        ----------
        number : int
            Of a result.
        make : callable
            Without arguments; what it returns is held, what it raises is not.
        """
        with self._lock:
            if number not in self._held:
                self._held[number] = make()
                while len(self._held) > _MOST_OPEN:
                    self._held.popitem(last=False)
            self._held.move_to_end(number)
            return self._held[number]


class Entry:
    """A result as the gallery and the page of its slide tell of it."""

    def __init__(self, result: Result, allowed: AllowedFolders, moved_to: tuple[Path, ...]) -> None:
        self.result = result
        self._allowed, self._moved_to = allowed, moved_to

    def card(self) -> dict[str, Any]:
        """Return what the gallery shows; of a result that cannot be read its name and the sentence that says why."""
        name = as_text(self.result.folder.name)
        try:
            run, total = self.result.run, self.result.summary["total"]
            return {
                "name": name,
                "slide": as_text(str(run["slide"]["path"]).replace("\\", "/").rpartition("/")[2]),
                "model": f"{run['model']['name']} {run['model']['version']}",
                "finished": str(run.get("finished", "")),
                "cells": int(total["cells"]),
                "tissue_mm2": float(total["tissue_mm2"]),
                "cells_per_mm2": total["cells_per_mm2"],
                "types": {kind: values["count"] for kind, values in total["types"].items()},
                "warnings": self._warnings(),
            }
        except CytoliteError as error:
            return {"name": name, "error": str(error)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # JSON of another program, or cut and mended
            said = f"{type(error).__name__} {error}"
            return {"name": name, "error": f"{self.result.folder} is damaged ({said}); segment the slide again."}

    def _warnings(self) -> list[str]:
        return [str(w["message"] if isinstance(w, Mapping) else w) for w in self.result.run.get("warnings", [])]

    def network(self) -> str | None:
        """Return the hash of the network that found its nuclei; None where that cannot be read."""
        try:
            return self.result.model["onnx_sha256"]
        except (CytoliteError, KeyError, TypeError, ValueError):
            return None

    def page(self) -> dict[str, Any]:
        """Return what the page of the slide needs besides the cells.

        Raises
        ------
        InputError
            If the result cannot be read.
        """
        card = self.card()
        if "error" in card:
            raise InputError(card["error"])
        types, (width_px, height_px) = self.result.type_set, self.result.size_px
        return card | {
            "width_px": width_px,
            "height_px": height_px,
            "mpp": self.result.mpp,
            "regions": list(self.result.regions),
            "kinds": [
                {"id": kind.id, "name": kind.name, "colour": kind.colour, "safe_colour": safe}
                for kind, safe in zip(types, safe_colours(types), strict=True)
            ],
        }

    @cached_property
    def thumbnail(self) -> bytes:
        """The result's own overview, small: JPEG."""
        picture = self.result.overview.convert("RGB")
        picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=85)
        return file.getvalue()

    @cached_property
    def tissue(self) -> list[Region]:
        """Where densities are counted on; nothing where the slide has none."""
        path = self.result.folder / TISSUE_FILE
        if path.is_file() and b'"features":[]' in path.read_bytes()[:200]:
            return []
        return read_regions(path)

    def open_slide(self) -> Slide:
        """Open the slide that was segmented, as it was read then; what is damaged is white.

        Raises
        ------
        NotAllowedError
            If it lies where this server may not look.
        SlideError
            If it is not there any more, or is another file now.
        """
        run = self.result.run
        path = self._where(Path(str(run["slide"]["path"])))
        now = fingerprint(path)
        if any(run["slide"].get(key, value) != value for key, value in now.items()):
            raise SlideError(f"{path} is not the file that was segmented: it has changed since. Cells are shown alone.")
        return self.result.open_slide(path)

    def _where(self, recorded: Path) -> Path:
        for folder in self._moved_to:
            if not recorded.exists() and (folder / recorded.name).is_file():
                return self._allowed.resolve(str((folder / recorded.name).absolute()))
        path = self._allowed.resolve(str(recorded))
        if not path.is_file():
            raise SlideError(
                f"The slide {recorded} is not there any more; start with --allow and the folder that it lies in now. "
                "Cells are shown alone."
            )
        return path

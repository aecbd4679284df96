"""What is measured: the cells of a result folder, in um, and the ground on which they were looked for."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon, shape

from cytolite.cells import CellTable, with_known_types
from cytolite.errors import InputError
from cytolite.interop.parquet import read_cells, read_metadata
from cytolite.interop.result_folder import CELLS_FILE, SUMMARY_FILE, TISSUE_FILE
from cytolite.interop.roi import Region, read_regions, require_overlap
from cytolite.spatial.window import Window, window_of, window_of_cells

# Beyond this share of cells outside of the tissue, window and cells do not fit each other.
_STRAY = 0.02


@dataclass(frozen=True)
class Sample:
    """The nuclei of a slide that lie in its window.

    Attributes
    ----------
    folder : pathlib.Path
        The result.
    about : dict
        What the result says of itself: slide, model, um/px.
    mpp : float
        um per level-0 px.
    type_names, colours : tuple
        Names and RGB of the types, in the order of their codes.
    rows : numpy.ndarray
        intp (N,), rows of ``cells.parquet``.
    xy : numpy.ndarray
        float64 (N, 2), um.
    types : numpy.ndarray
        int64 (N,), codes from 0.
    probs : numpy.ndarray
        float32 (N, T).
    area_um2 : numpy.ndarray
        float32 (N,).
    features : dict of str to numpy.ndarray
        Shape and stain.
    window : Window
    regions : dict of str to numpy.ndarray
        bool (h, w) on the window's grid: the user's regions.
    warnings : list of str
        What a reader has to know.
    """

    folder: Path
    about: dict[str, Any]
    mpp: float
    type_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    rows: NDArray[np.intp]
    xy: NDArray[np.float64]
    types: NDArray[np.int64]
    probs: NDArray[np.float32]
    area_um2: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]
    window: Window
    regions: dict[str, NDArray[np.bool_]]
    warnings: list[str]

    def __len__(self) -> int:
        return len(self.types)


def read_sample(folder: Path, ground: Literal["tissue", "cells"] = "tissue", roi: Path | None = None) -> Sample:
    """Read a result folder.

    Parameters
    ----------
    folder : pathlib.Path
        Has ``cells.parquet`` and, unless `ground` is "cells", ``tissue.geojson``.
    ground : str
        Where the window comes from.
    roi : pathlib.Path, optional
        GeoJSON of regions to measure by themselves.

    Raises
    ------
    InputError
        If a file is missing or damaged, the resolution is not known, no cell lies in the window, or a region lies
        outside of the slide.
    """
    about = _about(folder)
    mpp = float(about["mpp"])
    cells = read_cells(folder / CELLS_FILE)
    if not len(cells):
        raise InputError(f"{folder} holds no cells; there is nothing to measure.")
    if ground == "cells" and about.get("regions") and roi is None:
        raise InputError(f"{folder} was made on regions, beyond which no nuclei are known; give their file with --roi.")
    regions = _regions(about, roi)
    window = window_of_cells(cells.centroids * mpp) if ground == "cells" else window_of(_tissue(folder, mpp))
    if about.get("width_px") and about.get("height_px"):
        slide = shapely.box(0, 0, float(about["width_px"]) * mpp, float(about["height_px"]) * mpp)
        window = window.within(window.draw(slide))
    drawn = {region.name: window.draw(_scaled(region.polygon, mpp)) & window.mask for region in regions}
    warnings = [f"The region {name!r} has no tissue in it and is left out." for name, m in drawn.items() if not m.any()]
    drawn = {name: mask for name, mask in drawn.items() if mask.any()}
    if ground == "cells" and about.get("regions"):  # nuclei were looked for in the regions alone
        window = window.within(np.any([np.zeros_like(window.mask), *drawn.values()], axis=0))
    if ground == "cells":
        warnings.append(
            "The window was made of the cells: what lies within 50 µm of one. Densities differ from those on tissue: "
            "wide parts without nuclei are left out, and glass within 50 µm of the outermost is not."
        )
    return _take(folder, about, cells, window, drawn, [*_warnings_of(about), *warnings])


def _take(  # noqa: PLR0917
    folder: Path, about: dict[str, Any], cells: CellTable, window: Window, drawn: dict[str, Any], warnings: list[str]
) -> Sample:
    mpp = float(about["mpp"])
    inside = window.contains(cells.centroids * mpp)
    rows = np.flatnonzero(inside)
    if not len(rows):
        raise InputError(
            f"None of the {len(cells):,} cells of {folder} lies in its window: the files do not belong together."
        )
    if (stray := len(cells) - len(rows)) > _STRAY * len(cells):
        warnings.append(f"{stray:,} of {len(cells):,} nuclei lie outside of the window and are left out.")
    return Sample(
        folder=folder, about=about, mpp=mpp, type_names=cells.type_set.names, colours=cells.type_set.colours,
        rows=rows, xy=cells.centroids[rows] * mpp, types=cells.types[rows].astype(np.int64) - 1,
        probs=with_known_types(cells.type_probs, cells.types)[rows], area_um2=cells.area_um2[rows],
        features={name: column[rows] for name, column in cells.features.items()},
        window=window, regions=drawn, warnings=warnings,
    )  # fmt: skip


def _warnings_of(about: dict[str, Any]) -> list[str]:
    """What `segment` warned of when it made the result."""
    known = about.get("warnings") or []
    return [w["message"] for w in known if isinstance(w, dict) and isinstance(w.get("message"), str)]


def _about(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; name a result of cytolite segment.")
    about = read_metadata(folder / CELLS_FILE)
    with suppress(OSError, ValueError, TypeError):  # the cells alone will do, if they say the resolution
        about = {**json.loads((folder / SUMMARY_FILE).read_bytes()), **about}
    mpp = about.get("mpp")
    if not isinstance(mpp, int | float) or not math.isfinite(mpp) or mpp <= 0:
        raise InputError(
            f"{folder} does not say its resolution: neither {CELLS_FILE} nor {SUMMARY_FILE} has 'mpp'; segment again."
        )
    return about


def _regions(about: dict[str, Any], roi: Path | None) -> list[Region]:
    if roi is None:
        return []
    regions = read_regions(roi)
    if about.get("width_px") and about.get("height_px"):
        require_overlap(regions, int(about["width_px"]), int(about["height_px"]))
    return regions


def _tissue(folder: Path, mpp: float) -> Polygon | MultiPolygon:
    """Return the tissue in um."""
    path = folder / TISSUE_FILE
    try:
        content = json.loads(path.read_bytes())
        found = shapely.union_all([shapely.make_valid(shape(f["geometry"])) for f in content["features"]])
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no {TISSUE_FILE}: it was made before tissue was written. Segment again, or take the window "
            "from the cells with --window cells."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise InputError(f"{path} is no GeoJSON of tissue ({error}); segment again, or use --window cells.") from None
    parts = [p for p in shapely.get_parts(found) if p.geom_type == "Polygon" and p.area > 0]
    if not parts:
        raise InputError(f"{path} holds no area; segment again, or use --window cells.")
    return _scaled(MultiPolygon(parts), mpp)


def _scaled(geometry: Polygon | MultiPolygon, factor: float) -> Any:
    return shapely.transform(geometry, lambda xy: xy * factor)

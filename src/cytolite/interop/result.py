"""A result folder of ``cytolite segment``, read when something of it is asked for."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolite.cells import CellTable
from cytolite.celltypes import TypeSet
from cytolite.errors import InputError, SlideError
from cytolite.interop.parquet import read_cells, read_metadata, read_types
from cytolite.interop.result_folder import CELLS_FILE, OVERVIEW_FILE, RUN_FILE, SUMMARY_FILE, TISSUE_FILE, results_in
from cytolite.interop.roi import read_regions

if TYPE_CHECKING:
    from PIL.Image import Image
    from shapely import MultiPolygon

    from cytolite.slides.reader import Slide


class Result:
    """What ``cytolite segment`` wrote of one slide.

    Parameters
    ----------
    folder : str or pathlib.Path
        Of one slide's results, such as ``results/slide``.

    Raises
    ------
    InputError
        If the folder holds no finished result.

    Examples
    --------
    >>> result = Result("results/slide")  # doctest: +SKIP
    >>> result.cells[result.cells.type == "lymphocyte"].area_um2.mean()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / RUN_FILE).is_file():
            inside = results_in(self.folder)
            hint = f" It holds results: {inside[0]} is one of {len(inside):,}." if inside else ""
            raise InputError(f"{self.folder} is no result of `cytolite segment`: it has no {RUN_FILE}.{hint}")

    def __repr__(self) -> str:
        n, area_mm2 = int(self.run.get("cells", 0)), float(self.run.get("tissue_mm2", 0))
        return (
            f"Result of {self.slide}\n  {n:,} nuclei in {area_mm2:.2f} mm2 of tissue\n"
            f"  {self.model['name']} {self.model['version']}, {self.folder}"
        )

    def _repr_html_(self) -> str:
        import base64

        picture = base64.b64encode(self._file(OVERVIEW_FILE).read_bytes()).decode()
        return f"<pre>{self!r}</pre><img style='max-width: 800px' alt='overview' src='data:image/png;base64,{picture}'>"

    def view(self, **options: Any) -> Any:
        """Show it in the browser, in a notebook as a frame, and return that; see `cytolite.view`."""
        import cytolite

        return cytolite.view(self, **options)

    @cached_property
    def cells(self) -> CellTable:
        """The nuclei, in level-0 px."""
        return read_cells(self._file(CELLS_FILE))

    @cached_property
    def about(self) -> dict[str, Any]:
        """What ``cells.parquet`` says of where it comes from: slide, size, resolution, model, regions."""
        return read_metadata(self._file(CELLS_FILE))

    @property
    def slide(self) -> str:
        """File name of the slide."""
        return str(self.about["slide"])

    @property
    def mpp(self) -> float:
        """Level-0 resolution, um per pixel."""
        return float(self._of_slide("mpp"))

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the slide at level 0."""
        return int(self._of_slide("width_px")), int(self._of_slide("height_px"))

    def open_slide(self, path: str | Path | None = None) -> Slide:
        """Open the slide that was segmented, as it was read then; what is damaged is white.

        Parameters
        ----------
        path : str or pathlib.Path, optional
            Where it lies now, if not where it was.

        Raises
        ------
        SlideError
            If it is not there, cannot be read, or is of another size.
        """
        from cytolite.slides.reader import open_slide

        path, settings = Path(path or self.run["slide"]["path"]), self.run.get("settings", {})
        opened = open_slide(
            path, self.mpp, scene=settings.get("scene"), rgb=bool(settings.get("rgb")), skip_damaged=True
        )
        if (opened.width_px, opened.height_px) != self.size_px:
            opened.close()
            raise SlideError(
                f"{path} has {opened.width_px} x {opened.height_px} px, and the result is of {self.size_px[0]} x "
                f"{self.size_px[1]} px; name the slide that it was made of."
            )
        return opened

    @property
    def model(self) -> dict[str, str]:
        """Name, version and hash of the model."""
        return dict(self.about["model"])

    @cached_property
    def type_set(self) -> TypeSet:
        """The types of its nuclei."""
        return read_types(self._file(CELLS_FILE))

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions that were worked on; empty where it was the whole slide."""
        return tuple(self.about.get("regions", ()))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Counts, densities and fractions, as in ``summary.json``."""
        return self._json(SUMMARY_FILE)

    @cached_property
    def run(self) -> dict[str, Any]:
        """Settings, versions, hashes and times, as in ``run.json``."""
        return self._json(RUN_FILE)

    @cached_property
    def tissue(self) -> MultiPolygon:
        """The tissue that densities are counted on, in level-0 px.

        Raises
        ------
        InputError
            If the result is of a version that did not write it.
        """
        import shapely

        parts = [region.polygon for region in read_regions(self._file(TISSUE_FILE))]
        polygons = [p for part in parts for p in (part.geoms if part.geom_type == "MultiPolygon" else [part])]
        return shapely.MultiPolygon(polygons)

    @property
    def overview(self) -> Image:
        """The picture of the slide with its nuclei."""
        from PIL import Image

        with Image.open(self._file(OVERVIEW_FILE)) as picture:
            return picture.copy()

    def _of_slide(self, key: str) -> Any:
        """What the cells say, or the record of the run where they were written by another program."""
        return self.about[key] if key in self.about else self.run["slide"][key]

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise InputError(f"The result {self.folder} has no {name}; `cytolite segment --overwrite` writes it anew.")
        return path

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file(name).read_bytes()))
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.folder / name} is damaged ({error}); segment the slide again.") from None

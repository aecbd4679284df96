"""For work in Python: a loaded model, and slides segmented into result folders."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cytolite.config import Precision, SegmentSettings, make_settings
from cytolite.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cytolite.cells import CellTable
    from cytolite.inference.predictor import Predictor
    from cytolite.interop.result import Result

Function = TypeVar("Function", bound=Callable[..., Any])


def _with_options(*without: str) -> Callable[[Function], Function]:
    """Give a function that takes ``**options`` the names, defaults and descriptions of `SegmentSettings`.

    An option is written down once, there: command line, server and Python all ask it.
    """

    def change(function: Function) -> Function:
        fields = {n: f for n, f in SegmentSettings.model_fields.items() if n not in without}
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.annotation)
            for name, f in fields.items()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        described = "\n".join(f"    - ``{name}``: {f.description}" for name, f in fields.items())
        function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("OPTIONS", described.lstrip())
        return function

    return change


def _warn(message: str) -> None:
    """Warn, as the line outside of this file that asked."""
    frame, depth = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, stacklevel=depth)


def _settings(given: dict[str, Any]) -> SegmentSettings:
    """Check options; a model may be named by a path object too."""
    model = given.get("model")
    return make_settings(SegmentSettings, {**given, "model": model if model is None else str(model)})


class Model:
    """A model, ready to find nuclei; its network is loaded when it is first used.

    Made by `load_model`.
    """

    def __init__(
        self, name: str | Path | None = None, *, device: str = "cpu", precision: Precision = "auto", tta: int = 1
    ) -> None:
        from cytolite.inference.arithmetic import choose, load_variant
        from cytolite.inference.predictor import Model as LazyModel

        self.bundle = load_variant(name, precision)
        self._lazy = LazyModel(self.bundle, device, tta, choose(self.bundle, precision, device))

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.spec.name

    @property
    def version(self) -> str:
        """Version of the weights."""
        return self.bundle.spec.version

    @property
    def mpp(self) -> float:
        """Resolution of the images that it was trained on, um per pixel; others are resampled to it."""
        return self.bundle.spec.mpp

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the types that it tells apart."""
        return self.bundle.spec.types

    @property
    def card(self) -> str:
        """What it was made of, how good it is and what it is not for: Markdown."""
        from cytolite.bundle import CARD_NAME

        path = self.bundle.path / CARD_NAME
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @property
    def predictor(self) -> Predictor:
        """Its network, images to maps."""
        return self._lazy.predictor

    def __repr__(self) -> str:
        spec = self.bundle.spec
        return f"{self.name} {self.version}: {len(self.types)} types at {self.mpp:g} um/px ({spec.licence})"

    @_with_options("model", "mpp", "device", "precision", "tta", "sheet", "overwrite", "quiet")
    def segment(self, image: NDArray[np.uint8] | str | Path, *, mpp: float | None = None, **options: Any) -> CellTable:
        """Find, outline and name the nuclei of an image, a slide or a part of one; nothing is written.

        Parameters
        ----------
        image : numpy.ndarray, str or pathlib.Path
            uint8 (H, W, 3), RGB, or a file that ``cytolite segment`` reads.
        mpp : float, optional
            Resolution, um per pixel: needed for arrays, and for files that do not say it.
        **options
            OPTIONS

        Returns
        -------
        CellTable
            One row per nucleus, in pixels of the image (of the slide's level 0). The same nuclei as the command finds.

        Raises
        ------
        InputError
            If the array is no RGB image, its resolution is missing, or an option is not allowed.
        SlideError
            If the file cannot be read.

        Warns
        -----
        UserWarning
            Of what makes the result doubtful: a resolution, a stain or nuclei that cannot be right.
        """
        from cytolite.segmentation.memory import find_cells
        from cytolite.segmentation.opening import open_as_set
        from cytolite.slides.reader import slide_of

        if isinstance(image, str | Path):
            settings = _settings({"mpp": mpp, **options})
            slide = open_as_set(image, settings)
        else:
            # An array is meant as a whole; what is a slide has glass around its tissue.
            settings = _settings({"mpp": mpp, "tissue": "all", **options})
            slide = slide_of(image, mpp)
        with slide as opened:
            cells, found = find_cells(opened, self.bundle, settings, self.predictor)
        for warning in found:
            _warn(warning.message)
        return cells


def load_model(
    name: str | Path | None = None, *, device: str = "cpu", precision: Precision = "auto", tta: int = 1
) -> Model:
    """Load a model.

    Parameters
    ----------
    name : str or pathlib.Path, optional
        An embedded model (`cytolite.embedded_names` lists them) or the folder of a bundle; the default without it.
    device : {"cpu", "cuda"}
        Where the network runs.
    precision : {"auto", "float32", "bf16", "int8"}
        Its arithmetic; auto: the model's, or bf16 where the processor and OpenVINO have it.
    tta : {1, 4, 8}
        Show each image in so many orientations: so many times slower, somewhat better.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    UsageError, InputError
        If it cannot run in that precision.

    Examples
    --------
    >>> import cytolite, numpy as np
    >>> model = cytolite.load_model("nuclei-light")
    >>> len(model.segment(np.full((64, 64, 3), 255, np.uint8), mpp=0.25))
    0
    """
    return Model(name, device=device, precision=precision, tta=tta)


@_with_options("quiet")
def segment_slide(slide: str | Path, output: str | Path, *, quiet: bool = True, **options: Any) -> Result:
    """Segment one slide into a folder of results, as ``cytolite segment`` does.

    Parameters
    ----------
    slide : str or pathlib.Path
        A slide or an image.
    output : str or pathlib.Path
        Gets a folder of the slide's name. A result that is there already is read, not computed again, unless
        ``overwrite``.
    quiet : bool
        Show no progress.
    **options
        OPTIONS

    Returns
    -------
    Result
        The result's folder, read when something of it is asked for.

    Raises
    ------
    CytoliteError
        If the slide or an option cannot be used, or the results cannot be written.

    Warns
    -----
    UserWarning
        Of what the user should know: nothing was found, a result made with other settings was read.
    """
    from cytolite.interop.result import Result
    from cytolite.progress import choose
    from cytolite.segmentation.results import prepare_output, result_folders
    from cytolite.segmentation.run import load_model as load
    from cytolite.segmentation.run import segment_or_skip
    from cytolite.segmentation.slide_list import Entry

    settings = _settings({**options, "quiet": quiet})
    prepare_output(Path(output))
    [target] = result_folders([Path(slide)], Path(output))
    outcome = segment_or_skip(Entry(Path(slide), settings), target, load(settings), choose(quiet))
    for warning in outcome.warnings:
        _warn(f"{slide}: {warning}")
    return Result(target)


@_with_options()
def segment(slide: str | Path, output: str | Path | None = None, **options: Any) -> CellTable:
    """Find, outline and name every nucleus of one slide.

    Parameters
    ----------
    slide : str or pathlib.Path
        A slide or an image.
    output : str or pathlib.Path, optional
        Folder for the results, as of `segment_slide`; without it nothing is written.
    **options
        OPTIONS

    Returns
    -------
    CellTable
        One row per nucleus, in level-0 pixels.

    Raises
    ------
    CytoliteError
        If the slide or an option cannot be used, or the results cannot be written.

    Warns
    -----
    UserWarning
        As `segment_slide`.
    """
    if output is not None:
        return segment_slide(slide, output, **options).cells
    _settings(options)  # so that every name is checked, also of those that are of no use here
    chosen = {name: options.pop(name) for name in ("device", "precision", "tta") if name in options}
    model = Model(options.pop("model", None), **chosen)
    for name in ("sheet", "overwrite", "quiet"):
        options.pop(name, None)
    return model.segment(slide, **options)


def read_cells(path: str | Path) -> CellTable:
    """Read the nuclei of a result folder, or of a file that ``cytolite convert`` reads.

    Parameters
    ----------
    path : str or pathlib.Path
        A folder with ``cells.parquet``; or a Parquet, GeoJSON, CSV, ``.h5ad`` or SpatialData file of cells.

    Raises
    ------
    InputError
        If there is no such thing, or it holds no cells.
    """
    from cytolite.interop import parquet
    from cytolite.interop.result import Result

    path = Path(path)
    if path.is_dir() and path.suffix != ".zarr":
        return Result(path).cells
    if path.suffix == ".parquet":
        return parquet.read_cells(path)
    from cytolite.cells import CellTable
    from cytolite.interop.convert import open_cells

    if not path.exists():
        raise InputError(f"There is no file {path}.")
    with open_cells(path) as source:
        return CellTable.concatenate(list(source.tables))

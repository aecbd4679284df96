from .api import Model, load_model, read_cells, segment, segment_slide
from .bundle import embedded_names, load_bundle
from .cells import CellTable
from .celltypes import CELL_TYPES
from .drawing.plot import describe_html, plot_cells
from .errors import CytoliteError, InputError
from .interop.anndata_file import to_anndata
from .interop.frames import to_geodataframe, to_pandas
from .interop.result import Result
from .metrics.raster import to_labels
from .pipeline import convert, evaluate
from .slides.reader import open_slide
from .viewer.inline import view

__version__: str
__all__ = [
    "CELL_TYPES",
    "CellTable",
    "CytoliteError",
    "InputError",
    "Model",
    "Result",
    "convert",
    "describe_html",
    "embedded_names",
    "evaluate",
    "load_bundle",
    "load_model",
    "open_slide",
    "plot_cells",
    "read_cells",
    "segment",
    "segment_slide",
    "to_anndata",
    "to_geodataframe",
    "to_labels",
    "to_pandas",
    "view",
]

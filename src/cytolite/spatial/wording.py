"""What a report says around its numbers, the same in HTML and PDF."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cytolite
from cytolite.spatial.analysis import WHOLE, Analysis
from cytolite.spatial.estimate import Row

# Shown large, where there is a value: measure, region, types.
HEADLINES = (
    ("tumour_cell_fraction", WHOLE, "tumour"),
    ("lymphocytes_per_tumour_cell", WHOLE, "lymphocytes"),
    ("til_area_share", "stroma", "lymphocytes"),
    ("til_nuclei_share", "stroma", "lymphocytes"),
)
TABLES = (
    ("Composition", (
        "density", "type_fraction", "tumour_cell_fraction", "tumour_area_fraction", "lymphocytes_per_tumour_cell",
        "til_area_share", "til_nuclei_share",
    )),
    ("Nuclear morphometry", ("nucleus_mean", "pleomorphism")),
    ("Distances and neighbours", (
        "nearest_median", "nearest_within", "neighbourhood_ratio", "neighbourhood_z", "mixing_score",
        "cluster_median", "morisita_horn", "hot_spots",
    )),
    ("Second order", ("ripley_k", "l_minus_r")),
)  # fmt: skip
# Heading and caption of each picture.
CAPTIONS = {
    "regions": (
        "Nuclei and regions",
        "Regions follow from the nuclei alone, by the rules below; look whether they fit the tissue.",
    ),
    "density": (
        "Densities",
        "Nuclei per mm² of tissue, smoothed by a Gaussian of {scale:g} µm, corrected where it reaches over the "
        "tissue's edge.",
    ),
    "hot-spots": (
        "Hot and cold spots",
        "Tiles of {tile:g} µm whose surroundings hold more or fewer nuclei than this slide's mean: Getis-Ord Gi*, "
        "false discovery rate 5%.",
    ),
    "profile": (
        "Profile over the tumour's front",
        "Density by distance from the border between tumour and other tissue; shaded: 95% intervals of blocks of "
        "tissue.",
    ),
    "neighbours": (
        "Who is next to whom",
        "Edges of the graph of neighbours (up to {edge:g} µm): observed over expected. 1 is chance.",
    ),
    "second-order": (
        "Together or apart, by distance",
        "L(r) - r: above the grey band two types lie nearer to each other than if the same cells had their types at "
        "random, below it farther apart.",
    ),
}
RULES = (
    "Tumour, stroma and other epithelium are smoothed (Gaussian, 30 µm), and the most frequent of the three owns the "
    "ground, from 150 of them per mm² on; islands and holes below 0.01 mm² are cleaned away. Immune and dead cells do "
    "not move the borders, but ground where lymphocytes outnumber the three 3 to 1 is stroma. A lymphoid aggregate, a "
    "candidate for a tertiary lymphoid structure, has 4,000 lymphocytes per mm² (smoothed, 20 µm) and more on at least "
    "0.01 mm², and at least 50 of them. The front is where tumour borders on other tissue, not on glass."
)
LIMITS = (
    "Every number rests on the types that the model gave, on this section's plane and on the tissue mask. Intervals "
    "tell how values would vary over such ground (blocks of tissue drawn again), not between slides, patients, "
    "scanners or stains; the second interval tells how much the classifier's own doubt moves a value (types drawn "
    "from its probabilities), not how often it is wrong without doubting."
)


def title_of(a: Analysis) -> str:
    """Title of the report."""
    return f"Surroundings of the tumour: {a.sample.about.get('slide', a.sample.folder.name)}"


def caption_of(name: str, a: Analysis) -> tuple[str, str]:
    """Heading and caption of a picture.

    Parameters
    ----------
    name : str
        A key of `CAPTIONS`.
    a : Analysis
    """
    heading, caption = CAPTIONS[name]
    s = a.settings
    return heading, caption.format(scale=s.scale_um, tile=s.tile_um, edge=s.edge_um)


def about_of(a: Analysis) -> list[tuple[str, str]]:
    """What was measured, with what: rows of a table."""
    model = a.sample.about.get("model") or {}
    name = f"{model.get('name', 'not known')} {model.get('version', '')}".strip()
    resamples, b = len(a.blocks.weights) - 1, a.blocks
    ground = "the result" if a.settings.window == "tissue" else "the cells"
    drawn = f"95%, {resamples:,} draws of {b.n} blocks of {b.side_um:g} µm"
    return [
        ("nuclei", f"{len(a.sample):,}"),
        ("tissue", f"{a.areas_mm2[WHOLE]:.2f} mm², from {ground}"),
        ("resolution", f"{a.sample.mpp:g} µm per pixel"),
        ("model", name),
        ("parts", "; ".join(f"{role}: {', '.join(a.roles.types(role)) or 'none'}" for role in a.roles.codes)),
        ("intervals", drawn if resamples else "none"),
        ("made by", f"cytolite {cytolite.__version__}, seed {a.settings.seed}"),
    ]


def headlines(a: Analysis) -> Iterator[Row]:
    """Rows that are shown large."""
    known = {(r.measure, r.region, r.types): r for r in a.rows}
    yield from (row for key in HEADLINES if (row := known.get(key)) and math.isfinite(row.value))


def number(value: float) -> str:
    """As people read it: three significant digits, thousands apart."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}"


def large(value: float, row: Row) -> str:
    """As `number`, shares as per cent.

    Parameters
    ----------
    value : float
        The row's own, or a bound of its interval.
    row : Row
        Whose measure has the unit.
    """
    return f"{100 * value:.1f}%" if row.definition.unit == "share" else number(value)


def interval_text(row: Row) -> str:
    """Return the interval as words."""
    return f"95%: {large(row.low, row)} to {large(row.high, row)}" if math.isfinite(row.low) else "no interval"


def span(low: float, high: float) -> str:
    """Return an interval of a table.

    Parameters
    ----------
    low, high : float
        Bounds; NaN where there is no interval.
    """
    return f"{number(low)} to {number(high)}" if math.isfinite(low) else "-"


def words(row: Row) -> str:
    """Return a measure's title with what tells it from its like."""
    variant = row.name.removeprefix(row.measure).strip("_").replace("_", " ")
    return f"{row.definition.title}{f': {variant}' if variant else ''}"

"""How many nuclei of which kind, on how much ground. Pure functions of sums; arrays are taken element by element."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolite.spatial.definition import measure

_AREA = "an area is that of tissue pixels, not of the region's outline"


def ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Part / whole, NaN where there is no whole.

    Parameters
    ----------
    part, whole : array
        Numbers, of shapes that go together.
    """
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    share: NDArray[np.float64] = np.divide(
        part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0
    )
    return share


@measure(
    "density", "Nuclei per mm²", "1/mm²", "nuclei / tissue area",
    source="first-order intensity; Diggle, Statistical Analysis of Spatial and Spatio-Temporal Point Patterns, 2013",
    edge=_AREA, caution="It follows the tissue mask: fat, lumina and cracks that count as tissue lower it.",
)  # fmt: skip
def density(nuclei: ArrayLike, area_um2: ArrayLike) -> NDArray[np.float64]:
    """Nuclei per mm2 of tissue.

    Parameters
    ----------
    nuclei : array
        Numbers of nuclei.
    area_um2 : array
        Of the tissue.
    """
    return ratio(nuclei, area_um2) * 1e6


@measure(
    "type_fraction", "Share of a type among all nuclei", "share", "nuclei of the type / all nuclei",
    source="-", caution="Large nuclei are cut more often, and a missed type raises all others.",
)  # fmt: skip
def type_fraction(nuclei: ArrayLike, all_nuclei: ArrayLike) -> NDArray[np.float64]:
    """Share of a type among all nuclei.

    Parameters
    ----------
    nuclei : array
        Numbers of nuclei of the type.
    all_nuclei : array
        Numbers of nuclei of any type.
    """
    return ratio(nuclei, all_nuclei)


@measure(
    "tumour_cell_fraction", "Tumour cell fraction, by nuclei", "share", "tumour nuclei / all nuclei",
    source="Smits et al., Modern Pathology 27 (2014), on its estimation by eye",
    caution="For molecular work choose the region that will be taken; ploidy is not known here.",
)  # fmt: skip
def tumour_cell_fraction(tumour: ArrayLike, nuclei: ArrayLike) -> NDArray[np.float64]:
    """Tumour nuclei among all nuclei.

    Parameters
    ----------
    tumour : array
        Numbers of tumour nuclei.
    nuclei : array
        Numbers of nuclei of any type.
    """
    return ratio(tumour, nuclei)


@measure(
    "tumour_area_fraction", "Tumour cell fraction, by nuclear area", "share",
    "area of tumour nuclei / area of all nuclei",
    source="-", caution="Nearer to DNA than a count where tumour nuclei are large, but not DNA itself.",
)  # fmt: skip
def tumour_area_fraction(tumour_um2: ArrayLike, nuclei_um2: ArrayLike) -> NDArray[np.float64]:
    """Area of tumour nuclei among that of all nuclei.

    Parameters
    ----------
    tumour_um2 : array
        Sums of the areas of tumour nuclei.
    nuclei_um2 : array
        Sums of the areas of all nuclei.
    """
    return ratio(tumour_um2, nuclei_um2)


@measure(
    "lymphocytes_per_tumour_cell", "Lymphocytes per tumour cell", "ratio", "lymphocytes / tumour nuclei",
    source="Yuan et al., Science Translational Medicine 4 (2012)",
    caution="Over a whole slide it is moved by how much normal tissue lies on the glass.",
)  # fmt: skip
def lymphocytes_per_tumour_cell(lymphocytes: ArrayLike, tumour: ArrayLike) -> NDArray[np.float64]:
    """Lymphocytes per tumour nucleus.

    Parameters
    ----------
    lymphocytes, tumour : array
        Numbers of nuclei.
    """
    return ratio(lymphocytes, tumour)


@measure(
    "til_area_share", "Share of the ground under lymphocyte nuclei", "share", "area of lymphocyte nuclei / tissue area",
    source="after the stromal score of Salgado et al., Annals of Oncology 26 (2015); as easTILs of Bai et al., "
    "Clinical Cancer Research 27 (2021)", edge=_AREA,
    caution="In stroma, the nearest that nuclei come to the working group's stromal TILs. That score is read by eye, "
    "counts whole cells, plasma cells too, and leaves out necrosis and the ground beyond the tumour: it is higher.",
)  # fmt: skip
def til_area_share(lymphocytes_um2: ArrayLike, area_um2: ArrayLike) -> NDArray[np.float64]:
    """Share of the ground that lymphocyte nuclei cover.

    Parameters
    ----------
    lymphocytes_um2 : array
        Sums of the areas of lymphocyte nuclei.
    area_um2 : array
        Of the tissue.
    """
    return ratio(lymphocytes_um2, area_um2)


@measure(
    "til_nuclei_share", "Lymphocytes among lymphocytes and stroma cells", "share",
    "lymphocytes / (lymphocytes + stroma nuclei)",
    source="eTILs of Bai et al., Clinical Cancer Research 27 (2021)",
    caution="Not an area: dense fibroblasts lower it, oedema does not.",
)  # fmt: skip
def til_nuclei_share(lymphocytes: ArrayLike, stroma: ArrayLike) -> NDArray[np.float64]:
    """Lymphocytes among lymphocytes and stroma nuclei.

    Parameters
    ----------
    lymphocytes, stroma : array
        Numbers of nuclei.
    """
    return ratio(lymphocytes, np.add(lymphocytes, stroma))


@measure(
    "morisita_horn", "Morisita-Horn overlap", "0 to 1",
    "2 sum(x y) / ((sum(x²)/X² + sum(y²)/Y²) X Y), x and y counts in tiles, X and Y their sums",
    source="Horn, American Naturalist 100 (1966); for immune and cancer cells Maley et al., Breast Cancer Research 17 "
    "(2015)", edge="tiles of which less than a quarter is tissue are left out",
    caution="It depends on the size of the tiles, and tiles with no cell of either type say nothing.",
)  # fmt: skip
def morisita_horn(x: ArrayLike, y: ArrayLike, xx: ArrayLike, yy: ArrayLike, xy: ArrayLike) -> NDArray[np.float64]:
    """Overlap of two types, from sums over tiles of x, y, x², y² and x y.

    Parameters
    ----------
    x, y : array
        Sums of the counts of either type.
    xx, yy : array
        Sums of their squares.
    xy : array
        Sums of their products.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return ratio(2 * np.asarray(xy), (ratio(xx, x**2) + ratio(yy, y**2)) * x * y)


@measure(
    "nucleus_mean", "Mean of a property of nuclei", "of the property", "sum / nuclei",
    source="-", caution="Nuclei are cut by the section: areas are below those of whole nuclei.",
)  # fmt: skip
def nucleus_mean(total: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Mean of a property.

    Parameters
    ----------
    total : array
        Sums of the property.
    n : array
        Numbers of nuclei.
    """
    return ratio(total, n)


@measure(
    "pleomorphism", "Pleomorphism: spread of nuclear area", "share of the mean", "standard deviation / mean of area",
    source="coefficient of variation of nuclear area; Baak, Manual of Quantitative Pathology, 1991",
    caution="Merged or split nuclei widen it: look at the outlines first.",
)  # fmt: skip
def pleomorphism(n: ArrayLike, total: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Coefficient of variation, from sums of 1, x and x².

    Parameters
    ----------
    n : array
        Numbers of nuclei.
    total : array
        Sums of their areas, um2.
    squares : array
        Sums of the squares of their areas, um4.
    """
    mean = ratio(total, n)
    return ratio(np.sqrt(np.maximum(ratio(squares, n) - mean**2, 0)), mean)

"""Pictures of an analysis, with matplotlib: maps on the tissue, curves over distance, tables of types."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cytolite.spatial.analysis import WHOLE, Analysis
from cytolite.spatial.estimate import Curve
from cytolite.spatial.tiles import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT, _TISSUE = "#212529", "#adb5bd", "#eceff1"
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _FAINT,
    "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.titlesize": 10, "axes.titlelocation": "left", "legend.frameon": False,
}  # fmt: skip
# In the order in which they are painted.
_COMPARTMENTS = {
    "tumour": "#d9534f",
    "stroma": "#9fb8e0",
    "other epithelium": "#f0b060",
    "lymphoid aggregates": "#1e8c46",
}
_WIDTH_IN = 11.0


def figures(a: Analysis) -> dict[str, Figure]:
    """Return the figures that there is something to show in, by name, in the order of the report."""
    import matplotlib as mpl

    drawers: dict[str, Callable[[Analysis], Figure | None]] = {
        "regions": _regions, "density": _density, "hot-spots": _hot_spots, "profile": _profile,
        "neighbours": _neighbours, "second-order": _second_order,
    }  # fmt: skip
    with mpl.rc_context(STYLE):
        found = {name: draw(a) for name, draw in drawers.items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()


def shown_types(a: Analysis) -> list[int]:
    """Codes of the types that play a part, and of other frequent ones."""
    counts = np.bincount(a.sample.types, minlength=len(a.roles.names))
    played = [t for codes in a.roles.codes.values() for t in codes if counts[t]]
    others = [int(t) for t in np.argsort(-counts) if counts[t] >= 0.01 * len(a.sample) and t not in played]
    return (played + others)[:6]


def _colour(a: Analysis, t: int) -> tuple[float, float, float]:
    red, green, blue = a.sample.colours[t]
    return red / 255, green / 255, blue / 255


def _layout() -> Any:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(h_pad=0.14)  # titles of maps whose axes are off need the room


def _panels(a: Analysis, n: int) -> tuple[Figure, list[Axes]]:
    """Lay out `n` maps of the tissue."""
    from matplotlib.figure import Figure

    height, width = a.sample.window.mask.shape
    columns = min(n, 3 if width <= 1.6 * height else 2)
    rows = -(-n // columns)
    tall = min(1.6, max(0.35, height / width))
    figure = Figure(figsize=(_WIDTH_IN, 0.85 * _WIDTH_IN / columns * tall * rows + 0.5 * rows), layout=_layout())
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axis in axes:
        axis.set_axis_off()
    return figure, axes[:n]


def _extent_mm(a: Analysis) -> tuple[float, float, float, float]:
    (x, y), (h, w), px = a.sample.window.origin_um, a.sample.window.mask.shape, a.sample.window.px_um
    return (x / 1e3, (x + w * px) / 1e3, (y + h * px) / 1e3, y / 1e3)


def _show(axis: Axes, a: Analysis, image: NDArray[Any], **options: Any) -> Any:
    """Draw an image of the window's grid, made smaller first if it has more pixels than the picture."""
    step = max(1, max(image.shape[:2]) // 1200)
    return axis.imshow(image[::step, ::step], extent=_extent_mm(a), interpolation="nearest", **options)


def _scale_bar(axis: Axes, a: Analysis) -> None:
    left, right, bottom, top = _extent_mm(a)
    wanted = (right - left) / 5
    decade = 10.0 ** np.floor(np.log10(wanted))
    length = float(decade * max(s for s in (1, 2, 5) if s * decade <= wanted))
    y = bottom + 0.03 * (bottom - top)
    axis.plot([left, left + length], [y, y], color=_INK, lw=3, solid_capstyle="butt", clip_on=False)
    text = f"{length:g} mm" if length >= 1 else f"{length * 1000:g} µm"
    axis.annotate(text, (left + length, y), (5, 0), textcoords="offset points", va="center", annotation_clip=False)


def _regions(a: Analysis) -> Figure:
    """Cells by type beside compartments and the distance from the front."""
    from matplotlib.colors import TwoSlopeNorm, to_rgb
    from matplotlib.patches import Patch

    has_front = bool(np.isfinite(a.compartments.front_um).any())
    figure, axes, below = _panels_with_keys(a, 3 if has_front else 2)
    mask = a.sample.window.mask
    paper = np.ones((*mask.shape, 3))
    paper[mask] = to_rgb(_TISSUE)
    _show(axes[0], a, paper)
    rng = np.random.default_rng(0)
    some = rng.permutation(len(a.sample))[:60_000]
    x, y = a.sample.xy[some].T / 1e3
    colours = np.array(a.sample.colours)[a.sample.types[some]] / 255
    axes[0].scatter(x, y, s=max(0.15, min(4.0, 12_000 / len(some))), c=colours, linewidths=0, rasterized=True)
    axes[0].set_title(
        "Nuclei by type" + ("" if len(some) == len(a.sample) else f" ({len(some):,} of {len(a.sample):,})")
    )
    counts = np.bincount(a.sample.types, minlength=len(a.roles.names))
    key = [
        Patch(color=_colour(a, t), label=f"{a.roles.names[t]} {counts[t]:,}") for t in np.flatnonzero(counts).tolist()
    ]
    _key(below[0], key)
    drawn = paper.copy()
    for name, colour in _COMPARTMENTS.items():
        if name in a.compartments.masks:
            drawn[a.compartments.masks[name]] = to_rgb(colour)
    _show(axes[1], a, drawn)
    axes[1].set_title("Regions drawn by the cells")
    key = [
        Patch(color=colour, label=f"{name} {a.areas_mm2[name]:.2f} mm²")
        for name, colour in _COMPARTMENTS.items() if name in a.areas_mm2
    ]  # fmt: skip
    _key(below[1], [*key, Patch(color=_TISSUE, label="other tissue")])
    if has_front:
        reach = a.settings.bands_um[-1]
        norm = TwoSlopeNorm(0, -reach, reach)
        image = _show(axes[2], a, np.ma.masked_invalid(a.compartments.front_um), cmap="RdBu", norm=norm)
        axes[2].set_title("Distance from the tumour's front")
        place = below[2].inset_axes((0.1, 0.75, 0.8, 0.12))
        figure.colorbar(image, cax=place, orientation="horizontal", extend="both").set_label("µm, negative inside")
    for axis in axes:
        _scale_bar(axis, a)
    return figure


def _panels_with_keys(a: Analysis, n: int) -> tuple[Figure, list[Axes], list[Axes]]:
    """Lay out `n` maps in a row, and room for a key below each."""
    from matplotlib.figure import Figure

    height, width = a.sample.window.mask.shape
    tall = _WIDTH_IN / n * min(1.6, max(0.35, height / width))
    figure = Figure(figsize=(_WIDTH_IN, tall + 1.6), layout=_layout())
    maps, keys = figure.subplots(2, n, height_ratios=(tall, 1.2))
    for axis in (*maps, *keys):
        axis.set_axis_off()
    return figure, list(maps), list(keys)


def _key(axis: Axes, handles: list[Any]) -> None:
    axis.legend(handles=handles, loc="upper left", ncols=2, fontsize=8, handlelength=1, borderaxespad=0)


def _density(a: Analysis) -> Figure:
    types = shown_types(a)
    figure, axes = _panels(a, len(types))
    for axis, t in zip(axes, types, strict=True):
        density = np.ma.masked_array(a.maps[a.roles.names[t]], ~a.sample.window.mask)
        image = _show(axis, a, density, cmap="magma_r", vmin=0)
        axis.set_title(a.roles.names[t], color=_colour(a, t), fontweight="bold")
        figure.colorbar(image, ax=axis, shrink=0.75, pad=0.02).set_label("per mm²")
        _scale_bar(axis, a)
    return figure


def _hot_spots(a: Analysis) -> Figure | None:
    from matplotlib.colors import ListedColormap

    types = [t for t in shown_types(a) if np.isfinite(a.spot_z[:, t]).any()][:3]
    if not types:
        return None
    figure, axes = _panels(a, len(types))
    window = a.sample.window
    rows, cols = np.nonzero(window.mask)
    tile = a.tiles.find((np.column_stack([cols, rows]) + 0.5) * window.px_um + np.array(window.origin_um))
    for axis, t in zip(axes, types, strict=True):
        z = np.nan_to_num(a.spot_z[:, t])
        sure = a.spot_q[:, t] < FALSE_DISCOVERIES
        kind = np.append(np.where(sure, np.sign(z), 0), 0)  # the last: tiles that are left out
        image = np.full(window.mask.shape, np.nan)
        image[rows, cols] = kind[tile]
        _show(axis, a, image, cmap=ListedColormap(["#2c6fbb", _TISSUE, "#c0392b"]), vmin=-1, vmax=1)
        axis.set_title(f"{a.roles.names[t]}: hot (red) and cold (blue)")
        _scale_bar(axis, a)
    return figure


def _profile(a: Analysis) -> Figure | None:
    curves = [c for c in a.curves if c.measure == "density" and c.region == WHOLE]
    kept = [c for c in curves if a.roles.names.index(c.types) in shown_types(a)]
    if not kept:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, 3.6), layout="constrained")
    axis = figure.subplots()
    for curve in kept:
        _line(axis, curve, _colour(a, a.roles.names.index(curve.types)), curve.types)
    axis.axvline(0, color=_FAINT, lw=1)
    axis.annotate("tumour  ", (0, 1.0), xycoords=("data", "axes fraction"), ha="right", va="bottom", color="#868e96")
    axis.annotate("  outside", (0, 1.0), xycoords=("data", "axes fraction"), ha="left", va="bottom", color="#868e96")
    axis.set(xlabel="distance from the tumour's front, µm", ylabel="nuclei per mm²", ylim=(0, None))
    axis.legend(ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _line(axis: Axes, curve: Curve, colour: tuple[float, float, float], label: str) -> None:
    axis.plot(curve.x_um, curve.value, color=colour, label=label)
    axis.fill_between(curve.x_um, curve.low, curve.high, color=colour, alpha=0.18, lw=0)


def _neighbours(a: Analysis) -> Figure | None:
    """Neighbourhood enrichment as a matrix, log2 of observed over expected."""
    found = {r.types: r.value for r in a.rows if r.measure == "neighbourhood_ratio" and r.region == WHOLE}
    names = [n for n in a.roles.names if f"{n} to {n}" in found]
    if len(names) < 2:
        return None
    from matplotlib.figure import Figure

    ratio = np.array([[found[f"{x} to {y}"] for y in names] for x in names])
    with np.errstate(divide="ignore"):
        shown = np.clip(np.log2(ratio), -3, 3)
    figure = Figure(figsize=(6.6, 5.2), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shown, cmap="RdBu_r", vmin=-3, vmax=3)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="neighbour", ylabel="cell")
    for i, j in np.ndindex(*ratio.shape):
        axis.text(
            j, i, f"{ratio[i, j]:.2f}", ha="center", va="center", color="white" if abs(shown[i, j]) > 1.8 else _INK
        )
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(image, ax=axis, shrink=0.8).set_label("log2 (observed / expected)")
    return figure


def _second_order(a: Analysis) -> Figure | None:
    """L(r) - r of tumour, lymphocytes and stroma, with what random labels give."""
    names = [a.roles.names[t] for role in ("tumour", "lymphocytes", "stroma") for t in a.roles.codes[role][:1]]
    labels = [f"{x} to {y}" for i, x in enumerate(names) for y in names[i:]]
    found = {c.types: c for c in a.curves if c.measure == "l_minus_r" and c.region == WHOLE}
    curves = [found[label] for label in labels if label in found]
    if not curves:
        return None
    from matplotlib.figure import Figure

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(_WIDTH_IN, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel().tolist()
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    for axis, curve in zip(axes, curves, strict=False):
        axis.fill_between(
            curve.x_um, curve.null_low, curve.null_high, color=_FAINT, alpha=0.6, lw=0, label="random labels"
        )
        _line(axis, curve, _colour(a, a.roles.names.index(curve.types.split(" to ")[-1])), "found")
        axis.axhline(0, color=_INK, lw=0.6, ls=":")
        axis.set_title(curve.types)
        axis.set(xlabel="r, µm", ylabel="L(r) - r, µm")
    axes[0].legend(fontsize=8)
    return figure

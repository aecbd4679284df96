"""How many painted folds are found, and how much real tissue is called folded: the numbers of docs/concepts/quality.md.

    python benchmarks/folds.py --data DATA [--slides-only] [--output results.json]

Folds are painted on real images at 2 um/px: one or two layers of the neighbouring tissue are added in optical density,
under a curved band of 40 to 200 um or along an edge, blurred by 1 to 4 um, with 0 to 8% of stray light. Images are
divided by name: limits were chosen on one half ("chosen"), the other ("apart") was looked at when they were fixed.
Needs SciPy. One core, about 3 minutes; nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cytolite.slides import folds
from cytolite.slides.reader import open_slide, slide_of
from cytolite.slides.tissue import find_tissue, glass_colour, grow, ink, keep_parts, optical_density

SEED, UM = 2, 2.0
SLIDES = {  # um/px where the file has none or another, and whether limits were chosen on it
    "TCGA-V5-A7RE_stitched_40x.tiff": (None, True),
    "histolab_tcga-cr-7395-01a-01-ts1.svs": (1.0, True),
    "pathml_small_HE.svs": (None, True),
    "pathml_small_dicom.dcm": (1.0, False),
    "instanseg_HE_example.tif": (0.5, False),
}
FIELDS = {  # folders and um/px; those of less than 200 um are left out
    "consep": ("consep/image/*", 0.25), "monuseg": ("monuseg*/**/*.jp*g", 0.25), "monusac": ("monusac/image/*", 0.25),
    "brecahad": ("brecahad_boxes/image/*", 0.25), "crchisto": ("crchisto_points/image/*", 0.55),
    "brca": ("brca_m2c_points/image/*", 0.5), "cpm15": ("cpm15*/image/*", 0.25),
}  # fmt: skip

Mask = NDArray[np.bool_]
Picture = NDArray[np.uint8]


def images(data: Path, slides_only: bool) -> Iterator[tuple[str, bool, bool, Picture]]:
    """Yield name, whether it is a slide, whether limits were chosen on it, and the image at 2 um/px."""
    for name, (mpp, chosen) in SLIDES.items():
        with open_slide(data / "slides" / name, mpp) as slide:
            width, height = (int(side * slide.mpp / UM) for side in (slide.width_px, slide.height_px))
            yield name, True, chosen, slide.read(0, 0, width, height, UM)
    for kind, (pattern, mpp) in {} if slides_only else FIELDS.items():
        for path in sorted(data.glob(pattern)):
            image = Image.open(path).convert("RGB")
            width, height = (int(side * mpp / UM) for side in image.size)
            if min(width, height) >= 100:
                name = f"{kind}/{path.name}"
                picture = np.asarray(image.resize((width, height), Image.Resampling.BOX))
                yield name, False, zlib.crc32(name.encode()) % 2 == 1, picture


def coarse(image: NDArray[Any]) -> NDArray[np.float64]:
    """At 8 um/px."""
    height, width = (side // 4 for side in image.shape[:2])
    cut = image[: 4 * height, : 4 * width]
    return cut.reshape(height, 4, width, 4, -1).astype(np.float64).mean(axis=(1, 3))


def edge(tissue: Mask, width: float, length: float, rng: np.random.Generator) -> tuple[Mask, float] | None:
    """Return a stretch along the tissue's outer edge, and the direction in which its layers were moved."""
    rows, cols = np.mgrid[: tissue.shape[0], : tissue.shape[1]]
    solid = ndimage.binary_opening(ndimage.binary_closing(tissue, iterations=6), iterations=3)
    solid = ndimage.binary_fill_holes(solid)
    depth = ndimage.distance_transform_edt(np.pad(solid, 1, mode="edge"))[1:-1, 1:-1]
    inside = (rows > 6) & (cols > 6) & (rows < tissue.shape[0] - 7) & (cols < tissue.shape[1] - 7)
    border = np.argwhere(solid & (depth < 2) & inside)
    if len(border) < 50:
        return None
    row, col = border[rng.integers(len(border))]
    radius = min(length, 500) / 2
    labels, _ = ndimage.label(solid & (depth <= width) & ((rows - row) ** 2 + (cols - col) ** 2 < radius**2))
    return (labels == labels[row, col], rng.uniform(0, 2 * np.pi)) if labels[row, col] else None


def band(tissue: Mask, width: float, length: float, rng: np.random.Generator) -> tuple[Mask, float]:
    """Return a curved band of uneven width that begins in the tissue, and its direction."""
    starts = np.argwhere(tissue)
    row, col = starts[rng.integers(len(starts))].astype(float)
    direction, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.002)
    away, path = np.ones(tissue.shape, np.bool_), []
    for sign in (1, -1):
        y, x, angle = row, col, direction + (0 if sign > 0 else np.pi)
        for _ in range(int(length / 2)):
            path.append((y, x))
            angle += sign * bend + rng.normal(0, 0.02)
            y, x = y + np.sin(angle), x + np.cos(angle)
    line = np.round(path).astype(int)
    line = line[((line >= 0) & (line < tissue.shape)).all(axis=1)]
    away[line[:, 0], line[:, 1]] = False
    uneven = ndimage.gaussian_filter(rng.normal(0, 1, tissue.shape), 20)
    uneven *= 0.12 / max(uneven.std(), 1e-6)
    return ndimage.distance_transform_edt(away) <= width / 2 * (1 + uneven), direction


def painted(
    image: Picture, tissue: Mask, along_edge: bool, rng: np.random.Generator
) -> tuple[Picture, Mask, dict[str, Any]] | None:
    """Return the image with a fold, where it is, and what it is; None if there was no place for one."""
    width, length = rng.uniform(40, 200) / UM, rng.uniform(300, 1500) / UM
    layers = 1 if rng.random() < 0.6 else 2
    drawn = edge(tissue, width, length, rng) if along_edge else band(tissue, width, length, rng)
    if drawn is None:
        return None
    fold, direction = drawn
    closed = ndimage.binary_closing(np.pad(tissue, 12, mode="edge"), iterations=10)[12:-12, 12:-12]
    fold &= closed
    glass, stray = glass_colour(coarse(image).astype(np.uint8)), rng.uniform(0, 0.08)
    density = -np.log(np.clip((image / glass - stray) / (1 - stray), 0.01, 1))
    added = np.zeros_like(density)
    for layer in range(layers):
        far = (width + 15 + rng.uniform(0, 40)) * (1 if layer == 0 else -1)
        far = -far if rng.random() < 0.5 else far
        moved = (np.cos(direction) * far, -np.sin(direction) * far, 0)
        added += ndimage.shift(density, moved, order=1, mode="reflect") * rng.uniform(0.85, 1.15)
    soft = ndimage.gaussian_filter(fold.astype(float), 1.0)[..., None]
    seen = (np.exp(-density - added * soft) * (1 - stray) + stray) * glass
    sigma = rng.uniform(0.5, 2)
    seen += (ndimage.gaussian_filter(seen, (sigma, sigma, 0)) - seen) * soft
    sizes = np.bincount(ndimage.label(ndimage.binary_closing(fold & tissue, iterations=3))[0].ravel())[1:]
    if not len(sizes) or sizes.max() < 0.9 * sizes.sum():
        return None
    facts = {"um": width * UM, "layers": layers, "edge": along_edge}
    return np.clip(np.round(seen), 0, 255).astype(np.uint8), fold & tissue & (added.mean(axis=2) > 0.08), facts


def judged(image: Picture) -> tuple[Mask, Mask, Mask]:
    """Return tissue, folds, and what is dark, which `cytolite.slides.quality` would not call a fold."""
    # `slide_of` takes up to 5 um/px; masks are made of pixels, whatever their size is called.
    tissue = find_tissue(slide_of(image.repeat(2, 0).repeat(2, 1), 4.0))[1].mask[: image.shape[0], : image.shape[1]]
    density = optical_density(image)
    mean, pen = density.mean(axis=2), ink(density)
    pen = grow(keep_parts(grow(pen, 1), pen, 156), 1)
    dark = (mean > 1.2) & (np.ptp(density, axis=2) < 0.3 * mean) & ~pen
    dark = grow(keep_parts(dark, dark, 31), 1)
    return tissue & ~pen, folds.find_folds(image, tissue & ~pen & ~dark) & ~pen & ~dark, dark


def main() -> None:
    """Paint, find, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--slides-only", action="store_true")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    folds._LEAST_TISSUE_PX = 200  # fields, too
    rows: list[dict[str, Any]] = []
    for name, is_slide, chosen, image in images(arguments.data, arguments.slides_only):
        rng = np.random.default_rng(zlib.crc32(name.encode()) + SEED)
        small = np.round(coarse(image)).astype(np.uint8)
        tissue, called, _ = judged(small)
        fine = np.zeros(image.shape[:2], np.bool_)
        large = tissue.repeat(4, 0).repeat(4, 1)
        fine[: large.shape[0], : large.shape[1]] = large
        row = {"image": name, "slide": is_slide, "chosen": chosen, "tissue_mm2": float(tissue.sum() * 64e-6)}
        row |= {"called": float((called & tissue).sum() / max(1, tissue.sum())), "folds": []}
        rows.append(row)
        wanted = 16 if is_slide else 1
        for _ in range(5 * wanted if fine.sum() > 2000 else 0):
            if len(row["folds"]) == wanted:
                break
            made = painted(image, fine, is_slide and rng.random() < 0.4, rng)
            if made is None:
                continue
            truth = coarse(made[1])[..., 0] > 0.5
            if truth.sum() * 64 >= 10_000 and (is_slide or truth.sum() <= 0.5 * truth.size):
                _, found, dark = judged(np.round(coarse(made[0])).astype(np.uint8))
                row["folds"].append(made[2] | {"share": float(((found | dark) & truth).sum() / truth.sum())})
    for label, some in (
        *((row["image"], [row]) for row in rows if row["slide"]),
        ("fields, chosen", [row for row in rows if row["chosen"] and not row["slide"]]),
        ("fields, apart", [row for row in rows if not row["chosen"] and not row["slide"]]),
    ):
        hits = [fold["share"] >= 0.5 for row in some for fold in row["folds"]]
        area = sum(row["tissue_mm2"] for row in some)
        called = sum(row["called"] * row["tissue_mm2"] for row in some) / max(area, 1e-9)
        print(f"{label:40} {sum(hits):4} of {len(hits):4} found, {called:7.2%} of {area:6.2f} mm2 called folded")
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""Teach with 25 labels of each type from two images, score all others: F1 beside the parent's, over 20 draws of images.

    python benchmarks/teach_points.py --points POINTS --map MAP.toml --parent PARENT.toml --results RESULTS
    python benchmarks/teach_points.py --truth LABELS --map MAP.toml --parent PARENT.toml --results RESULTS

POINTS holds a CSV (x, y, type id) for each image; LABELS has inst/ and type/ of each, whose centres are the points.
RESULTS holds a result of `cytolite segment` for each, of one model. MAP gives ids names; PARENT says which of those
names each type of the model is. A point means the found nucleus around it (or within 3 um), as labels do in
`cytolite teach`; both models are scored on these.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from cytolite.classifier import as_before, inputs_of
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import InputError
from cytolite.files import read_toml
from cytolite.interop.result import Result
from cytolite.teach.fit import choose_strength, f1_of, few, regression, scores_of
from cytolite.teach.labels import Labels, match

LABELS, DRAWS = 25, 20


def points_of(folder: Path, image: str) -> list[tuple[float, float, int]]:
    """Return x, y and type id of an image's points, or of the centres of its label images' nuclei."""
    if (folder / "inst").is_dir():
        inst, kinds = (np.asarray(Image.open(folder / part / f"{image}.png")) for part in ("inst", "type"))
        places = [np.nonzero(inst == number) for number in np.unique(inst[inst > 0])]
        return [
            (float(x.mean() + 0.5), float(y.mean() + 0.5), int(np.bincount(kinds[y, x]).argmax())) for y, x in places
        ]
    with (folder / f"{image}.csv").open() as file:
        return [(float(row["x"]), float(row["y"]), int(row["type"])) for row in csv.DictReader(file)]


def sample(result: Result, points: Path, names: dict[int, str]) -> dict[str, np.ndarray]:
    """Return inputs, truth and the parent's types of the found nuclei that points name."""
    rows = points_of(points, result.folder.name)
    labels = Labels(points=[(x, y, names[kind]) for x, y, kind in rows if kind in names])
    size = (int(result.about["width_px"]), int(result.about["height_px"]))
    found = match(labels, result.cells, result.mpp, size, result.folder.name)
    before = as_before(result.cells, result.cells.type_set)
    every = inputs_of(before, (*before.type_set.probs, "area_um2", *FEATURE_NAMES))
    return {"every": every, "x": every[found.rows], "names": found.names, "parent": before.type[found.rows]}


def draw(samples: list[dict], types: list[str], parent: dict[str, str], seed: int) -> tuple[list, list] | None:
    """Return F1 of the taught model and of the parent, where both sides have five nuclei of each type."""
    rng = np.random.default_rng(seed)
    two = rng.permutation(len(samples))[:2]
    train, tests = [samples[i] for i in two], [s for i, s in enumerate(samples) if i not in two]
    number = {name: i for i, name in enumerate(types)}
    y = np.array([number[name] for s in train for name in s["names"]])
    true = np.array([number[name] for s in tests for name in s["names"]], np.int64)
    if min(np.bincount(side, minlength=len(types)).min() for side in (y, true)) < 5:
        return None
    every = np.concatenate([s["every"] for s in train])
    mean, scale = np.nanmean(every, axis=0), np.maximum(np.nanstd(every, axis=0), 1e-9)

    def z(parts: list[dict]) -> np.ndarray:
        values = (np.concatenate([s["x"] for s in parts]) - mean) / scale
        return np.where(np.isfinite(values), values, 0.0)

    some = few(np.arange(len(y)), y, LABELS, rng)
    image = np.repeat(np.arange(2), [len(s["names"]) for s in train])
    inputs = z(train)[some]
    strength = choose_strength(inputs, y[some], image[some], len(types))
    fitted = regression(inputs, y[some], len(types), strength)
    said = np.array([number.get(parent.get(name, ""), len(types)) for s in tests for name in s["parent"]])
    taught = f1_of(true, scores_of(z(tests), *fitted).argmax(axis=1), len(types))
    return taught.tolist(), f1_of(true, said, len(types) + 1)[: len(types)].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    truth = parser.add_mutually_exclusive_group(required=True)
    for name in ("--points", "--truth"):
        truth.add_argument(name, type=Path, dest="points")
    for name in ("--map", "--parent", "--results"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two draws")
    given = parser.parse_args()
    names = {int(number): name for number, name in read_toml(given.map, "The map").items()}
    types, parent = list(dict.fromkeys(names.values())), read_toml(given.parent, "The parent's types")
    samples = []
    for path in sorted(given.results.glob("*/cells.parquet")):
        try:
            samples.append(sample(Result(path.parent), given.points, names))
        except InputError as error:
            print(f"left out: {error}")
    found: list[tuple[list, list]] = []
    seed = 0
    while len(found) < (2 if given.quick else DRAWS) and seed < 1000:
        if scores := draw(samples, types, parent, seed):
            found.append(scores)
        seed += 1
    if not found:
        raise SystemExit(f"No two of the {len(samples)} images have five nuclei of each type, as have the others.")
    n = sum(len(s["names"]) for s in samples)
    print(f"{len(samples)} images, {n:,} nuclei, {len(found)} draws (seeds 0 to {seed - 1})\n")
    print(f"| | mean | {' | '.join(types)} |\n|---|{'---:|' * (len(types) + 1)}")
    for what, table in zip(("taught", "parent"), np.swapaxes(np.array(found), 0, 1), strict=True):
        with_mean = np.concatenate([table.mean(axis=1, keepdims=True), table], axis=1)
        low, middle, high = np.percentile(with_mean, [2.5, 50, 97.5], axis=0)
        cells = [f"{m:.3f} ({a:.2f}-{b:.2f})" for a, m, b in zip(low, middle, high, strict=True)]
        print(f"| {what} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

"""Mitosis as a type of one's own: precision and recall on slides that gave no labels, against number of labels.

    python benchmarks/teach_mitosis.py --amibr AMIBR --atnorm ATNORM --cache FOLDER -o mitosis.json

AMIBR and ATNORM are the folders `cytolite prepare` reads. Each field is segmented once; what was found lies in FOLDER.
A mitosis means the found nucleus around its point (or within 3 um), as labels do in `cytolite teach`; one that has none
is missed whatever the classifier says, and counts against it. AMi-Br: five folds of slides, labels are drawn from four
of them, all nuclei of the fifth are the test; the folds together give one curve of precision and recall per draw.
AtNorM-MD: labels are drawn from all of AMi-Br. Its fields name the central mitosis alone, so a second one in a field
counts as an error: its precision is a lower bound.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cytolite import load_model
from cytolite.classifier import inputs_of, softmax
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.errors import InputError
from cytolite.teach.fit import choose_strength, regression, scores_of
from cytolite.teach.labels import Labels, match

OTHER, MITOSIS, HARD = 0, 1, 2
SIZES, DRAWS, FOLDS, RESAMPLES = (25, 50, 100, 200, 400, 800), 10, 5, 200
ATNORM_MPP = 0.24  # of its scanners 0.23 and 0.25; which image is whose is not published


@dataclass
class Nuclei:
    """Found nuclei of all fields: inputs, kind, slide, the parent's type; slides of mitoses without a nucleus."""

    inputs: np.ndarray
    kind: np.ndarray
    slide: np.ndarray
    parent: np.ndarray
    missed: np.ndarray


def found_in(folder: Path, slides: dict[str, str], mpps: dict[str, float], cache: Path, model_name: str) -> Nuclei:
    """Segment the fields of a folder, or read what was found before."""
    if cache.exists():
        return Nuclei(**np.load(cache))
    model = load_model(model_name)
    parts: dict[str, list] = {name: [] for name in ("inputs", "kind", "slide", "parent")}
    missed = []
    for path in sorted((folder / "image").iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"))
        with (folder / "points" / f"{path.stem}.csv").open() as file:
            rows = [(float(row["x"]), float(row["y"]), int(row["type"])) for row in csv.DictReader(file)]
        cells = model.segment(image, mpp=mpps[path.stem])
        kind = np.full(len(cells), OTHER)
        # Hard negatives first: where both mean one nucleus it is the mitosis.
        for wanted, kinds in ((HARD, {3}), (MITOSIS, {1, 2})):
            points = [(x, y, "it") for x, y, what in rows if what in kinds]
            lost = len(points)
            for point in points:
                try:
                    hit = match(Labels([point]), cells, mpps[path.stem], image.shape[1::-1], path.name).rows
                except InputError:
                    continue
                kind[hit] = wanted
                lost -= len(hit)
        missed += [slides[path.stem]] * lost
        parts["inputs"].append(inputs_of(cells, (*cells.type_set.probs, "area_um2", *FEATURE_NAMES)))
        parts["kind"].append(kind)
        parts["slide"].append(np.full(len(cells), slides[path.stem]))
        parts["parent"].append(cells.type)
    found = {name: np.concatenate(values) for name, values in parts.items()} | {"missed": np.array(missed, str)}
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **found)
    return Nuclei(**found)


def taught(train: Nuclei, rows: np.ndarray, n: int, rng: np.random.Generator) -> tuple:
    """Teach mitosis against all others with up to `n` labels of each; return what scores inputs."""
    some = np.concatenate(
        [rng.permutation(rows[(train.kind[rows] == MITOSIS) == wanted])[:n] for wanted in (True, False)]
    )
    mean, scale = np.nanmean(train.inputs[rows], axis=0), np.maximum(np.nanstd(train.inputs[rows], axis=0), 1e-9)
    y = (train.kind[some] == MITOSIS).astype(np.int64)
    groups = np.unique(train.slide[some], return_inverse=True)[1]
    z = standardised(train.inputs[some], mean, scale)
    return mean, scale, *regression(z, y, 2, choose_strength(z, y, groups, 2))


def standardised(inputs: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return inputs in standard deviations, 0 where one is no number."""
    z = (inputs - mean) / scale
    return np.where(np.isfinite(z), z, 0.0)


def probability(fitted: tuple, inputs: np.ndarray) -> np.ndarray:
    """Return what a taught classifier says of mitosis."""
    mean, scale, *numbers = fitted
    return softmax(scores_of(standardised(inputs, mean, scale), *numbers))[:, 1]


def measures(p: np.ndarray, kind: np.ndarray, missed: int) -> dict[str, float]:
    """Return average precision, best F1 and precision at recall 0.5 of all mitoses; AUC against hard negatives."""
    order = np.argsort(-p, kind="stable")
    right = kind[order] == MITOSIS
    n = right.sum() + missed
    hits = np.cumsum(right)
    precision, recall = hits / np.arange(1, len(p) + 1), hits / n
    enough = recall >= 0.5
    pairs = p[kind == MITOSIS][:, None] - p[kind == HARD]
    return {
        "average_precision": float((precision * right).sum() / n),
        "best_f1": float((2 * hits / (np.arange(1, len(p) + 1) + n)).max()),
        "precision_at_recall_0.5": float(precision[enough].max()) if enough.any() else 0.0,
        "auc_hard_negatives": float(((pairs > 0) + 0.5 * (pairs == 0)).mean()) if pairs.size else float("nan"),
    }


def with_interval(said: list[np.ndarray], nuclei: Nuclei, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return each measure's median over draws, and 2.5 to 97.5% over draws and resamples of slides together."""
    values = [measures(p, nuclei.kind, len(nuclei.missed)) for p in said]
    names = np.unique(np.concatenate([nuclei.slide, nuclei.missed]))
    rows_of = {name: np.flatnonzero(nuclei.slide == name) for name in names}
    missed_of = {name: int((nuclei.missed == name).sum()) for name in names}
    drawn = []
    for i in range(RESAMPLES):
        chosen = rng.choice(names, len(names))
        rows = np.concatenate([rows_of[name] for name in chosen])
        drawn.append(measures(said[i % len(said)][rows], nuclei.kind[rows], sum(missed_of[name] for name in chosen)))
    known = [key for key in values[0] if np.isfinite([v[key] for v in values]).any()]
    return {
        key: [float(np.median([v[key] for v in values])), *np.nanpercentile([d[key] for d in drawn], [2.5, 97.5])]
        for key in known
    }


def by_slide(nuclei: Nuclei, n: int, draws: int) -> list[np.ndarray]:
    """Return, for each draw, what was said of every nucleus by a classifier that had no label of its slide."""
    names = np.unique(nuclei.slide)
    said = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        fold = dict(zip(rng.permutation(names), np.arange(len(names)) % FOLDS, strict=True))
        folds = np.array([fold[name] for name in nuclei.slide])
        p = np.zeros(len(folds))
        for k in range(FOLDS):
            p[folds == k] = probability(taught(nuclei, np.flatnonzero(folds != k), n, rng), nuclei.inputs[folds == k])
        said.append(p)
    return said


def elsewhere(train: Nuclei, test: Nuclei, n: int, draws: int) -> list[np.ndarray]:
    """Return, for each draw, what was said of every nucleus of another data set."""
    every = np.arange(len(train.kind))
    return [probability(taught(train, every, n, np.random.default_rng(seed)), test.inputs) for seed in range(draws)]


def describe(name: str, nuclei: Nuclei) -> str:
    """Return how many there are of what, and what the parent calls mitoses."""
    n = {kind: int((nuclei.kind == kind).sum()) for kind in (MITOSIS, HARD, OTHER)}
    called = {t: int((nuclei.parent[nuclei.kind == MITOSIS] == t).sum()) for t in np.unique(nuclei.parent)}
    return (
        f"{name}: {n[MITOSIS]} mitoses with a found nucleus and {len(nuclei.missed)} without (or two marks on one "
        f"nucleus), {n[HARD]} hard negatives, {n[OTHER]:,} other nuclei, {len(np.unique(nuclei.slide))} slides or "
        f"fields; the parent calls mitoses {called}"
    )


def draw(path: Path, report: list[dict]) -> None:
    """Draw average precision against the number of labels, a line with its interval for each test."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for test in dict.fromkeys(row["test"] for row in report):
        rows = [row for row in report if row["test"] == test]
        n = [row["labels"] for row in rows]
        middle, low, high = np.array([row["average_precision"] for row in rows]).T
        axes.plot(n, middle, marker="o", label=test)
        axes.fill_between(n, low, high, alpha=0.2)
    axes.set(xscale="log", ylim=(0, 1), xlabel="labels of mitoses, and as many of others", ylabel="average precision")
    axes.set_xticks(SIZES, [str(size) for size in SIZES], minor=False)
    axes.minorticks_off()
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--amibr", "--atnorm", "--cache"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--model", default="nuclei-light")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="PNG of the curves")
    parser.add_argument("--quick", action="store_true", help="two draws")
    given = parser.parse_args()
    with (given.amibr / "index.csv").open() as file:
        index = {row["name"]: row for row in csv.DictReader(file)}
    stems = [path.stem for path in (given.atnorm / "image").iterdir()]
    amibr = found_in(
        given.amibr,
        {name: f"{row['set']}/{row['slide']}" for name, row in index.items()},
        {name: float(row["um_per_px"]) for name, row in index.items()},
        given.cache / f"amibr-{given.model}.npz",
        given.model,
    )
    cached = given.cache / f"atnorm-{given.model}.npz"
    atnorm = found_in(given.atnorm, {s: s for s in stems}, dict.fromkeys(stems, ATNORM_MPP), cached, given.model)
    print(describe("AMi-Br", amibr), describe("AtNorM-MD", atnorm), sep="\n")
    draws = 2 if given.quick else DRAWS
    report = []
    for name, test, said_with in (
        ("AMi-Br, other slides", amibr, lambda n: by_slide(amibr, n, draws)),
        ("AtNorM-MD", atnorm, lambda n: elsewhere(amibr, atnorm, n, draws)),
    ):
        print(f"\n{name}\n\n| labels of each | AP | best F1 | precision at recall 0.5 | AUC, hard negatives |")
        print("|---|---:|---:|---:|---:|")
        most = int((amibr.kind == MITOSIS).sum())
        for n in [size for size in SIZES if size <= most]:
            found = with_interval(said_with(n), test, np.random.default_rng(0))
            print(
                f"| {n} | " + " | ".join(f"{v:.3f} ({a:.2f}-{b:.2f})" for v, a, b in found.values()) + " |", flush=True
            )
            report.append({"test": name, "labels": n, "model": given.model, **found})
    if given.picture:
        draw(given.picture, report)
    given.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

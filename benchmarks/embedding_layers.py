"""Which inner map of a network tells types apart best, as the mean over each nucleus: a table.

    python benchmarks/embedding_layers.py MODEL --stores STORE... --unseen STORE... -o FOLDER

Types are told apart by a logistic regression on nuclei that the model found in images that its run held back, and in
sets that it never saw, each source by itself (else a stain would tell types), cross-validated by groups of images. Each
map is reduced to 32 channels by principal components of nuclei of training images. Macro F1 is the mean over types with
20 nuclei or more; in brackets 95% of resampled groups.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from cytolite.bundle import load_bundle
from cytolite.celltypes import LABEL_NAMES, UNKNOWN_NUCLEUS
from cytolite.datasets.store import Store
from cytolite.inference.image import measured
from cytolite.patches import Patch
from cytolite.release.embedding import inner_maps, looked_into, projection
from cytolite.release.origin import sides_of
from cytolite.teach.fit import f1_of, folds, regression

LEAST, MOST_IMAGES, MOST_NUCLEI, SIDE_PX, RESAMPLES, STRENGTH = 20, 80, 3000, 1024, 500, 0.03
PAIRS = (("encoder 4", "decoder 1"), ("encoder 4", "decoder 2"), ("encoder 2", "decoder 2"), ("encoder 4", "encoder 2"))


def gather(model: str, patches: Sequence[Patch]) -> dict[str, np.ndarray]:
    """Return what every inner map, the probabilities and the measurements say of the nuclei found that have a label."""
    bundle = load_bundle(model)
    maps = inner_maps(onnx.load(str(bundle.onnx_path)))
    found: dict[str, list[np.ndarray]] = {}
    for patch, located, means in looked_into(bundle, [cut(patch) for patch in patches], list(maps.values())):
        nuclei = located.named(bundle.spec.type_temperature)
        cells = measured(located, nuclei, bundle.spec.stride)
        n = len(cells)
        votes = np.zeros((n + 1, 256), np.int64)
        np.add.at(votes, (located.instance_map, patch.type_map), 1)
        votes[:, [0, 255]] = 0
        labels = np.where(votes.any(axis=1), votes.argmax(axis=1), 0)[1:]
        parts = {
            "label": labels, "said": cells.types, "group": np.full(n, f"{patch.source}/{patch.group}"),
            "source": np.full(n, patch.source), "probabilities": np.log(np.maximum(cells.type_probs, 1e-4)),
            "features": np.stack([cells.area_um2, *cells.features.values()], axis=1),
            **dict(zip(maps, means, strict=True)),
        }  # fmt: skip
        for name, values in parts.items():
            found.setdefault(name, []).append(values[labels > 0])
    return {name: np.concatenate(values) for name, values in found.items()}


def cut(patch: Patch) -> Patch:
    """Return the first corner of a patch, so that the largest images do not take all the time."""
    maps = {name: array[:SIDE_PX, :SIDE_PX] for name, array in {"image": patch.image, **patch.label_maps}.items()}
    return replace(patch, **maps)


def score(z: np.ndarray, y: np.ndarray, groups: np.ndarray, n_types: int) -> np.ndarray:
    """Return what each nucleus is called when its group was held out."""
    called = np.zeros(len(y), np.int64)
    for train, test in folds(groups):
        mean, scale = z[train].mean(axis=0), np.maximum(z[train].std(axis=0), 1e-6)
        w, b = regression((z[train] - mean) / scale, y[train], n_types, STRENGTH)
        called[test] = ((z[test] - mean) / scale @ w.T + b).argmax(axis=1)
    return called


def contest(held: dict[str, np.ndarray], rows: np.ndarray, z: np.ndarray) -> tuple[float, float, float, int, str]:
    """Return macro F1 of one source with its interval, n, and its types."""
    kinds = kinds_of(held, rows)
    rows = rows[np.isin(held["label"][rows], kinds)]
    y = np.searchsorted(kinds, held["label"][rows])
    groups = np.unique(held["group"][rows], return_inverse=True)[1]
    called = score(z[rows], y, groups, len(kinds))
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    drawn = []
    for _ in range(RESAMPLES):
        some = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        drawn.append(np.nanmean(f1_of(y[some], called[some], len(kinds))))
    told = ", ".join(f"{LABEL_NAMES[k]} {int((y == i).sum())}" for i, k in enumerate(kinds))
    return float(np.nanmean(f1_of(y, called, len(kinds)))), *np.percentile(drawn, [2.5, 97.5]), len(y), told


def kinds_of(held: dict[str, np.ndarray], rows: np.ndarray) -> list[int]:
    """Return the labels that enough of the rows have, but for those that say nothing."""
    labels = held["label"][rows]
    return [int(k) for k in np.unique(labels) if (labels == k).sum() >= LEAST and k != UNKNOWN_NUCLEUS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--stores", type=Path, nargs="+", required=True)
    parser.add_argument("--unseen", type=Path, nargs="*", default=[])
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    sides = sides_of([load_bundle(given.model)], given.stores)
    rng = np.random.default_rng(0)
    held = list(sides.held_back)
    for path in given.unseen:
        with Store(path) as store:
            patches = list(store)
        held += [patches[i] for i in rng.permutation(len(patches))[:MOST_IMAGES]]
    training = [
        p
        for s in sorted({p.source for p in sides.training})
        for p in rng.permutation(np.array([q for q in sides.training if q.source == s], object))[:MOST_IMAGES]
    ]
    data = {}
    for name, patches in (("held", held), ("training", training)):
        kept = given.output / f"{name}.npz"
        if not kept.is_file():
            np.savez(kept, **gather(given.model, patches))
        with np.load(kept) as loaded:
            data[name] = {key: loaded[key] for key in loaded.files}
    print(table(data["held"], data["training"], given.output))


def table(held: dict[str, np.ndarray], training: dict[str, np.ndarray], out: Path) -> str:
    """Return the table, and keep its numbers in table.json."""
    inner = [name for name in held if name.split()[-1].isdigit()]
    base = np.concatenate([held["probabilities"], held["features"]], axis=1)
    vectors = {"probabilities and measurements": base}
    for names in (*((name,) for name in inner), *(pair for pair in PAIRS if set(pair) <= set(inner))):
        seen, other = (np.concatenate([side[name] for name in names], axis=1) for side in (training, held))
        weights, bias = projection(seen)
        reduced = other @ weights.T + bias
        title = f"{' and '.join(names)}, {other.shape[1]} channels"
        vectors[title] = reduced
        vectors[f"probabilities, measurements, {title}"] = np.concatenate([base, reduced], axis=1)
    rng, places = np.random.default_rng(0), {}
    for source in np.unique(held["source"]):
        rows = rng.permutation(np.flatnonzero(held["source"] == source))[:MOST_NUCLEI]
        if len(kinds_of(held, rows)) > 1 and len(np.unique(held["group"][rows])) > 2:
            places[str(source)] = rows
    found = {
        name: {source: contest(held, rows, np.where(np.isfinite(z), z, 0)) for source, rows in places.items()}
        for name, z in vectors.items()
    }
    lines = ["| vectors | mean | " + " | ".join(places) + " |", "|---|" + "---:|" * (1 + len(places))]
    for name, scores in found.items():
        cells = [f"{value:.3f} ({low:.2f}-{high:.2f})" for value, low, high, _, _ in scores.values()]
        lines.append(f"| {name} | {np.mean([s[0] for s in scores.values()]):.3f} | {' | '.join(cells)} |")
    lines += [f"{source}: n = {s[3]} ({s[4]})" for source, s in next(iter(found.values())).items()]
    (out / "table.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""How many labels a taught model needs: F1 on images, or halves of them, that gave no labels, beside the parent's.

    python benchmarks/teach_curve.py --truth LABELS --map MAP.toml --results RESULTS -o curve.json

LABELS has image/, inst/ and type/; RESULTS holds a result of `cytolite segment` for each image, of one model. MAP gives
the ids of type/ names. Each truth nucleus means the found nucleus around its centre (or within 3 um), as labels do in
`cytolite teach`; both models are scored on these. Labels are drawn from one image (or one half of it), the rest of
that image is not used; all other images (or the other half) are the test. With --embeddings the results' vectors
are inputs, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from cytolite.classifier import as_before, inputs_of, vector_names
from cytolite.decoding.features import FEATURE_NAMES
from cytolite.files import read_toml
from cytolite.interop.result import Result
from cytolite.teach.fit import blocks, choose_strength, f1_of, few, regression, scores_of
from cytolite.teach.labels import Labels, match

SIZES, DRAWS = (5, 10, 25, 50, 100, 200), 20


def sample(result: Result, truth: Path, names: dict[int, str], embeddings: bool) -> dict[str, np.ndarray]:
    """Return inputs, truth, the parent's types and places of the found nuclei that the truth names."""
    image = result.folder.name
    inst, kinds = (np.asarray(Image.open(truth / part / f"{image}.png")) for part in ("inst", "type"))
    labels = Labels()
    for number in np.unique(inst[inst > 0]):
        rows, columns = np.nonzero(inst == number)
        kind = int(np.bincount(kinds[rows, columns]).argmax())
        if kind in names:
            labels.points.append((float(columns.mean() + 0.5), float(rows.mean() + 0.5), names[kind]))
    found = match(labels, result.cells, result.mpp, inst.shape[::-1], image)
    before = as_before(result.cells, result.cells.type_set)
    vectors = vector_names(before.embeddings.shape[1]) if embeddings else ()
    every = inputs_of(before, (*before.type_set.probs, "area_um2", *FEATURE_NAMES, *vectors))
    mean, scale = np.nanmean(every, axis=0), np.nanstd(every, axis=0)
    return {
        "inputs": every[found.rows], "mean": mean, "scale": np.maximum(scale, 1e-9), "names": found.names,
        "parent": before.type[found.rows], "xy": before.centroids[found.rows] * result.mpp,
        "wanted": np.array([len(labels.points)]),
    }  # fmt: skip


def score(
    train: dict, rows: np.ndarray, tests: list[tuple[dict, np.ndarray]], types: list[str], *, n: int, seed: int
) -> list:
    """Teach with `n` labels of each type and return F1 of each type on all tests together."""
    rng = np.random.default_rng(seed)
    y = np.array([types.index(name) for name in train["names"]])
    some = few(rows, y, n, rng)

    def standardised(x: np.ndarray) -> np.ndarray:
        z = (x - train["mean"]) / train["scale"]
        return np.where(np.isfinite(z), z, 0.0)

    z = standardised(train["inputs"][some])
    strength = choose_strength(z, y[some], blocks(train["xy"][some]), len(types))
    fitted = regression(z, y[some], len(types), strength)
    called = [scores_of(standardised(t["inputs"][r]), *fitted).argmax(axis=1) for t, r in tests]
    true = [np.array([types.index(name) for name in t["names"][r]]) for t, r in tests]
    return f1_of(np.concatenate(true), np.concatenate(called), len(types)).tolist()


def parent_f1(tests: list[tuple[dict, np.ndarray]], types: list[str]) -> list:
    """Return the parent's F1 of each type on all tests together."""
    known = {name: i for i, name in enumerate(types)}
    pairs = [
        (known[name], known.get(said, len(types)))
        for t, r in tests
        for name, said in zip(t["names"][r], t["parent"][r], strict=True)
    ]
    true, called = np.array(pairs).T
    return f1_of(true, called, len(types) + 1)[: len(types)].tolist()


def contests(samples: dict[str, dict], types: list[str]) -> list[tuple[str, str, np.ndarray, list]]:
    """Return title, the image to teach on, its rows, and the tests: other images, then halves of one."""
    found = []
    every = {name: np.arange(len(s["names"])) for name, s in samples.items()}
    for name, s in samples.items():
        if any((s["names"] == kind).sum() < 5 for kind in types):
            continue
        others = [(samples[o], every[o]) for o in samples if o != name]
        if others:
            found.append((f"{name} -> others", name, every[name], others))
        left = s["xy"][:, 0] < np.median(s["xy"][:, 0])
        for side, mine in (("left", left), ("right", ~left)):
            if all((s["names"][mine] == kind).sum() >= 5 for kind in types):
                rest = [(s, np.flatnonzero(~mine))]
                found.append((f"{name}, {side} half -> other half", name, np.flatnonzero(mine), rest))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--embeddings", action="store_true", help="of `segment --embeddings`, as inputs, too")
    parser.add_argument("--quick", action="store_true", help="two draws")
    given = parser.parse_args()
    names = {int(number): name for number, name in read_toml(given.map, "The map").items()}
    types = list(dict.fromkeys(names.values()))
    samples = {
        path.parent.name: sample(Result(path.parent), given.truth, names, given.embeddings)
        for path in sorted(given.results.glob("*/cells.parquet"))
    }
    for name, s in samples.items():
        counts = {kind: int((s["names"] == kind).sum()) for kind in types}
        print(f"{name}: {len(s['names'])} of {s['wanted'][0]} truth nuclei were found; {counts}")
    report = []
    for title, image, rows, tests in contests(samples, types):
        n_test = sum(len(r) for _, r in tests)
        print(
            f"\n{title} (n = {n_test})\n\n"
            f"| labels of each type | mean | {' | '.join(types)} |\n|---|{'---:|' * (len(types) + 1)}"
        )
        base = parent_f1(tests, types)
        print(f"| parent | {np.nanmean(base):.3f} | " + " | ".join(f"{v:.3f}" for v in base) + " |")
        curve = {}
        most = max(int((samples[image]["names"][rows] == kind).sum()) for kind in types)
        for n in [size for size in SIZES if size <= most]:
            draws = 2 if given.quick else DRAWS
            table = np.array([score(samples[image], rows, tests, types, n=n, seed=seed) for seed in range(draws)])
            with_mean = np.concatenate([np.nanmean(table, axis=1, keepdims=True), table], axis=1)
            low, middle, high = np.nanpercentile(with_mean, [2.5, 50, 97.5], axis=0)
            cells = [f"{m:.3f} ({a:.2f}-{b:.2f})" for a, m, b in zip(low, middle, high, strict=True)]
            print(f"| {n} | " + " | ".join(cells) + " |", flush=True)
            curve[n] = with_mean.tolist()
        report.append({"contest": title, "types": types, "n_test": n_test, "parent": base, "curve": curve})
    given.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
